//! The lab's tests, on kernel after kernel.

use std::{
    collections::BTreeMap,
    num::NonZero,
    ops::RangeInclusive,
    path::PathBuf,
    sync::{
        Mutex, PoisonError,
        atomic::{AtomicUsize, Ordering},
    },
    thread,
    time::{Duration, Instant},
};

use anyhow::{Error, Result, anyhow};
use lab::{Emulator, Ending, KernelChoice, emulator, kernel::Kernel, kernels::CpuVendor, programs};

use crate::{case::LabCase, cases, report::TestReport, selection::Selection};

/// Emulated machines at a time, on a host with few CPUs and at most: each keeps up to two CPUs busy, and
/// has 2 GiB of memory.
const MACHINES: RangeInclusive<usize> = 2..=4;

/// Runs the wanted cases, a machine for each two CPUs at a time.
pub fn run(selection: &Selection, report: &mut TestReport) {
    let cases: Vec<LabCase> = cases::all(selection.all)
        .into_iter()
        .filter(|case| selection.kernel.as_ref().is_none_or(|kernel| case.kernel.name == *kernel))
        .filter(|case| selection.wants(&case.title()))
        .collect();
    if cases.is_empty() {
        return;
    }
    let binaries = match programs::build() {
        Ok(binaries) => binaries,
        Err(error) => return report.add("lab: build", Err(error), Duration::ZERO, ""),
    };
    if let Err(error) = prepare(&cases) {
        return report.add("lab: emulators", Err(error), Duration::ZERO, "");
    }
    let mut kernels = BTreeMap::new();
    for case in &cases {
        let name = case.kernel.name;
        kernels.entry(name).or_insert_with(|| KernelChoice::Series(name.into()).resolve());
    }
    let machines = selection.jobs.map_or_else(usual_machines, NonZero::get);
    let (next, report) = (AtomicUsize::new(0), Mutex::new(report));
    thread::scope(|scope| {
        for _ in 0..machines.min(cases.len()) {
            scope.spawn(|| {
                while let Some(case) = cases.get(next.fetch_add(1, Ordering::Relaxed)) {
                    let started = Instant::now();
                    let mut note = String::new();
                    let result = match kernels.get(case.kernel.name) {
                        Some(Ok(kernel)) => perform(case, kernel, &binaries, &mut note),
                        Some(Err(error)) => Err(anyhow!("{error:#}")),
                        None => Err(Error::msg("no such kernel")),
                    };
                    let mut report = report.lock().unwrap_or_else(PoisonError::into_inner);
                    report.add(&case.title(), result, started.elapsed(), &note);
                }
            });
        }
    });
}

fn usual_machines() -> usize {
    let cpus = thread::available_parallelism().map_or(1, NonZero::get);
    (cpus / 2).clamp(*MACHINES.start(), *MACHINES.end())
}

/// Installs or builds the emulators before cases are timed.
fn prepare(cases: &[LabCase]) -> Result<()> {
    let used = |vendor: &CpuVendor| cases.iter().any(|case| case.cpu == *vendor);
    let used = CpuVendor::ALL.into_iter().filter(used);
    used.map(emulator::with_cpu_of).try_for_each(Emulator::prepare)
}

fn perform(case: &LabCase, kernel: &Kernel, binaries: &[PathBuf], note: &mut String) -> Result<()> {
    let mut lab = case.lab(kernel.clone(), binaries)?;
    let mut outcome = lab.run(&case.command)?;
    let artefact = match outcome.ending {
        Ending::EmulatorArtefact => Some("the emulator ran a stale breakpoint"),
        // A CPU that executes a breakpoint which is gone from memory comes back to it for ever:
        // kprobe_int3_handler takes it for one that was removed a moment ago.
        Ending::TimedOut => Some("the machine stood still"),
        _ => None,
    };
    // On one thread neither can come from the emulator: a fault of ours shows again.
    if let Some(artefact) = artefact.filter(|_| lab.size.parallel) {
        *note = format!(" ({artefact}; run again on one thread)");
        lab.size.parallel = false;
        outcome = lab.run(&case.command)?;
    }
    match outcome.ending {
        Ending::Exited(_) => (case.check)(&outcome, case.kernel),
        _ => outcome.success().map(drop),
    }
}
