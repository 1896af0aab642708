//! Whether what was recorded of each SPTE change adds up to what was counted.

use collapse_common::Transition;

use super::{Model, Vm};
use collapse_feed::{Event, EventKind};

/// SPTE changes of all VMs, known and unknown, since attaching.
#[derive(
    Clone,
    Copy,
    Debug,
    Default,
    PartialEq,
    Eq,
    serde::Serialize,
    serde::Deserialize,
    schemars::JsonSchema,
)]
pub struct Changes {
    /// Of every kind, by exact totals: what `perf stat` counts at the same hooks.
    pub counted: u64,
    /// The part of `counted` that belongs to the life of a mapping, and so has records.
    pub of_life: u64,
    /// By those records: `of_life` but for what is known to be lost.
    pub recorded: u64,
}

impl Changes {
    /// Adds the changes of events.
    pub(super) fn record(&mut self, events: &[Event]) {
        let counts = events.iter().map(|event| match &event.kind {
            EventKind::Change(change) => u64::from(change.count),
            _ => 0,
        });
        self.recorded += counts.sum::<u64>();
    }

    /// Adds what was counted of one VM.
    pub(super) fn count(&mut self, vm: &Vm) {
        self.counted += vm.changes(|_| true);
        self.of_life += vm.changes(Transition::is_recorded);
    }
}

impl Model {
    /// The changes so far.
    pub fn changes(&self) -> Changes {
        let mut changes = self.earlier_changes;
        for vm in self.vms.values() {
            changes.count(vm);
        }
        changes.counted += self.unattributed.changes(|_| true);
        changes.of_life += self.unattributed.changes(Transition::is_recorded);
        changes
    }
}

#[cfg(test)]
mod tests {
    use collapse_common::{Cause, abi::VmKey, counter::index};

    use super::*;
    use crate::GONE_KEPT;
    use collapse_feed::{Batch, Change, fixtures};

    #[test]
    fn no_change_is_forgotten_with_its_vm() {
        let key = |number| VmKey { kvm: 0x1000 + number, born: number };
        let vms = GONE_KEPT as u64 + 10;
        let mut model = Model::default();
        for number in 1..=vms {
            let vm = key(number);
            let counts = [(index(Transition::Install, 1), 3), (index(Transition::Age, 1), 4)];
            let install =
                Change { count: 2, ..fixtures::change(Cause::GuestFault, Transition::Install) };
            let kinds = [EventKind::Change(install), EventKind::VmDestroyed { pages: None }];
            let events = kinds.map(|kind| Event { ts: number, vm, tid: 1, kind }).into();
            let rows = vec![(vm, Cause::GuestFault, fixtures::row(&counts))];
            model.apply(&Batch { at: number, rows, events, ..Batch::default() });
        }
        assert!(model.forgotten > 0);
        let expected = Changes { counted: 7 * vms, of_life: 3 * vms, recorded: 2 * vms };
        assert_eq!(model.changes(), expected);
    }
}
