//! The changes that user space gets a record of. All are counted, whatever is chosen here.

use crate::Transition;

/// The changes that the kernel side records, chosen by user space before load.
#[repr(C)]
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Selection {
    /// By [`Transition`] number, a bit: whether such changes are recorded.
    pub transitions: u32,
    /// One region of 2 MiB in this many is recorded, see [`is_sampled`]; at least 1.
    pub sample: u32,
    /// Whether a row can be muted, see [`crate::abi::RowOwner::muted`]. Looking costs 15 instructions.
    pub by_row: u32,
    /// Whether each change is a record of its own, with its SPTE before and after.
    pub each: u32,
    /// By [`Transition`] number, a bit: whether such changes are recorded with the kernel's stack. Only where
    /// `each` is set.
    pub stacks: u32,
}

impl Selection {
    /// The changes of a mapping's life cycle, in runs.
    pub const DEFAULT: Self =
        Self { transitions: Self::LIFE_CYCLE, sample: 1, by_row: 0, each: 0, stacks: 0 };

    /// [`Transition::is_recorded`] as bits.
    pub const LIFE_CYCLE: u32 = {
        let mut bits = 0;
        let mut at = 0;
        while at < Transition::ALL.len() {
            let transition = Transition::ALL[at];
            if transition.is_recorded() {
                bits |= 1 << transition as u32;
            }
            at += 1;
        }
        bits
    };
}

impl Default for Selection {
    fn default() -> Self {
        Self::DEFAULT
    }
}

/// Whether the region of 2 MiB that begins with or contains `gfn` is among the one in `one_in`
/// (at least 1) that are recorded: always the same ones.
#[inline(always)]
pub const fn is_sampled(gfn: u64, one_in: u32) -> bool {
    // Fibonacci hashing: the upper half of the product differs between neighbouring regions.
    let hash = (gfn >> 9).wrapping_mul(0x9e37_79b9_7f4a_7c15) >> 32;
    hash.is_multiple_of(one_in as u64)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn one_region_in_n() {
        for one_in in [1, 2, 7, 16, 1000] {
            let sampled = (0..100_000).filter(|region| is_sampled(region << 9, one_in)).count();
            let expected = 100_000 / one_in as usize;
            assert!(sampled.abs_diff(expected) <= expected / 5 + 1, "{sampled} of {expected}");
        }
    }

    #[test]
    fn a_region_is_sampled_as_a_whole() {
        for gfn in 0..4096 {
            assert_eq!(is_sampled(gfn, 3), is_sampled(gfn & !511, 3));
        }
    }
}
