//! Guest faults that KVM has counted and that are in no row yet.
//!
//! From 5.19 on KVM counts the faults of each vCPU itself. The kernel side does not look at each fault:
//! it adds KVM's counts to a row only when the thread, the VM or the cause changes, which takes an
//! eighth of the instructions. Until then they are *pending*, and a row alone is behind by them. So a
//! reading adds the pending faults of every vCPU to the counts of its row.
//!
//! User space cannot read KVM's counts, so it has a program do it ([`ReadPending`]): one system call per
//! vCPU and reading. Meanwhile a row may take pending faults over, which then would be missing, or be
//! there twice; [`PendingFaults::counted`] shows that, and the reading is repeated.

use std::{collections::BTreeMap, mem::offset_of};

use collapse_common::{
    Counter,
    abi::{PendingFaults, Row, Thread, VcpuFaults, request::ReadPending},
};

use super::TRIES;
use crate::{probe::Probe, source::maps::Maps};

/// Totals by row.
pub type Totals = BTreeMap<u32, Box<Row>>;

/// A vCPU's place in the table of threads, and what is counted of it in its row.
struct Vcpu {
    place: u32,
    counted: VcpuFaults,
}

/// Reads totals with `rows`, and adds the pending faults of all vCPUs.
pub fn with_pending(probe: &Probe, maps: &Maps, mut rows: impl FnMut() -> Totals) -> Totals {
    let mut tries = TRIES;
    loop {
        let vcpus = vcpus(maps);
        let mut totals = rows();
        let pending: Vec<_> = vcpus.iter().map(|vcpu| pending(probe, maps, vcpu)).collect();
        tries -= 1;
        let mut both = vcpus.iter().zip(&pending);
        if tries == 0 || both.all(|(vcpu, pending)| vcpu.counted == pending.counted) {
            add(&mut totals, &pending);
            return totals;
        }
    }
}

fn vcpus(maps: &Maps) -> Vec<Vcpu> {
    let threads = (0..maps.threads.len()).filter_map(|place| {
        let vcpu: u64 = maps.threads.read_part(place, offset_of!(Thread, vcpu));
        let counted = maps.threads.read_part(place, offset_of!(Thread, counted));
        (vcpu != 0).then_some(Vcpu { place: place as u32, counted })
    });
    threads.collect()
}

fn pending(probe: &Probe, maps: &Maps, vcpu: &Vcpu) -> PendingFaults {
    match probe.request(&ReadPending { place: vcpu.place }) {
        Ok(()) => maps.pending_faults.read(0),
        Err(error) => {
            log::warn!("{}", error.line());
            PendingFaults::NONE
        }
    }
}

fn add(totals: &mut Totals, pending: &[PendingFaults]) {
    for PendingFaults { row, pending, .. } in pending {
        if let Some(row) = totals.get_mut(row) {
            row[Counter::Fault as usize] += pending.taken;
            row[Counter::FastFault as usize] += pending.fast;
            row[Counter::Retried as usize] += pending.retried();
        }
    }
}

#[cfg(test)]
mod tests {
    use collapse_common::counter::COUNTERS;

    use super::*;

    #[test]
    fn pending_faults_are_added_to_the_row_of_their_vcpu() {
        let mut counts = [0; COUNTERS];
        counts[Counter::Fault as usize] = 10;
        let mut totals = Totals::from([(1, Box::new(counts)), (2, Box::new(counts))]);
        let pending = |row, taken, fast| {
            let pending = VcpuFaults { taken, fast, ended: fast };
            PendingFaults { row, pending, ..PendingFaults::NONE }
        };
        // Two vCPUs of one VM, one of a row that is not in use, and a place without a vCPU.
        let all = [pending(1, 5, 2), pending(1, 1, 1), pending(7, 9, 9), PendingFaults::NONE];
        add(&mut totals, &all);
        let faults = |row: u32| {
            let row = &totals[&row];
            [Counter::Fault, Counter::FastFault, Counter::Retried].map(|of| row[of as usize])
        };
        assert_eq!((faults(1), faults(2)), ([16, 3, 3], [10, 0, 0]));
    }
}
