//! The guest's scenario in every case, phase by phase.

use std::collections::BTreeMap;

use anyhow::{Context, Result, ensure};
use serde::Deserialize;

/// 4 KiB pages that each phase touches, protects or zaps: 64 MiB.
pub const PAGES: u64 = 16384;

/// A phase's name here, and in `workload`'s language.
pub const PHASES: [(&str, &str); 10] = [
    ("populate", "touch"),
    ("dirty_on", "log-on"),
    ("dirty", "touch"),
    ("getlog", "get-log"),
    ("dirty2", "touch"),
    ("dirty_off", "log-off"),
    ("refault", "touch"),
    (FRESH_MEMORY, "slot-add slot=2 size=64M backing=4k"),
    ("pop4k", "touch slot=2"),
    ("zap4k", "mprotect none slot=2"),
];

/// The phase in which the host finds memory for the guest.
pub const FRESH_MEMORY: &str = "add4k";

/// The phases of one cycle of dirty logging.
pub const CYCLE: [&str; 5] = ["dirty_on", "dirty", "getlog", "dirty2", "dirty_off"];

/// 256 MiB split in one ioctl and collapsed in another, which no reader can come between.
const BURST: &str = "--size 256M 'touch; log-on; log-off; touch'";

/// vCPUs of the guest that contends for the host's two CPUs and for KVM's locks; they share each phase's
/// pages.
pub const CROWD: u32 = 8;

/// Commands for the lab's `/bin`, named `cycle`, `crowd` and `burst`: they leave phases and costs in the
/// current folder.
pub fn commands() -> [(&'static str, String); 3] {
    let cycle: Vec<&str> = PHASES.iter().map(|(_, text)| *text).collect();
    let command = |arguments: &str| {
        format!("#!/bin/sh\nexec meter cost work.json workload run {arguments} >phases.jsonl\n")
    };
    let cycle = format!("'{}'", cycle.join("; "));
    let crowd = format!("--vcpus {CROWD} {cycle}");
    [("cycle", command(&cycle)), ("crowd", command(&crowd)), ("burst", command(BURST))]
}

/// Instructions by phase.
pub type PhaseCosts = BTreeMap<&'static str, u64>;

#[derive(Deserialize)]
struct Line {
    kind: String,
    #[serde(default)]
    phase: String,
    t_start_ns: Option<u64>,
    t_end_ns: Option<u64>,
}

/// Reads the lines that `workload` printed while it went through [`PHASES`], on a machine on which an
/// instruction takes `ns_per_instruction`.
pub fn parse(lines: &str, ns_per_instruction: u64) -> Result<PhaseCosts> {
    let mut phases = Vec::new();
    for line in lines.lines() {
        let line: Line = serde_json::from_str(line).context("a line of the workload")?;
        if line.kind == "phase" && !["create", "destroy"].contains(&line.phase.as_str()) {
            let times = line.t_start_ns.zip(line.t_end_ns).context("a phase without times")?;
            let instructions = times.1.saturating_sub(times.0) / ns_per_instruction;
            phases.push((line.phase, instructions));
        }
    }
    let done = phases.iter().map(|(phase, _)| phase.as_str());
    let planned = PHASES.iter().map(|(_, text)| text.split(' ').next().unwrap_or_default());
    ensure!(done.eq(planned), "the workload went through other phases");
    Ok(PHASES.iter().zip(phases).map(|((name, _), (_, took))| (*name, took)).collect())
}

#[cfg(test)]
mod tests {
    use super::*;

    fn lines() -> Vec<String> {
        let phase = |name: &str, at: usize| {
            let (start, end) = (at * 1000, at * 1000 + 10 * at);
            format!(r#"{{"kind":"phase","phase":"{name}","t_start_ns":{start},"t_end_ns":{end}}}"#)
        };
        let names = PHASES.iter().map(|(_, text)| text.split(' ').next().unwrap_or_default());
        let phases = names.enumerate().map(|(at, name)| phase(name, at));
        let header = [r#"{"kind":"header","pid":1}"#.to_owned(), phase("create", 0)];
        let summary = r#"{"kind":"summary","t_start_ns":1,"t_end_ns":2}"#.to_owned();
        header.into_iter().chain(phases).chain([phase("destroy", 9), summary]).collect()
    }

    #[test]
    fn phases_get_their_names() {
        let phases = parse(&lines().join("\n"), 1).unwrap();
        assert_eq!((phases["dirty_on"], phases["getlog"], phases["zap4k"]), (10, 30, 90));
        assert_eq!(parse(&lines().join("\n"), 10).unwrap()["getlog"], 3);
        assert!(CYCLE.iter().all(|name| phases.contains_key(name)));
    }

    #[test]
    fn an_unfinished_run_is_refused() {
        let mut lines = lines();
        lines.remove(5);
        assert!(parse(&lines.join("\n"), 1).is_err());
        assert!(parse("no json", 1).is_err());
    }
}
