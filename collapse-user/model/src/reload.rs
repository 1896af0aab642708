//! KVM goes and comes back, and with it the programs that count: what they counted stays.

use std::collections::BTreeMap;

use super::{Model, Totals};

/// Counts of programs that are no longer attached. Counts of a VM need no such base: none outlives
/// the KVM that it was created with.
#[derive(Clone, Debug, Default)]
pub(super) struct Earlier {
    pub(super) unattributed: Totals,
    losses: BTreeMap<&'static str, u64>,
}

impl Earlier {
    /// Losses of the programs now attached, and of those before.
    pub(super) fn with(
        &self,
        losses: &[(&'static str, u64)],
    ) -> impl Iterator<Item = (&'static str, u64)> {
        losses.iter().map(|(way, n)| (*way, n + self.losses.get(way).unwrap_or(&0)))
    }
}

impl Model {
    /// Nothing is counted any more, and `why`. All that was counted has been applied; VMs whose end
    /// was not seen are gone all the same.
    pub fn detached(&mut self, at: u64, why: String) {
        self.now = self.now.max(at);
        self.unwatched = Some(why);
        self.attached = None;
        self.earlier =
            Earlier { unattributed: self.unattributed.clone(), losses: self.losses.clone() };
        for (key, vm) in self.vms.iter_mut().filter(|(_, vm)| !vm.gone) {
            vm.vanish(at);
            self.gone.push_back(*key);
        }
    }

    /// Other programs count from now on, after KVM was loaded again.
    pub fn reattached(&mut self) {
        self.reloads += 1;
        self.unwatched = None;
    }
}
