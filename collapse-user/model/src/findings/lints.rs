//! The kinds of findings.

use collapse_feed::Signal;

use super::{
    Lint,
    knobs::{any, cloud_hypervisor, firecracker, kubevirt, qemu},
    logging, memory,
};

/// Every kind, the gravest first.
pub(super) const LINTS: &[Lint] = &[
    Lint {
        name: "regions_stuck_small",
        title: "regions stay small after dirty logging",
        knobs: &[any(
            "check that the memory behind is still huge (AnonHugePages in the VMM's smaps) and that \
             the slot is aligned alike in guest and host; MADV_COLLAPSE in the VMM rebuilds it",
        )],
        needs: &[Signal::DirtyLogging],
        check: logging::stuck_small,
    },
    Lint {
        name: "dirty_logging_on_for_long",
        title: "dirty logging has been on for long",
        knobs: &[
            any(
                "end what asked for it, a migration, a snapshot or a dirty-rate measurement: until \
                 then memory is mapped small, and without PML (Intel) every page costs a fault at \
                 its first write in each round",
            ),
            qemu("migrate_cancel, virsh domjobabort"),
            firecracker(
                "track_dirty_pages=false in the machine configuration, if no snapshots of \
                         differences are taken",
            ),
            cloud_hypervisor("let send-migration end"),
            kubevirt("virtctl migrate-cancel"),
        ],
        needs: &[Signal::DirtyLogging],
        check: logging::for_long,
    },
    Lint {
        name: "eager_split_off",
        title: "huge pages are split by guest faults",
        knobs: &[any(
            "kvm.eager_page_split=Y (5.18 and later) splits them before the guest runs into them",
        )],
        needs: &[Signal::DirtyLogging, Signal::Faults],
        check: logging::eager_split_off,
    },
    Lint {
        name: "collapse_raced",
        title: "small pages came back while the collapse routine ran",
        knobs: &[any("turn dirty logging off while the guest is idle or paused, slot by slot")],
        needs: &[Signal::DirtyLogging, Signal::Collapse, Signal::Faults],
        check: logging::collapse_raced,
    },
    Lint {
        name: "nx_recovery_undone",
        title: "the NX recovery worker and guest faults undo each other",
        knobs: &[any(
            "kvm.nx_huge_pages_recovery_period_ms longer, or kvm.nx_huge_pages_recovery_ratio=0, lets \
             pages that are executed stay small; kvm.nx_huge_pages=off ends the splits",
        )],
        needs: &[Signal::NxRecovery, Signal::Faults],
        check: memory::nx_recovery_undone,
    },
    Lint {
        name: "hugetlb_mapped_small",
        title: "hugetlb memory is mapped small",
        knobs: &[
            any(
                "check that memslots begin at the same offset within 2 MiB in guest and host memory, \
                 and that the VMM's mappings of them do",
            ),
            qemu("align=2M at the memory backend"),
        ],
        needs: &[Signal::Gauges],
        check: memory::hugetlb_mapped_small,
    },
    Lint {
        name: "recovered_read_only",
        title: "regions came back write-protected",
        knobs: &[any(
            "nothing to set: where KVM rebuilds huge pages in place (6.13 and later), those of \
             write-protected pages come back write-protected, and the first write to each costs one \
             more fault",
        )],
        needs: &[Signal::DirtyLogging],
        check: logging::recovered_read_only,
    },
    Lint {
        name: "split_by_nx",
        title: "huge pages are split for executable pages",
        knobs: &[any("kvm.nx_huge_pages=off, if no CPU has the iTLB multihit bug \
             (/sys/devices/system/cpu/vulnerabilities/itlb_multihit) or the guests are trusted")],
        needs: &[Signal::Faults],
        check: memory::split_by_nx,
    },
];
