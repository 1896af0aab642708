//! A part of a recording.

use std::collections::BTreeMap;

use collapse_common::{
    Cause,
    abi::{Row, VmKey},
    latency::Latencies,
};

use super::snapshot::Snapshot;
use crate::{Batch, Update};

/// The updates of a part of a recording, as if it had been all that was recorded: what was counted before is
/// its beginning, and in no count.
#[derive(Default)]
pub struct Excerpt {
    since: u64,
    until: u64,
    begun: bool,
    snapshot: Snapshot,
    /// The last batch before the part; its rows are all that there were.
    last: Option<Batch>,
    rows: BTreeMap<(VmKey, Cause), Box<Row>>,
    latencies: BTreeMap<(VmKey, Cause), Box<Latencies>>,
    losses: BTreeMap<&'static str, u64>,
}

impl Excerpt {
    /// The part from `since` to `until`, `CLOCK_MONOTONIC` ns. It begins with the last reading before.
    pub fn new(since: u64, until: u64) -> Self {
        Self { since, until, ..Self::default() }
    }

    /// Whether an update is after the part, and so are all that follow.
    pub fn is_before(&self, update: &Update) -> bool {
        update.at() > self.until
    }

    /// Takes the next update of the recording; returns what of the part it brings.
    pub fn take(&mut self, update: Update) -> Vec<Update> {
        if self.begun {
            return vec![update];
        }
        if update.at() >= self.since {
            self.begun = true;
            return self.beginning().into_iter().map(Update::Batch).chain([update]).collect();
        }
        match update {
            Update::Batch(batch) => self.note(batch),
            // No VM outlives the KVM that it was created with.
            Update::Detached { .. } => {
                *self = Self::new(self.since, self.until);
            }
            Update::Unwatched { .. } | Update::Attached { .. } => {}
        }
        Vec::new()
    }

    fn note(&mut self, batch: Batch) {
        self.snapshot.apply(&batch);
        let Batch { rows, latencies, losses, .. } = &batch;
        self.rows.extend(rows.iter().map(|(vm, cause, row)| ((*vm, *cause), row.clone())));
        self.latencies
            .extend(latencies.iter().map(|(vm, cause, all)| ((*vm, *cause), all.clone())));
        self.losses.extend(losses.iter().copied());
        self.last = Some(Batch { events: Vec::new(), ..batch });
    }

    /// The state when the part begins; `None` if nothing was read before.
    fn beginning(&mut self) -> Option<Batch> {
        let rows = std::mem::take(&mut self.rows).into_iter();
        let latencies = std::mem::take(&mut self.latencies).into_iter();
        Some(Batch {
            events: self.snapshot.events(),
            hugetlb: self.snapshot.hugetlb(),
            overhead: self.snapshot.overhead(),
            stacks: self.snapshot.stacks(),
            rows: rows.map(|((vm, cause), row)| (vm, cause, row)).collect(),
            latencies: latencies.map(|((vm, cause), all)| (vm, cause, all)).collect(),
            losses: std::mem::take(&mut self.losses).into_iter().collect(),
            ..self.last.take()?
        })
    }
}
