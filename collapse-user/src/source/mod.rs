//! Where batches come from. The model sees batches only, so that everything above runs the same on
//! a live kernel and on a recording.

pub mod cost;
mod decode;
mod hugetlb;
pub mod live;
mod mapped;
mod maps;
pub mod recording;
mod stacks;

use collapse_common::{
    Cause, Transition,
    abi::{Pages, Row, VmKey},
    latency::Latencies,
};

use crate::identity::VmProcess;

use cost::Overhead;

/// What a source tells, one after the other.
#[allow(clippy::large_enum_variant, reason = "nearly all are batches")]
#[derive(Clone, Debug)]
pub enum Update {
    /// What attached programs counted and recorded.
    Batch(Batch),
    /// The programs were detached: KVM was unloaded, or the next could not be attached.
    Detached {
        /// `CLOCK_MONOTONIC` ns.
        at: u64,
        /// Why nothing is seen from now on.
        why: String,
    },
    /// Nothing is seen, and it is so late.
    Blind {
        /// `CLOCK_MONOTONIC` ns.
        at: u64,
    },
    /// Other programs were attached to a KVM that was loaded anew. They count from zero.
    Attached {
        /// `CLOCK_MONOTONIC` ns.
        at: u64,
    },
}

impl Update {
    /// `CLOCK_MONOTONIC` ns of what it tells.
    pub fn at(&self) -> u64 {
        match self {
            Self::Batch(batch) => batch.at,
            Self::Detached { at, .. } | Self::Blind { at } | Self::Attached { at } => *at,
        }
    }
}

/// What happened since the batch before, and where the totals stand.
#[derive(Clone, Debug, Default)]
pub struct Batch {
    /// `CLOCK_MONOTONIC` ns at which the totals were read.
    pub at: u64,
    /// Whether no change was counted while totals and gauges were read: then they must agree to the
    /// last one.
    pub settled: bool,
    /// VMs alive now.
    pub vms: Vec<VmReading>,
    /// Memory from hugetlbfs of the processes of VMs, bytes, where it is another than before.
    pub hugetlb: Vec<(VmKey, u64)>,
    /// Totals since attaching of every (VM, cause) row in use, summed over CPUs; those that have not
    /// changed may be left out. A VM key of zero is the unknown VM.
    pub rows: Vec<(VmKey, Cause, Box<Row>)>,
    /// Histograms since attaching of how long guest faults took, of every (VM, cause) row that has
    /// any; those that have not changed may be left out.
    pub latencies: Vec<(VmKey, Cause, Box<Latencies>)>,
    /// Changes and marks, oldest first.
    pub events: Vec<Event>,
    /// Kernel stacks that changes of this batch or later ones name, of which nothing was told before:
    /// number, and names of functions, innermost first; none if the stack could not be taken.
    pub stacks: Vec<(u32, Vec<String>)>,
    /// Everything known to be lost since attaching: key and count, zero included; those that have
    /// not changed may be left out.
    pub losses: Vec<(&'static str, u64)>,
    /// What the programs cost, if that was measured since the batch before.
    pub overhead: Option<Overhead>,
}

/// A live VM.
#[derive(Clone, Debug)]
pub struct VmReading {
    /// Which VM.
    pub vm: VmKey,
    /// KVM's own gauges; `None` where this kernel has none.
    pub pages: Option<Pages>,
    /// The process behind it, once known.
    pub process: Option<VmProcess>,
    /// File descriptor of the VM in that process, as in its debugfs directory's name.
    pub fd: Option<u32>,
}

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
