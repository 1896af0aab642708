//! Sums of times by row.

use collapse_common::latency::{SUMS, Sum, Timed};

use crate::{maps, word::shared_add};

/// Adds one of a kind, which took `took` ns, to the sums of a row.
#[inline(always)]
pub fn add(row: u32, timed: Timed, took: u64) {
    let Some(latencies) = maps::latencies().get_ptr_mut(row) else { return };
    // SAFETY: the value lives as long as the program.
    let sums = unsafe { &mut (*latencies)[SUMS] };
    let [number, time, longest] = timed.positions();
    shared_add(&mut sums[number], 1);
    shared_add(&mut sums[time], took);
    // Of two that end on two CPUs at once, the longer may be overwritten, as the kernel side cannot compare
    // and exchange before 5.12.
    if took > sums[longest] {
        sums[longest] = took;
    }
}

/// Adds `n` to a sum of a row.
#[inline(always)]
pub fn add_to(row: u32, sum: Sum, n: u64) {
    if let Some(latencies) = maps::latencies().get_ptr_mut(row) {
        // SAFETY: the value lives as long as the program.
        shared_add(unsafe { &mut (*latencies)[SUMS][sum as usize] }, n);
    }
}
