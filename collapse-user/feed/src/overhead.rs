//! The overhead of the attached programs, and the detail left out to keep to its budget.

use schemars::JsonSchema;
use serde::{Deserialize, Serialize};

/// The amount of detail that is seen. Steps are ordered from most to least detail.
#[derive(
    Clone, Copy, Debug, Default, PartialEq, Eq, PartialOrd, Ord, Serialize, Deserialize, JsonSchema,
)]
#[serde(rename_all = "snake_case")]
pub enum DetailStep {
    /// Nothing is left out.
    #[default]
    Full,
    /// No guest fault is timed, and no program is attached to guest entry.
    NoLatency,
    /// No guest fault is timed, and only every 16th region is followed.
    Sampled,
    /// No guest fault is timed and no region is followed. Totals stay exact, and marks are recorded.
    CountersOnly,
}

impl DetailStep {
    /// Every step, from most to least detail.
    pub const ALL: [Self; 4] = [Self::Full, Self::NoLatency, Self::Sampled, Self::CountersOnly];

    /// Returns what the step leaves out, for display.
    pub fn label(self) -> &'static str {
        match self {
            Self::Full => "nothing left out",
            Self::NoLatency => "fault latency off",
            Self::Sampled => "fault latency off, one region in 16 followed",
            Self::CountersOnly => "fault latency off, no region followed",
        }
    }

    /// Returns the next step with less detail; for the last, itself.
    #[must_use]
    pub fn less(self) -> Self {
        Self::ALL[(self as usize + 1).min(Self::ALL.len() - 1)]
    }

    /// Returns the next step with more detail; for the first, itself.
    #[must_use]
    pub fn more(self) -> Self {
        Self::ALL[(self as usize).saturating_sub(1)]
    }
}

/// The overhead of the attached programs.
#[derive(Clone, Debug, Default, PartialEq, Serialize, Deserialize, JsonSchema)]
pub struct Overhead {
    /// Run time of all programs in the last window, in percent of one core. It does not include the
    /// cost of reaching them: about 10 ns at a tracepoint, ten times that at a function's entry.
    pub percent: f64,
    /// Highest run time that is allowed, in percent of one core; `None` if there is no limit.
    pub budget_percent: Option<f64>,
    /// Detail that is seen, reduced as the budget requires.
    pub step: DetailStep,
    /// Times for which detail was left out.
    pub degraded: Degraded,
    /// Programs that ran, the most expensive first.
    pub programs: Vec<ProgramCost>,
}

/// Times for which detail was left out to keep to the budget.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
pub struct Degraded {
    /// Time for which no guest fault was timed, ns.
    pub no_latency_ns: u64,
    /// Part of `no_latency_ns` for which only every 16th region was followed, ns.
    pub sampled_ns: u64,
    /// Part of `no_latency_ns` for which no region was followed, ns.
    pub counters_only_ns: u64,
}

/// The cost of one program.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize, JsonSchema)]
pub struct ProgramCost {
    /// Name of the program.
    pub program: String,
    /// Runs per second: exact if the program counts them, otherwise those of the last window.
    pub per_second: f64,
    /// Mean time per run, ns.
    pub ns: f64,
    /// Run time in percent of one core: the product of `per_second` and `ns`.
    pub percent: f64,
    /// Times that the kernel skipped the program since it was attached; `None` before 5.12.
    pub misses: Option<u64>,
}

impl Overhead {
    /// Whether not every region is followed now.
    pub fn leaves_regions_out(&self) -> bool {
        self.step >= DetailStep::Sampled
    }

    /// Describes what is or was left out to keep to the budget; `None` if nothing was.
    pub fn caveat(&self) -> Option<String> {
        let Degraded { no_latency_ns, sampled_ns, counters_only_ns } = self.degraded;
        if no_latency_ns == 0 && self.step == DetailStep::Full {
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
        let now = (self.step != DetailStep::Full).then(|| format!("; now: {}", self.step.label()));
        Some(parts.join(", ") + &now.unwrap_or_default())
    }
}
