//! The counters of one (VM, cause) row.

use crate::Transition;

/// Counters in a row: transitions by level, then [`Counter`]s.
pub const COUNTERS: usize = 64;

/// Levels told apart by transition counters. Levels 4 and 5 only ever hold page tables and share
/// the last place.
pub const LEVELS: usize = 4;

/// Position of the counter for `transition` at `level` (1 to 5).
#[inline(always)]
pub const fn index(transition: Transition, level: u32) -> usize {
    let level = if level > LEVELS as u32 { LEVELS as u32 } else { level };
    transition as usize * LEVELS + (level.saturating_sub(1) as usize & (LEVELS - 1))
}

/// The transition and level whose counter is at `index`; `None` for the other counters.
pub fn transition_at(index: usize) -> Option<(Transition, u32)> {
    let transition = *Transition::ALL.get(index / LEVELS)?;
    Some((transition, (index % LEVELS) as u32 + 1))
}

/// What is counted beside transitions.
#[repr(u8)]
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Counter {
    /// Guest faults taken: `kvm_page_fault`, or `kvm_mmu_page_fault` where the tracepoint names
    /// no vCPU (5.10).
    Fault = 56,
    /// Guest faults resolved by the lockless fast path without an SPTE event.
    FastFault = 57,
    /// Fast-path tries that were left to the slow path or found nothing to do.
    FastFaultOther = 58,
    /// Calls of `drop_spte`: only fault-time replacement and shadow-page zapping pass through it.
    DropSpte = 59,
    /// Calls of the operation that the row's cause names.
    Operation = 60,
}

const _: () = assert!(index(Transition::SplitRelink, 4) < Counter::Fault as usize);
const _: () = assert!((Counter::Operation as usize) < COUNTERS);

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn positions_are_unique_and_reversible() {
        for transition in Transition::ALL {
            for level in 1..=4 {
                assert_eq!(transition_at(index(transition, level)), Some((transition, level)));
            }
            assert_eq!(index(transition, 5), index(transition, 4));
        }
        assert_eq!(transition_at(Counter::Fault as usize), None);
    }
}
