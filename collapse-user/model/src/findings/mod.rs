//! Short diagnoses of one VM: what costs it huge pages or time, the evidence, and what to do about it.

mod evidence;
mod host;
mod knobs;
mod lints;
mod log;
mod logging;
mod memory;
mod risk;
mod sight;
#[cfg(test)]
mod tests;
mod thresholds;
mod waits;

pub use knobs::{Knob, Vmm};
pub use log::{Findings, Found, Turn};
pub use sight::Sight;
pub use thresholds::Thresholds;

use collapse_feed::Signal;

use crate::Vm;

/// A diagnosis of one VM.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Finding {
    /// Key in every output.
    pub name: &'static str,
    /// Headline, for people.
    pub title: &'static str,
    /// The evidence in a sentence.
    pub sentence: String,
    /// The numbers of the evidence.
    pub evidence: Vec<Measure>,
    /// How sure it is.
    pub confidence: Confidence,
    /// vCPU time that it cost the guest so far, ns: an estimate where not every fault is timed; `None` if it is
    /// not known.
    pub cost: Option<u64>,
    /// Since when it holds, `CLOCK_MONOTONIC` ns.
    pub since: u64,
    /// What to do about it.
    pub knobs: &'static [Knob],
}

/// A number of the evidence.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Measure {
    /// Key among the numbers of its finding.
    pub name: &'static str,
    /// The number.
    pub value: u64,
    /// Its unit.
    pub unit: Unit,
}

/// The unit of a number.
#[derive(
    Clone, Copy, Debug, PartialEq, Eq, serde::Serialize, serde::Deserialize, schemars::JsonSchema,
)]
#[serde(rename_all = "snake_case")]
pub enum Unit {
    /// Occurrences.
    Count,
    /// Regions of 2 MiB.
    Regions,
    /// SPTEs.
    Sptes,
    /// Bytes.
    Bytes,
    /// Nanoseconds.
    Ns,
}

/// How sure a finding is.
#[derive(
    Clone, Copy, Debug, PartialEq, Eq, serde::Serialize, serde::Deserialize, schemars::JsonSchema,
)]
#[serde(rename_all = "snake_case")]
pub enum Confidence {
    /// It was seen to happen.
    Certain,
    /// It follows from numbers that could have another reason.
    Likely,
}

impl Finding {
    /// What to do about it, in one line.
    pub fn remedy(&self) -> String {
        let knobs: Vec<_> = self.knobs.iter().map(Knob::to_string).collect();
        knobs.join("; ")
    }
}

/// A VM and what its diagnosis depends on.
struct Case<'a> {
    vm: &'a Vm,
    sight: Sight,
    now: u64,
    thresholds: &'a Thresholds,
}

/// What a check found.
struct Evidence {
    sentence: String,
    numbers: Vec<Measure>,
    confidence: Confidence,
    cost: Option<u64>,
    /// `None` for as long as it was found.
    since: Option<u64>,
}

/// A kind of finding.
struct Lint {
    name: &'static str,
    title: &'static str,
    knobs: &'static [Knob],
    /// Without these signals, its absence says nothing.
    needs: &'static [Signal],
    /// The evidence; `None` if there is nothing to report.
    check: fn(&Case) -> Option<Evidence>,
}

/// Every kind of finding, the gravest first.
pub fn names() -> impl Iterator<Item = &'static str> {
    lints::LINTS.iter().map(|lint| lint.name)
}

/// The signals without which the absence of each kind of finding says nothing, the gravest kind first.
pub fn needs() -> impl Iterator<Item = (&'static str, &'static [Signal])> {
    lints::LINTS.iter().map(|lint| (lint.name, lint.needs))
}

/// Why it cannot be decided for a VM whether a kind of finding holds, although its signals are seen; `None` if it
/// can.
pub fn undecided(name: &str, vm: &Vm, sight: Sight) -> Option<String> {
    (name == lints::DIRTY_PAGES_AT_RISK).then(|| risk::undecided(vm, sight)).flatten()
}

/// Returns the findings about a VM at `now` (`CLOCK_MONOTONIC` ns).
pub fn findings(vm: &Vm, sight: Sight, now: u64, thresholds: &Thresholds) -> Vec<Finding> {
    let case = Case { vm, sight, now, thresholds };
    let found = lints::LINTS.iter().filter_map(|lint| {
        let Evidence { sentence, numbers, confidence, cost, since } = (lint.check)(&case)?;
        Some(Finding {
            name: lint.name,
            title: lint.title,
            sentence,
            evidence: numbers,
            confidence,
            cost,
            since: since.unwrap_or(now),
            knobs: lint.knobs,
        })
    });
    found.collect()
}
