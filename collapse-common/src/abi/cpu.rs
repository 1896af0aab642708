//! The working state of each CPU.

use super::RunList;
use crate::ids;

/// Most CPUs that are supported. Distribution kernels allow twice as many, but no x86-64 machine has them.
pub const CPUS: usize = 4096;

ids! {
    /// Who records runs. Each has a list of its own on every CPU, so that none is torn on `PREEMPT_RT`, where
    /// from 7.x on a tracepoint's program can be preempted, and others then run in the middle of it.
    pub enum Writer: u8 {
        /// Changes of the TDP MMU.
        Tdp = 0,
        /// Changes of the rmap and shadow MMU, by kprobes, which are never preempted.
        Rmap = 1,
        /// Installs in indirect shadow pages.
        Shadow = 2,
    }
}

/// Number of [`Writer`]s.
pub const WRITERS: usize = Writer::ALL.len();

/// One CPU's working state, in whole cache lines. Only programs on that CPU write it.
#[repr(C)]
#[derive(Clone, Copy)]
pub struct Cpu {
    /// Position in the thread table of the thread that ran here last.
    pub place: u32,
    /// This CPU's number, set by user space.
    pub id: u32,
    /// Where this CPU's counters begin, set by user space.
    pub first_row: u32,
    /// Padding.
    pub pad: u32,
    /// Events lost on this CPU, by [`Loss`].
    pub loss: [u64; LOSSES],
    /// Run lists by [`Writer`].
    pub runs: [RunList; WRITERS],
    /// The lock that is waited for on this CPU, a VM's `mmu_lock`; 0 if none.
    pub awaited: u64,
    /// Since when, `CLOCK_MONOTONIC` ns.
    pub awaited_since: u64,
    /// Padding.
    pub rest: [u64; 5],
}

ids! {
    /// Ways to lose something in the kernel, positions in [`Cpu::loss`].
    pub enum Loss: u8 {
        /// SPTE changes counted, but whose record found the ring full.
        RecordedChanges = 0 "ring_full_changes",
        /// Marks that found the ring full.
        Marks = 1 "ring_full_marks",
        /// Changes and faults whose VM and cause are unknown because the row table was full.
        Rows = 2 "row_table_full",
        /// Threads that found the thread table full.
        Threads = 3 "thread_table_full",
        /// VMs that found the VM table full.
        Vms = 4 "vm_table_full",
        /// Operations nested deeper than is kept.
        Depth = 5 "nesting_too_deep",
        /// Operations whose return was not seen (a kretprobe ran out of instances).
        Returns = 6 "return_not_seen",
        /// SPTE changes by a thread that is in no known operation of any VM, and exits for a full log of dirty
        /// pages by one that is not known to run a vCPU.
        Context = 7 "context_unknown",
        /// SPTE changes counted but not recorded, to keep to the budget.
        LeftOut = 8 "left_out_for_budget",
    }
}

/// Number of [`Loss`]es, places in [`Cpu::loss`].
pub const LOSSES: usize = Loss::ALL.len();

impl Loss {
    /// Returns the flag that, set higher, avoids it, if there is one.
    pub const fn remedy(self) -> Option<&'static str> {
        match self {
            Self::RecordedChanges | Self::Marks => Some("--ring-size"),
            Self::Rows | Self::Threads | Self::Vms => Some("--max-vms"),
            Self::LeftOut => Some("--budget-overhead"),
            Self::Depth | Self::Returns | Self::Context => None,
        }
    }
}
