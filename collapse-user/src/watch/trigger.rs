//! A finding that ends a recording which until then forgets.

use std::time::Duration;

use crate::{
    findings::{Thresholds, findings},
    model::Model,
    plan::Coverage,
};

/// Which findings, and how long to go on after the first.
pub(crate) struct Trigger {
    findings: Vec<String>,
    after: Duration,
    fired: Option<u64>,
}

impl Trigger {
    /// One that has not fired.
    pub fn new(findings: Vec<String>, after: Duration) -> Self {
        Self { findings, after, fired: None }
    }

    /// Looks for the findings; which one fires it now, and of which VM.
    pub fn look(&mut self, model: &Model, coverage: &Coverage) -> Option<(&'static str, String)> {
        if self.fired.is_some() {
            return None;
        }
        let thresholds = Thresholds::default();
        let found = model.vms.values().find_map(|vm| {
            let found = findings(vm, coverage.mmu, model.now, &thresholds);
            let wanted = |name: &str| self.findings.iter().any(|wanted| wanted == name);
            let finding = found.into_iter().find(|finding| wanted(finding.name))?;
            let process = vm.process.as_ref();
            let name = process.map_or("a VM", |process| process.name.text.as_str());
            Some((finding.name, name.to_owned()))
        })?;
        self.fired = Some(model.now);
        Some(found)
    }

    /// Whether it fired at all.
    pub fn has_fired(&self) -> bool {
        self.fired.is_some()
    }

    /// Whether it fired and what was to follow is there.
    pub fn is_over(&self, model: &Model) -> bool {
        let since = |at| u128::from(model.now.saturating_sub(at));
        self.fired.is_some_and(|at| since(at) >= self.after.as_nanos())
    }
}
