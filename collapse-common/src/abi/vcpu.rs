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
    /// Padding.
    pub pad: u32,
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
    }
}

/// First word of a [`VcpuMark`] in the ring.
pub const RECORD_VCPU_MARK: u32 = 5;
