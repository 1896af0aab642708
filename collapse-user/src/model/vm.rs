//! One VM.

use std::collections::BTreeMap;

use collapse_common::{
    Cause,
    abi::{Pages, VmKey},
};

use super::{
    regions::Regions,
    span::{CollapseSpan, Race, Work},
    totals::Totals,
};
use crate::{
    identity::VmProcess,
    source::{Change, Collapse, Event, EventKind, Slot, SlotChange, VmReading},
};

/// Collapse spans kept per VM; older ones are only counted.
pub const SPANS_KEPT: usize = 256;

/// Everything known of one VM.
#[derive(Clone, Debug)]
pub struct Vm {
    /// Which VM.
    pub key: VmKey,
    /// The process behind it, once known.
    pub process: Option<VmProcess>,
    /// File descriptor of the VM in that process.
    pub fd: Option<u32>,
    /// Whether it was created while we watched: then its counts are complete from its first SPTE.
    pub created: bool,
    /// Whether it went away.
    pub gone: bool,
    /// KVM's gauges and our totals when first read together.
    pub start: Reading,
    /// The same, last.
    pub now: Reading,
    /// KVM's gauges just before teardown.
    pub pages_at_end: Option<Pages>,
    /// Regions.
    pub regions: Regions,
    /// The latest runs of the collapse routine.
    pub spans: Vec<CollapseSpan>,
    /// All runs of the collapse routine.
    pub span_count: u64,
    /// Times dirty logging went on for a slot.
    pub log_on: u64,
    /// Times dirty logging went off for a slot.
    pub log_off: u64,
    /// Slots whose dirty logging state was seen, by address space and id.
    pub slots: BTreeMap<(u16, u16), Slot>,
    work: Work,
    /// The slot whose dirty logging went off last, and what guest faults did to it since.
    race: Option<(Slot, Race)>,
}

/// KVM's gauges and our totals at one time.
#[derive(Clone, Debug, Default)]
pub struct Reading {
    /// KVM's gauges; `None` where this kernel has none.
    pub pages: Option<Pages>,
    /// Our totals.
    pub totals: Totals,
}

impl Vm {
    /// A VM that was just heard of.
    pub fn new(key: VmKey) -> Self {
        Self {
            key,
            process: None,
            fd: None,
            created: false,
            gone: false,
            start: Reading::default(),
            now: Reading::default(),
            pages_at_end: None,
            regions: Regions::default(),
            spans: Vec::new(),
            span_count: 0,
            log_on: 0,
            log_off: 0,
            slots: BTreeMap::new(),
            work: Work::default(),
            race: None,
        }
    }

    /// Mappings by size, KVM's own figures: now, or just before teardown if it is gone.
    pub fn pages(&self) -> Option<Pages> {
        if self.gone { self.pages_at_end } else { self.now.pages }
    }

    /// What this VM did since it was first seen.
    pub fn totals(&self) -> Totals {
        self.now.totals.since(&self.start.totals)
    }

    /// KVM's gauges minus what our totals say they should be, by size; `None` where either is
    /// unknown. Anything but zero means that changes were missed or misread.
    pub fn residual(&self) -> Option<[i64; 3]> {
        let (start, now) = (self.start.pages?, self.now.pages?);
        let change = self.totals().gauge_change();
        Some(std::array::from_fn(|i| now[i] as i64 - start[i] as i64 - change[i]))
    }

    /// Whether dirty logging is on for some slot.
    pub fn is_logging(&self) -> bool {
        self.slots.values().any(|slot| slot.flags & collapse_common::abi::LOG_DIRTY_PAGES != 0)
    }

    /// Learns from an event that does not count.
    pub(super) fn event_before(&mut self, event: &Event) {
        match &event.kind {
            EventKind::VmCreated { process, .. } => self.process = Some(process.clone()),
            EventKind::VmDestroyed { .. } => self.gone = true,
            EventKind::SlotChanged { slot, change: SlotChange::Deleted } => {
                self.slots.remove(&(slot.as_id, slot.id));
            }
            EventKind::SlotChanged { slot, .. } => {
                self.slots.insert((slot.as_id, slot.id), *slot);
            }
            _ => {}
        }
    }

    pub(super) fn event(&mut self, event: &Event) {
        match &event.kind {
            EventKind::Change(change) => self.change(change),
            EventKind::VmCreated { process, pages } => {
                self.created = true;
                self.start.pages = *pages;
                self.process = Some(process.clone());
            }
            EventKind::VmSeen | EventKind::VmFreed => {}
            EventKind::VmDestroyed { pages } => {
                self.pages_at_end = *pages;
                self.gone = true;
            }
            EventKind::VmFlushed { pages } => {
                self.now.pages = *pages;
                self.regions.end();
            }
            EventKind::SlotChanged { slot, change } => self.slot(*slot, *change),
            EventKind::Collapse(collapse) => self.collapse(collapse, event.ts),
        }
    }

    fn change(&mut self, change: &Change) {
        if change.cause == Cause::Teardown {
            // The mappings go because the VM does: nothing is lost that it would want back.
            return;
        }
        self.regions.apply(change);
        self.work.apply(change);
        if let Some((slot, race)) = &mut self.race {
            race.apply(slot, change);
        }
    }

    fn slot(&mut self, slot: Slot, change: SlotChange) {
        let key = (slot.as_id, slot.id);
        match change {
            SlotChange::Deleted => {
                self.slots.remove(&key);
                return;
            }
            SlotChange::LogOn => self.log_on += 1,
            SlotChange::LogOff => {
                self.log_off += 1;
                self.race = Some((slot, Race::default()));
            }
            SlotChange::Created | SlotChange::Moved | SlotChange::Other => {}
        }
        self.slots.insert(key, slot);
    }

    fn collapse(&mut self, collapse: &Collapse, end: u64) {
        let work = std::mem::take(&mut self.work);
        self.span_count += 1;
        if self.spans.len() == SPANS_KEPT {
            self.spans.remove(0);
        }
        let same = |slot: &Slot| (slot.as_id, slot.id) == (collapse.slot.as_id, collapse.slot.id);
        let race = self.race.take().filter(|(slot, _)| same(slot)).map(|(_, race)| race);
        self.spans.push(CollapseSpan::new(collapse, end, work, race));
    }

    pub(super) fn reading(&mut self, reading: &VmReading, first: bool) {
        self.now.pages = reading.pages;
        if let Some(process) = &reading.process {
            self.process = Some(process.clone());
        }
        self.fd = reading.fd.or(self.fd);
        if first && !self.created {
            self.start = self.now.clone();
        }
    }
}
