//! A run of `collapse report` on a scenario, beside an independent recording by tracefs.

use std::{fs, path::Path};

use anyhow::{Context, Result, ensure};
use serde_json::Value;

use super::oracle::Oracle;
use crate::lab::ImageFile;

/// The script that does both, for the image.
pub fn script() -> ImageFile {
    ImageFile {
        path: "/bin/observe.sh".to_owned(),
        permissions: 0o755,
        content: include_bytes!("observe.sh").to_vec(),
    }
}

/// The files of a run.
pub struct Run {
    /// The report.
    pub report: Value,
    /// First line of the workload's account.
    pub header: Value,
    /// A line per phase.
    pub phases: Vec<Value>,
    /// What tracefs recorded.
    pub oracle: Oracle,
}

impl Run {
    /// Reads what `observe.sh` left in a folder.
    pub fn read(folder: &Path) -> Result<Self> {
        let report =
            fs::read_to_string(folder.join("report.json")).context("reading the report")?;
        let workload = fs::read_to_string(folder.join("workload.json"))?;
        let mut lines = Vec::new();
        for line in workload.lines() {
            lines.push(serde_json::from_str::<Value>(line).context("the workload's account")?);
        }
        let of_kind = |kind: &str| {
            lines.iter().filter(|line| line["kind"] == kind).cloned().collect::<Vec<_>>()
        };
        Ok(Self {
            report: serde_json::from_str(&report).context("the report is no JSON")?,
            header: of_kind("header").into_iter().next().context("the workload has no header")?,
            phases: of_kind("phase"),
            oracle: Oracle::read(folder)?,
        })
    }

    /// The first phase of a name.
    pub fn phase(&self, name: &str) -> Result<&Value> {
        self.phases
            .iter()
            .find(|phase| phase["phase"] == name)
            .with_context(|| format!("no {name}"))
    }

    /// VMs in the report.
    pub fn vms(&self) -> &[Value] {
        self.report["vms"].as_array().map_or(&[], Vec::as_slice)
    }

    /// A count, summed over VMs; `None` if it is unknown for one.
    fn sum(&self, path: &str) -> Option<u64> {
        self.vms().iter().map(|vm| count(vm, path)).sum()
    }

    /// Counts of the report equal those of the independent recording.
    pub fn against_tracefs(&self) -> Result<()> {
        let oracle = &self.oracle;
        let skipped = self.skipped();
        let same = |what, got, expected| near(what, got, expected, skipped);
        let by_level = |kind: &str| {
            ["4k", "2m"].map(|size| {
                let of = |vm| count(vm, &format!("/{kind}/by_level/{size}")).unwrap_or(0);
                self.vms().iter().map(of).sum::<u64>()
            })
        };
        same("installs by level", by_level("installs"), oracle.installs)?;
        same("write-protects by level", by_level("write_protects"), oracle.write_protects)?;
        // What tracefs shows as a zap and a link is one split in two steps to us.
        let splits = self.sum("/splits/total").context("no splits")?;
        let steps = splits.checked_sub(oracle.splits).context("fewer splits than in tracefs")?;
        let [small, huge] = by_level("zaps");
        same("zaps by level", [small, huge + steps], oracle.zaps)?;
        let sum = |path| self.sum(path).with_context(|| format!("{path} is unknown"));
        same("faults", [sum("/faults/total")?, 0], [oracle.faults, 0])?;
        same("fast faults", [sum("/faults/fast")?, 0], [oracle.fast_faults, 0])?;
        same("calls of drop_spte", [sum("/drop_spte_calls")?, 0], [oracle.drop_spte, 0])?;
        same("collapse runs", [sum("/collapse_runs")?, 0], [oracle.collapse_runs, 0])
    }

    /// All guest faults were counted, and all installs but for those that the report says are of no
    /// known VM: the kernel skipped all programs that would have told whose they are.
    pub fn first_faults_against_tracefs(&self) -> Result<()> {
        let told = count(&self.report, "/unattributed_changes").context("no such count")?;
        let installs = self.sum("/installs/total").context("no installs")?;
        let missing = self.oracle.installs.iter().sum::<u64>().checked_sub(installs);
        let missing = missing.context("more installs than in tracefs")?;
        let expected = told..=told + self.skipped();
        ensure!(
            expected.contains(&missing),
            "{missing} installs are missing, {expected:?} are told"
        );
        same("faults", self.sum("/faults/total"), Some(self.oracle.faults))
    }

    /// Events that the report knows that it missed because the kernel skipped its programs.
    pub fn skipped(&self) -> u64 {
        count(&self.report, "/losses/program_skipped").unwrap_or(0)
    }

    /// Installs by guest faults that raced with the collapse routine, by level. The report counts them
    /// from the moment that the slot is published, tracefs from the routine's entry.
    pub fn races(&self) -> Result<()> {
        let spans = self.vms().iter().filter_map(|vm| vm["collapse_spans"].as_array()).flatten();
        let mut raced = [0; 2];
        for span in spans {
            raced[0] += count(span, "/race/installs_4k").context("no race in a span")?;
            raced[1] += count(span, "/race/installs_2m").context("no race in a span")?;
        }
        let least = self.oracle.raced_installs;
        let enough = raced[0] >= least[0] && raced[1] >= least[1];
        ensure!(enough, "raced installs: {raced:?}, at least {least:?} expected");
        Ok(())
    }

    /// Nothing is lost, everything adds up, and all is seen that this kernel lets us see; `old` means
    /// 5.10.
    pub fn trust(&self, old: bool) -> Result<()> {
        let losses = self.report["losses"].as_object().context("no losses in the report")?;
        let kernel = self.report["host"]["kernel"].as_str().unwrap_or_default();
        // From 7.x on three threads that preempt each other in the same tracepoint on one CPU make
        // the kernel skip events; few, and counted.
        let skippable = if kernel.starts_with("7.") { self.oracle.events() / 100 } else { 0 };
        ensure!(self.skipped() <= skippable, "{} events were skipped", self.skipped());
        for (way, n) in losses.iter().filter(|(way, _)| *way != "program_skipped") {
            same(&format!("lost by {way}"), n.as_u64(), Some(0))?;
        }
        let zero = serde_json::json!({"4k": 0, "2m": 0, "1g": 0});
        let expected = if old { Value::Null } else { zero };
        for vm in self.vms().iter().filter(|_| self.skipped() == 0) {
            same("residual", &vm["pages"]["residual"], &expected)?;
        }
        let coverage = self.report["coverage"].as_array().context("no coverage in the report")?;
        let missing: Vec<_> = coverage
            .iter()
            .filter(|signal| signal["seen"] == false)
            .filter_map(|signal| signal["signal"].as_str())
            .collect();
        let expected: &[&str] = if old { &["lock_yields", "gauges"] } else { &[] };
        same("signals not seen", missing.as_slice(), expected)
    }
}

/// Fails unless counts are equal but for so many events that are known to be lost.
fn near(what: &str, got: [u64; 2], expected: [u64; 2], lost: u64) -> Result<()> {
    let near =
        got.iter().zip(expected).all(|(got, expected)| *got <= expected && *got + lost >= expected);
    ensure!(near, "{what}: {got:?}, expected {expected:?}, of which {lost} were lost");
    Ok(())
}

/// Fails unless two values are equal, naming what they are.
#[expect(clippy::needless_pass_by_value, reason = "reads like an assertion")]
pub fn same<T: PartialEq + std::fmt::Debug>(what: &str, got: T, expected: T) -> Result<()> {
    ensure!(got == expected, "{what}: {got:?}, expected {expected:?}");
    Ok(())
}

/// A count in the report; `None` if it is unknown.
pub fn count(value: &Value, path: &str) -> Option<u64> {
    value.pointer(path).and_then(Value::as_u64)
}
