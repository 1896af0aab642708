//! What a thread is doing for KVM, and what KVM counts of its vCPU.

use super::{Pages, Slot, UNKNOWN_PAGES, VmKey, WATCHED};

/// Operations a thread can be nested in: their rows are packed in one word.
pub const DEPTH: u32 = 4;

/// What a thread is doing for KVM.
#[repr(C)]
#[derive(Clone, Copy)]
pub struct Thread {
    /// `bpf_get_current_pid_tgid`; 0 if the place is free.
    pub id: u64,
    /// Row that changes by this thread count in now.
    pub row: u32,
    /// Row outside any operation: the VM whose vCPU this thread last ran, cause guest fault.
    pub base: u32,
    /// VM generation counter at which `vcpu` was looked up.
    pub generation: u64,
    /// Rows to go back to as the operations end, 16 bits each, the innermost lowest. A word because
    /// the verifier cannot follow an index through the compiler's range analysis.
    pub stack: u64,
    /// The vCPU behind `base`; 0 if this thread never ran one.
    pub vcpu: u64,
    /// What KVM had counted of `vcpu` when that was last added to `base`.
    pub counted: VcpuFaults,
    /// What KVM had counted as [`VcpuFaults::fast`] when the fault that is timed began.
    pub fast_before: u64,
    /// Region and level of the huge leaf that this thread zapped last in the current guest fault,
    /// see [`zapped`]; 0 if none.
    pub zapped: u64,
    /// The SPTE of an indirect shadow page that this thread installed last, whose guest frame is yet
    /// to be told; 0 if none.
    pub installed: u64,
    /// When the guest fault that it handles began, `CLOCK_MONOTONIC` ns; 0 if none, or if it is not
    /// timed.
    pub fault_at: u64,
    /// What the fault came to so far, a [`crate::latency::Outcome`].
    pub outcome: u32,
    /// The CPU that has a hint of it.
    pub cpu: u32,
    /// [`crate::Cause`] of notifiers that this thread calls: what it does to host memory, if that is
    /// known. 0 if not.
    pub host_cause: u32,
    /// Operations it is in.
    pub depth: u32,
    /// Its position in the table. That of the current thread is not to be had from
    /// [`super::Cpu::place`] where another one may preempt the program.
    pub position: u32,
    /// Padding.
    pub pad: u32,
    /// The VM whose memslot it changes; 0 if none.
    pub slot_kvm: u64,
    /// Times it gave up `mmu_lock` in this span.
    pub yields: u64,
    /// By [`super::Watched`] tracepoint: events that the first program took.
    pub first: [u32; WATCHED],
    /// The same, as the second program last saw it.
    pub second: [u32; WATCHED],
    /// The collapse routine or teardown that this thread is in.
    pub span: Span,
}

/// What KVM counts of a vCPU itself, since its creation.
#[repr(C)]
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct VcpuFaults {
    /// `pf_taken`: guest faults, but for accesses to emulated devices.
    pub taken: u64,
    /// `pf_fast`: of them, those that the lockless fast path resolved, or found resolved.
    pub fast: u64,
}

impl VcpuFaults {
    /// What was counted since `earlier`: all of it if somebody cleared KVM's statistics meanwhile.
    #[inline(always)]
    #[must_use]
    pub const fn since(self, earlier: Self) -> Self {
        if self.taken < earlier.taken || self.fast < earlier.fast {
            return self;
        }
        Self { taken: self.taken - earlier.taken, fast: self.fast - earlier.fast }
    }
}

/// What KVM has counted of a vCPU and is in no row yet, read on request of user space.
#[repr(C)]
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct PendingFaults {
    /// The row that it belongs to; [`Self::NOBODY`] if the place is of no vCPU.
    pub row: u32,
    /// Padding.
    pub pad: u32,
    /// [`Thread::counted`].
    pub counted: VcpuFaults,
    /// What has been counted since.
    pub pending: VcpuFaults,
}

impl PendingFaults {
    /// No row.
    pub const NOBODY: u32 = u32::MAX;

    /// Nothing.
    pub const NONE: Self = Self {
        row: Self::NOBODY,
        pad: 0,
        counted: VcpuFaults { taken: 0, fast: 0 },
        pending: VcpuFaults { taken: 0, fast: 0 },
    };
}

/// Names a zapped huge leaf in [`Thread::zapped`]: never 0, as the level of a huge leaf is not.
#[inline(always)]
pub const fn zapped(level: u32, gfn: u64) -> u64 {
    (level as u64) << 56 | gfn
}

/// An operation that is reported when it ends, as it was when it began.
#[repr(C)]
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Span {
    /// The VM.
    pub vm: VmKey,
    /// The memslot worked on; zero if none.
    pub slot: Slot,
    /// `CLOCK_MONOTONIC` ns.
    pub start: u64,
    /// KVM's gauges.
    pub pages: Pages,
}

impl Span {
    /// No span.
    pub const NONE: Self =
        Self { vm: VmKey { kvm: 0, born: 0 }, slot: Slot::NONE, start: 0, pages: UNKNOWN_PAGES };
}
