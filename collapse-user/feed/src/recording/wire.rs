//! Layout of the payloads. Numbers have a variable length on disk: small ones are short.
//!
//! VMs, threads, kinds of changes and losses are stored once, where they first occur, and referred to
//! by their *place* in that order afterwards.

use std::collections::BTreeMap;

use collapse_common::{
    Cause,
    abi::{Pages, Row, VmKey},
    latency::Latencies,
};
use serde::{Deserialize, Serialize};

use crate::{NoProgress, Slot, SlotChange, Sptes, VmProcess, VmReading};

/// A part of a batch's events.
#[derive(Debug, Default, Serialize, Deserialize)]
pub struct EventsRecord {
    /// VMs that first occur here.
    pub vms: Vec<VmRecord>,
    /// Threads that first occur here: place of the VM, and thread id.
    pub threads: Vec<(u32, u32)>,
    /// Kinds of changes that first occur here.
    pub changes: Vec<ChangeKind>,
    /// The events.
    pub events: Vec<EventRecord>,
}

/// Address and birth of a VM.
pub type VmRecord = (u64, u64);

/// An event.
#[derive(Debug, Serialize, Deserialize)]
pub struct EventRecord {
    /// Time since the previous event, ns.
    pub ts: i64,
    /// Place of the thread.
    pub thread: u32,
    /// Kind of event, with its details.
    pub kind: EventKindRecord,
}

/// A kind of event, with its details.
#[derive(Debug, Serialize, Deserialize)]
pub enum EventKindRecord {
    /// A run of changes: place of the kind of change, first guest frame relative to the end of the
    /// previous change, count.
    Change(u32, i64, u32),
    VmCreated(Option<Pages>, VmProcess),
    VmSeen,
    VmDestroyed(Option<Pages>),
    VmFlushed(Option<Pages>),
    VmFreed,
    SlotChanged(SlotRecord, SlotChange, bool),
    /// A run of the collapse routine: slot, duration in ns, gauges before and after, yields.
    Collapse(SlotRecord, i64, Option<Pages>, Option<Pages>, Option<u32>),
    /// A change of one SPTE: place of the kind of change, guest frame as in `Change`, and the SPTE
    /// before and after, each as the difference to that of the previous such change, because adjacent
    /// pages often are adjacent in host memory too.
    Single(u32, i64, i64, i64),
    /// A change of one SPTE with its stack: place of the kind of change, guest frame as in `Change`,
    /// number of the stack, and the SPTEs as in `Single`, if they were seen.
    Stacked(u32, i64, u32, Option<(i64, i64)>),
    /// A full dirty ring: number of the vCPU.
    RingFull(Option<u32>),
    /// As `SlotChanged`, and where the slot's memory begins in the VMM's.
    SlotPlaced(SlotRecord, SlotChange, bool, u64),
    /// A long fault: cause, number of the vCPU, address, duration in ns.
    LongFault(u8, Option<u32>, u64, u64),
    /// A vCPU without progress, as it is.
    NoProgress(NoProgress),
}

/// The fields that SPTE changes of one kind have in common.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Serialize, Deserialize)]
pub struct ChangeKind {
    pub cause: u8,
    pub transition: u8,
    pub level: u32,
    pub as_id: u32,
    pub read_only: bool,
}

/// A memslot, without where its memory is in the VMM's.
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
        let Slot { id, as_id, base_gfn, npages, flags, userspace_addr: _ } = slot;
        Self { id, as_id, base_gfn, npages, flags }
    }
}

impl From<SlotRecord> for Slot {
    fn from(slot: SlotRecord) -> Self {
        let SlotRecord { id, as_id, base_gfn, npages, flags } = slot;
        Self { id, as_id, base_gfn, npages, flags, userspace_addr: None }
    }
}

/// A batch without its events.
#[derive(Debug, Default, Serialize, Deserialize)]
pub struct BatchRecord {
    /// Time since the previous batch, ns.
    pub at: i64,
    pub settled: bool,
    /// VMs that first occur here.
    pub vms: Vec<VmRecord>,
    /// VMs that are alive.
    pub readings: Vec<ReadingRecord>,
    /// Totals that changed.
    pub rows: Vec<CellsRecord>,
    /// Latencies that changed.
    pub latencies: Vec<CellsRecord>,
    /// Names of losses that first occur here.
    pub loss_names: Vec<String>,
    /// Place of the loss, and the difference of its count.
    pub losses: Vec<(u32, u64)>,
}

/// Memory that the processes of VMs have from hugetlbfs, for VMs for which it changed.
#[derive(Debug, Default, Serialize, Deserialize)]
pub struct HugetlbRecord {
    /// VMs that first occur here.
    pub vms: Vec<VmRecord>,
    /// Place of the VM, and bytes.
    pub bytes: Vec<(u32, u64)>,
}

/// UUIDs of VMs, once each.
#[derive(Debug, Default, Serialize, Deserialize)]
pub struct UuidsRecord {
    /// VMs that first occur here.
    pub vms: Vec<VmRecord>,
    /// Place of the VM, and the bytes of its UUID in the order in which they are written.
    pub uuids: Vec<(u32, [u8; 16])>,
}

/// Memslots of VMs that existed before.
#[derive(Debug, Default, Serialize, Deserialize)]
pub struct SlotsRecord {
    /// VMs that first occur here.
    pub vms: Vec<VmRecord>,
    /// Place of the VM, and its memslots.
    pub slots: Vec<(u32, Vec<PlacedSlotRecord>)>,
}

/// A memslot, and where its memory begins in the VMM's.
pub type PlacedSlotRecord = (SlotRecord, Option<u64>);

/// Kernel stacks: number, and names of functions, innermost first.
pub type StacksRecord = Vec<(u32, Vec<String>)>;

/// A change in whether anything is seen. Times are relative to the previous batch, ns.
#[derive(Debug, Serialize, Deserialize)]
pub enum VisibilityRecord {
    /// Programs were detached, with the reason.
    Detached(i64, String),
    /// Nothing is seen at this time.
    Unwatched(i64),
    /// New programs were attached.
    Attached(i64),
}

/// A value that is stored only when it changes.
#[derive(Debug, Serialize, Deserialize)]
pub enum Changed<T> {
    Same,
    To(T),
}

impl<T> Changed<T> {
    /// Returns `To(to())` if the value changed.
    pub fn when(changed: bool, to: impl FnOnce() -> T) -> Self {
        if changed { Self::To(to()) } else { Self::Same }
    }
}

/// The changes of a live VM since its previous reading.
#[derive(Debug, Serialize, Deserialize)]
pub struct ReadingRecord {
    /// Place of the VM.
    pub vm: u32,
    pub pages: Changed<PagesRecord>,
    pub process: Changed<Option<VmProcess>>,
    pub fd: Changed<Option<u32>>,
}

/// New gauges, as differences; `None` if there are none.
pub type PagesRecord = Option<[i64; 3]>;

/// The differences of those counts of a (VM, cause) row that changed.
#[derive(Debug, Serialize, Deserialize)]
pub struct CellsRecord {
    /// Place of the VM.
    pub vm: u32,
    pub cause: u8,
    /// Position and difference.
    pub cells: Vec<(u16, u64)>,
}

/// The values that later numbers of a segment are relative to. Encoder and decoder keep equal ones.
#[derive(Debug, Default)]
pub struct CodecState {
    /// Time of the last batch or change of visibility, ns.
    pub at: u64,
    /// Time of the last event, ns.
    pub ts: u64,
    /// Guest frame after the last change.
    pub gfn: u64,
    /// SPTEs of the last change that had them.
    pub sptes: Sptes,
    pub readings: BTreeMap<u32, VmReading>,
    pub rows: BTreeMap<(u32, Cause), Box<Row>>,
    pub latencies: BTreeMap<(u32, Cause), Box<Latencies>>,
}

impl CodecState {
    /// Forgets the counts of programs that were detached.
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

/// Converts a VM to its stored form.
pub fn vm_record(vm: VmKey) -> VmRecord {
    (vm.kvm, vm.born)
}

/// Converts a VM from its stored form.
pub fn vm_key((kvm, born): VmRecord) -> VmKey {
    VmKey { kvm, born }
}
