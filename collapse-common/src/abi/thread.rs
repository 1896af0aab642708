//! Threads known to KVM, and the faults that KVM counts of their vCPUs.

use super::{Pages, Slot, Stuck, UNKNOWN_PAGES, VmKey};

/// Operations a thread can be nested in: their rows are packed in one word.
pub const DEPTH: u32 = 4;

/// The state of a thread: the operations that it is in, and its vCPU if it has one. Whole cache lines, which
/// no other thread writes.
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
    /// The faults of `vcpu` that KVM had counted when they were last added to `base`.
    pub counted: VcpuFaults,
    /// [`VcpuFaults::fast`] when the timed fault began.
    pub fast_before: u64,
    /// Region and level of the huge leaf that this thread zapped last in the current guest fault,
    /// see [`zapped`]; 0 if none.
    pub zapped: u64,
    /// The SPTE of an indirect shadow page that this thread installed last, whose guest frame is
    /// not known yet; 0 if none.
    pub installed: u64,
    /// When the guest fault that it handles began, `CLOCK_MONOTONIC` ns; 0 if none, or if it is not
    /// timed.
    pub fault_at: u64,
    /// When the exit for a full log of dirty pages began that it handles, `CLOCK_MONOTONIC` ns; 0 if none.
    pub pml_full_at: u64,
    /// The tick at which the guest fault began that it handles, while no CPU has a hint of it; the greatest
    /// number if none.
    pub began: i64,
    /// The address of that fault.
    pub address: u64,
    /// The result of the timed fault so far, a [`crate::latency::Outcome`] by number.
    pub outcome: u32,
    /// The CPU that has a hint of it.
    pub cpu: u32,
    /// [`crate::Cause`]s of notifiers that this thread calls, by what it does to host memory, 8 bits each, the
    /// innermost lowest. 0 where it is not known to do anything.
    pub host_causes: u32,
    /// Operations it is in.
    pub depth: u32,
    /// Its position in the table.
    pub position: u32,
    /// [`super::Role`]s of the functions that it is in, 4 bits each, the innermost lowest.
    pub roles: u32,
    /// The VM whose memslot it changes; 0 if none.
    pub slot_kvm: u64,
    /// Times it gave up `mmu_lock` in this span.
    pub yields: u64,
    /// Whether its vCPU gets on with its guest faults.
    pub stuck: Stuck,
    /// The collapse routine or teardown that this thread is in.
    pub span: Span,
    /// When the operations that it is in began, `CLOCK_MONOTONIC` ns, the innermost first.
    pub began_ns: [u64; DEPTH as usize],
    /// Padding.
    pub pad: [u64; 2],
}

/// The faults that KVM has counted of a vCPU since its creation.
#[repr(C)]
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct VcpuFaults {
    /// `pf_taken`: guest faults, but for accesses to emulated devices.
    pub taken: u64,
    /// `pf_fast`: those of `taken` that the lockless fast path resolved, or found resolved.
    pub fast: u64,
    /// `pf_fixed`, `pf_emulate` and `pf_spurious`: those of which something came, be it that another vCPU had
    /// mapped the page before.
    pub ended: u64,
}

impl VcpuFaults {
    /// Returns the faults counted since `earlier`: all of them if somebody cleared KVM's statistics
    /// meanwhile.
    #[inline(always)]
    #[must_use]
    pub const fn since(self, earlier: Self) -> Self {
        if self.taken < earlier.taken || self.fast < earlier.fast || self.ended < earlier.ended {
            return self;
        }
        Self {
            taken: self.taken - earlier.taken,
            fast: self.fast - earlier.fast,
            ended: self.ended - earlier.ended,
        }
    }

    /// No faults.
    pub const NONE: Self = Self { taken: 0, fast: 0, ended: 0 };

    /// Returns the faults of which nothing came, so that the guest takes them again: an invalidation of that memory
    /// was open (`mmu_invalidate_retry_gfn`), another thread was changing the SPTE, the page had to be read in first,
    /// or KVM's page tables were replaced meanwhile. One that is being handled counts until it has ended.
    #[inline(always)]
    pub const fn retried(self) -> u64 {
        self.taken.saturating_sub(self.ended)
    }
}

/// The faults that KVM has counted of a vCPU and that no row has yet: the answer to
/// [`super::request::ReadPending`].
#[repr(C)]
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct PendingFaults {
    /// The row that they belong to; [`Self::NOBODY`] if there is no vCPU at the place.
    pub row: u32,
    /// Padding.
    pub pad: u32,
    /// [`Thread::counted`].
    pub counted: VcpuFaults,
    /// The faults counted since.
    pub pending: VcpuFaults,
}

impl PendingFaults {
    /// No row.
    pub const NOBODY: u32 = u32::MAX;

    /// Nothing.
    pub const NONE: Self =
        Self { row: Self::NOBODY, pad: 0, counted: VcpuFaults::NONE, pending: VcpuFaults::NONE };
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
