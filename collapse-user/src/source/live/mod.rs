//! Batches from the running kernel.

mod budget;
mod earlier;
mod muting;
mod ring;
mod rows;
mod vcpus;
mod vms;

use std::time::Duration;

use collapse_common::abi::{Cpu, Loss, VmGauges, VmKey, WRITERS, map, request::GiveBack};

use super::{
    Batch, Event, EventKind, SlotChange,
    maps::{Maps, map_error},
    stacks::Stacks,
};
use crate::{
    identity,
    plan::SlotLayout,
    probe::{Probe, ProbeError},
};
use collapse_feed::{Coverage, Signal, clock::monotonic_ns};

pub use muting::RowFilter;

use budget::Budget;
use earlier::Earlier;
use muting::Muting;
use ring::{Patience, Ring};
use rows::Rows;
use vcpus::Totals;
use vms::Vms;

/// Times a reading is repeated that changed under us.
const TRIES: usize = 3;

const QUICK: Patience = Patience { tries: TRIES, pause: Duration::ZERO };

/// For the last reading, after which nothing can be made up for.
const THOROUGH: Patience = Patience { tries: 200, pause: Duration::from_millis(1) };

/// The running kernel, seen through attached programs.
pub struct Live {
    probe: Probe,
    maps: Maps,
    rows: Rows,
    ring: Ring,
    vms: Vms,
    earlier: Earlier,
    stacks: Stacks,
    muting: Muting,
    budget: Budget,
    /// Whether KVM counts faults itself, and rows take its counts over now and then.
    kvm_counts_faults: bool,
    /// Times that probes on functions were switched off while they were attached.
    silenced: u64,
}

impl Live {
    /// Fills the tables of loaded programs, attaches them and starts reading. `vm_list_offset` is
    /// that of `kvm.vm_list`; without `slots`, memslots of VMs that exist already are not known. Rows that
    /// are not `wanted` are muted once their VM's process is known, if the programs support that. `budget` is
    /// the most that they may cost, in percent of one core.
    pub fn new(
        mut probe: Probe,
        vm_list_offset: u32,
        slots: Option<SlotLayout>,
        wanted: Option<RowFilter>,
        budget: Option<f64>,
    ) -> Result<Self, ProbeError> {
        let mut maps = Maps::take(&mut probe)?;
        maps.number_cpus();
        let mut stacks = |name| probe.take_map(name)?.try_into().map_err(map_error(name));
        let stacks = Stacks::new([stacks(map::STACKS)?, stacks(map::MORE_STACKS)?]);
        let rows = Rows::fill(&mut maps)?;
        for place in 0..maps.threads.len() as u32 {
            maps.free_threads.push(place, 0).map_err(map_error(map::FREE_THREADS))?;
        }
        let ring = Ring::new(maps.cpus.len() * WRITERS);
        probe.attach()?;
        Ok(Self {
            kvm_counts_faults: probe.coverage.kvm_counts_faults,
            probe,
            maps,
            rows,
            ring,
            vms: Vms::new(vm_list_offset),
            earlier: Earlier::new(slots),
            stacks,
            muting: Muting::new(wanted),
            budget: Budget::new(budget),
            silenced: 0,
        })
    }

    /// Signals that are seen and that are not.
    pub fn coverage(&self) -> &Coverage {
        &self.probe.coverage
    }

    /// Takes all probes on functions for silent from now on, because of `why`: what they show is not seen
    /// any more, and counts as lost.
    pub fn silenced(&mut self, why: &str) {
        self.silenced += 1;
        let Probe { hooks, coverage, .. } = &mut self.probe;
        for hook in hooks.iter().filter(|hook| hook.hook.is_on_function()) {
            coverage.lose(hook.signal, why);
        }
    }

    /// Prepares to name the functions of stacks.
    pub fn learn_functions(&mut self) {
        self.stacks.learn();
    }

    /// Whether a planned hook could not be attached.
    pub fn is_refused(&self) -> bool {
        self.probe.hooks.iter().any(|hook| hook.refused.is_some())
    }

    /// Detaches everything.
    pub fn detach(self) {
        self.probe.detach();
    }

    /// Reads the ring and the open blocks, so that the ring does not fill up. Cheap enough for ten times
    /// a second. Returns whether dirty logging went on or off somewhere: totals read now still belong to
    /// the phase before.
    pub fn drain(&mut self) -> bool {
        let before = self.ring.pending().len();
        self.read_ring(QUICK);
        self.keep_to_budget();
        self.ring.pending()[before..].iter().any(is_logging_switch)
    }

    /// Reads everything: events, totals and gauges. With `last`, no event is held back for the sake of
    /// order.
    pub fn poll(&mut self, last: bool) -> Batch {
        let complete = self.read_ring(if last { THOROUGH } else { QUICK });
        let (totals, gauges, settled) = self.settle();
        let at = monotonic_ns();
        let vms = self.vms.readings(&gauges);
        let hugetlb = self.vms.hugetlb_changes(&vms);
        let uuids = self.vms.new_uuids();
        let slots = self.earlier.slots(&gauges, &self.probe, &self.maps);
        self.muting.judge(&self.rows, &self.vms, &mut self.maps);
        let latencies = self.rows.latencies(&self.maps);
        let one_in = self.coverage().timed_faults.into();
        let rows = self.rows.attribute(self.rows.with_sums(totals, &self.maps, one_in));
        let events = self.ring.hand_out(if last { u64::MAX } else { complete });
        self.recycle(&events);
        let losses = self.losses();
        self.keep_to_budget();
        let overhead = self.budget.news();
        let stacks = self.stacks.news();
        Batch {
            at,
            settled,
            vms,
            hugetlb,
            uuids,
            slots,
            rows,
            latencies,
            events,
            stacks,
            losses,
            overhead,
        }
    }

    /// Returns the time up to which no event is missing, ns.
    fn read_ring(&mut self, patience: Patience) -> u64 {
        let sees_yields = self.probe.coverage.sees(Signal::LockYields);
        let owner = |maps: &Maps, row| self.rows.owner(maps, row);
        self.ring.read(&mut self.maps, &mut self.stacks, sees_yields, patience, owner)
    }

    /// Reads totals and gauges, again if changes were counted meanwhile. Returns besides whether there
    /// were none in the end: then totals and gauges are of the same moment.
    fn settle(&mut self) -> (Totals, Vec<VmGauges>, bool) {
        let mut before = self.totals();
        let mut gauges = self.gauges();
        let mut after = self.totals();
        for _ in 1..TRIES {
            if before == after {
                break;
            }
            before = after;
            gauges = self.gauges();
            after = self.totals();
        }
        let settled = before == after;
        (after, gauges, settled)
    }

    fn totals(&mut self) -> Totals {
        let Self { probe, maps, rows, .. } = self;
        if self.kvm_counts_faults {
            vcpus::with_pending(probe, maps, || rows.totals(maps))
        } else {
            rows.totals(maps)
        }
    }

    fn gauges(&self) -> Vec<VmGauges> {
        if self.coverage().sees(Signal::VmList) {
            self.vms.walk(&self.probe, &self.maps)
        } else {
            Vec::new()
        }
    }

    fn keep_to_budget(&mut self) {
        let Self { probe, maps, rows, budget, .. } = self;
        budget.keep(probe, || rows.changes(maps));
    }

    /// Gives back the rows of VMs that are gone, whose last counts are in the batch with the event of
    /// their end, and the places of threads that have ended.
    fn recycle(&mut self, events: &[Event]) {
        let freed = events.iter().filter(|event| matches!(event.kind, EventKind::VmFreed));
        let freed: Vec<VmKey> = freed.map(|event| event.vm).collect();
        if freed.is_empty() {
            return;
        }
        for vm in freed {
            self.vms.forget(vm);
            self.earlier.forget(vm);
            for row in self.rows.release(vm, &mut self.maps, &self.probe) {
                self.muting.forget(row);
            }
        }
        for place in 0..self.maps.threads.len() {
            let id = self.maps.threads.read(place).id;
            if id != 0
                && !identity::thread_exists((id >> 32) as u32, id as u32)
                && let Err(error) = self.probe.request(&GiveBack::Thread(id))
            {
                log::warn!("{}", error.line());
            }
        }
    }

    /// Returns everything known to be lost since attaching: key and count.
    fn losses(&self) -> Vec<(&'static str, u64)> {
        let cpus: Vec<Cpu> = (0..self.maps.cpus.len()).map(|at| self.maps.cpus.read(at)).collect();
        let lost = |loss: Loss| {
            let lost = cpus.iter().map(|cpu| cpu.loss[loss as usize]).sum::<u64>();
            match loss {
                Loss::RecordedChanges => lost.saturating_sub(self.ring.salvaged()),
                _ => lost,
            }
        };
        let mut losses: Vec<_> = Loss::ALL.map(|loss| (loss.name(), lost(loss))).into();
        losses.push(("probes_switched_off", self.silenced));
        losses.push(("program_skipped", self.probe.skipped()));
        losses.push(("stacks_not_taken", self.stacks.not_taken()));
        losses.push(("unknown_records", self.ring.unknown()));
        losses
    }
}

fn is_logging_switch(event: &Event) -> bool {
    matches!(
        event.kind,
        EventKind::SlotChanged { change: SlotChange::LogOn | SlotChange::LogOff, .. }
    )
}
