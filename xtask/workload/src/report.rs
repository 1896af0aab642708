//! JSON lines on stdout.

use std::process;

use anyhow::Result;
use collapse_guest::gauges::{Interval, IntervalStart};
use collapse_guest::vm::GuestVm;
use serde::Serialize;
use serde_json::{Map, Value};

use crate::host::MmuParameters;
use crate::options::WorkloadOptions;
use crate::out;

/// The format of the lines and its version.
pub const SCHEMA: &str = "collapse.workload/1";

/// The first line: the scenario and the host.
#[derive(Serialize)]
pub struct Header<'a> {
    /// Always [`SCHEMA`].
    pub schema: &'static str,
    /// Always `header`.
    pub kind: &'static str,
    /// This process.
    pub pid: u32,
    /// The kernel's release.
    pub kernel: Option<String>,
    /// The scenario's name.
    pub scenario: &'a str,
    /// The scenario as written.
    pub text: &'a str,
    /// The options in force.
    pub options: &'a WorkloadOptions,
    /// KVM's parameters.
    pub mmu: MmuParameters,
    /// The VMs that exist before the first phase.
    pub vms: Vec<Value>,
}

/// A line for one phase of one VM.
#[derive(Serialize)]
pub struct PhaseLine<'a> {
    /// Always [`SCHEMA`].
    pub schema: &'static str,
    /// Always `phase`.
    pub kind: &'static str,
    /// The VM's index; null if there was none.
    pub vm: Option<usize>,
    /// This process.
    pub pid: u32,
    /// The thread that made the VM.
    pub tid: Option<i32>,
    /// The VM's file descriptor.
    pub fd: Option<i32>,
    /// The phase's name.
    pub phase: &'a str,
    /// The line's number among all phase lines of this process.
    pub seq: u64,
    /// Completed iterations of the scenario before.
    pub iteration: u64,
    /// The arguments as written.
    pub args: &'a Map<String, Value>,
    /// Results of the phase.
    pub did: Value,
    /// Start and end, and KVM's counts meanwhile.
    #[serde(flatten)]
    pub interval: Interval,
}

/// The last line.
#[derive(Serialize)]
pub struct Summary {
    /// Always [`SCHEMA`].
    pub schema: &'static str,
    /// Always `summary`.
    pub kind: &'static str,
    /// This process.
    pub pid: u32,
    /// Times the scenario was completed.
    pub iterations: u64,
    /// Phase lines.
    pub phases: u64,
    /// VMs created.
    pub vms_created: usize,
    /// Whether it was ended from outside.
    pub interrupted: bool,
    /// The reason of a failure.
    pub error: Option<String>,
    /// `CLOCK_MONOTONIC` at the start of the run.
    pub t_start_ns: u64,
    /// `CLOCK_MONOTONIC` at the end of the run.
    pub t_end_ns: u64,
}

/// The beginning of a phase, and the VM that it is about.
pub struct Begun {
    vm: Option<(usize, i32, i32)>,
    moment: IntervalStart,
}

impl Begun {
    /// Begins a phase of a VM now.
    pub fn of(index: usize, vm: &GuestVm) -> Self {
        Self { vm: Some(Self::name(index, vm)), moment: IntervalStart::now(vm.gauges()) }
    }

    /// Begins a phase of a VM at an earlier time, when the VM did not exist yet.
    pub fn before(index: usize, vm: &GuestVm, at: u64) -> Self {
        let moment = IntervalStart::before_creation(vm.gauges(), at);
        Self { vm: Some(Self::name(index, vm)), moment }
    }

    /// Begins a phase without a VM now.
    pub fn without_vm() -> Self {
        Self { vm: None, moment: IntervalStart::without_vm() }
    }

    fn name(index: usize, vm: &GuestVm) -> (usize, i32, i32) {
        let (tid, fd) = vm.name_in_debugfs();
        (index, tid, fd)
    }
}

/// The lines of one process, printed as they come.
pub struct PhaseReport {
    quiet: bool,
    phases: u64,
}

impl PhaseReport {
    /// No lines yet; if `quiet`, none will be printed.
    pub fn new(quiet: bool) -> Self {
        Self { quiet, phases: 0 }
    }

    /// The number of phase lines so far.
    pub fn phases(&self) -> u64 {
        self.phases
    }

    /// Prints the line of a phase that ends now.
    pub fn phase(
        &mut self,
        phase: &str,
        args: &Map<String, Value>,
        iteration: u64,
        begun: &Begun,
        did: Value,
    ) -> Result<()> {
        let interval = begun.moment.until_now();
        let seq = self.phases;
        self.phases += 1;
        self.line(&PhaseLine {
            schema: SCHEMA,
            kind: "phase",
            vm: begun.vm.map(|(index, ..)| index),
            pid: process::id(),
            tid: begun.vm.map(|(_, tid, _)| tid),
            fd: begun.vm.map(|(.., fd)| fd),
            phase,
            seq,
            iteration,
            args,
            did,
            interval,
        })
    }

    /// Prints a line, whole even when several processes print.
    pub fn line(&self, line: &impl Serialize) -> Result<()> {
        if self.quiet {
            return Ok(());
        }
        let mut text = serde_json::to_string(line)?;
        text.push('\n');
        out::print(&text)
    }
}
