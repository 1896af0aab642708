//! Each change on its own, and filters, which work in the kernel: as many changes as the workload caused.

use std::{collections::BTreeMap, fs};

use anyhow::{Context, Result, ensure};
use serde_json::Value;

use lab::{
    LabOutcome, Series,
    kernels::{self, CpuVendor, SelectCase},
};

use super::{matrix, observed::same, on};
use crate::case::LabCase;

const COMMAND: &str = "
set -e
run() { name=$1; shift; collapse events -o /out/$name \"$@\" -- workload failed-migration --quiet; }
run each --each
run in_place --kind write_protect,split
run none --vm nobody
collapse record --each -o /out/recording -- workload failed-migration --quiet
collapse events --from /out/recording -o /out/replayed
";

/// One case per way to see changes, or with every MMU of every kernel.
pub fn cases(all: bool) -> Vec<LabCase> {
    const CASE: SelectCase = SelectCase::EachChange;
    let case = |(kernel, kvm): (_, &str)| LabCase {
        kvm: kvm.to_owned(),
        ..LabCase::new("each change on its own, and filters", kernel, &["sh", "-c", COMMAND], check)
    };
    if all {
        return matrix(CpuVendor::Amd, true).map(case).collect();
    }
    let other_mmu = kernels::all().iter().filter(|series| series.other_mmu_cases.contains(&CASE));
    let other_mmu = other_mmu.flat_map(|series| {
        let others = series.parameters(CpuVendor::Amd, false).filter(|set| !set.is_empty());
        others.take(1).map(move |parameters| (series, parameters))
    });
    let sets = on(CASE, false).map(|series| (series, "")).chain(other_mmu);
    sets.map(case).collect()
}

/// SPTEs by kind and cause.
type Sums = BTreeMap<(String, String), u64>;

fn check(outcome: &LabOutcome, _: &Series) -> Result<()> {
    let files = outcome.files.as_deref().context("no files came back")?;
    let lines = |name: &str| -> Result<Vec<Value>> {
        let text = fs::read_to_string(files.join(name))?;
        text.lines().map(|line| serde_json::from_str(line).context("no JSON")).collect()
    };
    let each = lines("each")?;
    let singles = each.iter().filter(|line| line["kind"] == "zap");
    for zap in singles.clone() {
        same("count", &zap["count"], &1.into())?;
        let leaf = zap.pointer("/old/leaf").and_then(Value::as_bool);
        same("a leaf before a zap", leaf, Some(true))?;
        same("present after a zap", zap.pointer("/new/present"), Some(&false.into()))?;
        ensure!(zap["regions"].is_object(), "regions are not followed: {zap}");
    }
    let times: Vec<_> = singles.filter_map(|line| line["ts_ns"].as_u64()).collect();
    let distinct = times.windows(2).filter(|pair| pair[0] != pair[1]).count();
    ensure!(distinct > times.len() / 2, "{distinct} of {} times differ", times.len());

    let recorded = sums(&lines("replayed")?);
    same("zapped by the collapse routine", zapped(&recorded), zapped(&sums(&each)))?;
    ensure!(zapped(&recorded) >= 16_384, "zapped {}", zapped(&recorded));
    let size = fs::metadata(files.join("recording"))?.len();
    let changes: u64 = recorded.values().sum();
    ensure!(size <= 16 * changes, "{size} bytes for {changes} changes");

    let in_place = sums(&lines("in_place")?);
    let kinds: Vec<_> = in_place.keys().map(|(kind, _)| kind.as_str()).collect();
    ensure!(kinds.iter().all(|kind| ["write_protect", "split", "split_relink"].contains(kind)));
    ensure!(kinds.contains(&"write_protect"), "no in-place changes: {kinds:?}");
    // Until the VM of a row is known, its records are filtered in user space.
    let none = lines("none")?;
    ensure!(sums(&none).is_empty(), "{:?}", sums(&none));
    Ok(())
}

fn sums(lines: &[Value]) -> Sums {
    let mut sums = Sums::new();
    for line in lines {
        let text = |key: &str| line[key].as_str().unwrap_or_default().to_owned();
        if let (Some(count), Some(_)) = (line["count"].as_u64(), line["cause"].as_str()) {
            *sums.entry((text("kind"), text("cause"))).or_default() += count;
        }
    }
    sums
}

fn zapped(sums: &Sums) -> u64 {
    sums.get(&("zap".to_owned(), "collapse".to_owned())).copied().unwrap_or(0)
}
