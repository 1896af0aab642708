//! The table of signals: what can be seen, by which hooks, and what is lost without them.

use std::fmt;

use collapse_feed::{Mmu, Signal};

/// Where a program attaches.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Hook {
    /// A raw tracepoint `system:name`.
    Raw {
        /// Program in the eBPF object.
        program: &'static str,
        /// Tracepoint.
        tracepoint: &'static str,
        /// What tells that its arguments are as the program reads them.
        layout: Layout,
        /// The program that looks again where the first may be preempted, and so be skipped for
        /// other threads.
        again: Option<&'static str>,
        /// Whether an event is lost for which the kernel skips all its programs. Not where KVM counts
        /// the events itself.
        skips_lose: bool,
    },
    /// The entry of a kernel function.
    Entry {
        /// Program in the eBPF object.
        program: &'static str,
        /// Function.
        function: &'static str,
    },
    /// Entry and return of a kernel function.
    Pair {
        /// Program for the entry.
        program: &'static str,
        /// Program for the return.
        exit: &'static str,
        /// Function.
        function: &'static str,
    },
    /// A program that user space runs itself, on facts that must be known.
    Run {
        /// Program in the eBPF object.
        program: &'static str,
        /// Variable of the kernel that it starts from.
        variable: &'static str,
    },
    /// The same, for a field of a kernel structure.
    Read {
        /// Program in the eBPF object.
        program: &'static str,
        /// Field.
        field: &'static str,
    },
}

impl Hook {
    /// Its programs, the one that runs first first; `preemptible` tells whether one may have to look
    /// again.
    pub fn programs(&self, preemptible: bool) -> Vec<&'static str> {
        match *self {
            Self::Raw { program, again, .. } => {
                [program].into_iter().chain(again.filter(|_| preemptible)).collect()
            }
            Self::Pair { program, exit, .. } => vec![program, exit],
            Self::Entry { program, .. }
            | Self::Run { program, .. }
            | Self::Read { program, .. } => vec![program],
        }
    }

    /// Its programs that lose an event each time that the kernel skips them. A program that looks again
    /// is none of them: it takes what the first was skipped for, and counts that.
    pub fn losing_programs(&self) -> Vec<&'static str> {
        match *self {
            Self::Raw { program, skips_lose, .. } => {
                skips_lose.then_some(program).into_iter().collect()
            }
            Self::Entry { .. } | Self::Pair { .. } => self.programs(false),
            Self::Run { .. } | Self::Read { .. } => Vec::new(),
        }
    }
}

impl fmt::Display for Hook {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Raw { tracepoint, .. } => write!(f, "raw_tp:{tracepoint}"),
            Self::Entry { function, .. } => write!(f, "kprobe:{function}"),
            Self::Pair { function, .. } => write!(f, "kprobe+kretprobe:{function}"),
            Self::Run { program, variable } => write!(f, "run:{program}({variable})"),
            Self::Read { field, .. } => write!(f, "read:{field}"),
        }
    }
}

/// How to tell a raw tracepoint's argument layout.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Layout {
    /// It never changed.
    Stable,
    /// Its format has this field.
    Field(&'static str),
    /// It has so many arguments.
    Args(usize),
}

/// The collapse routine that rebuilds huge pages in place, from 6.13 on; the one before zaps.
pub const REBUILDING_ROUTINE: &str = "kvm_mmu_recover_huge_pages";

/// How a signal can be seen.
#[derive(Debug)]
pub struct SignalHooks {
    /// The signal.
    pub signal: Signal,
    /// Sets of hooks by preference; the first whose hooks are all available is used.
    pub ways: &'static [&'static [Hook]],
    /// Struct fields that its programs read.
    pub fields: &'static [&'static str],
    /// The only MMU that needs it; `None` if any does.
    pub only: Option<Mmu>,
}

/// A change of host memory: its entry tells the notifiers that it calls whose doing they are.
const fn host(program: &'static str, function: &'static str) -> Hook {
    Hook::Pair { program, exit: "host_end", function }
}

const fn entry(program: &'static str, function: &'static str) -> Hook {
    Hook::Entry { program, function }
}

/// An operation: its entry publishes VM and cause, its return takes them back.
const fn operation(program: &'static str, function: &'static str) -> Hook {
    Hook::Pair { program, exit: "leave", function }
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

/// KVM counts guest faults itself, from 5.19 on; the tracepoint tells whose they are.
const FAULTS_OF_KVM: &[Hook] = &[
    entry("vcpu_destroyed", "kvm_arch_vcpu_destroy"),
    Hook::Read { program: "pending_faults", field: "kvm_vcpu.stat.pf_taken" },
    Hook::Read { program: "pending_faults", field: "kvm_vcpu.stat.pf_fast" },
    Hook::Raw {
        program: "page_fault",
        tracepoint: "kvm:kvm_page_fault",
        layout: Layout::Field("vcpu_id"),
        again: Some("page_fault_again"),
        skips_lose: false,
    },
];

const RECLAIM: [Hook; 3] = [
    host("reclaim", "try_to_free_pages"),
    host("reclaim", "try_to_free_mem_cgroup_pages"),
    host("reclaim", "reclaim_pages"),
];
const NUMA: Hook = host("numa", "change_prot_numa");
const MADV_COLLAPSE: Hook = host("thp_collapse", "madvise_collapse");

/// Every signal. Costs in instructions on 6.12: an empty raw tracepoint program 109, a kprobe 396, a
/// pair some 2,000; so kprobes on hot functions only where there is no tracepoint.
pub const SIGNALS: &[SignalHooks] = &[
    SignalHooks {
        signal: Signal::VmCreated,
        ways: &[&[entry("vm_created", "kvm_arch_init_vm")]],
        fields: &[],
        only: None,
    },
    SignalHooks {
        signal: Signal::VmDestroyed,
        ways: &[&[
            Hook::Pair {
                program: "vm_destroyed",
                exit: "vm_destroyed_end",
                function: "kvm_destroy_vm",
            },
            Hook::Pair {
                program: "teardown",
                exit: "teardown_end",
                function: "kvm_arch_flush_shadow_all",
            },
        ]],
        fields: &[],
        only: None,
    },
    SignalHooks {
        signal: Signal::Memslots,
        ways: &[&[Hook::Pair {
            program: "slot_change",
            exit: "slot_change_end",
            function: "kvm_set_memslot",
        }]],
        fields: &[],
        only: None,
    },
    SignalHooks {
        signal: Signal::DirtyLogging,
        ways: &[&[entry("slot_committed", "kvm_arch_commit_memory_region")]],
        fields: SLOT_FIELDS,
        only: None,
    },
    SignalHooks {
        signal: Signal::EagerSplit,
        ways: &[
            &[
                operation("eager_split", "kvm_mmu_slot_try_split_huge_pages"),
                operation("log_protect", "kvm_mmu_slot_remove_write_access"),
            ],
            &[
                // 5.10 never splits eagerly.
                operation("log_protect", "kvm_mmu_slot_remove_write_access"),
            ],
        ],
        fields: &[],
        only: None,
    },
    SignalHooks {
        signal: Signal::ClearDirtyBits,
        ways: &[&[operation("log_protect", "kvm_mmu_slot_leaf_clear_dirty")]],
        fields: &[],
        only: None,
    },
    SignalHooks {
        signal: Signal::DirtyLogHarvest,
        ways: &[&[
            operation("get_dirty_log", "kvm_get_dirty_log_protect"),
            operation("clear_dirty_log", "kvm_clear_dirty_log_protect"),
        ]],
        fields: &[],
        only: None,
    },
    SignalHooks {
        signal: Signal::Collapse,
        ways: &[&[collapse(REBUILDING_ROUTINE)], &[collapse("kvm_mmu_zap_collapsible_sptes")]],
        fields: SLOT_FIELDS,
        only: None,
    },
    SignalHooks {
        signal: Signal::Notifier,
        ways: &[&[operation("invalidate", "kvm_mmu_notifier_invalidate_range_start")]],
        fields: &["kvm.mmu_notifier", "mmu_notifier_range.event"],
        only: None,
    },
    SignalHooks {
        signal: Signal::NotifierCallers,
        ways: &[
            &[RECLAIM[0], RECLAIM[1], RECLAIM[2], NUMA, MADV_COLLAPSE],
            // 5.10 has no MADV_COLLAPSE, others may be built without NUMA.
            &[RECLAIM[0], RECLAIM[1], RECLAIM[2], NUMA],
            &[RECLAIM[0], RECLAIM[1], RECLAIM[2], MADV_COLLAPSE],
        ],
        fields: &[],
        only: None,
    },
    SignalHooks {
        signal: Signal::LockYields,
        ways: &[&[
            entry("yielded", "__cond_resched_rwlock_read"),
            entry("yielded", "__cond_resched_rwlock_write"),
        ]],
        fields: &[],
        only: None,
    },
    SignalHooks {
        signal: Signal::SlotDeleted,
        ways: &[&[operation("slot_gone", "kvm_arch_flush_shadow_memslot")]],
        fields: &[],
        only: None,
    },
    SignalHooks {
        signal: Signal::ZapAll,
        ways: &[
            &[operation("zap_all", "kvm_mmu_zap_all_fast")],
            // 6.12.117, 7.3: inlined but for its first half, which leaves the zaps of the TDP MMU to
            // the second.
            &[
                operation("zap_all", "__kvm_mmu_zap_all_fast_front_half"),
                operation("zap_all", "kvm_tdp_mmu_zap_invalidated_roots"),
            ],
        ],
        fields: &[],
        only: None,
    },
    SignalHooks {
        signal: Signal::ZapRange,
        ways: &[&[operation("zap_range", "kvm_zap_gfn_range")]],
        fields: &[],
        only: None,
    },
    SignalHooks {
        signal: Signal::NxRecovery,
        ways: &[
            &[operation("nx_recovery", "kvm_nx_huge_page_recovery_worker")],
            // 6.1, and 5.10 without TDP zaps of single pages: the worker is a thread that never returns
            // from its function, so that those which run already are not seen to.
            &[
                entry("nx_recovery_thread", "kvm_nx_lpage_recovery_worker"),
                operation("nx_recovery", "kvm_tdp_mmu_zap_sp"),
            ],
            &[entry("nx_recovery_thread", "kvm_nx_lpage_recovery_worker")],
            &[operation("nx_recovery", "kvm_tdp_mmu_zap_sp")],
        ],
        fields: &[],
        only: None,
    },
    SignalHooks {
        signal: Signal::Faults,
        ways: &[FAULTS_OF_KVM, &[entry("mmu_page_fault", "kvm_mmu_page_fault")]],
        fields: &["kvm_vcpu.kvm"],
        only: None,
    },
    SignalHooks {
        signal: Signal::FastFaults,
        ways: &[
            FAULTS_OF_KVM,
            &[Hook::Raw {
                program: "fast_page_fault",
                tracepoint: "kvmmmu:fast_page_fault",
                layout: Layout::Args(5),
                again: None,
                skips_lose: true,
            }],
            &[Hook::Raw {
                program: "fast_page_fault_of_6",
                tracepoint: "kvmmmu:fast_page_fault",
                layout: Layout::Args(6),
                again: None,
                skips_lose: true,
            }],
        ],
        fields: &[],
        only: None,
    },
    SignalHooks {
        signal: Signal::FaultLatency,
        ways: &[&[Hook::Raw {
            program: "entry",
            tracepoint: "kvm:kvm_entry",
            layout: Layout::Stable,
            again: None,
            skips_lose: true,
        }]],
        fields: &[],
        only: None,
    },
    SignalHooks {
        signal: Signal::TdpChanges,
        ways: &[
            &[Hook::Raw {
                program: "spte_changed",
                tracepoint: "kvmmmu:kvm_tdp_mmu_spte_changed",
                layout: Layout::Stable,
                again: Some("spte_changed_again"),
                skips_lose: true,
            }],
            &[entry("handle_changed_spte", "__handle_changed_spte")],
        ],
        fields: &[],
        only: None,
    },
    SignalHooks {
        signal: Signal::RmapChanges,
        ways: &[&[
            // The walk also learns where page structures begin.
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
        ways: &[&[Hook::Raw {
            program: "set_spte",
            tracepoint: "kvmmmu:kvm_mmu_set_spte",
            layout: Layout::Stable,
            again: Some("set_spte_again"),
            skips_lose: true,
        }]],
        fields: &[],
        only: Some(Mmu::Shadow),
    },
    SignalHooks {
        signal: Signal::DropSpte,
        ways: &[&[entry("drop_spte", "drop_spte")]],
        fields: &[],
        only: None,
    },
    SignalHooks {
        signal: Signal::VmList,
        ways: &[&[walk("vm_list")]],
        fields: &["kvm.vm_list", "kvm.userspace_pid"],
        only: None,
    },
    SignalHooks {
        signal: Signal::Gauges,
        ways: &[&[walk("vm_list")]],
        fields: &["kvm.vm_list", "kvm.stat.pages_4k"],
        only: None,
    },
];

/// Walks KVM's list of VMs.
const fn walk(variable: &'static str) -> Hook {
    Hook::Run { program: "walk", variable }
}

const fn collapse(function: &'static str) -> Hook {
    Hook::Pair { program: "collapse", exit: "collapse_end", function }
}
