//! Reports for CI: every format is well-formed, and demands decide on the exit status.

use std::{fs, path::Path};

use anyhow::{Context, Result, ensure};
use serde_json::Value;

use lab::{ImageFile, LabOutcome, Series, kernels};

use super::observed::same;
use crate::case::LabCase;

/// Run, exit code, and a part of its stderr.
const EXPECTED: [(&str, i32, &str); 15] = [
    ("formats", 0, ""),
    ("baseline", 0, ""),
    ("worse", 118, "baseline other (pid"),
    ("over_budget", 118, "budget splits == 0: workload (pid"),
    ("unmeasured", 118, ""),
    ("command_first", 7, ""),
    ("killed", 137, "budget losses.ring_full_changes < 0"),
    ("not_found", 127, "cannot run /no/such/command"),
    ("unwritable", 120, "cannot write /no/such/folder/r.html"),
    ("full", 120, "No space left on device"),
    ("no_vm", 0, ""),
    ("usage", 2, "did you mean 'splits'?"),
    ("schema", 0, ""),
    ("closed_pipe", 0, ""),
    ("unseen", 121, "kprobes"),
];

/// All in one boot.
pub fn cases() -> Vec<LabCase> {
    let script = ImageFile {
        path: "/bin/reports.sh".to_owned(),
        permissions: 0o755,
        content: include_bytes!("reports.sh").to_vec(),
    };
    let command = ["sh", "/bin/reports.sh"];
    vec![LabCase {
        cpus: 1,
        files: vec![script],
        ..LabCase::new(
            "reports are well-formed and hold a run to its budgets",
            kernels::default(),
            &command,
            check,
        )
    }]
}

fn check(outcome: &LabOutcome, _: &Series) -> Result<()> {
    let files = outcome.files.as_deref().context("no files came back")?;
    let statuses = String::from_utf8_lossy(&outcome.stdout);
    let mut lines = statuses.lines();
    for (name, code, says) in EXPECTED {
        let stderr = read(files, name).unwrap_or_default();
        let line = lines.next().unwrap_or("nothing");
        ensure!(line == format!("{name} {code}"), "{name}: {line}, expected {code}: {stderr}");
        ensure!(stderr.contains(says), "{name} says {stderr:?}, expected {says:?}");
        ensure!(!stderr.contains("panicked"), "{name} panicked: {stderr}");
    }
    formats(files)?;
    let unmeasured = read(files, "unmeasured.stdout")?;
    ensure!(unmeasured.contains("there is no such VM"), "{unmeasured}");
    let nobody = read(files, "no_vm.stdout")?;
    ensure!(nobody.contains("No VM matched nobody."), "{nobody}");
    let written: Value = serde_json::from_str(&read(files, "written.json")?)?;
    same(
        "the schema of the output that could be written",
        &written["schema"],
        &"collapse.report/1".into(),
    )
}

/// Six formats of one run, one of them on stdout.
fn formats(files: &Path) -> Result<()> {
    let report: Value = serde_json::from_str(&read(files, "r.json")?).context("r.json")?;
    let vm = &report["vms"][0];
    same("refaults", &vm["refaults"]["by_level"]["2m"], &32.into())?;
    let moments = vm["timeline"].as_array().context("no timeline")?;
    ensure!(moments.len() > 2, "only {} moments", moments.len());
    let name = vm["name"].as_str().context("no name")?;
    same("name", name, "<b>&\"guest\"")?;
    let budgets = report["budgets"].as_array().context("no budgets")?;
    ensure!(budgets.len() == 4 && budgets.iter().all(|budget| budget["ok"] == true), "{budgets:?}");
    let html = read(files, "r.html")?;
    ensure!(html.starts_with("<!DOCTYPE html>") && html.ends_with("</html>\n"), "r.html is cut");
    ensure!(html.contains("<svg") && !html.contains("<b>"), "r.html has no plot, or a name in it");
    let markdown = read(files, "r.md")?;
    ensure!(markdown.starts_with("## collapse report ✅"), "{markdown}");
    ensure!(read(files, "r.xml")?.contains(r#"tests="6" failures="0""#), "r.xml counts wrong");
    let csv = read(files, "r.csv")?;
    ensure!(csv.lines().count() == moments.len() + 1, "{csv}");
    ensure!(read(files, "over.xml")?.contains("<failure message="), "over.xml has no failure");
    ensure!(read(files, "formats.stdout")?.contains("checks: 5 ok\n"), "no checks in the text");
    Ok(())
}

fn read(files: &Path, name: &str) -> Result<String> {
    fs::read_to_string(files.join(name)).with_context(|| format!("reading {name}"))
}
