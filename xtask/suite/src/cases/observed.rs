//! A run of `collapse report` on a scenario, beside an independent recording by tracefs.

use std::{fs, path::Path};

use anyhow::{Context, Result, ensure};
use serde_json::Value;

use lab::{ImageFile, Series};

use super::oracle::Oracle;

/// The script that does both, and the kernel's kprobes for it, for the image.
pub fn files(kernel: &Series) -> Vec<ImageFile> {
    let cleared = kernel.oracle.cleared_spte;
    let cleared = format!("p:oracle/clear mmu_spte_clear_track_bits old=+0({cleared}):x64\n");
    let changed = kernel.oracle.changed_spte;
    let changed = changed.map(|probe| format!("p:oracle/changed {probe}\n")).unwrap_or_default();
    let probes = cleared + &changed;
    let file = |path: &str, content: &[u8]| ImageFile {
        path: path.to_owned(),
        permissions: 0o755,
        content: content.to_vec(),
    };
    vec![
        file("/bin/observe.sh", include_bytes!("observe.sh")),
        file("/lab/oracle", probes.as_bytes()),
    ]
}

/// The files of a run.
pub struct ObservedRun {
    /// The report.
    pub report: Value,
    /// The first line of the workload's account.
    pub header: Value,
    /// A line per phase.
    pub phases: Vec<Value>,
    /// The recording by tracefs.
    pub oracle: Oracle,
}

impl ObservedRun {
    /// Reads the files that `observe.sh` left in a folder.
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

    /// Fails unless the report's counts equal those of the independent recording.
    pub fn against_tracefs(&self) -> Result<()> {
        let oracle = &self.oracle;
        let by_level = |kind: &str| {
            ["4k", "2m"].map(|size| {
                let of = |vm| count(vm, &format!("/{kind}/by_level/{size}")).unwrap_or(0);
                self.vms().iter().map(of).sum::<u64>()
            })
        };
        same("installs by level", by_level("installs"), oracle.installs)?;
        same("write-protects by level", by_level("write_protects"), oracle.write_protects)?;
        same("dirty bits cleared by level", by_level("dirty_clears"), oracle.dirty_clears)?;
        // A zap and a link in tracefs are one split in two steps in the report.
        let splits = self.sum("/splits/total").context("no splits")?;
        let steps = splits.checked_sub(oracle.splits).context("fewer splits than in tracefs")?;
        let [small, huge] = by_level("zaps");
        same("zaps by level", [small, huge + steps], oracle.zaps)?;
        let sum = |path| self.sum(path).with_context(|| format!("{path} is unknown"));
        same("faults", [sum("/faults/total")?, 0], [oracle.faults, 0])?;
        same("fast faults", [sum("/faults/fast")?, 0], [oracle.fast_faults, 0])?;
        same("dirty rings full", [sum("/ring_full_exits")?, 0], [oracle.rings_full, 0])?;
        same("mmu_lock waits", self.sum("/lock_waits/total"), oracle.lock_waits)?;
        self.pml_full_exits()?;
        same("calls of drop_spte", [sum("/drop_spte_calls")?, 0], [oracle.drop_spte, 0])?;
        same("collapse runs", [sum("/collapse_runs")?, 0], [oracle.collapse_runs, 0])
    }

    /// Fails unless the report has the exits for a full log of dirty pages, each timed, where the CPU logs, and
    /// does not claim to know them elsewhere.
    fn pml_full_exits(&self) -> Result<()> {
        let expected = self.oracle.pml_full_exits;
        if self.report["host"]["pml"] != true {
            same("PML-full exits without PML", self.sum("/pml_full_exits/total"), None)?;
            return same("PML-full exits without PML in tracefs", expected, 0);
        }
        same("PML-full exits", self.sum("/pml_full_exits/total"), Some(expected))?;
        let time = self.sum("/pml_full_exits/time_ns").context("no time of PML-full exits")?;
        // None takes less than a tenth of a microsecond.
        let is_plausible = time.checked_div(expected).map_or(time == 0, |each| each > 100);
        ensure!(is_plausible, "{expected} PML-full exits in {time} ns");
        Ok(())
    }

    /// Fails unless the report has all installs by guest faults that raced with the collapse routine. It
    /// counts them from the moment that the slot is published, tracefs from the routine's entry.
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

    /// As [`trust`].
    pub fn trust(&self, kernel: &Series) -> Result<()> {
        trust(&self.report, kernel)
    }
}

/// Fails unless nothing is lost in a report, everything adds up, and every signal is seen that the kernel has.
pub fn trust(report: &Value, kernel: &Series) -> Result<()> {
    let losses = report["losses"].as_object().context("no losses in the report")?;
    for (way, n) in losses {
        same(&format!("lost by {way}"), n.as_u64(), Some(0))?;
    }
    same("changes of no VM", count(report, "/unattributed_changes"), Some(0))?;
    let zero = serde_json::json!({"4k": 0, "2m": 0, "1g": 0});
    let expected = if kernel.has_gauges() { zero } else { Value::Null };
    for vm in report["vms"].as_array().context("no VMs in the report")? {
        long_faults(vm).with_context(|| format!("VM {}", vm["name"]))?;
        same("residual", &vm["pages"]["residual"], &expected)?;
    }
    let coverage = report["coverage"].as_array().context("no coverage in the report")?;
    let missing: Vec<_> = coverage
        .iter()
        .filter(|signal| signal["seen"] == false)
        .filter_map(|signal| signal["signal"].as_str())
        .collect();
    same("signals not seen", missing.as_slice(), kernel.unseen_signals)
}

/// Fails unless the long faults of a VM are listed, each with its vCPU, and take as long as is counted.
fn long_faults(vm: &Value) -> Result<()> {
    /// Faults that a report lists.
    const LISTED: usize = 32;
    let all = count(vm, "/stall/long_faults").context("no count of long faults")?;
    let listed = vm["longest_faults"].as_array().context("no long faults")?;
    same("long faults listed", listed.len(), (all as usize).min(LISTED))?;
    let nanoseconds = listed.iter().filter_map(|fault| fault["duration_ns"].as_u64());
    let (sum, counted) = (nanoseconds.sum::<u64>(), count(vm, "/stall/long_ns"));
    ensure!(all as usize > LISTED || Some(sum) == counted, "{sum} ns listed, {counted:?} counted");
    let numbered = listed.iter().all(|fault| fault["vcpu"].as_u64().is_some_and(|vcpu| vcpu < 8));
    ensure!(numbered, "long faults of no vCPU: {listed:?}");
    Ok(())
}

/// Fails unless two values are equal, with their description.
#[expect(clippy::needless_pass_by_value, reason = "reads like an assertion")]
pub fn same<T: PartialEq + std::fmt::Debug>(what: &str, got: T, expected: T) -> Result<()> {
    ensure!(got == expected, "{what}: {got:?}, expected {expected:?}");
    Ok(())
}

/// A count in the report; `None` if it is unknown.
pub fn count(value: &Value, path: &str) -> Option<u64> {
    value.pointer(path).and_then(Value::as_u64)
}
