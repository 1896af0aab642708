//! What the batches add up to: VMs, their totals, regions and spans. Pure: it neither reads the
//! kernel nor renders.

mod histogram;
mod latency;
mod reconcile;
mod regions;
mod span;
mod totals;
mod vm;

use std::collections::BTreeMap;

use collapse_common::abi::VmKey;

pub use histogram::Histogram;
pub use latency::FaultLatencies;
pub use reconcile::{Grade, Offset, Reconciliation};
pub use regions::{RegionCounts, Regions};
pub use span::{CollapseSpan, Race, Work};
pub use totals::Totals;
pub use vm::{Reading, SPANS_KEPT, Vm};

use crate::source::Batch;

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
}

impl Model {
    /// Takes a batch.
    pub fn apply(&mut self, batch: Batch) {
        let first = self.started.is_none();
        let started = *self.started.get_or_insert(batch.at);
        self.now = batch.at;
        self.settled = batch.settled;
        let known: Vec<VmKey> = self.vms.keys().copied().collect();
        for event in &batch.events {
            if event.vm == VmKey::default() {
                continue;
            }
            if event.ts < started {
                // From before the totals were first read, while hooks were being attached.
                self.vm(event.vm).event_before(event);
            } else {
                self.vm(event.vm).event(event);
            }
        }
        for (key, cause, row) in batch.rows {
            if key == VmKey::default() {
                self.unattributed.set(cause, row);
            } else {
                self.vm(key).now.totals.set(cause, row);
            }
        }
        for reading in &batch.vms {
            let new = known.binary_search(&reading.vm).is_err();
            self.vm(reading.vm).reading(reading, first || new);
        }
        self.losses.extend(batch.losses);
    }

    /// Length of the window, ns.
    pub fn window(&self) -> u64 {
        self.started.map_or(0, |started| self.now.saturating_sub(started))
    }

    fn vm(&mut self, key: VmKey) -> &mut Vm {
        self.vms.entry(key).or_insert_with(|| Vm::new(key))
    }
}
