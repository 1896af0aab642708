//! What the attached programs cost, and what is left out to keep to the budget.

use schemars::JsonSchema;
use serde::{Deserialize, Serialize};

/// How much is seen, most first.
#[derive(
    Clone, Copy, Debug, Default, PartialEq, Eq, PartialOrd, Ord, Serialize, Deserialize, JsonSchema,
)]
#[serde(rename_all = "snake_case")]
pub enum Step {
    /// Everything.
    #[default]
    Full,
    /// No guest fault is timed, and nothing attached to guest entry.
    NoLatency,
    /// Besides, only every 16th region is followed.
    Sampled,
    /// Besides, no region is followed: totals, which stay exact, and marks are all.
    CountersOnly,
}

impl Step {
    /// Every step, most detail first.
    pub const ALL: [Self; 4] = [Self::Full, Self::NoLatency, Self::Sampled, Self::CountersOnly];

    /// What is left out, in words.
    pub fn label(self) -> &'static str {
        match self {
            Self::Full => "nothing left out",
            Self::NoLatency => "fault latency off",
            Self::Sampled => "fault latency off, one region in 16 followed",
            Self::CountersOnly => "fault latency off, no region followed",
        }
    }

    /// The next step with less detail; the last stays.
    #[must_use]
    pub fn less(self) -> Self {
        Self::ALL[(self as usize + 1).min(Self::ALL.len() - 1)]
    }

    /// The next step with more detail; the first stays.
    #[must_use]
    pub fn more(self) -> Self {
        Self::ALL[(self as usize).saturating_sub(1)]
    }
}

/// What the programs cost.
#[derive(Clone, Debug, Default, PartialEq, Serialize, Deserialize, JsonSchema)]
pub struct Overhead {
    /// Run time of all programs in the last window, in percent of one core. What it takes to get to
    /// them is not in it: some 10 ns at a tracepoint, ten times that at the entry of a function.
    pub percent: f64,
    /// The most that it may be; `None` for no limit.
    pub budget_percent: Option<f64>,
    /// How much is seen to keep to that.
    pub step: Step,
    /// How long less than everything was seen, ns.
    pub degraded: Degraded,
    /// Programs that ran, those that cost most first.
    pub programs: Vec<ProgramCost>,
}

/// How long less than everything was seen.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
pub struct Degraded {
    /// No guest fault was timed, ns.
    pub no_latency_ns: u64,
    /// Of that: only every 16th region was followed, ns.
    pub sampled_ns: u64,
    /// Of the former: no region was followed, ns.
    pub counters_only_ns: u64,
}

/// What one program cost.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize, JsonSchema)]
pub struct ProgramCost {
    /// Its name.
    pub program: String,
    /// Runs a second: exact where the program counts them, else as in the last window.
    pub per_second: f64,
    /// What one took, ns.
    pub ns: f64,
    /// Both together, in percent of one core.
    pub percent: f64,
    /// Times since attaching that the kernel skipped it; `None` before 5.12.
    pub misses: Option<u64>,
}

impl Overhead {
    /// What is left out now or was, to keep to the budget; `None` if nothing.
    pub fn caveat(&self) -> Option<String> {
        let Degraded { no_latency_ns, sampled_ns, counters_only_ns } = self.degraded;
        if no_latency_ns == 0 && self.step == Step::Full {
            return None;
        }
        let seconds = |ns: u64| ns as f64 / 1e9;
        let mut parts = vec![format!("latency off for {:.1} s", seconds(no_latency_ns))];
        if sampled_ns > 0 {
            parts.push(format!("one region in 16 for {:.1} s", seconds(sampled_ns)));
        }
        if counters_only_ns > 0 {
            parts.push(format!("no regions for {:.1} s", seconds(counters_only_ns)));
        }
        let now = (self.step != Step::Full).then(|| format!("; now: {}", self.step.label()));
        Some(parts.join(", ") + &now.unwrap_or_default())
    }
}
