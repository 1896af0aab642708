//! One VM.

use collapse_common::{
    Cause, Transition,
    abi::{Pages, Row, VmKey, is_wide},
    latency::Latencies,
};
use uuid::Uuid;

use super::{
    at_risk::AtRisk,
    episode::{EpisodeCost, Episodes, Slots},
    findings::{self, Findings, Sight, Thresholds, Turn},
    histogram::Histogram,
    history::{History, Sample},
    latency::{FaultLatencies, TimedFaults},
    logging::{self, LoggedBy},
    longest::LongestFaults,
    memory_map::MemoryMaps,
    metric::{LeafChange, Values},
    reconcile::{Offset, Reconciliation},
    regions::Regions,
    span::{CollapseSpan, Race, Work},
    stuck::Standstills,
    totals::Totals,
    wording,
};
use collapse_feed::{Change, Collapse, Event, EventKind, Slot, SlotChange, VmProcess, VmReading};

/// Collapse spans kept per VM; older ones are only counted.
pub const SPANS_KEPT: usize = 256;

/// Everything known of one VM.
#[derive(Clone, Debug)]
pub struct Vm {
    /// Which VM.
    pub key: VmKey,
    /// When we began to watch it, `CLOCK_MONOTONIC` ns.
    pub watched: u64,
    /// The process behind it, once known.
    pub process: Option<VmProcess>,
    /// File descriptor of the VM in that process.
    pub fd: Option<u32>,
    /// Whether it was created while we watched: then its counts are complete from its first SPTE.
    pub created: bool,
    /// Whether it went away.
    pub gone: bool,
    /// KVM's gauges when first read; `None` where this kernel has none.
    pub pages_at_start: Option<Pages>,
    /// KVM's gauges at the latest reading.
    pages_now: Option<Pages>,
    /// KVM's gauges just before teardown.
    pub pages_at_end: Option<Pages>,
    /// Counts from before it was first read, which are of no VM's report.
    before: Counted,
    /// Counts since.
    since: Counted,
    /// Whether counts and gauges agree.
    pub reconciliation: Reconciliation,
    /// The latest comparison of counts and gauges: when, `CLOCK_MONOTONIC` ns, and by how much they differ.
    compared: Option<(u64, Offset)>,
    /// Memory that its process has from hugetlbfs, bytes; `None` if not known.
    pub hugetlb: Option<u64>,
    /// UUID that its command line gives it; `None` if not known.
    pub uuid: Option<Uuid>,
    /// Regions.
    pub regions: Regions,
    /// Episodes of dirty logging.
    pub episodes: Episodes,
    /// The latest runs of the collapse routine.
    pub spans: Vec<CollapseSpan>,
    /// All runs of the collapse routine.
    pub span_count: u64,
    /// How long they took, ns.
    pub collapse_durations: Histogram,
    /// The longest guest faults.
    pub longest: LongestFaults,
    /// The times that its vCPUs took faults and got nowhere.
    pub stuck: Standstills,
    /// Times dirty logging went on for a slot.
    pub log_on: u64,
    /// Times dirty logging went off for a slot.
    pub log_off: u64,
    /// Memslots that were deleted or moved; `None` if none was.
    pub slots_gone: Option<SlotsGone>,
    /// Whether dirty logging concerns it as a whole, not just a display.
    pub logging: bool,
    /// Slots whose dirty logging state was seen, by address space and id.
    pub slots: Slots,
    /// Huge leaves that the guest may write to in memory under dirty logging.
    pub at_risk: AtRisk,
    /// Where huge leaves were missing at the moments that matter.
    pub memory: MemoryMaps,
    /// How it did over time.
    pub history: History,
    /// What was found about it.
    pub findings: Findings,
    /// Whether `logging` was right from the start, by its memslots or by the first switch that was seen: off
    /// means that it had been on. `None` as long as neither was.
    known: Option<bool>,
    stage: Stage,
    /// Whether the batch being taken has a reading of it from KVM, and whether that is the first
    /// time.
    read: Option<First>,
    work: Work,
    /// The slot whose dirty logging went off last, and what guest faults did to it since.
    race: Option<(Slot, Race)>,
}

/// Memslots that were deleted or moved.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct SlotsGone {
    /// Times.
    pub count: u64,
    /// The first time, `CLOCK_MONOTONIC` ns.
    pub first: u64,
    /// The last time, `CLOCK_MONOTONIC` ns.
    pub last: u64,
}

/// Whether counts and gauges of a VM can still move.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Stage {
    /// They can.
    Moving,
    /// It went away unseen.
    Vanished,
    /// They cannot, as its last SPTE is gone, but were not read since.
    Flushed,
    /// They cannot, and were read.
    Closed,
}

/// Whether a reading is the first of its VM.
type First = bool;

/// Exact counts of one VM.
#[derive(Clone, Debug, Default)]
struct Counted {
    totals: Totals,
    latencies: FaultLatencies,
}

impl Vm {
    /// A VM that was just heard of.
    pub fn new(key: VmKey) -> Self {
        Self {
            key,
            watched: key.born,
            process: None,
            fd: None,
            created: false,
            gone: false,
            pages_at_start: None,
            pages_now: None,
            pages_at_end: None,
            before: Counted::default(),
            since: Counted::default(),
            reconciliation: Reconciliation::default(),
            compared: None,
            hugetlb: None,
            uuid: None,
            regions: Regions::default(),
            episodes: Episodes::default(),
            spans: Vec::new(),
            span_count: 0,
            collapse_durations: Histogram::default(),
            longest: LongestFaults::default(),
            stuck: Standstills::default(),
            log_on: 0,
            log_off: 0,
            slots_gone: None,
            logging: false,
            slots: Slots::new(),
            at_risk: AtRisk::default(),
            memory: MemoryMaps::default(),
            history: History::default(),
            findings: Findings::default(),
            known: None,
            stage: Stage::Moving,
            read: None,
            work: Work::default(),
            race: None,
        }
    }

    /// Mappings by size, KVM's own figures: now, or just before teardown if it is gone.
    pub fn pages(&self) -> Option<Pages> {
        if self.gone { self.pages_at_end } else { self.pages_now }
    }

    /// The VM's name.
    pub fn name(&self) -> &str {
        wording::vm_name(self.process.as_ref())
    }

    /// The VM's name and process id, as far as they are known.
    pub fn label(&self) -> String {
        let process = self.process.as_ref();
        wording::vm_label(
            process.map(|process| process.name.text.as_str()),
            process.map(|process| process.pid),
        )
    }

    /// Counts since it was first seen.
    pub fn totals(&self) -> &Totals {
        &self.since.totals
    }

    /// How its dirty logging was done, given whether the CPU logs dirty pages; `None` if that is not known, or if it
    /// was not under dirty logging while we watched.
    pub fn logged_by(&self, pml: Option<bool>) -> Option<LoggedBy> {
        let logged = self.log_on > 0 || self.log_off > 0 || self.logging;
        LoggedBy::of(pml, logging::protected(self.totals())).filter(|_| logged)
    }

    /// Returns the guest faults that were timed since it was first seen: one in `one_in`.
    pub fn timed_faults(&self, one_in: u32) -> TimedFaults<'_> {
        TimedFaults::new(&self.since.latencies, &self.since.totals, one_in)
    }

    pub(crate) fn latencies(&self) -> &FaultLatencies {
        &self.since.latencies
    }

    /// Replaces the counts of one cause, all that there are since attaching.
    pub(super) fn count(&mut self, cause: Cause, row: Box<Row>) {
        self.since.totals.set(cause, self.before.totals.growth(cause, row));
    }

    /// Replaces the latencies of one cause, all that there are since attaching.
    pub(super) fn count_latencies(&mut self, cause: Cause, latencies: Box<Latencies>) {
        self.since.latencies.set(cause, self.before.latencies.growth(cause, latencies));
    }

    /// SPTE changes since attaching whose transition `pick` takes.
    pub(super) fn changes(&self, pick: impl Fn(Transition) -> bool) -> u64 {
        self.before.totals.changes(&pick) + self.since.totals.changes(&pick)
    }

    /// Whether dirty logging concerns it as a whole now. `None` if it was there before we watched, its memslots
    /// could not be read, and its dirty logging was not switched since.
    pub fn is_logging(&self) -> Option<bool> {
        (self.created || self.known.is_some()).then_some(self.logging)
    }

    /// Whether dirty logging concerns it as a whole now, so that KVM has to map small.
    pub fn has_to_map_small(&self) -> bool {
        self.logging && !self.gone
    }

    /// Whether the same was known of all the time that we watched, and so of each of its faults.
    pub fn logging_was_known(&self) -> bool {
        self.created || self.known == Some(true)
    }

    /// KVM's gauges minus what our totals say they should be, by size, when both were last read together;
    /// `None` where either is unknown. Anything but zero means that changes were missed or misread, or were
    /// on their way while they were read: [`Vm::reconciliation`] judges.
    pub fn residual(&self) -> Option<Offset> {
        let (start, (_, offset)) = (self.pages_at_start?, self.compared?);
        Some(std::array::from_fn(|size| offset[size].wrapping_sub(start[size] as i64)))
    }

    /// When counts and gauges were last read together, `CLOCK_MONOTONIC` ns.
    pub fn compared_at(&self) -> Option<u64> {
        self.compared.map(|(at, _)| at)
    }

    /// Whether its teardown has begun and was not seen to end: what is counted by now is ahead of the gauges
    /// that were read.
    pub fn in_teardown(&self) -> bool {
        let begun = || self.gone || self.totals().count_of(LeafChange::Zap, Cause::Teardown) > 0;
        self.stage == Stage::Moving && begun()
    }

    /// KVM's gauges minus what our totals add up to, by size.
    fn offset(&self) -> Option<Offset> {
        let (pages, change) = (self.pages_now?, self.since.totals.gauge_change());
        Some(std::array::from_fn(|size| (pages[size] as i64).wrapping_sub(change[size])))
    }

    /// Learns from an event that does not count.
    pub(super) fn event_before(&mut self, event: &Event) {
        match &event.kind {
            EventKind::VmCreated { process, .. } => self.process = Some(process.clone()),
            EventKind::VmDestroyed { .. } => self.gone = true,
            EventKind::SlotChanged { slot, change, logging } => {
                self.know(*slot, *change);
                self.at_risk.slot(event.ts, slot, *change);
                if matches!(change, SlotChange::LogOn | SlotChange::LogOff) {
                    self.known = Some(true);
                }
                self.logging = *logging;
                self.episodes.start(self.watched, &self.slots, *logging);
            }
            _ => {}
        }
    }

    pub(super) fn event(&mut self, event: &Event) {
        let at = event.ts;
        match &event.kind {
            EventKind::Change(change) => self.change(at, change),
            EventKind::VmCreated { process, pages } => {
                self.created = true;
                self.pages_at_start = *pages;
                self.process = Some(process.clone());
                if let Some(pages) = pages {
                    self.reconciliation.read(pages.map(|n| n as i64), true, false);
                }
            }
            EventKind::VmSeen | EventKind::VmFreed | EventKind::RingFull { .. } => {}
            EventKind::NoProgress(none) => self.stuck.take(at, event.tid, *none),
            EventKind::LongFault(fault) => self.longest.take(at, event.tid, *fault),
            EventKind::VmDestroyed { pages } => {
                self.pages_at_end = *pages;
                self.gone = true;
                self.end(at);
            }
            EventKind::VmFlushed { pages } => {
                self.pages_now = *pages;
                self.stage = Stage::Flushed;
                self.end(at);
            }
            EventKind::SlotChanged { slot, change, logging } => {
                self.logging = *logging;
                self.slot(at, *slot, *change);
            }
            EventKind::Collapse(collapse) => self.collapse(at, collapse),
        }
    }

    fn change(&mut self, at: u64, change: &Change) {
        if change.cause == Cause::Teardown {
            // The mappings go because the VM does: nothing is lost that it would want back.
            self.regions.teardown(at, change);
            return;
        }
        let Self { regions, episodes, slots, .. } = self;
        self.at_risk.change(at, change);
        episodes.change(at, change);
        let losing = episodes.losing();
        let report = &mut |episode, step| episodes.step(at, episode, step);
        regions.apply(at, change, slots, losing, report);
        self.work.apply(change);
        if let Some((slot, race)) = &mut self.race {
            race.apply(slot, change);
        }
    }

    fn slot(&mut self, at: u64, slot: Slot, change: SlotChange) {
        let known = self.slots.get(&(slot.as_id, slot.id)).copied();
        let left = match change {
            SlotChange::Deleted => Some(slot),
            SlotChange::Moved => known,
            _ => None,
        };
        let Self { regions, episodes, .. } = self;
        if let Some(left) = left {
            let gone = self.slots_gone.get_or_insert(SlotsGone { count: 0, first: at, last: at });
            (gone.count, gone.last) = (gone.count + 1, at);
            let logged = left.is_logging() || known.is_some_and(|known| known.is_logging());
            regions.slot_gone(&left, logged, &mut |episode, step| episodes.step(at, episode, step));
        }
        episodes.slot(at, self.watched, &self.slots, slot, change, self.logging);
        match change {
            SlotChange::LogOn => {
                self.log_on += 1;
                self.known.get_or_insert(true);
            }
            SlotChange::LogOff => {
                self.log_off += 1;
                self.regions.log_off(&slot, at);
                self.known.get_or_insert(false);
                self.race = Some((slot, Race::default()));
            }
            _ => {}
        }
        self.memory.slot(slot, change, &self.regions);
        self.at_risk.slot(at, &slot, change);
        self.know(slot, change);
    }

    fn know(&mut self, slot: Slot, change: SlotChange) {
        let key = (slot.as_id, slot.id);
        if change == SlotChange::Deleted {
            self.slots.remove(&key);
        } else {
            self.slots.insert(key, slot);
        }
    }

    /// Learns all of its memslots, as they are at `at` ns. It was there before we watched.
    pub(super) fn learn_slots(&mut self, at: u64, slots: &[Slot]) {
        self.at_risk.learn(at, slots);
        self.slots = slots.iter().map(|slot| ((slot.as_id, slot.id), *slot)).collect();
        let pages = |slots: &mut dyn Iterator<Item = &Slot>| {
            slots.fold(0, |sum: u64, slot| sum.saturating_add(slot.npages))
        };
        let logged = pages(&mut slots.iter().filter(|slot| slot.is_logging()));
        self.logging = is_wide(logged, pages(&mut slots.iter()));
        if self.known.is_none() && self.episodes.count() == 0 {
            self.episodes.start(self.watched, &self.slots, self.logging);
        }
        self.known.get_or_insert(true);
    }

    fn collapse(&mut self, end: u64, collapse: &Collapse) {
        let work = std::mem::take(&mut self.work);
        self.span_count += 1;
        if self.spans.len() == SPANS_KEPT {
            self.spans.remove(0);
        }
        let same = |slot: &Slot| (slot.as_id, slot.id) == (collapse.slot.as_id, collapse.slot.id);
        let race = self.race.take().filter(|(slot, _)| same(slot)).map(|(_, race)| race);
        let span = CollapseSpan::new(collapse, end, work, race);
        self.collapse_durations.add(span.duration);
        self.episodes.collapse(end, &span);
        self.spans.push(span);
    }

    /// Marks it as gone without its end having been seen.
    pub(super) fn vanish(&mut self, at: u64) {
        self.gone = true;
        self.stage = Stage::Vanished;
        self.end(at);
    }

    fn end(&mut self, at: u64) {
        let Self { regions, episodes, slots, memory, .. } = self;
        memory.end(slots, regions);
        regions.end(slots, &mut |episode, step| episodes.step(at, episode, step));
        episodes.end(at);
    }

    /// Takes a reading of a live VM; `first` if it is the first of it.
    pub(super) fn reading(&mut self, reading: &VmReading, first: bool) {
        self.pages_now = reading.pages;
        if let Some(process) = &reading.process {
            self.process = Some(process.clone());
        }
        self.fd = reading.fd.or(self.fd);
        self.read = Some(first && !self.created);
        if first && !self.created {
            self.pages_at_start = reading.pages;
            self.before = std::mem::take(&mut self.since);
        }
    }

    /// Judges, credits and samples a batch that was read at `at` ns, once all of it is in. `settled`
    /// says that nothing changed while totals and gauges were read. Returns the sample and what was
    /// counted since the one before; `None` once nothing can change any more.
    pub(super) fn close(&mut self, at: u64, settled: bool) -> Option<(Sample, Values)> {
        if self.stage == Stage::Closed {
            return None;
        }
        let flushed = self.stage == Stage::Flushed;
        let read = self.read.take();
        if let Some(offset) = self.offset().filter(|_| flushed || read.is_some()) {
            self.reconciliation.read(offset, settled || flushed, flushed);
            self.compared = Some((at, offset));
        }
        let cost = EpisodeCost::of(self.totals(), &self.since.latencies);
        self.episodes.credit((read != Some(true)).then_some(cost));
        if flushed {
            self.stage = Stage::Closed;
        }
        let sample = self.sample(at);
        Some((sample, self.history.push(sample)))
    }

    /// Looks for findings once a batch that was read at `at` ns is in; returns those that began or ended.
    pub(super) fn diagnose(&mut self, at: u64, sight: Sight, thresholds: &Thresholds) -> Vec<Turn> {
        self.at_risk.close(at);
        if self.findings.has_ended() {
            return Vec::new();
        }
        let found = findings::findings(self, sight, at, thresholds);
        self.findings.take(at, found, self.gone)
    }

    fn sample(&self, at: u64) -> Sample {
        let values = Values::of(self.totals(), &self.regions);
        Sample { at, pages: self.pages_now, values, logging: self.logging }
    }
}
