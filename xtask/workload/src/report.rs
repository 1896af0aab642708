//! JSON lines on stdout.

use std::collections::BTreeMap;
use std::io::{self, ErrorKind, Write};
use std::process;

use anyhow::{Context, Result};
use serde::Serialize;
use serde_json::{Map, Value};

use crate::cli::Options;
use crate::clock::monotonic_ns;
use crate::gauges::{Gauges, Pages, Snapshot};
use crate::host::MmuParameters;
use crate::signal;
use crate::vm::Vm;

/// The format of the lines and its version.
pub const SCHEMA: &str = "collapse.workload/1";

/// The first line: what is run, and on what.
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
    pub options: &'a Options,
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
    /// Its place among all lines of this process.
    pub seq: u64,
    /// How often the scenario had been completed before.
    pub iteration: u64,
    /// The arguments as written.
    pub args: &'a Map<String, Value>,
    /// `CLOCK_MONOTONIC` at its start.
    pub t_start_ns: u64,
    /// And at its end.
    pub t_end_ns: u64,
    /// What was done.
    pub did: Value,
    /// The VM's page faults meanwhile, as far as KVM counts them.
    pub faults: BTreeMap<&'static str, u64>,
    /// Mappings before.
    pub pages_before: Option<Pages>,
    /// Mappings after.
    pub pages_after: Option<Pages>,
    /// What old kernels count instead, before.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub largepages_before: Option<u64>,
    /// And after.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub largepages_after: Option<u64>,
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
    /// Why it failed.
    pub error: Option<String>,
    /// `CLOCK_MONOTONIC` at the start of the run.
    pub t_start_ns: u64,
    /// And at its end.
    pub t_end_ns: u64,
}

/// The beginning of a phase: its time, and KVM's figures of the VM then.
pub struct Moment {
    at: u64,
    vm: Option<(usize, i32, i32)>,
    gauges: Option<Gauges>,
    before: Snapshot,
}

impl Moment {
    /// Now, for a VM.
    pub fn of(vm: &Vm) -> Self {
        let gauges = vm.gauges();
        let before = gauges.read();
        Self { before, ..Self::before(vm, monotonic_ns()) }
    }

    /// An earlier time, when there was no such VM yet.
    pub fn before(vm: &Vm, at: u64) -> Self {
        let (tid, fd) = vm.name_in_debugfs();
        let vm_name = Some((vm.index, tid, fd));
        Self { at, vm: vm_name, gauges: Some(vm.gauges()), before: Snapshot::default() }
    }

    /// Now, without a VM.
    pub fn without_vm() -> Self {
        Self { at: monotonic_ns(), vm: None, gauges: None, before: Snapshot::default() }
    }
}

/// The lines of one process.
pub struct Report {
    quiet: bool,
    phases: u64,
}

impl Report {
    /// With nothing printed yet, and never if `quiet`.
    pub fn new(quiet: bool) -> Self {
        Self { quiet, phases: 0 }
    }

    /// How many phase lines there were.
    pub fn phases(&self) -> u64 {
        self.phases
    }

    /// Prints the line of a phase that ends now.
    pub fn phase(
        &mut self,
        phase: &str,
        args: &Map<String, Value>,
        iteration: u64,
        begun: &Moment,
        did: Value,
    ) -> Result<()> {
        let t_end_ns = monotonic_ns();
        let after = begun.gauges.as_ref().map(Gauges::read).unwrap_or_default();
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
            t_start_ns: begun.at,
            t_end_ns,
            did,
            faults: after.faults_since(&begun.before),
            pages_before: begun.before.pages,
            pages_after: after.pages,
            largepages_before: begun.before.large_pages,
            largepages_after: after.large_pages,
        })
    }

    /// Prints a line, whole even when several processes print.
    pub fn line(&self, line: &impl Serialize) -> Result<()> {
        if self.quiet {
            return Ok(());
        }
        let mut text = serde_json::to_string(line)?;
        text.push('\n');
        print(&text)
    }
}

/// Prints text. A reader that went away ends the run, without complaint.
pub fn print(text: &str) -> Result<()> {
    let mut out = io::stdout().lock();
    match out.write_all(text.as_bytes()).and_then(|()| out.flush()) {
        Err(error) if error.kind() == ErrorKind::BrokenPipe => {
            signal::reader_left();
            Ok(())
        }
        outcome => outcome.context("cannot write to stdout"),
    }
}
