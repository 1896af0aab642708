//! The (VM, cause) rows in use, and their counts.
//!
//! The kernel takes rows from a queue that only we fill, so we know the order in which it does, and
//! which are in use without looking at all of them.

use std::collections::{BTreeMap, VecDeque};

use collapse_common::{
    Cause, Counter,
    abi::{Row, RowOwner, UNKNOWN_ROW, VmKey, map, request::GiveBack},
    counter::{COUNTERS, transition_at},
    latency::{BUCKETS, Latencies, NO_LATENCIES, SUMS, Sum, stall},
};

use super::vcpus::Totals;
use crate::{
    probe::{Probe, ProbeError},
    source::maps::{Maps, map_error},
};

/// Offset of the sums in [`Latencies`].
const SUMS_AT: usize = SUMS * size_of::<[u64; BUCKETS]>();

/// Counters that are sums over latencies.
const SUMMED: [(Counter, Sum); 5] = [
    (Counter::PmlFull, Sum::PmlFull),
    (Counter::PmlFullNs, Sum::PmlFullNs),
    (Counter::LockWait, Sum::LockWaits),
    (Counter::LockWaitNs, Sum::LockWaitsNs),
    (Counter::Retried, Sum::Retried),
];

/// The rows, as the kernel side sees them.
pub struct Rows {
    /// Free rows, in the order in which the kernel side will take them.
    upcoming: VecDeque<u32>,
    /// Rows in use, with their owners.
    used: BTreeMap<u32, RowOwner>,
    /// How many operations, and waits, had ended when a row's times were last returned.
    ended: BTreeMap<u32, u64>,
}

impl Rows {
    /// Gives all rows to the kernel side.
    pub fn fill(maps: &mut Maps) -> Result<Self, ProbeError> {
        let upcoming: VecDeque<_> = (UNKNOWN_ROW + 1..maps.owners.len() as u32).collect();
        for row in &upcoming {
            maps.free_rows.push(row, 0).map_err(map_error(map::FREE_ROWS))?;
        }
        Ok(Self { upcoming, used: BTreeMap::new(), ended: BTreeMap::new() })
    }

    /// Returns rows in use, with their owners. The row of unknown owners is none of them.
    pub fn used(&self) -> impl Iterator<Item = (u32, &RowOwner)> {
        self.used.iter().map(|(row, owner)| (*row, owner))
    }

    /// Returns the owner of a row, be it in use already as far as we know or not; `None` if there
    /// is no such row.
    pub fn owner(&self, maps: &Maps, row: u32) -> Option<RowOwner> {
        if let Some(owner) = self.used.get(&row) {
            return Some(*owner);
        }
        let row = row as usize;
        (row < maps.owners.len()).then(|| maps.owners.read(row))
    }

    /// Returns the counts of every row in use, summed over CPUs.
    pub fn totals(&mut self, maps: &Maps) -> Totals {
        self.learn(maps);
        self.with_unknown().map(|row| (row, Box::new(maps.row(row)))).collect()
    }

    /// Takes in which rows the kernel side has taken.
    fn learn(&mut self, maps: &Maps) {
        while let Some(&row) = self.upcoming.front() {
            let owner = maps.owners.read(row as usize);
            if owner.vm == VmKey::default() {
                break;
            }
            self.upcoming.pop_front();
            self.used.insert(row, owner);
        }
    }

    fn with_unknown(&self) -> impl Iterator<Item = u32> {
        [UNKNOWN_ROW].into_iter().chain(self.used.keys().copied())
    }

    /// Returns the number of SPTE changes counted in all rows.
    pub fn changes(&self, maps: &Maps) -> u64 {
        let changes = |row: Row| {
            let counts = row.into_iter().enumerate();
            counts.filter(|(at, _)| transition_at(*at).is_some()).map(|(_, n)| n).sum::<u64>()
        };
        self.with_unknown().map(|row| changes(maps.row(row))).sum()
    }

    /// Returns the latencies of every row of guest faults that has any, and the times of every row of operations
    /// in which one, or a wait, ended since the last call.
    pub fn latencies(&mut self, maps: &Maps) -> Vec<(VmKey, Cause, Box<Latencies>)> {
        let Self { used, ended, .. } = self;
        let rows = used.iter().filter_map(|(row, owner)| {
            let cause = Cause::from_number(owner.cause as u8)?;
            let latencies = if cause.is_guest_fault() {
                let latencies = Box::new(maps.latencies.read(*row as usize));
                latencies.iter().flatten().any(|n| *n > 0).then_some(latencies)
            } else {
                times(maps, *row, ended.entry(*row).or_default())
            };
            Some((owner.vm, cause, latencies?))
        });
        rows.collect()
    }

    /// Returns the totals with what the latencies of each row show: stall, and [`SUMMED`]. One fault in `one_in` was
    /// timed. Later than [`Self::latencies`], so that no sum is behind a histogram.
    pub fn with_sums(&self, mut totals: Totals, maps: &Maps, one_in: u64) -> Totals {
        for (row, counts) in totals.iter_mut().filter(|(row, _)| self.used.contains_key(row)) {
            let sums = maps.latencies.read_part(*row as usize, SUMS_AT);
            counts[Counter::Stall as usize] += stall(&sums, one_in);
            for (counter, sum) in SUMMED {
                counts[counter as usize] += sums[sum as usize];
            }
        }
        totals
    }

    /// Returns the totals by owner. Two CPUs that took a row for the same VM and cause at once both
    /// count; their rows are added up.
    pub fn attribute(&self, totals: Totals) -> Vec<(VmKey, Cause, Box<Row>)> {
        let mut sums: BTreeMap<(VmKey, Cause), Box<Row>> = BTreeMap::new();
        for (row, counts) in totals {
            let owner = self.used.get(&row);
            let vm = owner.map_or_else(VmKey::default, |owner| owner.vm);
            let cause = owner.and_then(|owner| Cause::from_number(owner.cause as u8));
            let sum = sums
                .entry((vm, cause.unwrap_or(Cause::Unknown)))
                .or_insert_with(|| Box::new([0; COUNTERS]));
            for (sum, n) in sum.iter_mut().zip(counts.iter()) {
                *sum += n;
            }
        }
        sums.into_iter().map(|((vm, cause), row)| (vm, cause, row)).collect()
    }

    /// Gives back the rows of a VM that is gone, and returns them.
    pub fn release(&mut self, vm: VmKey, maps: &mut Maps, probe: &Probe) -> Vec<u32> {
        let rows: Vec<_> =
            self.used().filter(|(_, owner)| owner.vm == vm).map(|(row, _)| row).collect();
        for row in &rows {
            maps.clear_row(*row);
            self.used.remove(row);
            self.ended.remove(row);
            match probe.request(&GiveBack::Row(*row)) {
                Ok(()) => self.upcoming.push_back(*row),
                Err(error) => log::warn!("{}", error.line()),
            }
        }
        rows
    }
}

/// Returns the times of a row of operations if more than `known`, or waits, have ended, and how many have now.
fn times(maps: &Maps, row: u32, known: &mut u64) -> Option<Box<Latencies>> {
    // Most rows have nothing new, and all are looked at ten times a second.
    let sum = |sum: Sum| -> u64 {
        maps.latencies.read_part(row as usize, SUMS_AT + sum as usize * size_of::<u64>())
    };
    let ended = sum(Sum::Calls) + sum(Sum::LockWaits);
    if ended == *known {
        return None;
    }
    *known = ended;
    let mut latencies = Box::new(NO_LATENCIES);
    latencies[SUMS] = maps.latencies.read_part(row as usize, SUMS_AT);
    Some(latencies)
}
