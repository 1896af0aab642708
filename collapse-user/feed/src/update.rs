//! What a source hands to the model, one update after the other.

use collapse_common::{
    Cause,
    abi::{Pages, Row, VmKey},
    latency::Latencies,
};

use crate::{Event, Overhead, VmProcess};

/// One step of a source: a batch, or a change in whether anything is seen.
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
