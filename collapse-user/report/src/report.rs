//! The report: everything that one window of observation amounts to.

use std::collections::BTreeMap;

use collapse_common::Transition;
use schemars::JsonSchema;
use serde::{Deserialize, Serialize};

use super::{Name, Verdicts, VmIdentity, VmReport, VmSelect, timeline};
use collapse_feed::{Coverage, Machine, Mmu, Overhead, Paging, printable, recording};
use collapse_model::{Changes, Model, Vm, wording::duration};

/// Name and version of the JSON format. Keys are added, never renamed.
pub const SCHEMA: &str = "collapse.report/1";

/// Minor version of the JSON format: grows as keys are added, or mean more precisely what they say. 1: what
/// is taken away is no loss, and time to recover counts from when a region could come back. 2: findings.
pub const SCHEMA_MINOR: u32 = 2;

/// A finished window of observation.
#[derive(Clone, Debug, Serialize, Deserialize, JsonSchema)]
pub struct Report {
    /// Name and version of this format: `collapse.report/1`.
    pub schema: Name,
    /// Minor version of this format; 0 if an earlier version wrote the report.
    #[serde(default)]
    #[schemars(extend("x-sum" = false))]
    pub schema_minor: u32,
    /// Version of this program.
    pub version: Name,
    /// The machine.
    pub host: Host,
    /// When the window began, `CLOCK_MONOTONIC` ns; `None` if nothing was read.
    pub started_ns: Option<u64>,
    /// Length of the window, ns.
    pub window_ns: u64,
    /// The command that was run; `None` if there was none.
    pub command: Option<CommandReport>,
    /// Every signal, and whether it was seen.
    pub coverage: Vec<SignalReport>,
    /// Number of times that KVM was loaded again in the window. VMs from before and after are listed;
    /// coverage is that of the end.
    #[serde(default)]
    pub reloads: u64,
    /// Run time of the eBPF programs when it was last measured; `None` in windows of less than two
    /// seconds, and in reports on recordings.
    #[serde(default)]
    pub overhead: Option<Overhead>,
    /// Number of losses of each kind, zero included.
    pub losses: BTreeMap<Name, u64>,
    /// SPTE changes of all VMs, counted and recorded; `None` if an earlier version wrote the report.
    #[serde(default)]
    pub changes: Option<Changes>,
    /// Whether nothing changed while counts were last read: only then must residuals be zero.
    pub settled: bool,
    /// SPTE changes in the life of a mapping (installs, splits, zaps, recoveries) whose VM is
    /// unknown.
    pub unattributed_changes: u64,
    /// Changes of leaves in place (ageing, clearing of dirty bits, write-protection and the like)
    /// whose VM is unknown.
    pub unattributed_ageing: u64,
    /// VMs that ended in the window.
    pub vms_ended: u64,
    /// VMs that ended too long ago to be listed; part of `vms_ended`.
    pub vms_forgotten: u64,
    /// Selectors given by `--vm`; empty if there were none.
    pub selections: Vec<SelectionReport>,
    /// Verdicts by the demands on the run.
    #[serde(flatten)]
    pub verdicts: Verdicts,
    /// VMs in the order in which they appeared.
    pub vms: Vec<VmReport>,
}

/// The machine that was observed.
#[derive(Clone, Debug, Serialize, Deserialize, JsonSchema)]
pub struct Host {
    /// Host name; `None` if there is none, or it was not recorded.
    pub name: Option<String>,
    /// `uname -r`.
    pub kernel: String,
    /// The MMU that KVM uses.
    pub mmu: Mmu,
    /// What the CPU does for its page tables.
    #[serde(flatten)]
    pub paging: Paging,
}

impl Host {
    /// Describes a machine that is watched with this coverage.
    pub fn new(machine: Machine, coverage: &Coverage) -> Self {
        let Machine { name, kernel } = machine;
        Self { name, kernel, mmu: coverage.mmu, paging: coverage.paging }
    }

    /// Returns the name for display of the MMU and of what the CPU does for it.
    pub fn mmu_label(&self) -> String {
        self.paging.label(self.mmu)
    }
}

/// The command that a report was about.
#[derive(Clone, Debug, Serialize, Deserialize, JsonSchema)]
pub struct CommandReport {
    /// The program and its arguments.
    pub argv: Vec<String>,
    /// Exit status; `None` if a signal ended it.
    pub status: Option<i32>,
    /// Number of the signal that ended it; `None` if it exited.
    pub signal: Option<i32>,
}

impl From<recording::RecordedCommand> for CommandReport {
    fn from(command: recording::RecordedCommand) -> Self {
        let recording::RecordedCommand { argv, status, signal } = command;
        Self { argv, status, signal }
    }
}

impl CommandReport {
    /// The command's end, in words.
    pub fn ending(&self) -> String {
        match (self.status, self.signal) {
            (Some(status), _) => format!("exited with {status}"),
            (None, Some(signal)) => format!("ended by signal {signal}"),
            (None, None) => "did not start".to_owned(),
        }
    }
}

/// A selector of VMs, and how many it selected.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
pub struct SelectionReport {
    /// The selector.
    pub select: String,
    /// Number of VMs that it selected.
    pub vms: u64,
}

/// One signal's coverage.
#[derive(Clone, Debug, Serialize, Deserialize, JsonSchema)]
pub struct SignalReport {
    /// The signal.
    pub signal: Name,
    /// Whether the signal is seen.
    pub seen: bool,
    /// Kernel hooks in use.
    pub hooks: Vec<String>,
    /// Why the signal is not seen, or what the hooks do not show.
    pub reason: Option<String>,
    /// What is unknown without the signal; `None` if it is seen.
    pub loses: Option<Name>,
}

impl Report {
    /// Sums up a model of what happened on `machine`.
    pub fn new(
        model: &Model,
        coverage: &Coverage,
        machine: Machine,
        command: Option<CommandReport>,
    ) -> Self {
        let mut report = Self::of(model, coverage, machine, command);
        report.add_detail(model, coverage);
        report
    }

    /// Adds timelines and memory maps, which take time.
    pub(crate) fn add_detail(&mut self, model: &Model, coverage: &Coverage) {
        for (report, vm) in self.vms.iter_mut().zip(in_order(model)) {
            report.timeline = timeline::of(&vm.history, coverage);
            let logged_by = vm.logged_by(coverage.paging.pml);
            report.memory_map = vm.memory.of(&vm.slots, &vm.regions, logged_by);
        }
    }

    /// Why nothing is seen at all; `None` if any signal is seen.
    pub fn nothing_seen(&self) -> Option<&str> {
        let nothing = self.coverage.iter().all(|signal| !signal.seen);
        self.coverage.first().filter(|_| nothing)?.reason.as_deref()
    }

    pub(crate) fn of(
        model: &Model,
        coverage: &Coverage,
        machine: Machine,
        command: Option<CommandReport>,
    ) -> Self {
        // VMs are shown by the coverage of their time, even if nothing is seen at the end.
        let unseen = model.unwatched.as_deref().map(|why| coverage.with_none_seen(why));
        let now = unseen.as_ref().unwrap_or(coverage);
        Self {
            schema: SCHEMA.into(),
            schema_minor: SCHEMA_MINOR,
            version: env!("CARGO_PKG_VERSION").into(),
            host: Host::new(machine, now),
            started_ns: model.started,
            window_ns: model.window(),
            command,
            coverage: now.signals.iter().map(SignalReport::new).collect(),
            overhead: model.overhead.clone(),
            losses: model.losses.iter().map(|(way, n)| ((*way).into(), *n)).collect(),
            reloads: model.reloads,
            changes: Some(model.changes()),
            settled: model.settled,
            unattributed_changes: model.unattributed.changes(Transition::is_recorded),
            unattributed_ageing: model.unattributed.changes(is_ageing),
            vms_ended: model.ended(),
            vms_forgotten: model.forgotten,
            selections: Vec::new(),
            verdicts: Verdicts::default(),
            vms: in_order(model).map(|vm| VmReport::new(vm, coverage)).collect(),
        }
    }

    /// Keeps only the VMs that any of the selectors selects; without selectors, keeps all.
    pub fn select(&mut self, selectors: &[VmSelect]) {
        if selectors.is_empty() {
            return;
        }
        let selection = |select: &VmSelect| SelectionReport {
            select: printable(select.text().as_bytes()),
            vms: self.vms.iter().filter(|vm| select.selects(vm.identity())).count() as u64,
        };
        self.selections = selectors.iter().map(selection).collect();
        self.vms.retain(|vm| selectors.iter().any(|select| select.selects(vm.identity())));
    }

    /// The subject of the report, in one line.
    pub fn title(&self) -> String {
        let vms = match self.vms.len() {
            1 => "1 VM".to_owned(),
            n => format!("{n} VMs"),
        };
        let (kernel, mmu) = (&self.host.kernel, self.host.mmu_label());
        let name = self.host.name.as_deref();
        let host = name.map_or(String::new(), |name| format!("{}, ", printable(name.as_bytes())));
        format!("{host}kernel {kernel}, {mmu}, {}, {vms}", duration(self.window_ns))
    }
}

impl VmReport {
    /// The ids and the name that the VM can be selected by.
    pub fn identity(&self) -> VmIdentity<'_> {
        let Self { pid, tid, fd, ref name, .. } = *self;
        VmIdentity { pid, tid, fd, name: name.as_deref() }
    }
}

/// VMs in the order in which they appeared.
pub(crate) fn in_order(model: &Model) -> impl Iterator<Item = &Vm> {
    let mut vms: Vec<_> = model.vms.values().collect();
    vms.sort_by_key(|vm| vm.key.born);
    vms.into_iter()
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

impl SignalReport {
    /// Describes the state of a signal.
    pub fn new(status: &collapse_feed::SignalStatus) -> Self {
        let seen = status.is_seen();
        Self {
            signal: status.signal.name().into(),
            seen,
            hooks: status.hooks.clone().unwrap_or_default(),
            reason: status.reason.clone(),
            loses: (!seen).then(|| status.signal.loses().into()),
        }
    }
}
