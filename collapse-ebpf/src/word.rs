//! Words of memory that several programs or CPUs write, and indices that the verifier can follow.

use core::{arch::asm, cell::UnsafeCell, ptr};

/// A word shared by all CPUs, read and written without locks. The BPF target selects no atomic
/// loads, and fetching atomics need 5.12; volatile access to an aligned word is enough here.
///
/// Each is on a cache line of its own: one that operations write would otherwise slow down the readers of
/// another one.
#[repr(align(64))]
pub struct Word(UnsafeCell<u64>);

// SAFETY: access is volatile and of one aligned word; who races sees the old or the new value.
unsafe impl Sync for Word {}

impl Word {
    pub const fn new(value: u64) -> Self {
        Self(UnsafeCell::new(value))
    }

    #[inline(always)]
    pub fn get(&self) -> u64 {
        // SAFETY: the word lives as long as the program.
        unsafe { ptr::read_volatile(self.0.get()) }
    }

    #[inline(always)]
    pub fn set(&self, value: u64) {
        // SAFETY: as above.
        unsafe { ptr::write_volatile(self.0.get(), value) }
    }

    /// Changes the word. Two CPUs at once may lose an increment, which still leaves it changed: the
    /// readers of [`crate::maps::EPOCH`] and [`crate::maps::GENERATION`] need no more.
    #[inline(always)]
    pub fn tick(&self) {
        self.set(self.get() + 1);
    }
}

/// Returns `at & MASK`. The compiler leaves out a mask that it can prove redundant, but the verifier
/// needs to see it before it accepts `at` as an index.
#[inline(always)]
pub fn bounded<const MASK: usize>(mut at: usize) -> usize {
    // SAFETY: plain arithmetic.
    unsafe {
        asm!("{0} &= {1}", inout(reg) at, const MASK, options(pure, nomem, nostack));
        core::hint::assert_unchecked(at <= MASK);
    }
    at
}

/// Returns `value`, of which the verifier knows nothing any more. Where it is one of several constants,
/// the verifier would follow the rest of the program once for each. `noise` is any number that is not
/// a constant.
#[inline(always)]
pub fn opaque(mut value: u64, noise: u64) -> u64 {
    // SAFETY: plain arithmetic.
    unsafe {
        asm!("{0} ^= {1}", "{0} ^= {1}", inout(reg) value, in(reg) noise, options(pure, nomem, nostack));
    }
    value
}

/// Adds to a word that any CPU may write.
#[inline(always)]
pub fn shared_add(word: &mut u64, n: u64) {
    // SAFETY: BPF_ATOMIC | BPF_ADD on an aligned word of a map value. `core` has no `fetch_add` for a
    // target that cannot compare and exchange.
    unsafe { asm!("lock *(u64 *)({0} + 0) += {1}", in(reg) word, in(reg) n, options(nostack)) };
}
