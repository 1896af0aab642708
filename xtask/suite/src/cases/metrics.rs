//! Metrics of a live run, scraped as fast as the machine can: as many changes as the workload caused, and none
//! missed.

use std::{fs, path::Path};

use anyhow::{Context as _, Result, ensure};

use lab::{LabOutcome, Series, kernels};

use super::observed::same;
use crate::case::LabCase;

/// 2 MiB regions of the guest.
const REGIONS: f64 = 16.0;

/// Scrapes that there have to be, so that they could have disturbed: as many as a busy host's emulation gets to.
const LEAST_SCRAPES: u64 = 10;

const COMMAND: &str = "
set -e
ifconfig lo up
collapse metrics --listen --textfile /tmp/collapse.prom --interval 500ms --ready-file /tmp/ready 2>/out/stderr &
exporter=$!
while [ ! -e /tmp/ready ]; do sleep 0.1; done
get() { wget -q -O \"$1\" http://127.0.0.1:9753/\"$2\"; }
touch /tmp/go
(
    n=0
    while [ -e /tmp/go ]; do
        get /tmp/scrape metrics
        n=$((n + 1))
        if grep -q ^collapse_vm_info /tmp/scrape; then cp /tmp/scrape /out/alive.prom; fi
    done
    echo $n >/out/scrapes
) &
workload failed-migration --size 32M --quiet --name guest
rm /tmp/go
sleep 3
get /out/after.prom metrics
get /out/healthz healthz
cp /tmp/collapse.prom /out/file.prom
kill $exporter
wait $exporter
get /out/late metrics || touch /out/refused
";

/// On the default kernel.
pub fn cases() -> Vec<LabCase> {
    let command = ["sh", "-c", COMMAND];
    vec![LabCase::new("metrics, scraped all the time", kernels::default(), &command, check)]
}

fn check(outcome: &LabOutcome, _: &Series) -> Result<()> {
    outcome.success()?;
    let files = outcome.files.as_deref().context("no files came back")?;
    let scrapes: u64 = read(files, "scrapes")?.trim().parse()?;
    ensure!(scrapes >= LEAST_SCRAPES, "only {scrapes} scrapes");
    let alive = read(files, "alive.prom")?;
    ensure!(alive.contains("collapse_vm_info{vm=\"guest\",pid=\""), "no guest in {alive}");
    for name in ["after.prom", "file.prom"] {
        let text = read(files, name)?;
        let number = |metric: &str| number(&text, metric);
        same("splits", number("collapse_host_splits_total"), Some(REGIONS))?;
        same("lost", number("collapse_host_regions_lost_total"), Some(REGIONS))?;
        same("recovered", number("collapse_host_regions_recovered_total"), Some(REGIONS))?;
        same("VMs", number("collapse_vms"), Some(0.0))?;
        same("VMs that ended", number("collapse_vms_ended_total"), Some(1.0))?;
        ensure!(!text.contains("collapse_vm_"), "the guest is gone, and its series are not");
        let missed = text.lines().filter(|line| line.starts_with("collapse_lost_total{"));
        let missed: Vec<_> = missed.filter(|line| !line.ends_with(" 0")).collect();
        ensure!(missed.is_empty(), "missed: {missed:?}");
        let unseen: Vec<_> =
            text.lines().filter(|line| line.starts_with("collapse_signal_seen{")).collect();
        ensure!(!unseen.is_empty() && unseen.iter().all(|line| line.ends_with(" 1")), "{unseen:?}");
    }
    same("health", read(files, "healthz")?.as_str(), "ok\n")?;
    ensure!(files.join("refused").exists(), "it is still served");
    Ok(())
}

fn number(text: &str, metric: &str) -> Option<f64> {
    let value = text.lines().find_map(|line| line.strip_prefix(metric)?.strip_prefix(' '))?;
    value.parse().ok()
}

fn read(files: &Path, name: &str) -> Result<String> {
    fs::read_to_string(files.join(name)).with_context(|| format!("reading {name}"))
}
