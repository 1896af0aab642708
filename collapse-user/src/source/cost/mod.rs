//! Cost of the programs, as the kernel measures it, and keeping to a budget.
//!
//! The kernel keeps run-time statistics of every program while anybody asks for them, which cost 83
//! instructions a run themselves. So they are on for a tenth of a second now and then, and give the time
//! of a run; the number of runs is counted all the time where a program counts them itself.

mod ladder;
mod limit;

use std::{
    collections::BTreeMap,
    os::fd::OwnedFd,
    time::{Duration, Instant},
};

use aya::sys::{Stats, enable_stats};
pub use collapse_feed::{Degraded, DetailStep, Overhead, ProgramCost};
pub use ladder::Ladder;
pub use limit::Limit;

use crate::probe::Probe;

/// From attaching to the first window: what is over sooner is not worth the measurement.
const FIRST: Duration = Duration::from_secs(2);

/// From the end of a window to the next, if all is well and if not.
const PERIOD: Duration = Duration::from_secs(5);
const PERIOD_TENSE: Duration = Duration::from_secs(1);

/// The shortest window.
const WINDOW: Duration = Duration::from_millis(90);

/// The program that counts its runs itself: it runs once per SPTE change of the TDP MMU.
const EXACT: &str = "spte_changed";

/// Measures what programs cost, and decides when to see less or more.
pub struct Meter {
    ladder: Ladder,
    overhead: Overhead,
    /// Whether a measurement was not reported yet.
    changed: bool,
    state: State,
    /// When `degraded` was last brought up to date.
    accounted: Instant,
    /// Time of one run when it was last measured, by program, ns.
    ns: BTreeMap<String, f64>,
    /// SPTE changes at the end of the last window, and when that was.
    counted: Option<(Instant, u64)>,
}

enum State {
    Waiting { until: Instant },
    Open { since: Instant, before: BTreeMap<String, (u64, Duration)>, _stats: OwnedFd },
}

impl Meter {
    /// Starts with a limit in percent of one core, if any.
    pub fn new(budget: Option<f64>) -> Self {
        let now = Instant::now();
        Self {
            ladder: Ladder::new(budget),
            overhead: Overhead { budget_percent: budget, ..Overhead::default() },
            changed: false,
            state: State::Waiting { until: now + FIRST },
            accounted: now,
            ns: BTreeMap::new(),
            counted: None,
        }
    }

    /// Returns what was measured, if that has changed since the last call.
    pub fn news(&mut self) -> Option<Overhead> {
        std::mem::take(&mut self.changed).then(|| self.overhead.clone())
    }

    /// Opens or closes a window if it is time. `changes` counts SPTE changes since attaching. Returns how
    /// much to see from now on if that changes.
    pub fn tick(&mut self, probe: &Probe, changes: impl FnOnce() -> u64) -> Option<DetailStep> {
        let now = Instant::now();
        self.account(now);
        match &self.state {
            State::Waiting { until } if now >= *until => {
                // The kernel counts for as long as this is held. Where it does not, it is tried again.
                self.state = match enable_stats(Stats::RunTime) {
                    Ok(stats) => State::Open { since: now, before: runs(probe), _stats: stats },
                    Err(_) => State::Waiting { until: now + PERIOD },
                };
                None
            }
            State::Open { since, before, .. } if now >= *since + WINDOW => {
                let window = now - *since;
                let measured = measured(before, &runs(probe));
                let step = self.close(now, window, &measured, changes(), probe);
                let before = self.overhead.step;
                self.overhead.step = step;
                (step != before).then_some(step)
            }
            _ => None,
        }
    }

    fn account(&mut self, now: Instant) {
        let passed = (now - self.accounted).as_nanos() as u64;
        self.accounted = now;
        let Degraded { no_latency_ns, sampled_ns, counters_only_ns } = &mut self.overhead.degraded;
        if self.overhead.step >= DetailStep::NoLatency {
            *no_latency_ns += passed;
            self.changed = true;
        }
        match self.overhead.step {
            DetailStep::Sampled => *sampled_ns += passed,
            DetailStep::CountersOnly => *counters_only_ns += passed,
            _ => {}
        }
    }

    fn close(
        &mut self,
        now: Instant,
        window: Duration,
        measured: &BTreeMap<String, (u64, Duration)>,
        changes: u64,
        probe: &Probe,
    ) -> DetailStep {
        for (program, (runs, time)) in measured {
            if *runs > 0 {
                self.ns.insert(program.clone(), time.as_nanos() as f64 / *runs as f64);
            }
        }
        let mut programs: Vec<_> = measured
            .iter()
            .filter_map(|(program, (runs, _))| {
                let ns = *self.ns.get(program)?;
                let exact =
                    self.counted.filter(|_| program == EXACT).and_then(|(since, before)| {
                        let new = changes.checked_sub(before)?;
                        Some(new as f64 / (now - since).as_secs_f64())
                    });
                let per_second = exact.unwrap_or_else(|| *runs as f64 / window.as_secs_f64());
                Some(ProgramCost {
                    program: program.clone(),
                    per_second,
                    ns,
                    percent: per_second * ns / 1e7,
                    misses: probe.misses(program),
                })
            })
            .collect();
        programs.sort_by(|a, b| b.percent.total_cmp(&a.percent));
        // Not a sum, which is -0 where there is none.
        self.overhead.percent = programs.iter().fold(0.0, |all, program| all + program.percent);
        self.overhead.programs = programs;
        self.changed = true;
        self.counted = Some((now, changes));
        let step = self.ladder.window(self.overhead.percent);
        let over = self.overhead.budget_percent.is_some_and(|most| self.overhead.percent > most);
        let tense = step != DetailStep::Full || over;
        self.state = State::Waiting { until: now + if tense { PERIOD_TENSE } else { PERIOD } };
        step
    }
}

/// Runs and run time of every program, as far as the kernel has counted.
fn runs(probe: &Probe) -> BTreeMap<String, (u64, Duration)> {
    let programs = probe.programs().into_iter();
    programs.map(|program| (program.name, (program.runs, program.run_time))).collect()
}

fn measured(
    before: &BTreeMap<String, (u64, Duration)>,
    after: &BTreeMap<String, (u64, Duration)>,
) -> BTreeMap<String, (u64, Duration)> {
    let since = |(program, (runs, time)): (&String, &(u64, Duration))| {
        let (runs_before, time_before) = before.get(program).copied().unwrap_or_default();
        let new = (runs.saturating_sub(runs_before), time.saturating_sub(time_before));
        (program.clone(), new)
    };
    after.iter().map(since).collect()
}
