//! What is in the lines. Keys are added, never renamed.

use std::{collections::BTreeMap, rc::Rc};

use collapse_common::{
    Cause, SpteLayout,
    abi::Pages,
    spte::{SpteBits as _, frames},
};
use serde::Serialize;

use crate::Host;
use collapse_feed::{Change, Event, EventKind, Slot, recording::Clocks};
use collapse_model::{Mapping, Slots, Vm, regions_of};

/// Name and version of the format.
pub const SCHEMA: &str = "collapse.events/1";

/// The first line.
#[derive(Clone, Debug, Serialize)]
pub struct HeaderLine {
    schema: &'static str,
    version: &'static str,
    host: Host,
    /// Both clocks at one moment, to convert by.
    clock: ClockLine,
}

#[derive(Clone, Debug, Serialize)]
struct ClockLine {
    ts_ns: u64,
    time: String,
}

impl HeaderLine {
    pub(super) fn new(clocks: Clocks, host: Host) -> Self {
        let clock = ClockLine { ts_ns: clocks.monotonic, time: rfc3339(clocks.wall) };
        Self { schema: SCHEMA, version: env!("CARGO_PKG_VERSION"), host, clock }
    }
}

/// An event. What does not apply to its kind is left out; what is unknown is `null`.
#[derive(Clone, Debug, Serialize)]
pub struct Line {
    /// `CLOCK_MONOTONIC`.
    ts_ns: u64,
    /// The same by the wall clock, UTC.
    time: String,
    /// What happened.
    kind: &'static str,
    /// The VM; `None` if unknown.
    vm: Option<VmLine>,
    /// Thread that it happened in.
    tid: u32,
    #[serde(skip_serializing_if = "Option::is_none")]
    level: Option<u32>,
    /// First guest frame.
    #[serde(skip_serializing_if = "Option::is_none")]
    gfn: Option<u64>,
    /// Number of SPTEs, of the guest frames `gfn`, `gfn + step`, and so on.
    #[serde(skip_serializing_if = "Option::is_none")]
    count: Option<u32>,
    #[serde(skip_serializing_if = "Option::is_none")]
    step: Option<u64>,
    #[serde(skip_serializing_if = "Option::is_none")]
    as_id: Option<u32>,
    #[serde(skip_serializing_if = "Option::is_none")]
    cause: Option<&'static str>,
    #[serde(skip_serializing_if = "Option::is_none")]
    read_only: Option<bool>,
    /// The SPTE before, if each change is told.
    #[serde(skip_serializing_if = "Option::is_none")]
    old: Option<SpteLine>,
    /// The SPTE after.
    #[serde(skip_serializing_if = "Option::is_none")]
    new: Option<SpteLine>,
    /// The kernel's stack by functions, innermost first, if it was asked for.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub(super) stack: Option<StackLine>,
    /// How the regions are mapped now that it touched, of those that lost their huge leaf in the time
    /// that was watched, by number.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub(super) regions: Option<RegionsLine>,
    /// The slot, as far as it is known.
    slot: Option<Slot>,
    /// Number of the VM's episode that it happened in.
    episode: Option<u32>,
    /// Number of the VM's collapse run that did it.
    span: Option<u64>,
    /// Whether dirty logging concerns the VM as a whole from now on.
    #[serde(skip_serializing_if = "Option::is_none")]
    logging: Option<bool>,
    /// When it began.
    #[serde(skip_serializing_if = "Option::is_none")]
    start_ns: Option<u64>,
    /// KVM's own gauges, by size.
    #[serde(skip_serializing_if = "Option::is_none")]
    pages: Option<Pages>,
}

/// Regions by how they are mapped; `None` if they are not followed.
#[derive(Clone, Debug, Serialize)]
#[serde(transparent)]
pub struct RegionsLine(pub(super) Option<BTreeMap<&'static str, u32>>);

/// Functions of a stack; `None` if it could not be taken.
#[derive(Clone, Debug, Serialize)]
#[serde(transparent)]
pub struct StackLine(pub(super) Option<Rc<[String]>>);

/// An SPTE, read.
#[allow(clippy::struct_excessive_bools, reason = "they are its bits")]
#[derive(Clone, Debug, Serialize)]
pub struct SpteLine {
    /// The SPTE itself, hexadecimal: JSON readers lose digits of such numbers.
    raw: String,
    present: bool,
    /// Whether it maps memory itself; a page table if not.
    leaf: bool,
    writable: bool,
    accessed: bool,
    dirty: bool,
    /// Host frame of what it points to; `None` if it is not present.
    pfn: Option<u64>,
}

impl SpteLine {
    fn new(layout: SpteLayout, level: u32, spte: u64) -> Self {
        let present = layout.is_present(spte);
        Self {
            raw: format!("{spte:#x}"),
            present,
            leaf: present && layout.is_leaf(level, spte),
            writable: present && layout.is_writable(spte),
            accessed: present && spte & layout.accessed != 0,
            dirty: present && spte & layout.dirty != 0,
            pfn: present.then_some((spte & FRAME) >> 12),
        }
    }
}

/// Bits of the physical address in an SPTE, on machines with up to 51 of them: above are KVM's own
/// and protection keys.
const FRAME: u64 = (1 << 51) - (1 << 12);

/// A VM.
#[derive(Clone, Debug, PartialEq, Eq, Serialize)]
pub struct VmLine {
    /// When it was created or first seen: tells VMs apart.
    pub born_ns: u64,
    /// Its process.
    pub pid: Option<u32>,
    /// Thread that created it.
    pub tid: Option<u32>,
    /// Its file descriptor there.
    pub fd: Option<u32>,
    /// What people call it.
    pub name: Option<String>,
}

impl Line {
    /// The line of an event, with what the model knows of its VM.
    pub(super) fn new(
        event: &Event,
        clocks: Clocks,
        vm: Option<&Vm>,
        slot: Option<Slot>,
        layout: SpteLayout,
    ) -> Self {
        let process = vm.and_then(|vm| vm.process.as_ref());
        let mut line = Self {
            ts_ns: event.ts,
            time: rfc3339(clocks.wall_at(event.ts)),
            kind: super::kind(&event.kind),
            vm: (event.vm.born > 0).then(|| VmLine {
                born_ns: event.vm.born,
                pid: process.map(|process| process.pid),
                tid: process.map(|process| process.tid),
                fd: vm.and_then(|vm| vm.fd),
                name: process.map(|process| process.name.text.clone()),
            }),
            tid: event.tid,
            level: None,
            gfn: None,
            count: None,
            step: None,
            as_id: None,
            cause: None,
            read_only: None,
            old: None,
            new: None,
            stack: None,
            regions: None,
            slot,
            episode: vm.and_then(|vm| episode(vm, event.ts)),
            span: None,
            logging: None,
            start_ns: None,
            pages: None,
        };
        match &event.kind {
            EventKind::Change(change) => {
                line.change(change);
                let spte = |spte| SpteLine::new(layout, change.level, spte);
                line.old = change.sptes.map(|sptes| spte(sptes.old));
                line.new = change.sptes.map(|sptes| spte(sptes.new));
                line.regions = Some(RegionsLine(vm.map(|vm| regions(vm, change))));
                if change.cause == Cause::Collapse {
                    // KVM runs one at a time for a VM, and tells of it at its end.
                    line.span = vm.map(|vm| vm.span_count + 1);
                }
            }
            EventKind::VmCreated { pages, .. }
            | EventKind::VmDestroyed { pages }
            | EventKind::VmFlushed { pages } => line.pages = *pages,
            EventKind::VmSeen | EventKind::VmFreed => {}
            EventKind::SlotChanged { logging, .. } => line.logging = Some(*logging),
            EventKind::Collapse(collapse) => {
                line.start_ns = Some(collapse.start);
                line.pages = collapse.pages_after;
                line.span = vm.map(|vm| vm.span_count);
            }
        }
        line
    }

    /// The same for a part of the change.
    pub(super) fn part(&self, change: &Change) -> Self {
        Self { gfn: Some(change.gfn), count: Some(change.count), ..self.clone() }
    }

    fn change(&mut self, change: &Change) {
        self.level = Some(change.level);
        self.gfn = Some(change.gfn);
        self.count = Some(change.count);
        self.step = Some(frames(change.level));
        self.as_id = Some(change.as_id);
        self.cause = Some(change.cause.name());
        self.read_only = Some(change.read_only);
    }
}

fn episode(vm: &Vm, ts: u64) -> Option<u32> {
    let within = |end: Option<u64>| end.is_none_or(|end| ts <= end);
    let mut episodes = vm.episodes.kept().rev();
    let found = episodes.find(|episode| episode.start <= ts && within(episode.end));
    found.map(|episode| episode.number.get())
}

fn regions(vm: &Vm, change: &Change) -> BTreeMap<&'static str, u32> {
    let mut regions = BTreeMap::new();
    let makes_huge = change.level > 1 && change.transition.gauge() > 0;
    for region in regions_of(change) {
        let state = match vm.regions.mapping(region) {
            Some(Mapping::StillSplit) => "still_split",
            Some(Mapping::None) => "zapped",
            Some(Mapping::Small) => "small",
            None if makes_huge => "huge",
            None => continue,
        };
        *regions.entry(state).or_default() += 1;
    }
    regions
}

/// The slot that an event is about, as far as slots are known.
pub(super) fn slot_of(event: &Event, slots: Option<&Slots>) -> Option<Slot> {
    match &event.kind {
        EventKind::Change(change) => slots?.values().copied().find(|slot| {
            u32::from(slot.as_id) == change.as_id
                && change.gfn.checked_sub(slot.base_gfn).is_some_and(|place| place < slot.npages)
        }),
        EventKind::SlotChanged { slot, .. } => Some(*slot),
        EventKind::Collapse(collapse) => Some(collapse.slot),
        _ => None,
    }
}

/// Events that were lost since the batch before.
#[derive(Clone, Debug, Serialize)]
pub struct Lost {
    ts_ns: u64,
    time: String,
    kind: &'static str,
    /// From when on they were lost; `None`: since attaching.
    since_ns: Option<u64>,
    /// How.
    way: &'static str,
    count: u64,
}

impl Lost {
    pub(super) fn new(
        clocks: Clocks,
        since_ns: Option<u64>,
        at: u64,
        way: &'static str,
        count: u64,
    ) -> Self {
        let time = rfc3339(clocks.wall_at(at));
        Self { ts_ns: at, time, kind: "lost", since_ns, way, count }
    }
}

/// Programs were detached or attached.
#[derive(Clone, Debug, Serialize)]
pub struct Sight {
    ts_ns: u64,
    time: String,
    kind: &'static str,
    /// Why nothing is seen from now on.
    why: Option<String>,
}

impl Sight {
    /// `why` is `None` if they were attached.
    pub(super) fn new(clocks: Clocks, at: u64, why: Option<&str>) -> Self {
        let kind = if why.is_some() { "detached" } else { "attached" };
        Self { ts_ns: at, time: rfc3339(clocks.wall_at(at)), kind, why: why.map(str::to_owned) }
    }
}

/// The last line.
#[derive(Clone, Debug, Serialize)]
pub struct End {
    kind: &'static str,
    /// Events written.
    pub events: u64,
    /// Events that the filter left out.
    pub filtered: u64,
    /// SPTE changes that sampling left out.
    pub sampled_out: u64,
}

impl End {
    pub(super) fn new() -> Self {
        Self { kind: "end", events: 0, filtered: 0, sampled_out: 0 }
    }
}

/// UTC, to the ns.
fn rfc3339(ns: u64) -> String {
    let (seconds, ns) = (ns / 1_000_000_000, ns % 1_000_000_000);
    let (days, second) = (seconds / 86_400, seconds % 86_400);
    // Years from March on, so that the leap day is last; 719468 days before 1970.
    let days = days + 719_468;
    let (era, day_of_era) = (days / 146_097, days % 146_097);
    let year_of_era =
        (day_of_era - day_of_era / 1460 + day_of_era / 36_524 - day_of_era / 146_096) / 365;
    let day_of_year = day_of_era - (365 * year_of_era + year_of_era / 4 - year_of_era / 100);
    let shifted = (5 * day_of_year + 2) / 153;
    let day = day_of_year - (153 * shifted + 2) / 5 + 1;
    let month = if shifted < 10 { shifted + 3 } else { shifted - 9 };
    let year = era * 400 + year_of_era + u64::from(month <= 2);
    let (hour, minute, second) = (second / 3600, second / 60 % 60, second % 60);
    format!("{year:04}-{month:02}-{day:02}T{hour:02}:{minute:02}:{second:02}.{ns:09}Z")
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn wall_clock_times() {
        assert_eq!(rfc3339(0), "1970-01-01T00:00:00.000000000Z");
        assert_eq!(rfc3339(951_782_400_000_000_001), "2000-02-29T00:00:00.000000001Z");
        assert_eq!(rfc3339(1_767_225_599_999_999_999), "2025-12-31T23:59:59.999999999Z");
    }
}
