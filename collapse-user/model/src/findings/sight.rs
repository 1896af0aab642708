//! What is seen, as far as diagnoses depend on it.

use collapse_feed::{Coverage, Mmu, Signal};

/// What is seen, as far as diagnoses depend on it. Nothing, by default.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Sight {
    /// The MMU that VMs use.
    pub mmu: Mmu,
    /// Number of guest faults of which one is timed; 0 if none is.
    pub timed_faults: u32,
    /// Whether the CPU logs dirty pages (PML).
    pub pml: Option<bool>,
    /// A bit for each signal that is seen.
    signals: u64,
}

const _: () = assert!(Signal::ALL.len() <= 64);

impl Default for Sight {
    fn default() -> Self {
        Self { mmu: Mmu::Unknown, timed_faults: 0, pml: None, signals: 0 }
    }
}

impl From<&Coverage> for Sight {
    fn from(coverage: &Coverage) -> Self {
        let seen = coverage.signals.iter().filter(|status| status.is_seen());
        Self {
            mmu: coverage.mmu,
            timed_faults: coverage.timed_faults,
            pml: coverage.paging.pml,
            signals: seen.fold(0, |bits, status| bits | 1 << status.signal as u8),
        }
    }
}

impl Sight {
    /// Whether a signal is seen.
    pub fn sees(self, signal: Signal) -> bool {
        self.signals & 1 << signal as u8 != 0
    }
}
