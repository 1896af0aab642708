//! An hour of VMs, scrapes and reloads: what the programs hold stays the same.

use std::{fs, path::Path, time::Duration};

use anyhow::{Context as _, Result, ensure};
use serde_json::{Value, json};

use lab::{ImageFile, LabOutcome, Series, kernels};

use super::observed::{count, same};
use crate::case::LabCase;

/// Rounds of two minutes, two VMs in each.
const ROUNDS: usize = 32;

/// Rounds until the exporter's history of ten minutes is full and programs were attached again twice, which takes memory
/// that is kept for the next time.
const FIRST: usize = 10;

/// Each round of this number ends with a reload of KVM. Attaching again takes memory that the allocator keeps, now more and
/// now less.
const RELOADED: usize = 5;

/// What may be more at one moment than ever in the first rounds: bytes that the allocator has not given back after a reload,
/// and a file that is being read.
const VARIES: [(&str, u64); 2] = [("resident", 4 << 20), ("descriptors", 1)];

/// Bytes by which a program may grow in all later rounds without a reload together.
const GROWS: u64 = 512 << 10;

/// On the default kernel, where time passes at once when nothing runs.
pub fn cases(rarely: bool) -> Vec<LabCase> {
    let script = ImageFile {
        path: "/bin/soak.sh".to_owned(),
        permissions: 0o755,
        content: include_bytes!("soak.sh").to_vec(),
    };
    let rounds = ROUNDS.to_string();
    let command = ["sh", "/bin/soak.sh", &rounds];
    let case =
        LabCase::new("an hour of VMs, scrapes and reloads", kernels::default(), &command, check);
    let timeout = Duration::from_hours(1);
    let case = LabCase { cpus: 1, icount: true, timeout, files: vec![script], ..case };
    rarely.then_some(case).into_iter().collect()
}

fn check(outcome: &LabOutcome, _: &Series) -> Result<()> {
    outcome.success()?;
    let files = outcome.files.as_deref().context("no files came back")?;
    flat(&census(files, "census.jsonl")?)?;
    busy(&census(files, "busy.jsonl")?)?;
    same("health", read(files, "healthz")?.as_str(), "ok\n")?;
    let metrics = read(files, "last.prom")?;
    let lost = metrics.lines().filter(|line| line.starts_with("collapse_lost_total{"));
    let lost: Vec<_> = lost.filter(|line| !line.ends_with(" 0")).collect();
    ensure!(lost.is_empty(), "missed: {lost:?}");
    for name in ["cut.json", "last.json"] {
        let report: Value = serde_json::from_str(&read(files, name)?)?;
        let vms = report["vms"].as_array().context("no VMs in the report")?;
        ensure!(!vms.is_empty(), "{name} has no VMs");
        for vm in vms {
            same(
                &format!("{name}: {}", vm["name"]),
                &vm["reconciliation"]["grade"],
                &json!("exact"),
            )?;
        }
    }
    Ok(())
}

/// Fails unless both programs hold after each round what they held when the history was full.
fn flat(rounds: &[Value]) -> Result<()> {
    same("rounds", rounds.len(), ROUNDS)?;
    let (first, later) = rounds.split_at(FIRST);
    let (full, last) = (first.last().context("no round")?, later.last().context("no round")?);
    let watched = count(last, "/at_ns").zip(count(&rounds[0], "/at_ns")).context("no times")?;
    let watched = Duration::from_nanos(watched.0 - watched.1);
    ensure!(watched > Duration::from_hours(1), "only {watched:?} of the guest's time");
    for round in later {
        same("what is held", held(round), held(full))?;
    }
    println!("       {watched:?} of the guest's time; at its end {last}");
    for (process, name) in ["exporter", "recorder"].into_iter().enumerate() {
        for (what, more) in VARIES {
            let place = format!("/processes/{process}/{what}");
            let most = |rounds: &[Value]| rounds.iter().map(|round| count(round, &place)).max();
            let (before, after) = (most(first).flatten(), most(later).flatten());
            let (before, after) = before.zip(after).context("not counted")?;
            println!("       {name}: {what} {before} at most in the first rounds, {after} later");
            ensure!(after <= before + more, "{what} of the {name} grew");
        }
        let resident = |round| count(round, &format!("/processes/{process}/resident")).unwrap_or(0);
        let pairs = rounds.iter().zip(&rounds[1..]).zip(2..).skip(FIRST);
        let calm = pairs.filter(|(_, round)| round % RELOADED != 0);
        let grown =
            calm.map(|((before, after), _)| resident(after).saturating_sub(resident(before)));
        let grown: u64 = grown.sum();
        ensure!(grown <= GROWS, "the {name} grew by {grown} bytes in rounds without a reload");
    }
    Ok(())
}

/// Fails unless both programs held places of every kind while a VM was there.
fn busy(rounds: &[Value]) -> Result<()> {
    same("rounds with a VM", rounds.len(), ROUNDS)?;
    for round in rounds {
        for process in round["processes"].as_array().into_iter().flatten() {
            for place in ["/vms", "/vcpus", "/threads", "/rows"] {
                ensure!(count(process, place) > Some(0), "no {place} while a VM is there: {round}");
            }
        }
    }
    Ok(())
}

/// What has to be the same whenever no VM is there: all but the time and what varies.
fn held(census: &Value) -> Value {
    let mut held = census.clone();
    held["at_ns"].take();
    for process in held["processes"].as_array_mut().into_iter().flatten() {
        for (what, _) in VARIES {
            process[what].take();
        }
    }
    held
}

/// Lines of `meter census`.
fn census(files: &Path, name: &str) -> Result<Vec<Value>> {
    let lines = read(files, name)?;
    lines.lines().map(serde_json::from_str).collect::<Result<_, _>>().context(name.to_owned())
}

fn read(files: &Path, name: &str) -> Result<String> {
    fs::read_to_string(files.join(name)).with_context(|| format!("reading {name}"))
}

#[cfg(test)]
mod tests {
    use super::*;

    /// What `meter census` prints after a round.
    const ROUND: &str = r#"{"at_ns":0,"programs":34,"maps":40,"links":22,"processes":[
        {"resident":30662656,"descriptors":63,"vms":0,"vcpus":0,"threads":0,"rows":0},
        {"resident":30535680,"descriptors":59,"vms":0,"vcpus":0,"threads":0,"rows":0}]}"#;

    fn rounds() -> Vec<Value> {
        let round = |n: usize| {
            let mut round: Value = serde_json::from_str(ROUND).expect("JSON");
            round["at_ns"] = json!(n as u64 * 120_000_000_000);
            round
        };
        (0..ROUNDS).map(round).collect()
    }

    #[test]
    fn what_grows_is_not_flat() {
        flat(&rounds()).expect("nothing grows");
        flat(&rounds()[1..]).expect_err("a round is missing");
        for (place, by) in [
            ("/programs", 1),
            ("/maps", 1),
            ("/links", 1),
            ("/processes/0/descriptors", 2),
            ("/processes/1/vcpus", 1),
            ("/processes/0/threads", 1),
            ("/processes/1/rows", 1),
            ("/processes/1/resident", (512 << 10) + 1),
        ] {
            let mut rounds = rounds();
            let grown = rounds[ROUNDS - 1].pointer_mut(place).expect("a place");
            *grown = json!(grown.as_u64().expect("a number") + by);
            flat(&rounds).expect_err(place);
        }
        busy(&rounds()).expect_err("no VM is there");
    }
}
