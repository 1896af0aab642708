//! Rare events of single vCPUs.

use crate::ids;

/// A rare event of a vCPU with its own ring-buffer record.
#[repr(C)]
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct VcpuMark {
    /// [`RECORD_VCPU_MARK`].
    pub record: u32,
    /// [`VcpuMarkKind`] by number.
    pub kind: u32,
    /// When it ended, `CLOCK_MONOTONIC` ns.
    pub ts: u64,
    /// How long it took, ns; 0 for a point in time.
    pub duration: u64,
    /// The address that the guest wanted; 0 if none.
    pub address: u64,
    /// The (VM, cause) row that it counts in.
    pub row: u32,
    /// Thread id (not thread group).
    pub tid: u32,
    /// `kvm_vcpu.vcpu_id`; [`UNKNOWN_VCPU`] if not known.
    pub vcpu: u32,
    /// [`VcpuMarkKind::NoProgress`]: invalidations of the VM's memory that have begun and not ended
    /// (`kvm.mmu_invalidate_in_progress`).
    pub invalidating: u32,
    /// [`VcpuMarkKind::NoProgress`]: guest faults that the vCPU took meanwhile.
    pub faults: u64,
    /// [`VcpuMarkKind::NoProgress`]: invalidations of the VM's memory so far, by KVM's count
    /// (`kvm.mmu_invalidate_seq`).
    pub sequence: u64,
}

/// A vCPU whose number is not known.
pub const UNKNOWN_VCPU: u32 = u32::MAX;

ids! {
    /// The event that a [`VcpuMark`] reports.
    pub enum VcpuMarkKind: u32 {
        /// It left to its VMM because its dirty ring is full (`kvm_dirty_ring_exit`).
        RingFull = 1,
        /// A long guest fault ended, see [`crate::latency::Sum::Long`].
        LongFault = 2,
        /// It has taken guest faults at one page for a while, of which KVM has resolved none: see [`Stuck`].
        NoProgress = 3,
    }
}

/// Since when a vCPU takes guest faults at one page of which KVM resolves none, as far as its timed faults show.
#[repr(C)]
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Stuck {
    /// The page: the address that the guest wanted, divided by 4096.
    pub page: u64,
    /// When the first of these faults began, `CLOCK_MONOTONIC` ns; 0 if there is none.
    pub since: u64,
    /// [`super::VcpuFaults::taken`] then.
    pub taken: u64,
    /// The faults that KVM had resolved then: fixed or emulated.
    pub resolved: u64,
    /// For how long it has to last to be reported next, ns.
    pub report_after: u64,
}

impl Stuck {
    /// Not at all.
    pub const NOT: Self = Self { page: 0, since: 0, taken: 0, resolved: 0, report_after: 0 };

    /// What lasts less is not reported, ns. After that, each report says at least twice as much as the one
    /// before.
    pub const LEAST: u64 = 10_000_000;
}

/// First word of a [`VcpuMark`] in the ring.
pub const RECORD_VCPU_MARK: u32 = 5;
