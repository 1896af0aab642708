//! The limits for the cost of `collapse`, and the figures measured.

use lab::{Series, kernels};

use super::{
    document::{or_dash, table},
    figures::{Figures, Measured},
    render::CaseRun,
};

/// A goal for one figure of a kernel's run.
struct Goal {
    what: &'static str,
    /// The highest figure that meets the goal.
    most: f64,
    /// The highest on the newest kernel, 7.3, whose tracepoints (SRCU) and verifier are dearer.
    most_on_newest: f64,
    figure: fn(&Runs) -> Option<f64>,
}

const GOALS: [Goal; 10] = [
    Goal {
        what: "per SPTE change, of what perf stat takes",
        most: 0.60,
        most_on_newest: 0.65,
        figure: |runs| {
            let perf = runs.figures("perf stat, 1 event")?.per_change;
            Some(runs.figures(DEFAULT)?.per_change / perf)
        },
    },
    Goal {
        what: "per write fault with its time, instructions",
        most: 275.0,
        most_on_newest: 320.0,
        figure: |runs| Some(runs.figures(DEFAULT)?.per_fault),
    },
    Goal {
        what: "dirty-touch phase, %",
        most: 15.5,
        most_on_newest: 16.0,
        figure: |runs| Some(runs.figures(DEFAULT)?.dirty),
    },
    Goal {
        what: "dirty-log cycle, %",
        most: 30.0,
        most_on_newest: 34.0,
        figure: |runs| Some(runs.figures(DEFAULT)?.cycle),
    },
    Goal {
        what: "start, M instructions",
        most: 1100.0,
        most_on_newest: 2400.0,
        figure: |runs| Some(runs.measured(DEFAULT)?.start() as f64 / 1e6),
    },
    Goal {
        what: "changes by which totals and perf stat differ, in the same runs",
        most: 0.0,
        most_on_newest: 0.0,
        figure: |runs| runs.apart(|measured| (measured.perf, measured.seen.changes)),
    },
    Goal {
        what: "changes by which records and totals differ, in the same runs",
        most: 0.0,
        most_on_newest: 0.0,
        figure: |runs| runs.apart(|measured| (measured.seen.of_life, measured.seen.recorded)),
    },
    Goal {
        what: "changes that perf stat misses beside collapse",
        most: 0.0,
        most_on_newest: 0.0,
        figure: |runs| {
            let (alone, beside) =
                (runs.measured("perf stat, 1 event")?.perf?, runs.measured("both, 64 MiB")?.perf?);
            Some(alone.abs_diff(beside) as f64)
        },
    },
    Goal {
        what: "runs of programs that the kernel skipped",
        most: 0.0,
        most_on_newest: 0.0,
        figure: |runs| Some(runs.measured(DEFAULT)?.seen.skipped? as f64),
    },
    Goal {
        what: "changes of unknown VM",
        most: 0.0,
        most_on_newest: 0.0,
        figure: |runs| Some(runs.measured(DEFAULT)?.seen.unattributed? as f64),
    },
];

/// The mode that is meant to stay on.
const DEFAULT: &str = "collapse report";
/// The runs with `perf stat` beside it.
const BOTH: [&str; 2] = ["both, 64 MiB", "both, 256 MiB in one ioctl"];

struct Runs<'a>(&'a [CaseRun<'a>]);

impl Runs<'_> {
    fn measured(&self, name: &str) -> Option<&Measured> {
        self.0.iter().find(|ran| ran.case.name == name)?.outcome.as_ref().ok()
    }

    fn figures(&self, name: &str) -> Option<Figures> {
        let phases = |name| self.measured(name)?.phases.as_ref();
        Some(Figures::new(phases("no tracing")?, phases(name)?))
    }

    /// The sum of differences between two counts over the runs with both tools; `None` if a count is unknown.
    fn apart(&self, counts: fn(&Measured) -> (Option<u64>, Option<u64>)) -> Option<f64> {
        let apart = BOTH.iter().map(|name| {
            let (one, other) = counts(self.measured(name)?);
            Some(one?.abs_diff(other?))
        });
        apart.sum::<Option<u64>>().map(|sum| sum as f64)
    }
}

/// The table of goals, and which of them are met.
pub fn goals(kernel: &Series, runs: &[CaseRun]) -> String {
    let runs = Runs(runs);
    let is_newest = kernels::all().last().is_some_and(|newest| newest.name == kernel.name);
    let rows = GOALS.iter().map(|goal| {
        let figure = (goal.figure)(&runs);
        let most = if is_newest { goal.most_on_newest } else { goal.most };
        let met = figure.map(|figure| if figure <= most { "yes" } else { "no" });
        // As precise as the goal; counts have no digits.
        let digits = match most {
            0.0 | 100.0.. => 0,
            ..1.0 => 2,
            _ => 1,
        };
        vec![
            goal.what.to_owned(),
            most.to_string(),
            or_dash(figure.map(|figure| format!("{figure:.digits$}"))),
            or_dash(met),
        ]
    });
    table(&["goal for collapse report", "at most", "is", "met"], &rows.collect::<Vec<_>>())
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::{cases::CASES, figures::tests::measured};

    #[test]
    fn goals_are_judged_by_their_runs() {
        let ran = |name: &str, measured| {
            let case = CASES.iter().find(|case| case.name == name).unwrap();
            CaseRun { case, outcome: Ok(measured) }
        };
        let mut off = measured(200);
        off.seen.recorded = Some(3);
        let runs = [
            ran("no tracing", measured(200)),
            ran("perf stat, 1 event", measured(600)),
            ran(DEFAULT, measured(460)),
            ran(BOTH[0], measured(200)),
            ran(BOTH[1], off),
        ];
        let on =
            |name| goals(kernels::all().iter().find(|kernel| kernel.name == name).unwrap(), &runs);
        let row = "| per SPTE change, of what perf stat takes | 0.65 | 0.65 | yes |";
        assert!(on("7.3").contains(row), "{}", on("7.3"));
        let text = on("6.12");
        for row in [
            "| per SPTE change, of what perf stat takes | 0.6 | 0.65 | no |",
            "| changes by which totals and perf stat differ, in the same runs | 0 | 0 | yes |",
            "| changes by which records and totals differ, in the same runs | 0 | 4 | no |",
        ] {
            assert!(text.contains(row), "{row} in {text}");
        }
    }

    #[test]
    fn no_goal_is_met_without_a_run() {
        let text = goals(kernels::default(), &[]);
        assert_eq!(text.matches("| – | – |").count(), GOALS.len());
        let names = CASES.map(|case| case.name);
        assert!(BOTH.iter().chain([&DEFAULT]).all(|name| names.contains(name)));
    }
}
