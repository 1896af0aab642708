//! Metrics of a live run, sent to a collector of OpenTelemetry and written to a disk that is full at first.

use std::{collections::BTreeMap, fs, path::Path};

use anyhow::{Context as _, Result, ensure};
use serde_json::Value;

use lab::{LabOutcome, Series, kernels};

use super::observed::{count, same};
use crate::case::LabCase;

const COMMAND: &str = "
set -e
ifconfig lo up
collector >/out/received.jsonl &
mkdir /tmp/disk
mount -t tmpfs -o size=4k none /tmp/disk
collapse metrics --otlp http://127.0.0.1:4318 --textfile /tmp/disk/collapse.prom --interval 1s \
    --ready-file /tmp/ready 2>/out/stderr &
exporter=$!
while [ ! -e /tmp/ready ]; do sleep 0.1; done
collapse report --format json --output /out/report.json -- workload failed-migration --size 32M --quiet
sleep 2
ls -A /tmp/disk >/out/full
mount -o remount,size=1m /tmp/disk
sleep 2
cp /tmp/disk/collapse.prom /out/file.prom
kill $exporter
wait $exporter
";

/// Numbers of the host, and those of a VM in the report.
const NUMBERS: [(&str, &str); 5] = [
    ("collapse_host_splits", "/splits/total"),
    ("collapse_host_installs", "/installs/total"),
    ("collapse_host_faults", "/faults/total"),
    ("collapse_host_regions_lost", "/regions/lost"),
    ("collapse_host_regions_recovered", "/recoveries/total"),
];

/// On the default kernel.
pub fn cases() -> Vec<LabCase> {
    let command = ["sh", "-c", COMMAND];
    let name = "metrics, to a collector and to a full disk";
    vec![LabCase::new(name, kernels::default(), &command, check)]
}

fn check(outcome: &LabOutcome, _: &Series) -> Result<()> {
    outcome.success()?;
    let files = outcome.files.as_deref().context("no files came back")?;
    let report: Value = serde_json::from_str(&read(files, "report.json")?)?;
    let received = read(files, "received.jsonl")?;
    let received = received.lines().map(serde_json::from_str::<BTreeMap<String, u64>>);
    let received = received.collect::<Result<Vec<_>, _>>()?;
    // One a second, and one more when it ends.
    ensure!(received.len() > 3, "only {} messages", received.len());
    let last = received.last().context("no message")?;
    let text = read(files, "file.prom")?;
    for (metric, path) in NUMBERS {
        let expected = count(&report["vms"][0], path);
        ensure!(expected > Some(0), "no {path} in the report");
        same(metric, last.get(metric).copied(), expected)?;
        let line = text.lines().find_map(|line| line.strip_prefix(metric)?.strip_prefix("_total "));
        same("in the file", line.and_then(|n| n.parse().ok()), expected)?;
        let sent = received.iter().filter_map(|numbers| numbers.get(metric));
        ensure!(sent.is_sorted(), "{metric} was reset");
    }
    same("what is left on a full disk", read(files, "full")?.as_str(), "")?;
    let warnings = read(files, "stderr")?;
    let warnings = warnings.lines().filter(|line| line.contains("cannot write")).count();
    same("warnings", warnings, 1)
}

fn read(files: &Path, name: &str) -> Result<String> {
    fs::read_to_string(files.join(name)).with_context(|| format!("reading {name}"))
}
