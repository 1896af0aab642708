//! The model: what the batches of a feed add up to, as VMs, their totals, regions, spans and findings,
//! and a player that goes through recordings in time. Pure: it neither reads the kernel nor renders.
//!
//! `examples/recovery.rs` is a complete program that reads a recording with this crate and
//! [`collapse_feed`] alone.

pub mod at_risk;
mod changes;
mod episode;
pub mod findings;
pub mod fit;
mod histogram;
mod history;
mod latency;
mod logging;
mod longest;
mod memory_map;
pub mod metric;
mod observer;
pub mod player;
mod recent;
mod reconcile;
mod regions;
mod reload;
mod span;
mod stall;
mod stuck;
mod times;
mod totals;
mod vm;
pub mod wording;

use std::{
    collections::{BTreeMap, VecDeque},
    time::Duration,
};

use collapse_common::abi::VmKey;

pub use changes::Changes;
pub use episode::{
    CollapseSums, EPISODES_KEPT, Episode, EpisodeCost, Episodes, FaultCost, NoCost, Outcome, Phase,
    PmlFullCost, Slots,
};
pub use histogram::Histogram;
pub use history::{History, KEPT, MERGED, Sample};
pub use latency::TimedFaults;
pub use logging::LoggedBy;
pub use longest::{EndedFault, LongestFaults};
pub use memory_map::{MapCell, MemoryMaps, SlotMap};
pub use metric::{Metric, MetricId};
pub use observer::Observer;
pub use recent::{EVENTS_KEPT, Recent};
pub use reconcile::{Grade, Offset, Reconciliation};
pub use regions::{
    GiantCounts, Giants, Lost, Mapping, NxRecovery, RETURNED_KEPT, Recovery, Region, RegionCounts,
    Regions, Returned, ReturnedRegions, Standing, Step, Thrash, Thrashed, regions_of,
};
pub use span::{CollapseSpan, Race, Work};
pub use stall::StallEstimate;
pub use stuck::{Standstill, Standstills};
pub use times::TimeTaken;
pub use totals::Totals;
pub use vm::{SPANS_KEPT, SlotsGone, Vm};

use collapse_feed::{Batch, Coverage, Event, Overhead, Update};

use findings::{Sight, Thresholds, Turn};
use reload::Earlier;

/// VMs kept that went away; older ones are only counted.
pub const GONE_KEPT: usize = 1024;

/// Everything known.
#[derive(Clone, Debug, Default)]
pub struct Model {
    /// VMs by identity.
    pub vms: BTreeMap<VmKey, Vm>,
    /// Changes whose VM is unknown.
    pub unattributed: Totals,
    /// When the first batch was read, `CLOCK_MONOTONIC` ns.
    pub started: Option<u64>,
    /// When the last batch was read, `CLOCK_MONOTONIC` ns.
    pub now: u64,
    /// Whether nothing changed while the last batch was read, so that residuals must be zero.
    pub settled: bool,
    /// Everything known to be lost, by way.
    pub losses: BTreeMap<&'static str, u64>,
    /// VMs that went away and are no longer in `vms`.
    pub forgotten: u64,
    /// All VMs together over time.
    pub history: History,
    /// For how long history is kept; `None` for as long as there is room.
    pub keep: Option<Duration>,
    /// The latest events.
    pub recent: Recent,
    /// Cost of the programs, if it was measured.
    pub overhead: Option<Overhead>,
    /// Times that KVM was loaded again and watched from then on.
    pub reloads: u64,
    /// Why nothing is counted at present.
    pub unwatched: Option<String>,
    /// Limits beyond which findings are reported.
    pub thresholds: Thresholds,
    /// What is seen, as far as findings depend on it.
    pub sight: Sight,
    /// Findings that began or ended with the last batch, and their VM.
    pub turns: Vec<(VmKey, Turn)>,
    /// Changes recorded, and counted for VMs that are forgotten.
    earlier_changes: Changes,
    /// VMs that went away and are in `vms`, oldest first.
    gone: VecDeque<VmKey>,
    /// When the first batch of the programs now attached was read, `CLOCK_MONOTONIC` ns.
    attached: Option<u64>,
    /// Counts of programs that are no longer attached.
    earlier: Earlier,
}

impl Model {
    /// Takes an update of a source with this coverage.
    pub fn update(&mut self, update: &Update, coverage: &Coverage) {
        self.sight = coverage.into();
        self.turns.clear();
        match update {
            Update::Batch(batch) => self.apply(batch),
            Update::Detached { at, why } => self.detached(*at, why.clone()),
            Update::Unwatched { at } => self.now = self.now.max(*at),
            Update::Attached { .. } => self.reattached(),
        }
    }

    /// Takes a batch, with the coverage of before.
    pub fn apply(&mut self, batch: &Batch) {
        self.apply_seen(batch, &mut |_, _| ());
    }

    /// Takes a batch; `see` gets each event, and the VM as the event leaves it.
    fn apply_seen(&mut self, batch: &Batch, see: &mut dyn FnMut(&Event, Option<&Vm>)) {
        let first = self.attached.is_none();
        let attached = *self.attached.get_or_insert(batch.at);
        self.started.get_or_insert(batch.at);
        self.now = batch.at;
        if batch.overhead.is_some() {
            self.overhead.clone_from(&batch.overhead);
        }
        self.settled = batch.settled;
        self.turns.clear();
        let known: Vec<VmKey> = self.vms.keys().copied().collect();
        let gone_before = self.gone.len();
        self.recent.extend(&batch.events);
        self.earlier_changes.record(&batch.events);
        for event in &batch.events {
            self.event(event, attached);
            see(event, self.vms.get(&event.vm));
        }
        if self.loses_more(&batch.losses) {
            self.vms.values_mut().for_each(|vm| vm.at_risk.lose());
        }
        if self.overhead.as_ref().is_some_and(Overhead::leaves_regions_out) {
            self.vms.values_mut().for_each(|vm| vm.at_risk.leave_out());
        }
        for (key, cause, row) in &batch.rows {
            if *key == VmKey::default() {
                let row = self.earlier.unattributed.plus(*cause, row.clone());
                self.unattributed.set(*cause, row);
            } else {
                self.vm(*key).count(*cause, row.clone());
            }
        }
        for (key, cause, latencies) in &batch.latencies {
            if *key != VmKey::default() {
                self.vm(*key).count_latencies(*cause, latencies.clone());
            }
        }
        for reading in &batch.vms {
            let new = known.binary_search(&reading.vm).is_err();
            self.vm(reading.vm).reading(reading, first || new);
        }
        for (key, bytes) in &batch.hugetlb {
            if let Some(vm) = self.vms.get_mut(key) {
                vm.hugetlb = Some(*bytes);
            }
        }
        for (key, uuid) in &batch.uuids {
            if let Some(vm) = self.vms.get_mut(key) {
                vm.uuid = Some(*uuid);
            }
        }
        for (key, slots) in &batch.slots {
            if let Some(vm) = self.vms.get_mut(key) {
                vm.learn_slots(batch.at, slots);
            }
        }
        let mut all = Sample {
            at: batch.at,
            pages: Some([0; 3]),
            values: self.history.last().map(|last| last.values.counters()).unwrap_or_default(),
            ..Sample::default()
        };
        let oldest = self.keep.map_or(0, |keep| {
            batch.at.saturating_sub(keep.as_nanos().try_into().unwrap_or(u64::MAX))
        });
        for (key, vm) in &mut self.vms {
            let turns = vm.diagnose(batch.at, self.sight, &self.thresholds);
            self.turns.extend(turns.into_iter().map(|turn| (*key, turn)));
            if let Some((sample, more)) = vm.close(batch.at, batch.settled) {
                all.pages = all.pages.zip(sample.pages).map(|(all, pages)| {
                    std::array::from_fn(|size| all[size].saturating_add(pages[size]))
                });
                all.values = all.values.plus(more);
                all.logging |= sample.logging;
            }
            vm.history.forget(oldest);
        }
        self.history.push(all);
        self.history.forget(oldest);
        self.losses.extend(self.earlier.with(&batch.losses));
        let not_followed = self.vms.values().map(|vm| vm.regions.not_followed()).sum();
        if not_followed > 0 {
            self.losses.insert("regions_not_followed", not_followed);
        }
        // Those that ended with this batch may still be counted in the next.
        self.forget(gone_before);
    }

    /// Whether more is lost than was known before.
    fn loses_more(&self, losses: &[(&'static str, u64)]) -> bool {
        let known = |way| self.losses.get(way).copied().unwrap_or_default();
        self.earlier.with(losses).any(|(way, n)| n > known(way))
    }

    /// Length of the window, ns.
    pub fn window(&self) -> u64 {
        self.started.map_or(0, |started| self.now.saturating_sub(started))
    }

    /// VMs that went away, whether they are still in `vms` or not.
    pub fn ended(&self) -> u64 {
        self.forgotten + self.gone.len() as u64
    }

    fn event(&mut self, event: &Event, attached: u64) {
        if event.vm == VmKey::default() {
            return;
        }
        let vm = self.vm(event.vm);
        let was_gone = vm.gone;
        if event.ts < attached {
            // From before the totals were first read, while hooks were being attached.
            vm.event_before(event);
        } else {
            vm.event(event);
        }
        if vm.gone && !was_gone {
            self.gone.push_back(event.vm);
        }
    }

    /// Forgets the oldest VMs that went away, of the first `among`, down to the number that is kept.
    fn forget(&mut self, among: usize) {
        for _ in 0..among.min(self.gone.len().saturating_sub(GONE_KEPT)) {
            if let Some(oldest) = self.gone.pop_front() {
                if let Some(vm) = self.vms.remove(&oldest) {
                    self.earlier_changes.count(&vm);
                }
                self.forgotten += 1;
            }
        }
    }

    fn vm(&mut self, key: VmKey) -> &mut Vm {
        let attached = self.attached.unwrap_or_default();
        self.vms.entry(key).or_insert_with(|| {
            let mut vm = Vm::new(key);
            vm.watched = vm.watched.max(attached);
            vm
        })
    }
}

#[cfg(test)]
mod tests;
