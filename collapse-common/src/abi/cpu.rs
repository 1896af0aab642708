//! What each CPU works with.

use super::RunList;

/// Most CPUs that the kernel may have. Distribution kernels can have twice as many, x86-64 machines do
/// not.
pub const CPUS: usize = 4096;

/// Who records runs. Each has a list of its own on every CPU: from 7.x on a tracepoint's program can
/// be preempted, and others then run in the middle of it.
#[repr(u8)]
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Writer {
    /// Changes of the TDP MMU.
    Tdp = 0,
    /// The second look at them, see [`Watched`].
    TdpAgain = 1,
    /// Changes of the rmap and shadow MMU, by kprobes, which are never preempted.
    Rmap = 2,
    /// Installs in indirect shadow pages.
    Shadow = 3,
    /// The second look at them.
    ShadowAgain = 4,
}

/// Number of [`Writer`]s.
pub const WRITERS: usize = 5;

/// One CPU's working state. Only programs on that CPU write it.
#[repr(C)]
#[derive(Clone, Copy)]
pub struct Cpu {
    /// Position in the thread table of the thread that ran here last.
    pub place: u32,
    /// This CPU's number, set by user space.
    pub id: u32,
    /// Where this CPU's counters begin, set by user space.
    pub first_row: u32,
    /// The [`Writer`] that recorded last.
    pub writer: u32,
    /// By [`Watched`] tracepoint: events that the second program took because the first was skipped.
    pub again: [u64; WATCHED],
    /// What was lost on this CPU.
    pub loss: [u64; LOSSES],
    /// By [`Writer`].
    pub runs: [RunList; WRITERS],
}

/// Tracepoints that a second program watches where programs can be preempted, positions in
/// [`Cpu::again`].
#[repr(u8)]
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Watched {
    /// `kvm_tdp_mmu_spte_changed`
    SpteChanged = 0,
    /// `kvm_mmu_set_spte`
    SetSpte = 1,
}

/// Number of [`Watched`] tracepoints.
pub const WATCHED: usize = 2;

/// Ways to lose something in the kernel, positions in [`Cpu::loss`].
#[repr(u8)]
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Loss {
    /// SPTE changes counted, but whose record found the ring full.
    RecordedChanges = 0,
    /// Marks that found the ring full.
    Marks = 1,
    /// Changes and faults whose VM and cause are unknown because the row table was full.
    Rows = 2,
    /// Threads that found the thread table full.
    Threads = 3,
    /// VMs that found the VM table full.
    Vms = 4,
    /// Operations nested deeper than is kept.
    Depth = 5,
    /// Operations whose return was not seen (a kretprobe ran out of instances).
    Returns = 6,
    /// SPTE changes by a thread that is in no known operation of any VM.
    Context = 7,
    /// SPTE changes counted but not recorded, to keep to the budget.
    LeftOut = 8,
}

/// Places in [`Cpu::loss`].
pub const LOSSES: usize = 9;

impl Loss {
    /// Every way, by position.
    pub const ALL: [Self; LOSSES] = [
        Self::RecordedChanges,
        Self::Marks,
        Self::Rows,
        Self::Threads,
        Self::Vms,
        Self::Depth,
        Self::Returns,
        Self::Context,
        Self::LeftOut,
    ];

    /// Its key in JSON and metrics.
    pub const fn name(self) -> &'static str {
        match self {
            Self::RecordedChanges => "ring_full_changes",
            Self::Marks => "ring_full_marks",
            Self::Rows => "row_table_full",
            Self::Threads => "thread_table_full",
            Self::Vms => "vm_table_full",
            Self::Depth => "nesting_too_deep",
            Self::Returns => "return_not_seen",
            Self::Context => "context_unknown",
            Self::LeftOut => "left_out_for_budget",
        }
    }

    /// The flag that, set higher, avoids it, if there is one.
    pub const fn remedy(self) -> Option<&'static str> {
        match self {
            Self::RecordedChanges | Self::Marks => Some("--ring-size"),
            Self::Rows | Self::Threads | Self::Vms => Some("--max-vms"),
            Self::LeftOut => Some("--budget-overhead"),
            Self::Depth | Self::Returns | Self::Context => None,
        }
    }
}
