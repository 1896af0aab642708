//! What `explain` costs the guests that it looks at: no fault, and time by their mappings and number, not by their size.

use std::{fs, path::Path, time::Duration};

use anyhow::{Context, Result, ensure};
use lab::{LabOutcome, Series};
use serde_json::Value;

use super::observed::same;
use crate::case::LabCase;

/// Explains guests once they are as they stay, and counts their faults and those of their VMMs before and after.
const EXPLAINED: &str = "
faults() {
    cat /sys/kernel/debug/kvm/[0-9]*/pf_taken
    for vmm in $(pidof workload); do cut -d' ' -f10,12 /proc/$vmm/stat; done
}
look() {
    faults >/out/$1.before
    collapse explain --format json >/out/$1.json
    faults >/out/$1.after
    kill -INT $!
    wait $!
}
workload run 'hold 600000' --quiet --size 1023G --backing sparse & sleep 3; look untouched
workload run 'touch stride=2M; hold 600000' --quiet --size 64G --backing sparse & sleep 30; look sparse
workload run 'touch; hold 600000' --quiet --processes --vms 50 --size 4M & sleep 50; look many
exit 0
";

/// A guest of as much as KVM's machine can address, one that touched a page in each 2 MiB of 64 GiB, and 50 guests.
pub fn case(kernel: &'static Series) -> LabCase {
    LabCase {
        timeout: Duration::from_mins(5),
        ..LabCase::new("explaining disturbs no guest", kernel, &["sh", "-c", EXPLAINED], check)
    }
}

fn check(outcome: &LabOutcome, _: &Series) -> Result<()> {
    outcome.success()?;
    let files = outcome.files.as_deref().context("no files came back")?;
    undisturbed(files, "untouched", 1, ("not_touched", 0))?;
    undisturbed(files, "sparse", 1, ("nohugepage", 64 << 9))?;
    undisturbed(files, "many", 50, ("", 0))
}

/// Fails unless these guests took no fault, and the largest slot of the first is small for this reason, with this
/// number of small pages.
fn undisturbed(files: &Path, name: &str, vms: usize, (reason, small): (&str, u64)) -> Result<()> {
    let read = |end: &str| {
        let path = files.join(format!("{name}.{end}"));
        fs::read_to_string(&path).with_context(|| format!("reading {}", path.display()))
    };
    let before = read("before")?;
    // One for each guest and each VMM, and that of the process which starts many.
    ensure!(before.lines().count() >= 2 * vms, "{name}: faults of {vms} guests:\n{before}");
    same(name, read("after")?, before)?;
    let explanation: Value = serde_json::from_str(&read("json")?)?;
    same("VMs", explanation["vms"].as_array().map(Vec::len), Some(vms))?;
    let vm = &explanation["vms"][0];
    let slot = &vm["slots"][0];
    same("why slots are unknown", &vm["slots_unknown"], &Value::Null)?;
    same("reason", slot["reason"].as_str().unwrap_or_default(), reason)?;
    same("small pages", slot["pages"]["4k"].as_u64(), Some(small))
}
