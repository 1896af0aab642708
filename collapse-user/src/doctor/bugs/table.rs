//! The known bugs. Each row was checked against the fix in kernel git, and its stable releases against the
//! lists of changes of the stable series: a release is named only where the fix was seen in it.

use super::{Bug, Harm, Needs};
use crate::doctor::version::Version;

/// Every known bug, the worst first.
pub const BUGS: &[Bug] = &[
    Bug {
        name: "shadow_page_reused",
        harm: Harm::Security,
        needs: Needs::Nothing,
        what: "a shadow page for a huge mapping is used for small ones: a guest, also a nested one, can reach \
               freed memory of the host",
        remedy: "untrusted guests: nested=0 for kvm_amd or kvm_intel",
        since: (2, 6),
        fixed: (7, 2),
        commit: "81ccda30b4e8",
        cve: Some("CVE-2026-53359"),
        stable: &[v(6, 1, 177), v(6, 6, 144), v(6, 12, 95), v(6, 18, 38), v(7, 1, 3)],
    },
    Bug {
        name: "nested_dirty_pages_lost",
        harm: Harm::LostPages,
        needs: Needs::Pml,
        what: "what nested guests write is missing in the dirty log: their memory may be wrong after a \
               migration",
        remedy: "pml=0 for kvm_intel, before nested guests are migrated",
        since: (6, 4),
        fixed: (6, 9),
        commit: "2673dfb591a3",
        cve: Some("CVE-2024-26990"),
        stable: &[v(6, 6, 29), v(6, 8, 8)],
    },
    Bug {
        name: "mixed_attributes_huge",
        harm: Harm::Wrong,
        needs: Needs::Nothing,
        what: "VMs with private memory: a huge page can be mapped across private and shared memory while a \
               part of it is converted",
        remedy: "none but a kernel with the fix",
        since: (6, 8),
        fixed: (6, 15),
        commit: "9129633d568e",
        cve: None,
        stable: &[v(6, 12, 30)],
    },
    Bug {
        name: "collapse_out_of_bounds",
        harm: Harm::Crash,
        needs: Needs::Nothing,
        what: "where dirty logging goes off, the kernel may crash if a guest with shadow paging, also a \
               nested one, maps a huge page across the start of a memslot",
        remedy: "untrusted guests: nested=0 for kvm_amd or kvm_intel",
        since: (5, 12),
        fixed: (7, 2),
        commit: "ef057cbf825e",
        cve: None,
        stable: &[v(6, 1, 177), v(6, 6, 144), v(6, 12, 95), v(6, 18, 38), v(7, 1, 3)],
    },
    Bug {
        name: "vcpus_hang",
        harm: Harm::Hang,
        needs: Needs::Nothing,
        what: "a VM that has seen 2^31 invalidations (KSM, NUMA balancing, a balloon) takes every guest fault \
               for stale, and its vCPUs hang for ever",
        remedy: "restart long-lived VMs, or migrate them",
        since: (5, 16),
        fixed: (6, 3),
        commit: "ba6e3fe25543",
        cve: None,
        stable: &[v(6, 1, 50)],
    },
    Bug {
        name: "vcpus_wait_for_zaps",
        harm: Harm::Stall,
        needs: Needs::TdpMmu,
        what: "guest faults and the host's zaps of the same memory (KSM, NUMA balancing) keep each other from \
               mmu_lock: guests stand still for seconds",
        remedy: "kernel.numa_balancing=0, KSM off, or tdp_mmu=N for kvm",
        since: (5, 18),
        fixed: (6, 8),
        commit: "d02c357e5bfa",
        cve: None,
        stable: &[],
    },
    Bug {
        name: "roots_thrown_away",
        harm: Harm::Slow,
        needs: Needs::TdpMmu,
        what: "a VM's page tables are thrown away whole, huge pages and all, when no vCPU uses them for a \
               moment, as at each SMI of a VM with one vCPU",
        remedy: "two vCPUs, or tdp_mmu=N for kvm",
        since: (5, 10),
        fixed: (6, 4),
        commit: "edbdb43fc96b",
        cve: None,
        stable: &[v(6, 1, 50)],
    },
    Bug {
        name: "fault_splits_by_zap",
        harm: Harm::Slow,
        needs: Needs::TdpMmu,
        what: "a guest fault in a huge page that has to be small zaps all of it, up to 1 GiB, which the guest \
               faults back page by page",
        remedy: "none but a newer kernel",
        since: (5, 10),
        fixed: (6, 2),
        commit: "c4b33d28ea51",
        cve: None,
        stable: &[],
    },
    Bug {
        name: "nx_recovery_while_logged",
        harm: Harm::Slow,
        needs: Needs::NxHugePages,
        what: "the NX recovery worker zaps memory under dirty logging, which can only come back small",
        remedy: "nx_huge_pages_recovery_ratio=0 for kvm during a migration",
        since: (5, 10),
        fixed: (6, 2),
        commit: "eb298605705a",
        cve: None,
        stable: &[],
    },
    Bug {
        name: "collapse_does_nothing",
        harm: Harm::Slow,
        needs: Needs::TdpMmu,
        what: "no huge page comes back when dirty logging goes off",
        remedy: "tdp_mmu=N for kvm",
        since: (5, 10),
        fixed: (5, 11),
        commit: "87aa9ec939ec",
        cve: None,
        stable: &[v(5, 10, 15)],
    },
    Bug {
        name: "collapse_skips_hugetlb",
        harm: Harm::Slow,
        needs: Needs::TdpMmu,
        what: "memory of hugetlb stays small when dirty logging goes off",
        remedy: "tdp_mmu=N for kvm",
        since: (5, 10),
        fixed: (5, 12),
        commit: "c060c72ffeb4",
        cve: None,
        stable: &[v(5, 10, 20)],
    },
];

const fn v(major: u32, minor: u32, patch: u32) -> Version {
    Version { major, minor, patch }
}
