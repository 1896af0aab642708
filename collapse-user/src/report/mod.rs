//! The report: what a run amounts to, as one value. JSON is this value; the text is made from it.

mod live;
mod text;
mod vm;

use std::collections::BTreeMap;

use serde::Serialize;

pub use live::{live_lines, live_table};
pub use text::{Style, render};
pub use vm::{Counts, Faults, PagesBySize, Recoveries, SpanReport, VmReport};

use crate::{
    kernel::inspect::Inspected,
    model::Model,
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
    /// Known losses by way, zero included.
    pub losses: BTreeMap<&'static str, u64>,
    /// Whether nothing changed while the last counts were read. Only then must residuals be zero.
    pub settled: bool,
    /// SPTE changes whose VM is unknown.
    pub unattributed_changes: u64,
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
        let mut vms: Vec<_> = model.vms.values().collect();
        vms.sort_by_key(|vm| vm.key.born);
        Self {
            schema: SCHEMA,
            version: env!("CARGO_PKG_VERSION"),
            host: Host { kernel: release(host), mmu: coverage.mmu },
            window_ns: model.window(),
            command,
            coverage: coverage.signals.iter().map(SignalReport::new).collect(),
            losses: model.losses.clone(),
            settled: model.settled,
            unattributed_changes: model
                .unattributed
                .changes(collapse_common::Transition::is_recorded),
            vms: vms.into_iter().map(|vm| VmReport::new(vm, coverage)).collect(),
        }
    }
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
