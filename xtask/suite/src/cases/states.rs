//! Guests that are not huge, and never were: `explain` names the reason, and not in the twin without it.

use std::{fmt::Write as _, fs, path::Path, time::Duration};

use anyhow::{Context, Result, ensure};
use serde_json::{Value, json};

use lab::{
    LabOutcome, Series,
    kernels::{self, CpuVendor},
};

use super::{explained, observed::same};
use crate::case::LabCase;

/// A guest that stays as it is.
struct State {
    name: &'static str,
    /// Settings of the host.
    setup: &'static str,
    scenario: &'static str,
    backing: &'static str,
    /// The reason that `explain` gives for the slot; none if it is huge.
    reason: Option<&'static str>,
    /// Size of the slot, and the machines that it is for.
    size: &'static str,
    on: Machines,
}

/// Kinds of machines.
#[derive(Clone, Copy, PartialEq, Eq)]
enum Machines {
    /// All.
    All,
    /// Those whose kernel lets VMMs map a `guest_memfd`.
    WithGuestMemfd,
    /// Those that split what guests execute, and have a page of 1 GiB.
    Splitting,
}

const fn state(
    name: &'static str,
    setup: &'static str,
    scenario: &'static str,
    backing: &'static str,
    reason: Option<&'static str>,
) -> State {
    State { name, setup, scenario, backing, reason, size: "16M", on: Machines::All }
}

/// Each reason, and twins without it. Settings stay for those that follow.
const STATES: &[State] = &[
    state("huge", "", "touch", "thp", None),
    state("untouched", "", "hold 1", "thp", Some("not_touched")),
    state("logged", "", "log-on; touch", "thp", Some("logged")),
    state("created-logged", "", "slot-delete; slot-add logged; touch", "thp", Some("logged")),
    state("logged-once", "", "log-on; log-off; touch", "thp", None),
    state("misaligned", "", "slot-move to=1025M; touch", "thp", Some("misaligned")),
    state("aligned", "", "slot-move to=1026M; touch", "thp", None),
    state("forbidden", "", "touch", "4k", Some("nohugepage")),
    state("restored", "", "touch; uffd-register", "4k", Some("userfaultfd")),
    state("hugetlb", "sysctl -q -w vm.nr_hugepages=8", "touch", "hugetlb", None),
    state("hugetlb-moved", "", "slot-move to=1025M; touch", "hugetlb", Some("misaligned")),
    state("thp-always", "echo always >$thp/enabled", "touch", "plain", None),
    state("thp-madvise", "echo madvise >$thp/enabled", "touch", "plain", Some("thp_madvise")),
    state("thp-never", "echo never >$thp/enabled", "touch", "plain", Some("thp_never")),
    state("shmem-never", "echo never >$thp/shmem_enabled", "touch", "shmem", Some("shmem_never")),
    state(
        "shmem-advise",
        "echo advise >$thp/shmem_enabled",
        "touch",
        "shmem",
        Some("shmem_advise"),
    ),
    state("shmem-always", "echo always >$thp/shmem_enabled", "touch", "shmem", None),
    state("device", "", "touch", "device", Some("pfn_map")),
    // The collapse routine does not run for a slot that the guest may only read.
    state(
        "left-small",
        "",
        "slot-delete; slot-add logged read-only; touch read; log-off",
        "thp",
        Some("debt"),
    ),
    state("read-only", "", "slot-delete; slot-add read-only; touch read", "thp", None),
    State {
        on: Machines::WithGuestMemfd,
        ..state("guest-memfd", "", "touch", "guest-memfd", Some("guest_memfd"))
    },
    State {
        on: Machines::Splitting,
        ..state("executed", "", "touch; touch exec", "thp", Some("nx"))
    },
    State { on: Machines::Splitting, ..state("not-executed", "", "touch", "thp", None) },
    State {
        on: Machines::Splitting,
        size: "1G",
        ..state(
            "gib-split",
            "",
            "touch stride=2M; touch exec size=4K",
            "hugetlb1g",
            Some("small_1g"),
        )
    },
    State {
        on: Machines::Splitting,
        size: "1G",
        ..state("gib", "", "touch stride=2M", "hugetlb1g", None)
    },
];

/// States that a slow machine goes through.
const FEW: &[&str] = &["huge", "logged", "misaligned"];

/// Explains a guest twice, and reports on it, while it stays as it is.
const EXPLAINED: &str = "
thp=/sys/kernel/mm/transparent_hugepage
state() {
    workload run \"$2; hold 600000\" --name $1 --size $4 --backing $3 --quiet &
    sleep $settle
    collapse explain --vm $1 --format json >/out/$1.json
    collapse explain --vm $1 >/out/$1.txt
    collapse report --vm $1 --duration 500ms -f json -o /out/$1.report.json -f text -o /out/$1.report.txt
    collapse explain --vm $1 --format json --budget 'huge_share >= 50%' >/out/$1.again.json
    echo $? >/out/$1.status
    kill -INT $!
    wait $!
}
";

/// On one kernel of AMD's CPUs; with `rarely`, on two more, and few states on Intel's, where the CPU logs.
pub fn cases(rarely: bool) -> Vec<LabCase> {
    let amd = if rarely { &["6.1", "6.12", "7.3"][..] } else { &["6.12"] };
    let amd = kernels::all().iter().filter(|series| amd.contains(&series.name));
    let has_guest_memfd = |series: &Series| series.name == "7.3";
    let fits = |series, state: &State| match state.on {
        Machines::All => true,
        Machines::WithGuestMemfd => has_guest_memfd(series),
        Machines::Splitting => false,
    };
    let usual = amd.clone().map(|series| case(series, 2, |state| fits(series, state)));
    let mut cases: Vec<_> = usual.collect();
    if rarely {
        cases.push(explained::case(kernels::default()));
        // Up to 6.1, what is executed is zapped instead, and hardly anything is mapped.
        let splitting = amd.filter(|series| series.name != "6.1");
        cases.extend(splitting.map(|series| LabCase {
            kvm: "nx_huge_pages=force".to_owned(),
            cmdline: &["hugepagesz=1G", "hugepages=1"],
            memory: Some("4G"),
            // Until a page of 1 GiB is cleared.
            ..case(series, 10, |state| state.on == Machines::Splitting)
        }));
        cases.push(LabCase {
            cpu: CpuVendor::Intel,
            cpus: 1,
            ..case(kernels::default(), 20, |state| FEW.contains(&state.name))
        });
    }
    cases
}

fn case(kernel: &'static Series, settle: u32, wanted: impl Fn(&State) -> bool) -> LabCase {
    let mut script = format!("settle={settle}{EXPLAINED}");
    for State { name, setup, scenario, backing, size, .. } in STATES.iter().filter(|s| wanted(s)) {
        // Writing to a string cannot fail.
        let _ = writeln!(script, "{setup}\nstate {name} '{scenario}' {backing} {size}");
    }
    // Not the status of the last guest, which was interrupted.
    script.push_str("exit 0\n");
    LabCase {
        timeout: Duration::from_mins(10),
        ..LabCase::new("why guests are not huge", kernel, &["sh", "-c", &script], check)
    }
}

fn check(outcome: &LabOutcome, _: &Series) -> Result<()> {
    outcome.success()?;
    let files = outcome.files.as_deref().context("no files came back")?;
    let mut checked = 0;
    for state in STATES.iter().filter(|state| files.join(format!("{}.json", state.name)).exists()) {
        explained(files, state).with_context(|| state.name.to_owned())?;
        checked += 1;
    }
    ensure!(checked >= FEW.len(), "only {checked} states were explained");
    Ok(())
}

fn explained(files: &Path, state: &State) -> Result<()> {
    let text = |end: &str| {
        let path = files.join(format!("{}{end}", state.name));
        fs::read_to_string(&path).with_context(|| format!("reading {}", path.display()))
    };
    let json = |end: &str| -> Result<Value> { Ok(serde_json::from_str(&text(end)?)?) };
    let explanation = json(".json")?;
    let vm = &explanation["vms"][0];
    let slot = slot(vm)?;
    same("reason", slot["reason"].as_str(), state.reason)?;
    same("why slots are unknown", &vm["slots_unknown"], &Value::Null)?;
    let bytes = if state.size == "1G" { 1 << 30 } else { 16 << 20 };
    same("bytes of the slot", &slot["bytes"], &json!(bytes))?;

    // Looking changes nothing: what is mapped, and what the host has, is as before.
    let again = json(".again.json")?;
    for path in ["pages", "host"] {
        same(path, &slot_again(&again)?[path], &slot[path])?;
    }
    same("pages of the VM", &again["vms"][0]["pages"], &vm["pages"])?;
    let share = vm["huge_share"].as_f64();
    let status = if share.is_some_and(|share| share >= 0.5) { "0" } else { "118" };
    same("exit status by the budget", text(".status")?.trim(), status)?;

    let shown = text(".txt")?;
    let verdict = shown.lines().nth(4).unwrap_or_default();
    if let Some(evidence) = slot["evidence"].as_str().filter(|_| state.name != "untouched") {
        ensure!(verdict.contains(evidence), "the verdict lacks the reason:\n{shown}");
    }
    reported(&json(".report.json")?["vms"][0], &text(".report.txt")?, state.reason)
}

/// Whether the report, which began after the guest, says the same.
fn reported(vm: &Value, text: &str, reason: Option<&str>) -> Result<()> {
    let finds = |name: &str| {
        let findings = vm["findings"].as_array();
        findings.into_iter().flatten().any(|finding| finding["name"] == name)
    };
    let logged = reason == Some("logged");
    same("dirty logging", &vm["dirty_logging"], &json!(logged))?;
    same("finding of logging", finds("logged_since_before"), logged)?;
    same("finding of misalignment", finds("slot_misaligned"), reason == Some("misaligned"))?;
    // Each fact is found once, and none about what is huge.
    let others = [None, Some("not_touched"), Some("logged"), Some("misaligned"), Some("small_1g")];
    same("finding of small memory", finds("never_huge"), !others.contains(&reason))?;
    let first_lines = text.lines().take(6).collect::<Vec<_>>().join("\n");
    let named = first_lines.contains("dirty logging has been on since before");
    same("logging in the first lines", named, logged)
}

fn slot_again(explanation: &Value) -> Result<&Value> {
    slot(&explanation["vms"][0])
}

fn slot(vm: &Value) -> Result<&Value> {
    let slots = vm["slots"].as_array().context("no slots")?;
    slots.iter().find(|slot| slot["id"] == 1).context("no slot 1")
}
