//! Guests of a real QEMU, which boot the machine's own kernel: what people do to theirs by QMP, and what the report
//! says of it.

use std::{fmt::Write as _, fs, path::Path, time::Duration};

use anyhow::{Context, Result, ensure};
use lab::{
    LabOutcome, Series,
    kernels::{self, CollapseRoutine},
    vmm::QemuRelease,
};
use serde_json::{Value, json};

use super::{
    observed::{count, same, trust},
    qemu_states,
};
use crate::case::{LabCase, LabCheck};

/// Lines of a report by which it must be known what happened, and to which VM, after one finding.
const FIRST_LINES: usize = 8;

/// A guest, and what happens to it.
struct Guest {
    name: &'static str,
    /// Options of `qemu-guest`.
    options: &'static str,
    steps: &'static [&'static str],
    /// What the report's first lines say.
    says: &'static str,
    check: fn(&Value, &Series) -> Result<()>,
}

/// A migration that cannot end, as the guest writes more than the other side takes.
const CANCELLED: Guest = Guest {
    name: "cancelled",
    options: "--append again=200",
    steps: &[
        r#"migrate-set-parameters {"max-bandwidth":2000000}"#,
        r#"migrate {"uri":"exec:cat >/dev/null"}"#,
        r#"until query-migrate {"status":"active"}"#,
        "hold 2000",
        "migrate_cancel",
        r#"until query-migrate {"status":"cancelled"}"#,
        "hold 3000",
    ],
    says: "all that could come back",
    check: logged_once,
};

/// In every run.
const ALWAYS: &[Guest] = &[CANCELLED];

/// With `--all`.
const RARELY: &[Guest] = &[
    CANCELLED,
    Guest {
        name: "sampled",
        options: "--append again=200",
        steps: &[
            r#"calc-dirty-rate {"calc-time":1,"mode":"page-sampling"}"#,
            r#"until query-dirty-rate {"status":"measured"}"#,
            "hold 500",
        ],
        says: "sampled (pid ",
        check: |vm, _| not_logged(vm, &[]),
    },
    Guest {
        name: "bitmap",
        options: "--append again=200",
        steps: &[
            r#"calc-dirty-rate {"calc-time":1,"mode":"dirty-bitmap"}"#,
            r#"until query-dirty-rate {"status":"measured"}"#,
            "hold 2000",
        ],
        says: "all that could come back",
        check: logged_once,
    },
    Guest {
        name: "ring",
        options: "--dirty-ring 4096 --append again=200",
        steps: &[
            r#"calc-dirty-rate {"calc-time":1,"mode":"dirty-ring"}"#,
            r#"until query-dirty-rate {"status":"measured"}"#,
            "hold 2000",
        ],
        says: "all that could come back",
        check: |vm, kernel| {
            let resets = count(vm, "/dirty_log/ring_resets");
            ensure!(resets > Some(0), "the ring was reset {resets:?} times");
            logged_once(vm, kernel)
        },
    },
    Guest {
        name: "balloon",
        options: "--append write=64 --device virtio-balloon",
        steps: &[
            "guest idle",
            r#"balloon {"value":234881024}"#,
            r#"until query-balloon {"actual":234881024}"#,
            r#"balloon {"value":268435456}"#,
            r#"until query-balloon {"actual":268435456}"#,
            "hold 1000",
        ],
        says: "given_back_small: memory is given back in small pages",
        check: |vm, _| {
            let given = count(vm, "/zaps/by_cause/notifier_discard_small");
            // The huge leaf of a region goes with its first page.
            ensure!(given > Some(4096), "{given:?} leaves went, of 8192 pages");
            not_logged(vm, &["given_back_small"])
        },
    },
    Guest {
        name: "reported",
        options: "--append write=96 --device virtio-balloon,free-page-reporting=on",
        steps: &["guest idle", "hold 6000"],
        says: "taken away before they could come back",
        check: |vm, _| {
            let given = count(vm, "/zaps/by_cause/notifier_discard");
            ensure!(given >= Some(32), "{given:?} huge leaves went, of 48 that the guest freed");
            not_logged(vm, &[])
        },
    },
    Guest {
        name: "plugged",
        options: "--memory 256M,slots=1,maxmem=1G",
        steps: &[
            "guest idle",
            r#"object-add {"qom-type":"memory-backend-ram","id":"more","size":134217728}"#,
            r#"device_add {"driver":"pc-dimm","id":"dimm","memdev":"more"}"#,
            "hold 1000",
            "sh collapse explain --vm plugged --format json | grep -q 134217728",
        ],
        says: "plugged (pid ",
        check: |vm, _| not_logged(vm, &[]),
    },
];

/// The guest of every run on one kernel; with `rarely`, all of them on two, with another QEMU on each.
pub fn cases(rarely: bool) -> Vec<LabCase> {
    if !rarely {
        let check: LabCheck = |outcome, kernel| check(outcome, kernel, ALWAYS);
        let name = "a migration of QEMU that is cancelled";
        return vec![case(name, kernels::default(), QemuRelease::Qemu7, ALWAYS, check)];
    }
    let all: LabCheck = |outcome, kernel| check(outcome, kernel, RARELY);
    let on = |kernel: &'static Series| {
        let qemu = match kernel.name {
            "6.12" => QemuRelease::Qemu7,
            "7.3" => QemuRelease::Qemu10,
            _ => return None,
        };
        let guests = case("guests of QEMU", kernel, qemu, RARELY, all);
        Some([guests, qemu_states::case(kernel, qemu)])
    };
    kernels::all().iter().filter_map(on).flatten().collect()
}

fn case(
    name: &str,
    kernel: &'static Series,
    qemu: QemuRelease,
    guests: &[Guest],
    check: LabCheck,
) -> LabCase {
    LabCase {
        qemu: Some(qemu),
        timeout: Duration::from_mins(10),
        ..LabCase::new(name, kernel, &["sh", "-c", &script(guests)], check)
    }
}

/// Reports on one guest after the other.
fn script(guests: &[Guest]) -> String {
    let mut script = "set -e\n".to_owned();
    for Guest { name, options, steps, .. } in guests {
        let steps: String = steps.iter().flat_map(|step| [" '", step, "'"]).collect();
        // Writing to a string cannot fail. In the emulator, the programs take more than any budget.
        let _ = writeln!(
            script,
            "collapse --budget-overhead off report -f json -o /out/{name}.json -f text -o /out/{name}.txt \
             -- qemu-guest --name {name} {options}{steps}"
        );
    }
    script
}

fn check(outcome: &LabOutcome, kernel: &Series, guests: &[Guest]) -> Result<()> {
    outcome.success()?;
    let files = outcome.files.as_deref().context("no files came back")?;
    for guest in guests {
        guest.judge(files, kernel).with_context(|| format!("guest {}", guest.name))?;
    }
    Ok(())
}

impl Guest {
    /// Fails unless its report, in this folder, names it, adds up, and says what it should.
    fn judge(&self, files: &Path, kernel: &Series) -> Result<()> {
        let read = |end: &str| {
            let path = files.join(format!("{}.{end}", self.name));
            fs::read_to_string(&path).with_context(|| format!("reading {}", path.display()))
        };
        let report: Value =
            serde_json::from_str(&read("json")?).context("the report is no JSON")?;
        trust(&report, kernel)?;
        let vms = report["vms"].as_array().context("no VMs")?;
        same("VMs", vms.len(), 1)?;
        same("name", &vms[0]["name"], &json!(self.name))?;
        same("source of the name", &vms[0]["name_source"], &json!("qemu"))?;
        let (says, text) = (self.says, read("txt")?);
        let first: Vec<_> = text.lines().take(FIRST_LINES).collect();
        ensure!(first.join("\n").contains(says), "{says:?} is not in the first lines:\n{text}");
        (self.check)(&vms[0], kernel)
    }
}

/// Fails unless dirty logging went on and off once, and split the guest's memory, and what the guest wrote to came
/// back.
fn logged_once(vm: &Value, kernel: &Series) -> Result<()> {
    /// Regions that the guest writes to again and again.
    const WRITTEN: u64 = 16;
    same("dirty logging", &vm["dirty_logging"], &json!(false))?;
    let (on, off) = (count(vm, "/log_on"), count(vm, "/log_off"));
    ensure!(on > Some(0) && on == off, "dirty logging went on {on:?} times and off {off:?} times");
    same("episodes", count(vm, "/episode_count"), Some(1))?;
    let episode = &vm["episodes"][0];
    let lost = count(episode, "/regions/lost");
    ensure!(lost > Some(WRITTEN), "{lost:?} regions lost");
    same("splits", count(vm, "/splits/total"), lost)?;
    let recovered = count(episode, "/regions/recovered");
    ensure!(recovered >= Some(WRITTEN), "{recovered:?} regions recovered");
    same("regions mapped small", count(episode, "/regions/refaulted_small"), Some(0))?;
    let in_place = kernel.collapse == CollapseRoutine::Rebuilds;
    let outcome = if in_place { "recovered" } else { "recovered_touched" };
    same("outcome", &episode["outcome"], &json!(outcome))?;
    findings(vm, if in_place { &["recovered_read_only"] } else { &[] })
}

/// Fails unless there was no dirty logging, and these findings.
fn not_logged(vm: &Value, expected: &[&str]) -> Result<()> {
    same("dirty logging switched on", count(vm, "/log_on"), Some(0))?;
    same("episodes", count(vm, "/episode_count"), Some(0))?;
    same("splits", count(vm, "/splits/total"), Some(0))?;
    findings(vm, expected)
}

fn findings(vm: &Value, expected: &[&str]) -> Result<()> {
    let found = vm["findings"].as_array().context("no findings")?;
    let found: Vec<_> = found.iter().filter_map(|found| found["name"].as_str()).collect();
    same("findings", found.as_slice(), expected)
}
