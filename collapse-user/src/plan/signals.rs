//! The table of signals: the hooks that each signal can be seen by.

use collapse_common::{Cause, abi::Role};
use collapse_feed::{Mmu, Signal};

use super::hook::{Hook, Layout};

/// The collapse routine from 6.13 on, which rebuilds huge pages in place; the earlier one zaps.
pub const REBUILDING_ROUTINE: &str = "kvm_mmu_recover_huge_pages";

/// The hooks that a signal can be seen by.
#[derive(Debug)]
pub struct SignalHooks {
    /// The signal.
    pub signal: Signal,
    /// Alternative sets of hooks, in order of preference; the first whose hooks are all available is
    /// used.
    pub hook_sets: &'static [&'static [Hook]],
    /// Struct fields that the signal's programs read.
    pub fields: &'static [&'static str],
    /// Where alone the signal is needed; `None` if it is everywhere.
    pub only: Option<Only>,
}

/// Where alone a signal is needed.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Only {
    /// With this MMU.
    Mmu(Mmu),
    /// With nested paging: in shadow paging faults of the guest's own are among KVM's.
    NestedPaging,
    /// Where the CPU logs dirty pages.
    Pml,
}

const fn entry(program: &'static str, function: &'static str) -> Hook {
    Hook::Entry { program, function }
}

/// Makes the hook of a KVM operation that has one cause.
const fn operation(cause: Cause, function: &'static str) -> Hook {
    Hook::Function { function, role: Role::Operation, cause }
}

/// Makes the hook of an operation on host memory: the notifiers that it calls are attributed to it.
const fn host(cause: Cause, function: &'static str) -> Hook {
    Hook::Function { function, role: Role::Host, cause }
}

/// Makes the hook of a function whose role says all.
const fn with_role(role: Role, function: &'static str) -> Hook {
    Hook::Function { function, role, cause: Cause::Unknown }
}

const SLOT_FIELDS: &[&str] = &[
    "kvm_memory_slot.base_gfn",
    "kvm_memory_slot.npages",
    "kvm_memory_slot.flags",
    "kvm_memory_slot.id",
    "kvm_memory_slot.as_id",
];
const SHADOW_FIELDS: &[&str] =
    &["page.private", "kvm_mmu_page.gfn", "kvm_mmu_page.role", "kvm_mmu_page.shadowed_translation"];

/// From 5.19 on, KVM counts guest faults itself; entries of the guest attribute them to a VM.
const FAULTS_OF_KVM: &[Hook] = &[FAULTS[0], FAULTS[1], FAULTS[2], ENTRY];

const FAULTS: [Hook; 3] = [
    entry("vcpu_destroyed", "kvm_arch_vcpu_destroy"),
    Hook::Read { program: "pending_faults", field: "kvm_vcpu.stat.pf_taken" },
    Hook::Read { program: "pending_faults", field: "kvm_vcpu.stat.pf_fast" },
];

/// Counts faults where KVM does not, as on 5.10, and times them where the tracepoint below does not fit.
const MMU_PAGE_FAULT: Hook = entry("mmu_page_fault", "kvm_mmu_page_fault");

/// Ends the time of a fault whose vCPU leaves to its VMM.
const USERSPACE_EXIT: Hook = Hook::Raw {
    program: "userspace_exit",
    tracepoint: "kvm:kvm_userspace_exit",
    layout: Layout::Stable,
    skips_lose: false,
};

/// Times exits for a full log of dirty pages.
const PML_FULL: Hook = Hook::Raw {
    program: "pml_full",
    tracepoint: "kvm:kvm_pml_full",
    layout: Layout::Stable,
    skips_lose: true,
};

/// Times faults, where KVM counts them.
const PAGE_FAULT: Hook = Hook::Raw {
    program: "page_fault",
    tracepoint: "kvm:kvm_page_fault",
    layout: Layout::Field("vcpu_id"),
    skips_lose: false,
};

/// Recognises the threads of vCPUs.
const ENTRY: Hook = Hook::Raw {
    program: "entry",
    tracepoint: "kvm:kvm_entry",
    layout: Layout::Stable,
    skips_lose: true,
};

/// Memory that is mapped in advance, by a vCPU's own `ioctl`.
const PRE_FAULT: Hook = Hook::Function {
    function: "kvm_arch_vcpu_pre_fault_memory",
    role: Role::OfVcpu,
    cause: Cause::PreFault,
};

const GET_DIRTY_LOG: Hook = operation(Cause::GetDirtyLog, "kvm_get_dirty_log_protect");
const CLEAR_DIRTY_LOG: Hook = operation(Cause::ClearDirtyLog, "kvm_clear_dirty_log_protect");
const RESET_DIRTY_RING: Hook = operation(Cause::ResetDirtyRing, "kvm_dirty_ring_reset");
/// Counts the exits of vCPUs whose dirty ring is full.
const RING_FULL: Hook = Hook::Raw {
    program: "ring_full",
    tracepoint: "kvm:kvm_dirty_ring_exit",
    layout: Layout::Field("vcpu_id"),
    skips_lose: true,
};
const ZAP_RANGE: Hook = operation(Cause::ZapRange, "kvm_zap_gfn_range");

/// Reclaim by a thread that needs memory, by a memory limit, and by `MADV_PAGEOUT`.
const RECLAIM: [Hook; 3] = [
    host(Cause::NotifierReclaim, "try_to_free_pages"),
    host(Cause::NotifierReclaim, "try_to_free_mem_cgroup_pages"),
    host(Cause::NotifierReclaim, "reclaim_pages"),
];
const MIGRATION: Hook = with_role(Role::Migration, "migrate_pages");
const NUMA: Hook = host(Cause::NotifierNuma, "change_prot_numa");
const MADV_COLLAPSE: Hook = host(Cause::NotifierThp, "madvise_collapse");

/// The hooks of every signal. Costs in instructions on 6.12: 109 for an empty raw tracepoint program,
/// 396 for a kprobe, about 2,000 for a pair. Hot functions therefore have kprobes only where there is
/// no tracepoint.
pub const SIGNALS: &[SignalHooks] = &[
    SignalHooks {
        signal: Signal::VmCreated,
        hook_sets: &[&[with_role(Role::Creation, "kvm_arch_init_vm")]],
        fields: &[],
        only: None,
    },
    SignalHooks {
        signal: Signal::VmDestroyed,
        hook_sets: &[&[
            teardown(Role::Destruction, "kvm_destroy_vm"),
            // Inside the destruction, or earlier when the process's memory goes first.
            teardown(Role::Flush, "kvm_arch_flush_shadow_all"),
        ]],
        fields: &[],
        only: None,
    },
    SignalHooks {
        signal: Signal::Memslots,
        // From before the new slot is published to after it is committed.
        hook_sets: &[&[Hook::Function {
            function: "kvm_set_memslot",
            role: Role::SlotChange,
            cause: Cause::SlotChange,
        }]],
        fields: &[],
        only: None,
    },
    SignalHooks {
        signal: Signal::DirtyLogging,
        hook_sets: &[&[with_role(Role::Commit, "kvm_arch_commit_memory_region")]],
        fields: SLOT_FIELDS,
        only: None,
    },
    SignalHooks {
        signal: Signal::EagerSplit,
        hook_sets: &[
            &[
                operation(Cause::EagerSplit, "kvm_mmu_slot_try_split_huge_pages"),
                operation(Cause::LogProtect, "kvm_mmu_slot_remove_write_access"),
            ],
            &[
                // 5.10 never splits eagerly.
                operation(Cause::LogProtect, "kvm_mmu_slot_remove_write_access"),
            ],
        ],
        fields: &[],
        only: None,
    },
    SignalHooks {
        signal: Signal::ClearDirtyBits,
        hook_sets: &[
            // With PML, 5.10 write-protects huge pages when dirty logging goes on by a function of
            // their own.
            &[
                operation(Cause::LogProtect, "kvm_mmu_slot_leaf_clear_dirty"),
                operation(Cause::LogProtect, "kvm_mmu_slot_largepage_remove_write_access"),
            ],
            &[operation(Cause::LogProtect, "kvm_mmu_slot_leaf_clear_dirty")],
        ],
        fields: &[],
        only: None,
    },
    SignalHooks {
        signal: Signal::DirtyLogHarvest,
        hook_sets: &[
            &[GET_DIRTY_LOG, CLEAR_DIRTY_LOG, RESET_DIRTY_RING, RING_FULL],
            // 5.10 has no dirty rings.
            &[GET_DIRTY_LOG, CLEAR_DIRTY_LOG],
        ],
        fields: &[],
        only: None,
    },
    SignalHooks {
        signal: Signal::Collapse,
        hook_sets: &[&[collapse(REBUILDING_ROUTINE)], &[collapse("kvm_mmu_zap_collapsible_sptes")]],
        fields: SLOT_FIELDS,
        only: None,
    },
    SignalHooks {
        signal: Signal::Notifier,
        hook_sets: &[&[with_role(Role::Invalidation, "kvm_mmu_notifier_invalidate_range_start")]],
        fields: &["kvm.mmu_notifier", "mmu_notifier_range.event"],
        only: None,
    },
    SignalHooks {
        signal: Signal::NotifierCallers,
        hook_sets: &[
            &[RECLAIM[0], RECLAIM[1], RECLAIM[2], MIGRATION, NUMA, MADV_COLLAPSE],
            // 5.10 has no MADV_COLLAPSE, and other kernels may be built without NUMA.
            &[RECLAIM[0], RECLAIM[1], RECLAIM[2], MIGRATION, NUMA],
            &[RECLAIM[0], RECLAIM[1], RECLAIM[2], MIGRATION, MADV_COLLAPSE],
        ],
        fields: &[],
        only: None,
    },
    SignalHooks {
        signal: Signal::LockYields,
        hook_sets: &[&[
            with_role(Role::Yield, "__cond_resched_rwlock_read"),
            with_role(Role::Yield, "__cond_resched_rwlock_write"),
        ]],
        fields: &[],
        only: None,
    },
    SignalHooks {
        signal: Signal::SlotDeleted,
        hook_sets: &[&[operation(Cause::SlotGone, "kvm_arch_flush_shadow_memslot")]],
        fields: &[],
        only: None,
    },
    SignalHooks {
        signal: Signal::ZapAll,
        hook_sets: &[
            &[zap_all("kvm_mmu_zap_all_fast")],
            // On 6.12.117 and 7.3 the function is inlined except for its first half; the second
            // half does the zaps of the TDP MMU.
            &[
                zap_all("__kvm_mmu_zap_all_fast_front_half"),
                zap_all("kvm_tdp_mmu_zap_invalidated_roots"),
            ],
        ],
        fields: &[],
        only: None,
    },
    SignalHooks {
        signal: Signal::ZapRange,
        hook_sets: &[
            &[ZAP_RANGE, operation(Cause::MemoryAttributes, "kvm_arch_pre_set_memory_attributes")],
            // There are memory attributes from 6.8 on.
            &[ZAP_RANGE],
        ],
        fields: &[],
        only: None,
    },
    SignalHooks {
        signal: Signal::NxRecovery,
        hook_sets: &[
            &[operation(Cause::NxRecovery, "kvm_nx_huge_page_recovery_worker")],
            // On 6.1, and on 5.10 (which has no TDP zaps of single pages), the worker is a thread
            // that never returns from its function: workers that are already running are not seen.
            &[
                nx_recovery_thread("kvm_nx_lpage_recovery_worker"),
                operation(Cause::NxRecovery, "kvm_tdp_mmu_zap_sp"),
            ],
            &[nx_recovery_thread("kvm_nx_lpage_recovery_worker")],
            &[operation(Cause::NxRecovery, "kvm_tdp_mmu_zap_sp")],
        ],
        fields: &[],
        only: None,
    },
    SignalHooks {
        signal: Signal::Faults,
        hook_sets: &[
            &[FAULTS[0], FAULTS[1], FAULTS[2], ENTRY, PRE_FAULT],
            // Memory can be mapped in advance from 6.11 on.
            FAULTS_OF_KVM,
            &[MMU_PAGE_FAULT, ENTRY],
        ],
        fields: &["kvm_vcpu.kvm"],
        only: None,
    },
    SignalHooks {
        signal: Signal::FastFaults,
        hook_sets: &[
            FAULTS_OF_KVM,
            &[Hook::Raw {
                program: "fast_page_fault",
                tracepoint: "kvmmmu:fast_page_fault",
                layout: Layout::Args(5),
                skips_lose: true,
            }],
            &[Hook::Raw {
                program: "fast_page_fault_of_6",
                tracepoint: "kvmmmu:fast_page_fault",
                layout: Layout::Args(6),
                skips_lose: true,
            }],
        ],
        fields: &[],
        only: None,
    },
    SignalHooks {
        signal: Signal::FaultLatency,
        hook_sets: &[
            &[FAULTS[0], FAULTS[1], FAULTS[2], ENTRY, PAGE_FAULT, USERSPACE_EXIT],
            &[MMU_PAGE_FAULT, ENTRY, USERSPACE_EXIT],
        ],
        fields: &[],
        only: None,
    },
    SignalHooks {
        signal: Signal::TdpChanges,
        hook_sets: &[
            &[Hook::Raw {
                program: "spte_changed",
                tracepoint: "kvmmmu:kvm_tdp_mmu_spte_changed",
                layout: Layout::Stable,
                skips_lose: true,
            }],
            &[entry("handle_changed_spte", "__handle_changed_spte")],
        ],
        fields: &[],
        only: None,
    },
    SignalHooks {
        signal: Signal::RmapChanges,
        hook_sets: &[&[
            // The walk also reads where the array of `struct page` begins.
            walk("page_offset_base"),
            walk("vmemmap_base"),
            entry("clear_track_bits", "mmu_spte_clear_track_bits"),
            entry("spte_update", "mmu_spte_update"),
        ]],
        fields: SHADOW_FIELDS,
        only: None,
    },
    SignalHooks {
        signal: Signal::ShadowInstalls,
        hook_sets: &[&[Hook::Raw {
            program: "set_spte",
            tracepoint: "kvmmmu:kvm_mmu_set_spte",
            layout: Layout::Stable,
            skips_lose: true,
        }]],
        fields: &[],
        only: Some(Only::Mmu(Mmu::Shadow)),
    },
    SignalHooks {
        signal: Signal::DropSpte,
        hook_sets: &[&[entry("drop_spte", "drop_spte")]],
        fields: &[],
        only: None,
    },
    SignalHooks {
        signal: Signal::VmList,
        hook_sets: &[&[walk("vm_list")]],
        fields: &["kvm.vm_list", "kvm.userspace_pid"],
        only: None,
    },
    SignalHooks {
        signal: Signal::Gauges,
        hook_sets: &[&[walk("vm_list")]],
        fields: &["kvm.vm_list", "kvm.stat.pages_4k"],
        only: None,
    },
    SignalHooks {
        signal: Signal::PmlFull,
        // The entry or the exit to user space ends its time.
        hook_sets: &[&[PML_FULL, ENTRY, USERSPACE_EXIT]],
        fields: &["kvm_vcpu.kvm"],
        only: Some(Only::Pml),
    },
    SignalHooks {
        signal: Signal::Progress,
        hook_sets: &[&[FAULTS[0], FAULTS[1], FAULTS[2], ENTRY, PAGE_FAULT, USERSPACE_EXIT]],
        fields: &[
            "kvm_vcpu.stat.pf_fixed",
            "kvm_vcpu.stat.pf_emulate",
            "kvm.mmu_invalidate_in_progress",
            "kvm.mmu_invalidate_seq",
        ],
        only: None,
    },
    SignalHooks {
        signal: Signal::LockWaits,
        hook_sets: &[&[
            lock("lock_wait", "lock:contention_begin"),
            lock("lock_taken", "lock:contention_end"),
        ]],
        // Who waits for it spins: else it is not the CPU that waits.
        fields: &["kvm.mmu_lock.raw_lock"],
        only: None,
    },
    SignalHooks {
        signal: Signal::RetriedFaults,
        hook_sets: &[&[FAULTS[0], FAULTS[1], ENDED[0], ENDED[1], ENDED[2], ENTRY]],
        fields: &[],
        only: Some(Only::NestedPaging),
    },
];

/// Guest faults of which something came.
const ENDED: [Hook; 3] = [
    Hook::Read { program: "pending_faults", field: "kvm_vcpu.stat.pf_fixed" },
    Hook::Read { program: "pending_faults", field: "kvm_vcpu.stat.pf_emulate" },
    Hook::Read { program: "pending_faults", field: "kvm_vcpu.stat.pf_spurious" },
];

/// Makes the hook of a tracepoint of locks, which may fire within its own program: that is none of `mmu_lock` then.
const fn lock(program: &'static str, tracepoint: &'static str) -> Hook {
    Hook::Raw { program, tracepoint, layout: Layout::Stable, skips_lose: false }
}

const fn teardown(role: Role, function: &'static str) -> Hook {
    Hook::Function { function, role, cause: Cause::Teardown }
}

const fn zap_all(function: &'static str) -> Hook {
    Hook::Function { function, role: Role::Outermost, cause: Cause::ZapAll }
}

/// Makes the hook of the body of a thread that does nothing else until it ends with its VM.
const fn nx_recovery_thread(function: &'static str) -> Hook {
    Hook::Function { function, role: Role::Endless, cause: Cause::NxRecovery }
}

/// Makes the hook that walks KVM's list of VMs.
const fn walk(variable: &'static str) -> Hook {
    Hook::Run { program: "walk", variable }
}

const fn collapse(function: &'static str) -> Hook {
    Hook::Function { function, role: Role::Collapse, cause: Cause::Collapse }
}
