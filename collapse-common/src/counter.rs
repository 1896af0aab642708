//! The counters of one (VM, cause) row.

use crate::{Transition, ids};

/// Counters in a row: transitions by level, then [`Counter`]s.
pub const COUNTERS: usize = 69;

/// Counters that the kernel side has of them, on each CPU. User space adds the others.
pub const CPU_COUNTERS: usize = 64;

/// Levels that have counters of their own for each transition. Level 5 shares the place of level 1: it only ever holds
/// page tables, level 1 never does.
const LEVELS: usize = 4;

/// Returns the position of the counter for `transition` at `level` (1 to 5).
#[inline(always)]
pub const fn index(transition: Transition, level: u32) -> usize {
    transition as usize * LEVELS + (level as usize & (LEVELS - 1))
}

/// Returns the transition and level whose counter is at `index`; `None` for the other counters.
pub fn transition_at(index: usize) -> Option<(Transition, u32)> {
    let transition = Transition::from_number(u8::try_from(index / LEVELS).ok()?)?;
    let level = match (transition, (index % LEVELS) as u32) {
        (_, 0) => 4,
        (Transition::Link | Transition::Unlink, 1) => 5,
        (_, level) => level,
    };
    Some((transition, level))
}

ids! {
    /// Counters beside those of transitions.
    pub enum Counter: u8 {
        /// Guest faults taken, as KVM's `pf_taken` counts them: without accesses to emulated devices.
        Fault = 56,
        /// Guest faults that the lockless fast path resolved, or found resolved, without an SPTE event, as
        /// KVM's `pf_fast` counts them. Part of `Fault`.
        FastFault = 57,
        /// Exits of vCPUs to their VMM because a dirty ring is full.
        RingFull = 58,
        /// Calls of `drop_spte`: only fault-time replacement and shadow-page zapping pass through it.
        DropSpte = 59,
        /// Calls of the operation that the row's cause names.
        Operation = 60,
        /// Fast faults on a huge leaf. Part of `FastFault`, and only counted where KVM does not count fast
        /// faults itself (5.10).
        FastFaultHuge = 61,
        /// Times the operation that the row's cause names gave up `mmu_lock` to others.
        Yield = 62,
        /// Estimated time from guest fault to guest re-entry of all faults, ns, see [`crate::latency::stall`].
        /// User space adds it to what it reads; nobody counts it in the kernel.
        Stall = 63,
        /// Exits for a full log of dirty pages (PML): [`crate::latency::Sum::PmlFull`].
        PmlFull = 64,
        /// Their time, ns: [`crate::latency::Sum::PmlFullNs`].
        PmlFullNs = 65,
        /// Waits for `mmu_lock`: [`crate::latency::Sum::LockWaits`].
        LockWait = 66,
        /// Their time, ns: [`crate::latency::Sum::LockWaitsNs`].
        LockWaitNs = 67,
        /// Guest faults of which nothing came: [`crate::latency::Sum::Retried`]. Part of `Fault`.
        Retried = 68,
    }
}

const _: () = assert!(index(Transition::SplitRelink, 3) < Counter::Fault as usize);
const _: () = assert!((Counter::Stall as usize) < CPU_COUNTERS);
const _: () = assert!((Counter::PmlFull as usize) >= CPU_COUNTERS);
const _: () = assert!((Counter::Retried as usize) < COUNTERS);

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn positions_are_unique_and_reversible() {
        for transition in Transition::ALL {
            for level in 2..=4 {
                assert_eq!(transition_at(index(transition, level)), Some((transition, level)));
            }
        }
        for leaf in [Transition::Install, Transition::Zap, Transition::WriteProtect] {
            assert_eq!(transition_at(index(leaf, 1)), Some((leaf, 1)));
        }
        for table in [Transition::Link, Transition::Unlink] {
            assert_eq!(transition_at(index(table, 5)), Some((table, 5)));
        }
        assert_eq!(transition_at(Counter::Fault as usize), None);
    }
}
