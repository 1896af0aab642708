//! A trace for Perfetto: a group of tracks per VM, with its counters, episodes, slots and threads.

use std::{
    collections::{BTreeMap, BTreeSet},
    io::{self, Write},
};

use collapse_common::abi::{Pages, VmKey};
use prost::Message as _;

use super::proto::{
    Clock, ClockSnapshot, CounterDescriptor, DebugAnnotation, EventType, MONOTONIC, REALTIME,
    Trace, TracePacket, TrackDescriptor, TrackEvent,
};
use crate::events::kind;
use collapse_feed::{Coverage, Event, EventKind, Slot, SlotChange, Update, recording::Clocks};
use collapse_model::{
    Episode, Metric, Model, Observer, Sample, Vm,
    metric::Unit,
    wording::{SIZES, UNKNOWN_VM},
};

/// All packets are of one sequence.
const SEQUENCE: u32 = 1;

/// A track. Those of a VM are below its own.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
enum Track {
    /// Events of the recording itself: losses, and programs that were attached or detached.
    Recording,
    Vm(VmKey),
    Episodes(VmKey),
    /// Name and unit.
    Counter(VmKey, &'static str, &'static str),
    /// Mappings of one size.
    Mappings(VmKey, usize),
    Slot(VmKey, u16, u16),
    /// Dirty logging of a slot.
    Logging(VmKey, u16, u16),
    /// Runs of the collapse routine on a slot.
    Runs(VmKey, u16, u16),
    Thread(VmKey, u32),
}

impl Track {
    fn parent(self) -> Option<Self> {
        match self {
            Self::Recording | Self::Vm(_) => None,
            Self::Episodes(vm)
            | Self::Counter(vm, ..)
            | Self::Mappings(vm, _)
            | Self::Slot(vm, ..)
            | Self::Thread(vm, _) => Some(Self::Vm(vm)),
            Self::Logging(vm, as_id, id) | Self::Runs(vm, as_id, id) => {
                Some(Self::Slot(vm, as_id, id))
            }
        }
    }
}

/// Writes a trace.
pub struct Perfetto<W> {
    out: W,
    tracks: BTreeMap<Track, u64>,
    /// Slots with dirty logging.
    logging: BTreeSet<(VmKey, u16, u16)>,
    /// The latest sample of each VM.
    samples: BTreeMap<VmKey, Sample>,
    losses: BTreeMap<&'static str, u64>,
}

impl<W: Write> Perfetto<W> {
    /// Writes the beginning of a trace: how its clocks relate.
    pub fn new(out: W, clocks: Clocks) -> io::Result<Self> {
        let clock = |id, timestamp| Clock { clock_id: Some(id), timestamp: Some(timestamp) };
        let snapshot = ClockSnapshot {
            clocks: vec![clock(MONOTONIC, clocks.monotonic), clock(REALTIME, clocks.wall)],
            primary_trace_clock: Some(MONOTONIC),
        };
        let mut perfetto = Self {
            out,
            tracks: BTreeMap::new(),
            logging: BTreeSet::new(),
            samples: BTreeMap::new(),
            losses: BTreeMap::new(),
        };
        let packet = TracePacket { clock_snapshot: Some(snapshot), ..TracePacket::default() };
        perfetto.packet(packet)?;
        Ok(perfetto)
    }

    fn write_event(&mut self, event: &Event, model: &Model) -> io::Result<()> {
        let (at, vm) = (event.ts, event.vm);
        let name = kind(&event.kind);
        match &event.kind {
            EventKind::Change(change) => {
                let args = vec![
                    text("cause", change.cause.name()),
                    uint("gfn", change.gfn),
                    uint("count", change.count.into()),
                    uint("level", change.level.into()),
                ];
                self.instant(at, Track::Thread(vm, event.tid), name, args, model)
            }
            EventKind::VmCreated { pages, .. }
            | EventKind::VmDestroyed { pages }
            | EventKind::VmFlushed { pages } => {
                self.pages(at, vm, *pages, model)?;
                self.instant(at, Track::Vm(vm), name, Vec::new(), model)
            }
            EventKind::RingFull { vcpu } => {
                let args = vcpu.map(|vcpu| uint("vcpu", vcpu.into()));
                let track = Track::Thread(vm, event.tid);
                self.instant(at, track, name, args.into_iter().collect(), model)
            }
            EventKind::LongFault(fault) => {
                let mut args = vec![
                    text("cause", fault.cause.name()),
                    uint("address", fault.address),
                    uint("duration_ns", fault.duration),
                ];
                args.extend(fault.vcpu.map(|vcpu| uint("vcpu", vcpu.into())));
                self.instant(at, Track::Thread(vm, event.tid), name, args, model)
            }
            EventKind::NoProgress(none) => {
                let mut args = vec![
                    uint("address", none.address),
                    uint("duration_ns", none.duration),
                    uint("faults", none.faults),
                ];
                args.extend(none.vcpu.map(|vcpu| uint("vcpu", vcpu.into())));
                self.instant(at, Track::Thread(vm, event.tid), name, args, model)
            }
            EventKind::VmSeen | EventKind::VmFreed => {
                self.instant(at, Track::Vm(vm), name, Vec::new(), model)
            }
            EventKind::SlotChanged { slot, change, .. } => {
                self.slot(at, vm, *slot, *change, name, model)
            }
            EventKind::Collapse(collapse) => {
                let args = vec![uint("yields", collapse.yields.unwrap_or(0).into())];
                let args = if collapse.yields.is_some() { args } else { Vec::new() };
                let track = Track::Runs(vm, collapse.slot.as_id, collapse.slot.id);
                self.pages(collapse.start, vm, collapse.pages_before, model)?;
                self.begin(collapse.start, track, "collapse", args, model)?;
                self.end(at, track, model)?;
                self.pages(at, vm, collapse.pages_after, model)
            }
        }
    }

    fn slot(
        &mut self,
        at: u64,
        vm: VmKey,
        slot: Slot,
        change: SlotChange,
        name: &'static str,
        model: &Model,
    ) -> io::Result<()> {
        let place = (vm, slot.as_id, slot.id);
        let logging = Track::Logging(vm, slot.as_id, slot.id);
        let args = vec![uint("base_gfn", slot.base_gfn), uint("npages", slot.npages)];
        match change {
            SlotChange::LogOn => {
                if self.logging.insert(place) {
                    self.begin(at, logging, "dirty logging", args, model)?;
                }
                Ok(())
            }
            SlotChange::LogOff | SlotChange::Deleted => {
                if self.logging.remove(&place) {
                    self.end(at, logging, model)?;
                }
                self.instant(at, Track::Slot(vm, slot.as_id, slot.id), name, args, model)
            }
            _ => self.instant(at, Track::Slot(vm, slot.as_id, slot.id), name, args, model),
        }
    }

    /// Gauges and rates of a VM as of its latest sample.
    fn counters(&mut self, vm: &Vm, model: &Model, coverage: &Coverage) -> io::Result<()> {
        let Some(sample) = vm.history.last() else { return Ok(()) };
        self.pages(sample.at, vm.key, sample.pages, model)?;
        for metric in Metric::gauges() {
            let track = Track::Counter(vm.key, metric.label, metric.unit.name());
            self.value(sample.at, track, count(sample.values[metric.id]), model)?;
        }
        let Some(before) = self.samples.insert(vm.key, *sample) else { return Ok(()) };
        let seconds = sample.at.saturating_sub(before.at) as f64 / 1e9;
        if seconds <= 0.0 {
            return Ok(());
        }
        // A rate holds from the reading before on.
        let growth = sample.values.since(before.values);
        for metric in Metric::counters().filter(|metric| metric.is_known(coverage)) {
            self.rate(before.at, vm.key, metric, growth[metric.id] as f64 / seconds, model)?;
        }
        Ok(())
    }

    fn rate(
        &mut self,
        at: u64,
        vm: VmKey,
        metric: &'static Metric,
        per_second: f64,
        model: &Model,
    ) -> io::Result<()> {
        let value = match metric.unit {
            Unit::Nanoseconds => per_second / 1e9,
            _ => per_second,
        };
        let event =
            TrackEvent { double_counter_value: Some(value), ..event_of(EventType::Counter) };
        self.write(at, rate_track(vm, metric), event, model)
    }

    fn pages(&mut self, at: u64, vm: VmKey, pages: Option<Pages>, model: &Model) -> io::Result<()> {
        for (size, n) in pages.into_iter().flatten().enumerate() {
            self.value(at, Track::Mappings(vm, size), count(n), model)?;
        }
        Ok(())
    }

    fn value(&mut self, at: u64, track: Track, value: i64, model: &Model) -> io::Result<()> {
        let event = TrackEvent { counter_value: Some(value), ..event_of(EventType::Counter) };
        self.write(at, track, event, model)
    }

    fn instant(
        &mut self,
        at: u64,
        track: Track,
        name: &str,
        args: Vec<DebugAnnotation>,
        model: &Model,
    ) -> io::Result<()> {
        let event = TrackEvent {
            name: Some(name.to_owned()),
            debug_annotations: args,
            ..event_of(EventType::Instant)
        };
        self.write(at, track, event, model)
    }

    fn begin(
        &mut self,
        at: u64,
        track: Track,
        name: &str,
        args: Vec<DebugAnnotation>,
        model: &Model,
    ) -> io::Result<()> {
        let event = TrackEvent {
            name: Some(name.to_owned()),
            debug_annotations: args,
            ..event_of(EventType::SliceBegin)
        };
        self.write(at, track, event, model)
    }

    fn end(&mut self, at: u64, track: Track, model: &Model) -> io::Result<()> {
        self.write(at, track, event_of(EventType::SliceEnd), model)
    }

    fn write(&mut self, at: u64, track: Track, event: TrackEvent, model: &Model) -> io::Result<()> {
        let track_uuid = Some(self.track(track, model)?);
        self.packet(TracePacket {
            timestamp: Some(at),
            timestamp_clock_id: Some(MONOTONIC),
            trusted_packet_sequence_id: Some(SEQUENCE),
            track_event: Some(TrackEvent { track_uuid, ..event }),
            ..TracePacket::default()
        })
    }

    /// Number of a track; one that is new is described, after those above it.
    fn track(&mut self, track: Track, model: &Model) -> io::Result<u64> {
        if let Some(uuid) = self.tracks.get(&track) {
            return Ok(*uuid);
        }
        let parent_uuid = match track.parent() {
            Some(parent) => Some(self.track(parent, model)?),
            None => None,
        };
        let uuid = self.tracks.len() as u64 + 1;
        self.tracks.insert(track, uuid);
        let counter = match track {
            Track::Counter(_, _, unit) => Some(unit),
            Track::Mappings(..) => Some("pages"),
            _ => None,
        };
        let counter = counter.map(|unit| CounterDescriptor { unit_name: Some(unit.to_owned()) });
        let descriptor = TrackDescriptor {
            uuid: Some(uuid),
            name: Some(track_name(track, model)),
            parent_uuid,
            counter,
        };
        self.packet(TracePacket {
            trusted_packet_sequence_id: Some(SEQUENCE),
            track_descriptor: Some(descriptor),
            ..TracePacket::default()
        })?;
        Ok(uuid)
    }

    fn packet(&mut self, packet: TracePacket) -> io::Result<()> {
        // Traces can be concatenated.
        self.out.write_all(&Trace { packet: vec![packet] }.encode_to_vec())
    }
}

impl<W: Write> Observer for Perfetto<W> {
    /// Events are written here too: tracks are named after what the model knows by now.
    fn reading(&mut self, update: &Update, model: &Model, coverage: &Coverage) -> io::Result<()> {
        match update {
            Update::Batch(batch) => {
                for event in &batch.events {
                    self.write_event(event, model)?;
                }
                for reading in &batch.vms {
                    if let Some(vm) = model.vms.get(&reading.vm) {
                        self.counters(vm, model, coverage)?;
                    }
                }
                for (way, n) in &batch.losses {
                    let before = self.losses.insert(way, *n).unwrap_or(0);
                    if *n > before {
                        let args = vec![uint("count", n - before), text("way", way)];
                        self.instant(batch.at, Track::Recording, "lost", args, model)?;
                    }
                }
                Ok(())
            }
            Update::Detached { at, why } => {
                self.instant(*at, Track::Recording, "detached", vec![text("why", why)], model)
            }
            Update::Attached { at } => {
                self.losses.clear();
                self.instant(*at, Track::Recording, "attached", Vec::new(), model)
            }
            Update::Unwatched { .. } => Ok(()),
        }
    }

    /// Ends what still lasts, and writes the episodes.
    fn finish(&mut self, model: &Model) -> io::Result<()> {
        for (vm, as_id, id) in std::mem::take(&mut self.logging) {
            self.end(model.now, Track::Logging(vm, as_id, id), model)?;
        }
        for (vm, last) in std::mem::take(&mut self.samples) {
            let ended = |metric: &'static Metric| self.tracks.contains_key(&rate_track(vm, metric));
            let rates = Metric::counters().filter(|metric| ended(metric));
            for metric in rates.collect::<Vec<_>>() {
                self.rate(last.at, vm, metric, 0.0, model)?;
            }
        }
        for vm in model.vms.values() {
            for episode in vm.episodes.kept() {
                let track = Track::Episodes(vm.key);
                let name = format!("episode {}", episode.number);
                self.begin(episode.start, track, &name, episode_args(episode), model)?;
                self.end(episode.end.unwrap_or(model.now), track, model)?;
            }
        }
        self.out.flush()
    }
}

/// The track of a counter's rate.
fn rate_track(vm: VmKey, metric: &'static Metric) -> Track {
    let unit = match metric.unit {
        Unit::Nanoseconds => "vCPUs",
        _ => "1/s",
    };
    Track::Counter(vm, metric.label, unit)
}

fn track_name(track: Track, model: &Model) -> String {
    match track {
        Track::Recording => "recording".to_owned(),
        Track::Vm(key) => model.vms.get(&key).map_or_else(|| UNKNOWN_VM.to_owned(), Vm::label),
        Track::Episodes(_) => "episodes".to_owned(),
        Track::Counter(_, name, _) => name.to_owned(),
        Track::Mappings(_, size) => format!("{} mappings", SIZES[size].name),
        Track::Slot(_, 0, id) => format!("slot {id}"),
        Track::Slot(_, as_id, id) => format!("slot {id} of address space {as_id}"),
        Track::Logging(..) => "dirty logging".to_owned(),
        Track::Runs(..) => "collapse".to_owned(),
        Track::Thread(_, tid) => format!("thread {tid}"),
    }
}

fn event_of(kind: EventType) -> TrackEvent {
    TrackEvent { r#type: Some(kind.into()), ..TrackEvent::default() }
}

fn episode_args(episode: &Episode) -> Vec<DebugAnnotation> {
    let regions = &episode.regions;
    let outcome = serde_json::to_value(episode.outcome()).unwrap_or_default();
    vec![
        text("outcome", outcome.as_str().unwrap_or_default()),
        uint("lost", regions.lost),
        uint("recovered", regions.recovered),
        uint("refaulted_small", regions.refaulted_small),
        uint("untouched", regions.untouched),
        uint("small_to_the_end", regions.small_to_the_end),
        uint("gone", regions.gone),
    ]
}

fn uint(name: &str, value: u64) -> DebugAnnotation {
    DebugAnnotation {
        name: Some(name.to_owned()),
        uint_value: Some(value),
        ..DebugAnnotation::default()
    }
}

fn text(name: &str, value: &str) -> DebugAnnotation {
    DebugAnnotation {
        name: Some(name.to_owned()),
        string_value: Some(value.to_owned()),
        ..DebugAnnotation::default()
    }
}

fn count(n: u64) -> i64 {
    i64::try_from(n).unwrap_or(i64::MAX)
}
