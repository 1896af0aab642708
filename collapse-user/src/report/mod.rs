//! The report: what a run amounts to, as one value. JSON is this value; the text is made from it.

mod episode;
mod figures;
mod live;
#[cfg(test)]
mod tests;
mod text;
mod vm;

use std::collections::BTreeMap;

use serde::Serialize;

pub use episode::{EpisodeCollapse, EpisodeCostReport, EpisodeReport, FaultCostReport};
pub use figures::{HistogramReport, LatencyReport, StallReport};
pub use live::{live_lines, live_table};
pub use text::{Style, render};
pub use vm::{
    Counts, Faults, PagesBySize, PagesReport, Racing, ReconciliationReport, Recoveries,
    RegionsReport, ResidualBySize, SpanReport, VmReport,
};

use collapse_common::Transition;

use crate::{
    kernel::inspect::Inspected,
    model::{Model, Vm},
    plan::{Coverage, Mmu},
};

/// Name and version of the JSON format. Keys are added, never renamed.
pub const SCHEMA: &str = "collapse.report/1";

/// A finished window of observation.
#[derive(Clone, Debug, Serialize)]
pub struct Report {
    /// [`SCHEMA`].
    pub schema: &'static str,
    /// Version of this program.
    pub version: &'static str,
    /// The machine.
    pub host: Host,
    /// Length of the window, ns.
    pub window_ns: u64,
    /// The command that was run, if any.
    pub command: Option<CommandReport>,
    /// What was seen and what was not.
    pub coverage: Vec<SignalReport>,
    /// Times that KVM was loaded again in the window. Its VMs before and after are in here; coverage
    /// is what it is now.
    pub reloads: u64,
    /// Known losses by way, zero included.
    pub losses: BTreeMap<&'static str, u64>,
    /// Whether nothing changed while the last counts were read. Only then must residuals be zero.
    pub settled: bool,
    /// SPTE changes in the life of a mapping (installs, splits, zaps, recoveries) whose VM is
    /// unknown.
    pub unattributed_changes: u64,
    /// Changes of leaves in place (ageing, clearing of dirty bits, write-protection and the like)
    /// whose VM is unknown.
    pub unattributed_ageing: u64,
    /// VMs that ended in the window.
    pub vms_ended: u64,
    /// Of those: too long ago to be listed.
    pub vms_forgotten: u64,
    /// VMs in the order they appeared.
    pub vms: Vec<VmReport>,
}

/// The machine.
#[derive(Clone, Debug, Serialize)]
pub struct Host {
    /// `uname -r`.
    pub kernel: String,
    /// Which MMU KVM uses.
    pub mmu: Mmu,
}

/// The command that a report was about.
#[derive(Clone, Debug, Serialize)]
pub struct CommandReport {
    /// Program and arguments.
    pub argv: Vec<String>,
    /// Exit status; `None` if a signal ended it.
    pub status: Option<i32>,
    /// Signal that ended it.
    pub signal: Option<i32>,
}

/// One signal's coverage.
#[derive(Clone, Debug, Serialize)]
pub struct SignalReport {
    /// The signal.
    pub signal: &'static str,
    /// Whether it is seen.
    pub seen: bool,
    /// Hooks in use.
    pub hooks: Vec<String>,
    /// Why it is not seen, or what its hooks do not show.
    pub reason: Option<String>,
    /// What is not known without it.
    pub loses: Option<&'static str>,
}

impl Report {
    /// Sums up a model.
    pub fn new(
        model: &Model,
        coverage: &Coverage,
        host: &Inspected,
        command: Option<CommandReport>,
    ) -> Self {
        Self::of(model, coverage, release(host), command, |_| true)
    }

    /// Sums up a model without listing VMs that ended: all that a live view shows.
    pub fn of_alive(model: &Model, coverage: &Coverage, host: &Inspected) -> Self {
        Self::of(model, coverage, release(host), None, |vm| !vm.gone)
    }

    /// Why nothing is seen at all, if so.
    pub fn blind(&self) -> Option<&str> {
        let nothing = self.coverage.iter().all(|signal| !signal.seen);
        self.coverage.first().filter(|_| nothing)?.reason.as_deref()
    }

    fn of(
        model: &Model,
        coverage: &Coverage,
        kernel: String,
        command: Option<CommandReport>,
        listed: fn(&Vm) -> bool,
    ) -> Self {
        let mut vms: Vec<_> = model.vms.values().filter(|vm| listed(vm)).collect();
        vms.sort_by_key(|vm| vm.key.born);
        // VMs are shown by what was seen of them while they were there.
        let blind = model.blind.as_deref().map(|why| coverage.blind(why));
        let now = blind.as_ref().unwrap_or(coverage);
        Self {
            schema: SCHEMA,
            version: env!("CARGO_PKG_VERSION"),
            host: Host { kernel, mmu: now.mmu },
            window_ns: model.window(),
            command,
            coverage: now.signals.iter().map(SignalReport::new).collect(),
            reloads: model.reloads,
            losses: model.losses.clone(),
            settled: model.settled,
            unattributed_changes: model.unattributed.changes(Transition::is_recorded),
            unattributed_ageing: model.unattributed.changes(is_ageing),
            vms_ended: model.ended(),
            vms_forgotten: model.forgotten,
            vms: vms.into_iter().map(|vm| VmReport::new(vm, coverage)).collect(),
        }
    }
}

/// Whether a leaf stays as large as it was.
fn is_ageing(transition: Transition) -> bool {
    matches!(
        transition,
        Transition::WriteProtect
            | Transition::MakeWritable
            | Transition::ClearDirty
            | Transition::Age
            | Transition::Update
    )
}

/// `uname -r`, or a dash.
pub fn release(host: &Inspected) -> String {
    host.release.clone().unwrap_or_else(|_| "–".to_owned())
}

impl SignalReport {
    /// One signal's coverage.
    pub fn new(status: &crate::plan::SignalStatus) -> Self {
        let seen = status.way.is_some();
        Self {
            signal: status.signal.name,
            seen,
            hooks: status.way.into_iter().flatten().map(ToString::to_string).collect(),
            reason: status.reason.clone(),
            loses: (!seen).then_some(status.signal.loses),
        }
    }
}
