//! Events: SPTE changes, and marks in the life of VMs, memslots and the collapse routine.

use collapse_common::{
    Cause, Transition,
    abi::{Pages, VmKey},
};

use crate::VmProcess;

/// One event, in the order of time.
#[derive(Clone, Debug)]
pub struct Event {
    /// `CLOCK_MONOTONIC` ns.
    pub ts: u64,
    /// Which VM; zero if unknown.
    pub vm: VmKey,
    /// Thread id that it happened in.
    pub tid: u32,
    /// What happened.
    pub kind: EventKind,
}

/// What happened.
#[derive(Clone, Debug)]
pub enum EventKind {
    /// SPTEs changed.
    Change(Change),
    /// A VM was created.
    VmCreated {
        /// KVM's gauges, still zero.
        pages: Option<Pages>,
        /// The process that did it.
        process: VmProcess,
    },
    /// A VM that was there before was seen for the first time.
    VmSeen,
    /// A VM is going away.
    VmDestroyed {
        /// KVM's gauges before teardown.
        pages: Option<Pages>,
    },
    /// The last SPTE of a VM is gone.
    VmFlushed {
        /// KVM's gauges after teardown.
        pages: Option<Pages>,
    },
    /// KVM has freed a VM: nothing more will be counted for it.
    VmFreed,
    /// A memslot changed.
    SlotChanged {
        /// The slot after the change; before it if deleted.
        slot: Slot,
        /// What changed.
        change: SlotChange,
        /// Whether dirty logging concerns the VM as a whole from now on, see
        /// [`collapse_common::abi::is_wide`].
        logging: bool,
    },
    /// One run of the slot-wide collapse routine, at its end.
    Collapse(Collapse),
}

/// Consecutive SPTE changes of one kind by one thread.
#[derive(Clone, Copy, Debug)]
pub struct Change {
    /// Why.
    pub cause: Cause,
    /// What it means.
    pub transition: Transition,
    /// Level, 1 = 4 KiB.
    pub level: u32,
    /// Address space; 1 is SMM.
    pub as_id: u32,
    /// First guest frame.
    pub gfn: u64,
    /// Number of SPTEs.
    pub count: u32,
    /// Whether what was installed may not be written to.
    pub read_only: bool,
    /// The SPTE itself; `None` if changes are recorded in runs, or if it was not seen.
    pub sptes: Option<Sptes>,
    /// Number of the kernel's stack, see [`Batch::stacks`]; `None` where none is taken.
    pub stack: Option<u32>,
}

/// An SPTE before and after a change.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Sptes {
    /// Before.
    pub old: u64,
    /// After.
    pub new: u64,
}

/// A memslot.
#[derive(
    Clone, Copy, Debug, PartialEq, Eq, serde::Serialize, serde::Deserialize, schemars::JsonSchema,
)]
pub struct Slot {
    /// Slot id.
    pub id: u16,
    /// Address space.
    pub as_id: u16,
    /// First guest frame.
    pub base_gfn: u64,
    /// Guest frames.
    pub npages: u64,
    /// `KVM_MEM_*` flags.
    #[serde(skip)]
    pub flags: u32,
}

/// How a memslot changed.
#[derive(Clone, Copy, Debug, PartialEq, Eq, serde::Serialize, serde::Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum SlotChange {
    /// Created.
    Created,
    /// Deleted.
    Deleted,
    /// Moved.
    Moved,
    /// Dirty logging went on.
    LogOn,
    /// Dirty logging went off.
    LogOff,
    /// Other flags changed, or none.
    Other,
}

/// One run of the slot-wide collapse routine (`kvm_mmu_zap_collapsible_sptes` up to 6.12,
/// `kvm_mmu_recover_huge_pages` after).
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Collapse {
    /// The slot.
    pub slot: Slot,
    /// `CLOCK_MONOTONIC` ns at which it began.
    pub start: u64,
    /// KVM's gauges then.
    pub pages_before: Option<Pages>,
    /// KVM's gauges when it ended.
    pub pages_after: Option<Pages>,
    /// Times it gave up `mmu_lock` to others; `None` if not seen.
    pub yields: Option<u32>,
}
