//! `cargo xtask bench --host`: the cost of user space, by number of VMs and regions.

use std::{collections::BTreeMap, fs, path::Path};

use anyhow::{Context, Result};
use serde::Deserialize;

use base::{CommandExt, workspace};

use crate::document::{or_dash, table};

/// VMs, as in the benchmarks.
const VMS: [u64; 4] = [1, 10, 100, 1000];
/// Guest sizes and their regions of 2 MiB, as in the benchmarks.
const SIZES: [(&str, u64); 5] = [
    ("64 MiB", 32),
    ("1 GiB", 512),
    ("64 GiB", 32 << 10),
    ("1 TiB", 512 << 10),
    ("4 TiB", 2 << 20),
];
/// Outstanding regions, as in the benchmarks.
const OUTSTANDING: [u64; 3] = [0, 1000, 1_000_000];
/// Events since the screen before, as in the benchmarks.
const REDRAWN: [u64; 3] = [0, 1000, 1_000_000];
/// A second's batch and screen, as in the benchmarks.
const TICK: &str = "tick/all of a second with 100 VMs";
/// SPTE changes in the recording that is replayed, as in the benchmark.
const REPLAYED: f64 = 1e6;
/// The recorded changes, as in the benchmark, and their name in the table.
const RECORDED: [(&str, &str); 3] = [
    ("runs", "a failed migration, in runs"),
    ("stacks", "a failed migration, each change on its own, with stacks"),
    ("scattered", "changes that none other goes with"),
];
/// Formats of a report, as in the benchmarks.
const FORMATS: [&str; 5] = ["text", "json", "markdown", "html", "csv"];
/// Seconds that a history goes back, and their name in the table.
const HISTORY: [(u64, &str); 3] = [(60, "a minute"), (3600, "an hour"), (86_400, "a day")];

/// Runs the benchmarks and returns their tables.
pub fn run() -> Result<String> {
    let bench = |name: &str| {
        let mut cargo = workspace::cargo();
        cargo.args(["bench", "--quiet", "-p", "collapse-user", "--bench", name]);
        cargo
    };
    eprintln!("bench: building and running the host's benchmarks (some minutes)");
    let results = workspace::target_dir().join("criterion");
    if results.exists() {
        fs::remove_dir_all(&results).context("clearing earlier results")?;
    }
    bench("pipeline").run()?;
    let lines = [bench("replay").read()?, bench("memory").read()?].concat();
    let times = Times::read(&results)?;
    Ok(tables(&times, &Memory::parse(&String::from_utf8_lossy(&lines))?))
}

/// Time by benchmark, ns.
#[derive(Default)]
struct Times(BTreeMap<String, f64>);

#[derive(Deserialize)]
struct Estimates {
    median: Estimate,
}

#[derive(Deserialize)]
struct Estimate {
    point_estimate: f64,
}

impl Times {
    /// Reads what criterion left below a folder, by the folders' names.
    fn read(root: &Path) -> Result<Self> {
        let mut times = Self::default();
        let mut folders = vec![root.to_path_buf()];
        while let Some(folder) = folders.pop() {
            let file = folder.join("new/estimates.json");
            if file.is_file() {
                let name = folder.strip_prefix(root)?.to_string_lossy().into_owned();
                let text =
                    fs::read(&file).with_context(|| format!("reading {}", file.display()))?;
                let estimates: Estimates =
                    serde_json::from_slice(&text).context("criterion's output")?;
                times.0.insert(name, estimates.median.point_estimate);
                continue;
            }
            let entries =
                fs::read_dir(&folder).with_context(|| format!("listing {}", folder.display()))?;
            folders.extend(entries.flatten().map(|entry| entry.path()).filter(|p| p.is_dir()));
        }
        Ok(times)
    }

    fn of(&self, name: &str) -> Option<f64> {
        self.0.get(name).copied()
    }
}

/// Bytes by what is kept and its amount.
struct Memory(BTreeMap<(String, u64), u64>);

#[derive(Deserialize)]
struct Held {
    what: String,
    amount: u64,
    bytes: u64,
}

impl Memory {
    fn parse(lines: &str) -> Result<Self> {
        let held = lines.lines().filter(|line| line.starts_with('{')).map(|line| {
            let held: Held = serde_json::from_str(line).context("the benchmark's output")?;
            Ok(((held.what, held.amount), held.bytes))
        });
        held.collect::<Result<_>>().map(Self)
    }

    fn of(&self, what: &str, amount: u64) -> Option<f64> {
        self.0.get(&(what.to_owned(), amount)).map(|bytes| *bytes as f64)
    }

    /// Bytes per unit of whatever is kept, at any amount.
    fn by_unit(&self, what: &str) -> Option<f64> {
        let ((_, amount), bytes) = self.0.iter().find(|((of, _), _)| of == what)?;
        Some(*bytes as f64 / *amount as f64)
    }
}

fn tables(times: &Times, memory: &Memory) -> String {
    let tables: [fn(&Times, &Memory) -> String; 5] =
        [by_vms, by_size, by_outstanding, redraw, rest];
    tables.map(|table| table(times, memory)).join("\n")
}

fn fixed(number: Option<f64>, digits: usize, unit: &str) -> String {
    or_dash(number.map(|number| format!("{number:.digits$}{unit}")))
}

fn ms(ns: Option<f64>) -> String {
    fixed(ns.map(|ns| ns / 1e6), 2, "")
}

fn mib(bytes: Option<f64>) -> String {
    fixed(bytes.map(|bytes| bytes / f64::from(1 << 20)), 2, "")
}

/// A second's work with many VMs.
fn by_vms(times: &Times, memory: &Memory) -> String {
    let rows = VMS.map(|vms| {
        let of = |part: &str| times.of(&format!("second/{part}/{vms}"));
        let both = of("model").zip(of("dashboard")).map(|(model, draw)| model + draw);
        vec![
            vms.to_string(),
            ms(of("model")),
            ms(of("dashboard")),
            fixed(both.map(|ns| ns / 1e9 * 100.0), 2, " %"),
            mib(memory.of("vms", vms)),
        ]
    });
    let head =
        ["VMs", "one second's batch, ms", "one screen, ms", "share of a core", "memory, MiB"];
    table(&head, &rows)
}

/// An episode in guests of many sizes.
fn by_size(times: &Times, _: &Memory) -> String {
    let per_region =
        |size: &str, regions: u64| Some(times.of(&format!("episode/{size}"))? / regions as f64);
    let smallest = per_region(SIZES[0].0, SIZES[0].1);
    let rows = SIZES.map(|(size, regions)| {
        let of = per_region(size, regions);
        let relative = of.zip(smallest).map(|(of, smallest)| of / smallest);
        vec![size.to_owned(), regions.to_string(), fixed(of, 0, ""), fixed(relative, 2, "")]
    });
    table(&["guest", "regions", "ns per region", "relative to the smallest"], &rows)
}

/// Work beside many outstanding regions.
fn by_outstanding(times: &Times, memory: &Memory) -> String {
    let rows = OUTSTANDING.map(|regions| {
        let cell = |part: &str| {
            let of = |regions| times.of(&format!("outstanding/{part}/{regions}"));
            let relative = of(regions).zip(of(0)).map(|(of, none)| of / none);
            fixed(relative, 2, "")
        };
        vec![
            regions.to_string(),
            cell("model"),
            cell("dashboard"),
            cell("report"),
            mib(memory.of("outstanding", regions)),
        ]
    });
    table(&["outstanding regions", "batch", "screen", "full report", "memory, MiB"], &rows)
}

/// A screen after many events.
fn redraw(times: &Times, _: &Memory) -> String {
    let rows = REDRAWN.map(|events| {
        let of = |events| times.of(&format!("tick/redraw by events before/{events}"));
        let relative = of(events).zip(of(0)).map(|(of, none)| of / none);
        vec![events.to_string(), ms(of(events)), fixed(relative, 2, "")]
    });
    table(&["events before, with 100 VMs", "one screen, ms", "relative to none"], &rows)
}

/// Everything with one figure each.
fn rest(times: &Times, memory: &Memory) -> String {
    let mut rows = vec![vec![
        "changes taken, each in a region of its own, M per second".to_owned(),
        // The benchmark takes as many as a guest of 64 GiB has regions.
        fixed(times.of("ingest/runs").map(|ns| SIZES[2].1 as f64 / ns * 1e3), 1, ""),
    ]];
    rows.push(vec![
        "a tick of the dashboard with 100 VMs, once a second, of a core".to_owned(),
        fixed(times.of(TICK).map(|ns| ns / 1e9 * 100.0), 2, " %"),
    ]);
    for (part, what) in [("filter", "replayed and filtered"), ("model", "replayed for a report")] {
        let rate = times.of(&format!("replay/{part}")).map(|ns| REPLAYED / ns * 1e3);
        rows.push(vec![format!("changes {what}, M per second"), fixed(rate, 1, "")]);
    }
    rows.extend(RECORDED.map(|(part, what)| {
        let each = memory.by_unit(&format!("recording/{part}"));
        vec![format!("{what}: bytes in a recording per SPTE change"), fixed(each, 2, "")]
    }));
    rows.extend(FORMATS.map(|format| {
        let what = format!("report on 100 VMs as {format}, ms");
        vec![what, ms(times.of(&format!("report/{format}")))]
    }));
    rows.extend(HISTORY.map(|(seconds, name)| {
        let bytes = memory.of("history", seconds);
        let kib = fixed(bytes.map(|bytes| bytes / 1024.0), 0, "");
        vec![format!("memory for {name} of one VM, KiB"), kib]
    }));
    table(&["else", ""], &rows)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn figures_find_their_places() {
        let times = [
            ("second/model/100", 4e6),
            ("second/dashboard/100", 1e6),
            ("episode/64 MiB", 3200.0),
            ("episode/1 GiB", 102_400.0),
            ("outstanding/report/0", 10.0),
            ("outstanding/report/1000", 15.0),
            ("ingest/runs", 32_768_000.0),
            ("tick/redraw by events before/0", 1e6),
            ("tick/redraw by events before/1000", 1.25e6),
            (TICK, 5e6),
            ("replay/filter", 4e8),
        ];
        let times = Times(times.map(|(name, ns)| (name.to_owned(), ns)).into());
        let lines = "noise\n{\"what\":\"outstanding\",\"amount\":0,\"bytes\":100}\n\
                     {\"what\":\"outstanding\",\"amount\":1000,\"bytes\":64100}\n\
                     {\"what\":\"recording/runs\",\"amount\":16000,\"bytes\":2000}\n";
        let text = tables(&times, &Memory::parse(lines).unwrap());
        for row in [
            "| 100 | 4.00 | 1.00 | 0.50 % | – |",
            "| 1 GiB | 512 | 200 | 2.00 |",
            "| 1000 | – | – | 1.50 | 0.06 |",
            "M per second | 1.0 |",
            "| 1000 | 1.25 | 1.25 |",
            "of a core | 0.50 % |",
            "filtered, M per second | 2.5 |",
            "in runs: bytes in a recording per SPTE change | 0.12 |",
        ] {
            assert!(text.contains(row), "{row} in {text}");
        }
    }
}
