//! Tests inside the lab, on kernel after kernel.

use std::{
    collections::BTreeMap,
    fs,
    sync::{
        Mutex, PoisonError,
        atomic::{AtomicUsize, Ordering},
    },
    thread,
    time::{Duration, Instant},
};

use anyhow::{Context, Error, Result, anyhow};

use super::{Report, Selection, cases};
use crate::{
    build,
    lab::{Choice, DEFAULT_TIMEOUT, Ending, ImageFile, KvmParameter, Lab, Outcome, kernel::Kernel},
};

/// Emulated machines at a time: each is worth two busy CPUs.
const MACHINES: usize = 2;

/// One test: a boot, a command, and what must be true of what it left.
pub struct Case {
    /// What it shows, in a few words.
    pub name: String,
    /// The kernel series.
    pub kernel: &'static str,
    /// Parameters for kvm, as `name=value`.
    pub kvm: Vec<String>,
    /// Number of CPUs.
    pub cpus: u32,
    /// Whether guest time is a function of executed instructions.
    pub icount: bool,
    /// How long it may take.
    pub timeout: Duration,
    /// Files that it needs besides the binaries.
    pub files: Vec<ImageFile>,
    /// What to run; what it leaves in `/out` is in the outcome's folder.
    pub command: Vec<String>,
    /// Judges the outcome. Not called when the command did not come to an end.
    pub check: fn(&Outcome) -> Result<()>,
}

impl Case {
    /// A case with the lab's defaults.
    pub fn new(
        name: impl Into<String>,
        kernel: &'static str,
        command: &[&str],
        check: fn(&Outcome) -> Result<()>,
    ) -> Self {
        Self {
            name: name.into(),
            kernel,
            kvm: Vec::new(),
            cpus: 2,
            icount: false,
            timeout: DEFAULT_TIMEOUT,
            files: Vec::new(),
            command: command.iter().map(|word| (*word).to_owned()).collect(),
            check,
        }
    }

    fn title(&self) -> String {
        let kvm: String = self.kvm.iter().flat_map(|parameter| [" ", parameter]).collect();
        format!("{}{kvm}: {}", self.kernel, self.name)
    }

    fn lab(&self, kernel: Kernel, binaries: &[std::path::PathBuf]) -> Result<Lab> {
        let kvm = self.kvm.iter().map(|parameter| parameter.parse());
        let name: String =
            self.title().chars().map(|c| if c.is_alphanumeric() { c } else { '-' }).collect();
        let out = build::lab_dir().join("tests").join(name);
        if out.exists() {
            fs::remove_dir_all(&out).with_context(|| format!("clearing {}", out.display()))?;
        }
        Ok(Lab {
            kvm_params: kvm.collect::<Result<Vec<KvmParameter>>>()?,
            cpus: self.cpus,
            icount: self.icount,
            parallel: self.cpus > 1,
            timeout: Some(self.timeout),
            files: self.files.clone(),
            out: Some(out),
            ..Lab::new(Choice::Found(kernel), binaries.to_vec())
        })
    }
}

/// Runs the wanted ones, two machines at a time.
pub fn run(selection: &Selection, report: &mut Report) {
    let cases: Vec<Case> = cases::all()
        .into_iter()
        .filter(|case| selection.kernel.as_ref().is_none_or(|kernel| case.kernel == kernel))
        .filter(|case| selection.wants(&case.title()))
        .collect();
    if cases.is_empty() {
        return;
    }
    let binaries = match build::static_binaries() {
        Ok(binaries) => binaries,
        Err(error) => return report.add("lab: build", Err(error), Duration::ZERO, ""),
    };
    let mut kernels = BTreeMap::new();
    for case in &cases {
        kernels.entry(case.kernel).or_insert_with(|| Choice::Series(case.kernel.into()).resolve());
    }
    let (next, report) = (AtomicUsize::new(0), Mutex::new(report));
    thread::scope(|scope| {
        for _ in 0..MACHINES.min(cases.len()) {
            scope.spawn(|| {
                while let Some(case) = cases.get(next.fetch_add(1, Ordering::Relaxed)) {
                    let started = Instant::now();
                    let mut note = String::new();
                    let result = match kernels.get(case.kernel) {
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
    case: &Case,
    kernel: &Kernel,
    binaries: &[std::path::PathBuf],
    note: &mut String,
) -> Result<()> {
    let mut lab = case.lab(kernel.clone(), binaries)?;
    let mut outcome = lab.run(&case.command)?;
    let artefact = match outcome.ending {
        Ending::EmulatorArtefact => Some("the emulator ran a stale breakpoint"),
        // A CPU that executes a breakpoint which is gone from memory comes back to it for ever:
        // kprobe_int3_handler takes it for one that was removed just now.
        Ending::TimedOut => Some("the machine stood still"),
        _ => None,
    };
    // On one thread neither can be the emulator's doing: what is ours comes again.
    if let Some(artefact) = artefact.filter(|_| lab.parallel) {
        *note = format!(" ({artefact}; run again on one thread)");
        lab.parallel = false;
        outcome = lab.run(&case.command)?;
    }
    match outcome.ending {
        Ending::Exited(_) => (case.check)(&outcome),
        _ => outcome.success().map(drop),
    }
}
