//! Histograms of how long guest faults keep a vCPU from its guest, and how long operations took.

use crate::ids;

/// Buckets of a histogram, two per octave.
pub const BUCKETS: usize = 64;

/// Lower bound of bucket 1, as a power of two: 128 ns. Nothing KVM does for a guest takes less.
const FIRST: u32 = 7;

/// Latencies of one (VM, cause) row: timed faults by outcome, then by [`bucket`]; last, at [`SUMS`], what
/// [`Sum`] lists.
pub type Latencies = [[u64; BUCKETS]; OUTCOMES + 1];

/// No latencies.
pub const NO_LATENCIES: Latencies = [[0; BUCKETS]; OUTCOMES + 1];

/// Position of the sums in [`Latencies`].
pub const SUMS: usize = OUTCOMES;

ids! {
    /// Sums over a row, of what its cause says: of operations, or of what keeps the vCPUs of a VM from their
    /// guest, guest faults and exits for a full log of dirty pages.
    ///
    /// Guest faults on emulated device memory are left out, as their time is not KVM's. A fault is *long* if two
    /// ticks of the clock or more fell into it: these are all counted, be they timed or not. Of the
    /// others one in N is timed. Exits for a full log, and operations, are all timed.
    pub enum Sum: u8 {
        /// Number of timed faults that were not long.
        Timed = 0 "timed",
        /// Their time, ns.
        TimedNs = 1 "timed_ns",
        /// The squares of their times in units of [`SQUARE_UNIT`], from which the error of an estimate
        /// follows.
        TimedSquares = 2 "timed_squares",
        /// Number of long faults.
        Long = 3 "long",
        /// Their time, ns: each exact if it was timed, else to a tick.
        LongNs = 4 "long_ns",
        /// Number of exits for a full log of dirty pages (PML), which are no faults.
        PmlFull = 5 "pml_full",
        /// Their time, ns, from KVM's tracepoint, where it has emptied the log already. Each is timed: there is
        /// one in 512 writes.
        PmlFullNs = 6 "pml_full_ns",
        /// Number of operations that ended.
        Calls = 7 "calls",
        /// Their time, ns, with that of operations inside them.
        CallsNs = 8 "calls_ns",
        /// The time of the longest of them, ns. No sum: it grows only where a longer one ends.
        LongestCallNs = 9 "longest_call_ns",
        /// Number of times that `mmu_lock` of the VM was waited for.
        LockWaits = 10 "lock_waits",
        /// The time waited, ns.
        LockWaitsNs = 11 "lock_waits_ns",
        /// The longest of these waits, ns. No sum.
        LongestLockWaitNs = 12 "longest_lock_wait_ns",
        /// Number of guest faults of which nothing came, see [`crate::abi::VcpuFaults::retried`].
        Retried = 13 "retried",
    }
}

/// Sums of a kind that stand after one another: how many there were, their time, and the longest.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Timed {
    /// Position of the first of the three.
    first: usize,
}

impl Timed {
    /// Operations.
    pub const CALLS: Self = Self { first: Sum::Calls as usize };

    /// Waits for `mmu_lock`.
    pub const LOCK_WAITS: Self = Self { first: Sum::LockWaits as usize };

    /// Positions of the number, the time and the longest.
    pub const fn positions(self) -> [usize; 3] {
        [self.first, self.first + 1, self.first + 2]
    }
}

/// The unit, in ns, of times that are squared in [`Sum::TimedSquares`].
pub const SQUARE_UNIT: u64 = 64;

/// Returns an estimate of the time that all faults of a row took, ns, by its sums, where one in `one_in` was timed. It
/// never decreases as faults are added.
pub const fn stall(sums: &[u64; BUCKETS], one_in: u64) -> u64 {
    sums[Sum::LongNs as usize] + sums[Sum::TimedNs as usize] * one_in
}

/// Number of [`Outcome`]s.
pub const OUTCOMES: usize = Outcome::ALL.len();

ids! {
    /// The result of a guest fault.
    pub enum Outcome: u8 {
        /// No SPTE changed: spurious, a retry, or handed to user space.
        Nothing = 0 "spurious",
        /// Resolved by the lockless fast path.
        Fast = 1 "fast",
        /// A 4 KiB leaf was installed or made writable.
        Small = 2 "small",
        /// A huge leaf was installed or made writable.
        Huge = 3 "huge",
        /// Emulated device memory.
        Mmio = 4 "mmio",
    }
}

/// Returns the bucket of a duration in ns. Bucket 0 is all below 128 ns, the last has no upper
/// bound.
#[inline(always)]
pub const fn bucket(ns: u64) -> usize {
    if ns < 1 << FIRST {
        return 0;
    }
    let octave = log2(ns);
    let half = (ns >> (octave - 1) & 1) as u32;
    let bucket = ((octave - FIRST) * 2 + half + 1) as usize;
    if bucket < BUCKETS { bucket } else { BUCKETS - 1 }
}

/// `63 - ns.leading_zeros()` for `ns` above 0. eBPF has no such instruction, and what the compiler
/// makes of it is twice as long.
#[inline(always)]
const fn log2(mut ns: u64) -> u32 {
    let mut log = 0;
    let mut bits = 32;
    while bits > 0 {
        if ns >> bits != 0 {
            ns >>= bits;
            log += bits;
        }
        bits /= 2;
    }
    log
}

/// Returns the shortest duration in a bucket, ns. The bucket ends where the next begins.
pub const fn lower_bound(bucket: usize) -> u64 {
    if bucket == 0 {
        return 0;
    }
    let halves = bucket as u64 - 1;
    (2 + halves % 2) << (FIRST as u64 - 1 + halves / 2)
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    #[test]
    fn what_is_timed_stands_together() {
        let names = |timed: Timed| timed.positions().map(|at| Sum::ALL[at].name());
        assert_eq!(names(Timed::CALLS), ["calls", "calls_ns", "longest_call_ns"]);
        let waits = ["lock_waits", "lock_waits_ns", "longest_lock_wait_ns"];
        assert_eq!(names(Timed::LOCK_WAITS), waits);
    }

    #[test]
    fn bounds_are_increasing() {
        assert_eq!((lower_bound(1), lower_bound(2), lower_bound(3)), (128, 192, 256));
        assert!((1..BUCKETS).all(|at| lower_bound(at - 1) < lower_bound(at)));
        // Over a quarter of an hour: no fault is cut off that a person would still wait for.
        assert!(lower_bound(BUCKETS - 1) > 200 * 1_000_000_000);
    }

    proptest! {
        #[test]
        fn a_duration_is_within_its_bucket(ns: u64) {
            let at = bucket(ns);
            prop_assert!(lower_bound(at) <= ns);
            prop_assert!(at == BUCKETS - 1 || ns < lower_bound(at + 1));
        }
    }
}
