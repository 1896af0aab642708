//! A finding that ends a recording which until then keeps only its end.

use std::time::Duration;

use crate::model::Model;

/// The findings that fire, and for how long to go on after the first.
#[derive(Clone, Debug)]
pub struct Trigger {
    findings: Vec<String>,
    after: Duration,
    /// When it fired, `CLOCK_MONOTONIC` ns.
    fired: Option<u64>,
}

impl Trigger {
    /// A trigger that has not fired.
    pub fn new(findings: Vec<String>, after: Duration) -> Self {
        Self { findings, after, fired: None }
    }

    /// Looks for the findings; returns the one that fires the trigger now, and the name of its VM.
    pub fn look(&mut self, model: &Model) -> Option<(&'static str, String)> {
        if self.fired.is_some() {
            return None;
        }
        let wanted = |name: &str| self.findings.iter().any(|wanted| wanted == name);
        let found = model.vms.values().find_map(|vm| {
            let finding = vm.findings.holding().find(|finding| wanted(finding.name))?;
            Some((finding.name, vm.name().to_owned()))
        })?;
        self.fired = Some(model.now);
        Some(found)
    }

    /// Whether it has fired.
    pub fn has_fired(&self) -> bool {
        self.fired.is_some()
    }

    /// Whether it has fired and the time after it has passed.
    pub fn is_over(&self, model: &Model) -> bool {
        let since = |at| u128::from(model.now.saturating_sub(at));
        self.fired.is_some_and(|at| since(at) >= self.after.as_nanos())
    }
}
