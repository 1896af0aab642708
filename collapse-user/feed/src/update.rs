//! Updates: the messages that a source delivers to the model, one after another.

use collapse_common::{
    Cause,
    abi::{Pages, Row, VmKey},
    latency::Latencies,
};
use uuid::Uuid;

use crate::{Event, Overhead, Slot, VmProcess};

/// A message of a source: a batch, or a change in whether anything is seen.
#[allow(clippy::large_enum_variant, reason = "nearly all are batches")]
#[derive(Clone, Debug)]
pub enum Update {
    /// Counts and events of the attached programs.
    Batch(Batch),
    /// The programs were detached: KVM was unloaded, or attaching to it again failed.
    Detached {
        /// `CLOCK_MONOTONIC` ns.
        at: u64,
        /// Reason why nothing is seen from then on.
        why: String,
    },
    /// Nothing is seen at this time.
    Unwatched {
        /// `CLOCK_MONOTONIC` ns.
        at: u64,
    },
    /// New programs were attached after KVM was reloaded. They count from zero.
    Attached {
        /// `CLOCK_MONOTONIC` ns.
        at: u64,
    },
}

impl Update {
    /// Returns the time of the update, `CLOCK_MONOTONIC` ns.
    pub fn at(&self) -> u64 {
        match self {
            Self::Batch(batch) => batch.at,
            Self::Detached { at, .. } | Self::Unwatched { at } | Self::Attached { at } => *at,
        }
    }
}

/// The events since the previous batch, and the state of totals and gauges.
#[derive(Clone, Debug, Default)]
pub struct Batch {
    /// Time at which the totals were read, `CLOCK_MONOTONIC` ns.
    pub at: u64,
    /// Whether no change was counted while totals and gauges were read, so that they must agree
    /// exactly.
    pub settled: bool,
    /// VMs that are alive.
    pub vms: Vec<VmReading>,
    /// Memory that the processes of VMs have from hugetlbfs, bytes; only for VMs for which it
    /// changed.
    pub hugetlb: Vec<(VmKey, u64)>,
    /// UUIDs of VMs, where their command line has one: once each.
    pub uuids: Vec<(VmKey, Uuid)>,
    /// All memslots of VMs that existed before, once each, as they are after the events.
    pub slots: Vec<(VmKey, Vec<Slot>)>,
    /// Totals since attaching of every (VM, cause) row in use, summed over CPUs; rows that have not
    /// changed may be left out. A VM key of zero is the unknown VM.
    pub rows: Vec<(VmKey, Cause, Box<Row>)>,
    /// Histograms of the duration of guest faults since attaching, of every (VM, cause) row that has
    /// any; rows that have not changed may be left out.
    pub latencies: Vec<(VmKey, Cause, Box<Latencies>)>,
    /// Changes and marks, oldest first.
    pub events: Vec<Event>,
    /// Kernel stacks that changes of this batch or later ones refer to and that were not in a batch
    /// before: number, and names of functions, innermost first; empty if the stack could not be
    /// taken.
    pub stacks: Vec<(u32, Vec<String>)>,
    /// Known losses since attaching: key and count, zero included; those that have not changed may be
    /// left out.
    pub losses: Vec<(&'static str, u64)>,
    /// Overhead of the programs, if it was measured since the previous batch.
    pub overhead: Option<Overhead>,
}

/// The state of a live VM at a reading.
#[derive(Clone, Debug)]
pub struct VmReading {
    /// The VM.
    pub vm: VmKey,
    /// KVM's gauges of mappings by size; `None` if this kernel has none.
    pub pages: Option<Pages>,
    /// The process that owns the VM, once known.
    pub process: Option<VmProcess>,
    /// File descriptor of the VM in that process, as in the name of its debugfs directory.
    pub fd: Option<u32>,
}
