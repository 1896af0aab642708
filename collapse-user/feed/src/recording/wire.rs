//! What is in the payloads. All numbers are variable-length on disk, so small ones are short.

use std::collections::BTreeMap;

use collapse_common::{
    Cause, Transition,
    abi::{Pages, Row, VmKey},
    latency::Latencies,
};
use serde::{Deserialize, Serialize};

use crate::{Slot, SlotChange, Sptes, VmProcess, VmReading};

/// A part of a batch's events.
#[derive(Debug, Default, Serialize, Deserialize)]
pub struct EventsRecord {
    /// VMs that are named here for the first time.
    pub vms: Vec<VmRecord>,
    /// Threads that are named here for the first time: place of the VM, and thread id.
    pub threads: Vec<(u32, u32)>,
    /// Kinds of changes that are named here for the first time.
    pub changes: Vec<ChangeKind>,
    /// The events.
    pub events: Vec<EventRecord>,
}

/// Address and birth of a VM.
pub type VmRecord = (u64, u64);

/// An event.
#[derive(Debug, Serialize, Deserialize)]
pub struct EventRecord {
    /// Since the event before, ns.
    pub ts: i64,
    /// Place of the thread.
    pub thread: u32,
    /// What happened.
    pub kind: KindRecord,
}

/// What happened.
#[derive(Debug, Serialize, Deserialize)]
pub enum KindRecord {
    /// Place of the kind of change, first guest frame since the end of the change before, count.
    Change(u32, i64, u32),
    VmCreated(Option<Pages>, VmProcess),
    VmSeen,
    VmDestroyed(Option<Pages>),
    VmFlushed(Option<Pages>),
    VmFreed,
    SlotChanged(SlotRecord, SlotChange, bool),
    /// Slot, duration, gauges before and after, yields.
    Collapse(SlotRecord, i64, Option<Pages>, Option<Pages>, Option<u32>),
    /// As a change of one SPTE, with the SPTE before and after: each as the difference to that of the
    /// one before, as the next page often is next in host memory too.
    Single(u32, i64, i64, i64),
    /// As a change of one SPTE with its stack: place of the kind of change, guest frame, number of the
    /// stack, and the SPTEs, if they were seen.
    Stacked(u32, i64, u32, Option<(i64, i64)>),
}

/// What is the same for all SPTE changes of one kind.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Serialize, Deserialize)]
pub struct ChangeKind {
    pub cause: u8,
    pub transition: u8,
    pub level: u32,
    pub as_id: u32,
    pub read_only: bool,
}

/// A memslot.
#[derive(Clone, Copy, Debug, Serialize, Deserialize)]
pub struct SlotRecord {
    id: u16,
    as_id: u16,
    base_gfn: u64,
    npages: u64,
    flags: u32,
}

impl From<Slot> for SlotRecord {
    fn from(slot: Slot) -> Self {
        let Slot { id, as_id, base_gfn, npages, flags } = slot;
        Self { id, as_id, base_gfn, npages, flags }
    }
}

impl From<SlotRecord> for Slot {
    fn from(slot: SlotRecord) -> Self {
        let SlotRecord { id, as_id, base_gfn, npages, flags } = slot;
        Self { id, as_id, base_gfn, npages, flags }
    }
}

/// A batch without its events.
#[derive(Debug, Default, Serialize, Deserialize)]
pub struct BatchRecord {
    /// Since the batch before, ns.
    pub at: i64,
    pub settled: bool,
    /// VMs that are named here for the first time.
    pub vms: Vec<VmRecord>,
    /// VMs alive.
    pub readings: Vec<ReadingRecord>,
    /// Totals that changed.
    pub rows: Vec<CellsRecord>,
    /// Latencies that changed.
    pub latencies: Vec<CellsRecord>,
    /// Losses that are named here for the first time.
    pub ways: Vec<String>,
    /// Place of the loss, and by how much it changed.
    pub losses: Vec<(u32, u64)>,
}

/// Memory from hugetlbfs of the processes of VMs, where it is another than before.
#[derive(Debug, Default, Serialize, Deserialize)]
pub struct HugetlbRecord {
    /// VMs that are named here for the first time.
    pub vms: Vec<VmRecord>,
    /// Place of the VM, and bytes.
    pub bytes: Vec<(u32, u64)>,
}

/// Kernel stacks: number, and names of functions, innermost first.
pub type StacksRecord = Vec<(u32, Vec<String>)>;

/// Whether anything is seen. Times are since the batch before, ns.
#[derive(Debug, Serialize, Deserialize)]
pub enum SightRecord {
    /// No more, and why.
    Lost(i64, String),
    /// Not yet.
    None(i64),
    /// Again.
    Back(i64),
}

/// A value that is told only when it changes.
#[derive(Debug, Serialize, Deserialize)]
pub enum Changed<T> {
    Same,
    To(T),
}

impl<T> Changed<T> {
    /// `to`, if it changed.
    pub fn when(changed: bool, to: impl FnOnce() -> T) -> Self {
        if changed { Self::To(to()) } else { Self::Same }
    }
}

/// What changed of a live VM.
#[derive(Debug, Serialize, Deserialize)]
pub struct ReadingRecord {
    /// Place of the VM.
    pub vm: u32,
    pub pages: Changed<PagesRecord>,
    pub process: Changed<Option<VmProcess>>,
    pub fd: Changed<Option<u32>>,
}

/// New gauges, as changes; `None` if there are none.
pub type PagesRecord = Option<[i64; 3]>;

/// By how much the counts of a (VM, cause) row changed, those that did.
#[derive(Debug, Serialize, Deserialize)]
pub struct CellsRecord {
    /// Place of the VM.
    pub vm: u32,
    pub cause: u8,
    /// Position and change.
    pub cells: Vec<(u16, u64)>,
}

/// What the segment told so far, that numbers are relative to. Both sides keep it alike.
#[derive(Debug, Default)]
pub struct State {
    /// Time of the last batch, or later if nothing was seen.
    pub at: u64,
    /// Time of the last event.
    pub ts: u64,
    /// Guest frame after the last change.
    pub gfn: u64,
    /// SPTEs of the last change that told its own.
    pub sptes: Sptes,
    pub readings: BTreeMap<u32, VmReading>,
    pub rows: BTreeMap<(u32, Cause), Box<Row>>,
    pub latencies: BTreeMap<(u32, Cause), Box<Latencies>>,
}

impl State {
    /// Forgets what programs counted that are attached no more.
    pub fn start_over(&mut self) {
        self.readings.clear();
        self.rows.clear();
        self.latencies.clear();
    }

    /// Forgets a VM for which nothing more is counted.
    pub fn forget(&mut self, vm: u32) {
        self.readings.remove(&vm);
        self.rows.retain(|(of, _), _| *of != vm);
        self.latencies.retain(|(of, _), _| *of != vm);
    }
}

/// A VM as it is stored.
pub fn vm_record(vm: VmKey) -> VmRecord {
    (vm.kvm, vm.born)
}

/// A VM from how it is stored.
pub fn vm_key((kvm, born): VmRecord) -> VmKey {
    VmKey { kvm, born }
}

/// A transition by its number.
pub fn transition(number: u8) -> Option<Transition> {
    Transition::ALL.get(usize::from(number)).copied()
}
