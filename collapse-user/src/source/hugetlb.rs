//! Memory that the processes behind VMs have from hugetlbfs.

use std::collections::HashMap;

use collapse_common::abi::VmKey;

use super::VmReading;
use crate::identity;

/// Processes looked at per batch: their memory changes rarely, and each look is a file to read.
const LOOKS: usize = 4;

/// The amounts reported before, and the process whose turn it is.
#[derive(Debug, Default)]
pub struct Hugetlb {
    reported: HashMap<VmKey, u64>,
    next: usize,
}

impl Hugetlb {
    /// Returns VMs whose process has another amount than was reported before, bytes. All get their
    /// turn.
    pub fn changes(&mut self, vms: &[VmReading]) -> Vec<(VmKey, u64)> {
        self.reported.retain(|key, _| vms.iter().any(|reading| reading.vm == *key));
        let start = self.next;
        self.next = if vms.is_empty() { 0 } else { (start + LOOKS) % vms.len() };
        let turns = vms.iter().cycle().skip(start).take(LOOKS.min(vms.len()));
        let looks = turns.filter_map(|reading| {
            let bytes = identity::hugetlb_bytes(reading.process.as_ref()?.pid)?;
            (self.reported.insert(reading.vm, bytes) != Some(bytes)).then_some((reading.vm, bytes))
        });
        looks.collect()
    }
}
