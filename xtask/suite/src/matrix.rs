//! Tests inside the lab, on kernel after kernel.

use std::{
    collections::BTreeMap,
    fs,
    num::NonZero,
    ops::RangeInclusive,
    sync::{
        Mutex, PoisonError,
        atomic::{AtomicUsize, Ordering},
    },
    thread,
    time::{Duration, Instant},
};

use anyhow::{Context, Error, Result, anyhow};
use base::workspace;
use lab::{
    DEFAULT_TIMEOUT, Emulator, Ending, ImageFile, KernelChoice, KvmParameter, Lab, LabOutcome,
    MachineSize, Qemu, Series, kernel::Kernel, kernels::CpuVendor, programs,
};

use crate::{Selection, TestReport, cases};

/// Emulated machines at a time, on a host with few CPUs and at most: each keeps up to two CPUs busy, and
/// has 2 GiB of memory.
const MACHINES: RangeInclusive<usize> = 2..=4;

/// The emulator that cases run in.
const EMULATOR: &dyn Emulator = &Qemu;

/// The vendor of the CPUs that cases run on.
pub fn vendor() -> CpuVendor {
    EMULATOR.vendor()
}

/// One test: a boot, a command, and a check of its result.
pub struct LabCase {
    /// The subject, in a few words.
    pub name: String,
    /// The kernel series.
    pub kernel: &'static Series,
    /// Parameters for KVM, as `name=value name=value`.
    pub kvm: String,
    /// Number of CPUs.
    pub cpus: u32,
    /// Whether guest time is a function of executed instructions.
    pub icount: bool,
    /// The time limit of the command.
    pub timeout: Duration,
    /// Files that it needs besides the programs.
    pub files: Vec<ImageFile>,
    /// The command; the files that it leaves in `/out` are in the outcome's folder.
    pub command: Vec<String>,
    /// Judges the outcome. Not called when the command did not come to an end.
    pub check: LabCheck,
}

/// Judges the outcome of a command on a kernel.
pub type LabCheck = fn(&LabOutcome, &Series) -> Result<()>;

impl LabCase {
    /// A case with the lab's defaults.
    pub fn new(
        name: impl Into<String>,
        kernel: &'static Series,
        command: &[&str],
        check: LabCheck,
    ) -> Self {
        Self {
            name: name.into(),
            kernel,
            kvm: String::new(),
            cpus: 2,
            icount: false,
            timeout: DEFAULT_TIMEOUT,
            files: Vec::new(),
            command: command.iter().map(|word| (*word).to_owned()).collect(),
            check,
        }
    }

    fn title(&self) -> String {
        let kernel = [self.kernel.name, &self.kvm].join(" ");
        format!("{}: {}", kernel.trim_end(), self.name)
    }

    fn lab(&self, kernel: Kernel, binaries: &[std::path::PathBuf]) -> Result<Lab> {
        let kvm = self.kvm.split_whitespace().map(str::parse);
        let name: String =
            self.title().chars().map(|c| if c.is_alphanumeric() { c } else { '-' }).collect();
        let out = workspace::lab_dir().join("tests").join(name);
        if out.exists() {
            fs::remove_dir_all(&out).with_context(|| format!("clearing {}", out.display()))?;
        }
        let lab = Lab::new(KernelChoice::Found(kernel), binaries.to_vec());
        Ok(Lab {
            emulator: EMULATOR,
            kvm_params: kvm.collect::<Result<Vec<KvmParameter>>>()?,
            size: MachineSize {
                cpus: self.cpus,
                icount: self.icount,
                parallel: self.cpus > 1,
                ..lab.size
            },
            timeout: Some(self.timeout),
            files: self.files.clone(),
            out: Some(out),
            ..lab
        })
    }
}

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
    let mut kernels = BTreeMap::new();
    for case in &cases {
        let name = case.kernel.name;
        kernels.entry(name).or_insert_with(|| KernelChoice::Series(name.into()).resolve());
    }
    let cpus = thread::available_parallelism().map_or(1, NonZero::get);
    let machines = (cpus / 2).clamp(*MACHINES.start(), *MACHINES.end());
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

fn perform(
    case: &LabCase,
    kernel: &Kernel,
    binaries: &[std::path::PathBuf],
    note: &mut String,
) -> Result<()> {
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
