//! A tool's own counts, from its output.

use std::{fs, path::Path};

use serde::Deserialize;

/// A tool, and its output.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Tool {
    /// None at all.
    None,
    /// `perf stat -x,` in `perf.csv`.
    Perf,
    /// ftrace's `hist` file in `hist.txt`.
    Hist,
    /// `trace-cmd dump --options` in `options.txt`.
    TraceCmd,
    /// bpftrace's maps in `bpftrace.txt`, and its complaints on stderr.
    Bpftrace,
    /// A report in `report.json`, if the mode makes one.
    Collapse,
    /// `collapse events` in `events.jsonl`.
    Events,
}

/// A tool's counts; `None` is not reported.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Seen {
    /// SPTE changes, of all kinds and levels.
    pub changes: Option<u64>,
    /// Of those: in the life of a mapping, which has records.
    pub of_life: Option<u64>,
    /// Changes in the life of a mapping, by their records.
    pub recorded: Option<u64>,
    /// Events that it knows it lost.
    pub lost: Option<u64>,
    /// Of those: runs of its programs that the kernel skipped.
    pub skipped: Option<u64>,
    /// Changes whose VM it does not know.
    pub unattributed: Option<u64>,
}

impl Tool {
    /// Whether a tool runs at all.
    pub fn is_any(self) -> bool {
        self != Self::None
    }

    /// Whether it is a process; ftrace works inside the kernel alone.
    pub fn is_process(self) -> bool {
        self.is_any() && self != Self::Hist
    }

    /// Whether it is fetched from Debian's archive.
    pub fn is_peer(self) -> bool {
        matches!(self, Self::Perf | Self::TraceCmd | Self::Bpftrace)
    }

    /// Reads what the tool left in a folder.
    pub fn seen(self, folder: &Path) -> Seen {
        let read = |name: &str| fs::read_to_string(folder.join(name)).unwrap_or_default();
        match self {
            Self::None => Seen::default(),
            Self::Perf => perf(&read("perf.csv")),
            Self::Hist => hist(&read("hist.txt")),
            Self::TraceCmd => trace_cmd(&read("options.txt")),
            Self::Bpftrace => bpftrace(&read("bpftrace.txt"), &read("stderr")),
            Self::Collapse => collapse(&read("report.json")),
            Self::Events => events(&read("events.jsonl")),
        }
    }
}

/// `COUNT,UNIT,EVENT,...`, as perf writes them; counting loses nothing.
pub fn perf(csv: &str) -> Seen {
    let changes = csv.lines().find(|line| line.contains("kvm_tdp_mmu_spte_changed"));
    let changes = changes.and_then(|line| line.split(',').next()?.parse().ok());
    Seen { changes, lost: changes.map(|_| 0), ..Seen::default() }
}

/// The sums at its end.
fn hist(text: &str) -> Seen {
    let sum = |name: &str| {
        let line = text.lines().find_map(|line| line.trim().strip_prefix(name))?;
        line.trim().parse().ok()
    };
    Seen { changes: sum("Hits:"), lost: sum("Dropped:"), ..Seen::default() }
}

/// Statistics of the ring buffer, per CPU, over all events.
fn trace_cmd(options: &str) -> Seen {
    let mut lost = None;
    for line in options.lines() {
        for name in ["overrun: ", "dropped events: "] {
            let Some((_, rest)) = line.split_once(name) else { continue };
            let digits = rest.trim().split(|c: char| !c.is_ascii_digit()).next();
            if let Some(n) = digits.and_then(|digits| digits.parse::<u64>().ok())
                && !line.contains("commit")
            {
                lost = Some(lost.unwrap_or(0) + n);
            }
        }
    }
    Seen { lost, ..Seen::default() }
}

/// Lines such as `@spte[1234, 1]: 56`; losses are on stderr.
fn bpftrace(maps: &str, stderr: &str) -> Seen {
    let values = maps.lines().filter(|line| line.starts_with("@spte"));
    let values = values.filter_map(|line| line.rsplit_once(": ")?.1.trim().parse::<u64>().ok());
    let values: Vec<u64> = values.collect();
    let changes = (!values.is_empty()).then(|| values.iter().sum());
    let lost = stderr.lines().filter_map(|line| {
        line.trim().strip_prefix("Lost ")?.split(' ').next()?.parse::<u64>().ok()
    });
    let done = maps.contains('@');
    Seen { changes, lost: done.then(|| lost.sum()), ..Seen::default() }
}

#[derive(Deserialize)]
struct CollapseReport {
    changes: Option<Changes>,
    losses: std::collections::BTreeMap<String, u64>,
    unattributed_changes: u64,
}

#[derive(Deserialize)]
struct Changes {
    counted: u64,
    of_life: u64,
    recorded: u64,
}

fn collapse(report: &str) -> Seen {
    let Ok(report) = serde_json::from_str::<CollapseReport>(report) else { return Seen::default() };
    Seen {
        changes: report.changes.as_ref().map(|changes| changes.counted),
        of_life: report.changes.as_ref().map(|changes| changes.of_life),
        recorded: report.changes.as_ref().map(|changes| changes.recorded),
        lost: Some(report.losses.values().sum()),
        skipped: report.losses.get("program_skipped").copied(),
        unattributed: Some(report.unattributed_changes),
    }
}

#[derive(Deserialize)]
struct EventLine {
    /// The first line is about the whole and has none.
    #[serde(default)]
    kind: String,
    #[serde(default)]
    count: u64,
}

/// Losses. A complete stream ends with a line of kind `end`.
fn events(lines: &str) -> Seen {
    let events = lines.lines().map(serde_json::from_str::<EventLine>);
    let Ok(events) = events.collect::<Result<Vec<_>, _>>() else { return Seen::default() };
    if events.last().is_none_or(|last| last.kind != "end") {
        return Seen::default();
    }
    let lost = events.iter().filter(|event| event.kind == "lost").map(|event| event.count).sum();
    Seen { lost: Some(lost), ..Seen::default() }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn seen(changes: u64, lost: u64) -> Seen {
        Seen { changes: Some(changes), lost: Some(lost), ..Seen::default() }
    }

    #[test]
    fn each_tool_s_own_words() {
        let csv = "# started on Tue\n\n82166,,kvmmmu:kvm_tdp_mmu_spte_changed,1,100.00,,\n\
                   5,,kvm:kvm_page_fault,1,100.00,,\n";
        assert_eq!(perf(csv), seen(82166, 0));
        let text = "{ common_pid: 7, level: 1 } hitcount: 5\n\nTotals:\n    Hits: 82166\n    \
                    Entries: 5\n    Dropped: 3\n";
        assert_eq!(hist(text), seen(82166, 3));
        assert_eq!(bpftrace("@spte[1, 2]: 5\n@spte[1, 1]: 7\n@fast[1]: 3\n", ""), seen(12, 0));
        assert_eq!(bpftrace("@fast[1]: 3\n", "Lost 4 events\n").lost, Some(4));
        let report = r#"{"changes":{"counted":9,"of_life":8,"recorded":7},
            "losses":{"a":1,"program_skipped":2},"unattributed_changes":3}"#;
        let expected = Seen {
            changes: Some(9),
            of_life: Some(8),
            recorded: Some(7),
            lost: Some(3),
            skipped: Some(2),
            unattributed: Some(3),
        };
        assert_eq!(collapse(report), expected);
        let lines = "{\"schema\":\"x\"}\n{\"kind\":\"install\",\"count\":5}\n{\"kind\":\"lost\",\"count\":2}\n\
                     {\"kind\":\"end\"}\n";
        assert_eq!(events(lines).lost, Some(2));
    }

    #[test]
    fn silence_is_not_zero() {
        for seen in
            [perf(""), hist(""), trace_cmd(""), bpftrace("", ""), collapse(""), events("{}")]
        {
            assert_eq!(seen, Seen::default());
        }
    }
}
