//! Kprobes or ftrace switched off while they are attached: what they show is unknown from then on, and the
//! report says what to do.

use std::{fs, path::Path};

use anyhow::{Context as _, Result, ensure};
use serde_json::Value;

use lab::{LabOutcome, Series, kernels};

use super::observed::same;
use crate::case::LabCase;

/// Each switch: the name of its reports, and the words that name it.
const SWITCHES: [(&str, &str); 2] =
    [("ftrace", "sysctl -w kernel.ftrace_enabled=1"), ("kprobes", "kprobes/enabled")];

/// A guest whose migration fails while the probes are silent, in a window that goes on; and one more by a
/// recording.
const COMMAND: &str = "
off() {
    echo 0 >$2
    workload failed-migration --size 16M --quiet --name $1
    echo 1 >$2
    sleep 1
}
for switch in ftrace:/proc/sys/kernel/ftrace_enabled kprobes:/sys/kernel/debug/kprobes/enabled; do
    name=${switch%%:*}
    rm -f /tmp/ready
    collapse report -f json -o /out/$name.json -o /out/$name.txt --record /out/$name.rec --ready-file /tmp/ready \
        2>/out/$name.err &
    watcher=$!
    until [ -e /tmp/ready ]; do sleep 0.1; done
    workload run 'touch' --size 16M --quiet --name before
    off $name ${switch#*:}
    kill $watcher
    wait $watcher
    echo $name $?
    collapse report -f json -o /out/$name-recorded.json --from /out/$name.rec
done
";

/// On one kernel: how silent probes are treated does not depend on it.
pub fn cases() -> Vec<LabCase> {
    let kernel = kernels::default();
    let case = LabCase::new("probes switched off", kernel, &["sh", "-c", COMMAND], check);
    vec![LabCase { cpus: 1, ..case }]
}

fn check(outcome: &LabOutcome, _: &Series) -> Result<()> {
    outcome.success()?;
    same("statuses", String::from_utf8_lossy(&outcome.stdout).as_ref(), "ftrace 0\nkprobes 0\n")?;
    let files = outcome.files.as_deref().context("no files came back")?;
    for (name, remedy) in SWITCHES {
        for report in [name.to_owned(), format!("{name}-recorded")] {
            let report: Value = serde_json::from_str(&read(files, &format!("{report}.json"))?)?;
            unknown(&report, remedy).with_context(|| format!("{name}: {report}"))?;
        }
        let text = read(files, &format!("{name}.txt"))?;
        ensure!(text.contains("probes_switched_off 1"), "no loss is named:\n{text}");
        ensure!(text.contains(remedy), "no remedy is named:\n{text}");
        let error = read(files, &format!("{name}.err"))?;
        ensure!(error.contains(&format!("{name} was switched off")), "no warning: {error}");
    }
    Ok(())
}

/// What the probes show is unknown, and no zero.
fn unknown(report: &Value, remedy: &str) -> Result<()> {
    same("losses", &report["losses"]["probes_switched_off"], &1.into())?;
    for vm in report["vms"].as_array().context("no VMs")? {
        for path in ["log_on", "log_off", "episodes", "collapse_runs", "collapse_spans"] {
            same(path, &vm[path], &Value::Null)?;
            let reason = vm["unknown"][path].as_str().unwrap_or_default();
            ensure!(reason.contains(remedy), "{path}: {reason}");
        }
    }
    Ok(())
}

fn read(files: &Path, name: &str) -> Result<String> {
    fs::read_to_string(files.join(name)).with_context(|| format!("reading {name}"))
}
