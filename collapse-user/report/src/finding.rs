//! Findings in the report.

use std::collections::BTreeMap;

use schemars::JsonSchema;
use serde::{Deserialize, Serialize};
use serde_json::{Value, json};

use super::keys::Name;
use collapse_feed::Coverage;
use collapse_model::{
    Vm,
    findings::{self, Confidence, Found, Unit, Vmm},
    wording::duration,
};

/// A diagnosis of a VM: what costs it huge pages or time, the evidence, and what to do about it.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
pub struct FindingReport {
    /// The kind.
    #[schemars(extend("enum" = names()))]
    pub name: Name,
    /// Headline, for people.
    pub title: Name,
    /// Since when it held, last, `CLOCK_MONOTONIC` ns.
    #[schemars(extend("x-sum" = false))]
    pub since_ns: u64,
    /// When it ended, or its VM did, `CLOCK_MONOTONIC` ns; `None` if it held at the end of the window.
    #[schemars(extend("x-sum" = false))]
    pub until_ns: Option<u64>,
    /// Times that it began.
    pub times: u64,
    /// The evidence in a sentence, as it was last found.
    pub sentence: String,
    /// The numbers of the evidence.
    pub evidence: Vec<MeasureReport>,
    /// How sure it is: seen to happen, or likely by numbers that could have another reason.
    pub confidence: Confidence,
    /// vCPU time that it cost the guest, ns; `None` if that is not known.
    pub cost_ns: Option<u64>,
    /// What to do about it.
    pub knobs: Vec<KnobReport>,
}

/// A number of the evidence.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
pub struct MeasureReport {
    /// Which number.
    pub name: Name,
    /// The number.
    #[schemars(extend("x-sum" = false))]
    pub value: u64,
    /// Its unit.
    pub unit: Unit,
}

/// Something to do about a finding.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
pub struct KnobReport {
    /// Whose users can do it.
    pub vmm: Vmm,
    /// What to do.
    pub what: Name,
}

/// Schema of the names of findings.
fn names() -> Value {
    json!(findings::names().collect::<Vec<_>>())
}

impl FindingReport {
    pub(super) fn new(found: &Found) -> Self {
        let Found { finding, times, until } = found;
        let evidence = finding.evidence.iter().map(|measure| MeasureReport {
            name: measure.name.into(),
            value: measure.value,
            unit: measure.unit,
        });
        let knobs = finding.knobs.iter();
        Self {
            name: finding.name.into(),
            title: finding.title.into(),
            since_ns: finding.since,
            until_ns: *until,
            times: *times,
            sentence: finding.sentence.clone(),
            evidence: evidence.collect(),
            confidence: finding.confidence,
            cost_ns: finding.cost,
            knobs: knobs.map(|knob| KnobReport { vmm: knob.vmm, what: knob.what.into() }).collect(),
        }
    }

    /// Its place among all kinds, the gravest first.
    pub(super) fn rank(&self) -> usize {
        // One of a later version is read from its report.
        findings::names().position(|name| self.name == name).unwrap_or(usize::MAX)
    }

    /// Whether it held at a time, ns.
    pub(super) fn holds_at(&self, ns: u64) -> bool {
        self.since_ns <= ns && self.until_ns.is_none_or(|until| ns <= until)
    }

    /// The evidence in a sentence, with when it held in a window that began at `start` ns.
    pub(super) fn story(&self, start: u64) -> String {
        let at = |ns: u64| duration(ns.saturating_sub(start));
        let since = self.since_ns.saturating_sub(start);
        let when = match (since, self.until_ns) {
            (0, None) => "from start to end".to_owned(),
            (0, Some(until)) => format!("from the start to {}", at(until)),
            (_, None) => format!("from {} on", duration(since)),
            (_, Some(until)) => format!("from {} to {}", duration(since), at(until)),
        };
        let again = match self.times {
            0 | 1 => String::new(),
            n => format!(", after {} times before", n - 1),
        };
        let likely = match self.confidence {
            Confidence::Certain => "",
            Confidence::Likely => "likely: ",
        };
        format!("{likely}{} ({when}{again})", self.sentence)
    }

    /// What to do about it: a line each, for users of one VMM or of any.
    pub(super) fn remedies(&self) -> impl Iterator<Item = String> {
        self.knobs.iter().map(|knob| match knob.vmm.label() {
            None => knob.what.to_string(),
            Some(label) => format!("{label}: {}", knob.what),
        })
    }
}

/// Every kind of finding that a VM had, the gravest first.
pub(super) fn of(vm: &Vm) -> Vec<FindingReport> {
    let mut findings: Vec<_> = vm.findings.kinds().map(FindingReport::new).collect();
    findings.sort_by_key(FindingReport::rank);
    findings
}

/// Kinds of findings whose absence says nothing, and why: by path.
pub(super) fn unknown(vm: &Vm, coverage: &Coverage) -> BTreeMap<Name, String> {
    let unseen = |signals: &[_]| {
        let mut missing = coverage.missing();
        let status = missing.find(|status| signals.contains(&status.signal))?;
        let reason = status.reason.as_deref().unwrap_or("not attached");
        Some(format!("{} is not seen: {reason}", status.signal.name()))
    };
    let kinds = findings::needs().filter_map(|(name, signals)| {
        // What was found was known.
        let was_found = vm.findings.kinds().any(|found| found.finding.name == name);
        let reason = unseen(signals).filter(|_| !was_found)?;
        Some((name, reason))
    });
    let mut unknown: BTreeMap<Name, String> =
        kinds.map(|(name, reason)| (format!("findings.{name}").into(), reason)).collect();
    if !unknown.is_empty() {
        let names: Vec<_> = unknown.keys().filter_map(|path| path.split('.').nth(1)).collect();
        let reason = format!("could not be looked for: {}", names.join(", "));
        unknown.insert("findings".into(), reason);
    }
    let undecided = findings::needs().filter_map(|(name, _)| {
        let why = findings::undecided(name, vm, coverage.into())?;
        Some((format!("findings.{name}").into(), why))
    });
    for (path, why) in undecided {
        unknown.entry(path).or_insert(why);
    }
    unknown
}
