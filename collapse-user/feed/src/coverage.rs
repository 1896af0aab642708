//! Coverage: which signals are seen, and so which numbers are known.

use collapse_common::SpteLayout;

use crate::Signal;

/// What is seen on a kernel, and the facts about it that decide what numbers mean.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Coverage {
    /// The MMU that VMs use.
    pub mmu: Mmu,
    /// Every signal that this MMU needs.
    pub signals: Vec<SignalStatus>,
    /// One in how many guest faults is timed; 0 for none.
    pub timed_faults: u32,
    /// Where the bits of an SPTE are.
    pub spte: SpteLayout,
    /// Whether guest faults are KVM's own counts (`pf_taken`, `pf_fast`; 5.19 and later), which do not
    /// say at which level a fast fault was resolved.
    pub kvm_counts_faults: bool,
    /// Whether the collapse routine rebuilds huge pages in place (`kvm_mmu_recover_huge_pages`, 6.13
    /// and later) instead of zapping; `None` if its runs are not seen, or if an earlier version wrote
    /// the recording.
    pub collapse_rebuilds: Option<bool>,
}

/// How one signal is seen, or why not.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct SignalStatus {
    /// The signal.
    pub signal: Signal,
    /// Hooks in use, for people only: nothing is decided by their spelling. `None` if it is not seen.
    pub hooks: Option<Vec<String>>,
    /// Why it is not seen.
    pub reason: Option<String>,
}

/// The MMU that KVM uses for ordinary guests.
#[derive(
    Clone, Copy, Debug, PartialEq, Eq, serde::Serialize, serde::Deserialize, schemars::JsonSchema,
)]
#[serde(rename_all = "snake_case")]
pub enum Mmu {
    /// Nested paging, page tables kept by the TDP MMU: the default from 5.14 on.
    Tdp,
    /// Nested paging, page tables kept with rmaps: `tdp_mmu=N`, the default of 5.10.
    Rmap,
    /// No nested paging: `npt=0`, `ept=0`.
    Shadow,
    /// The module parameters could not be read.
    Unknown,
}

impl Mmu {
    /// The signal without which SPTE changes of this MMU are not seen.
    pub fn essential_signal(self) -> Signal {
        match self {
            Self::Tdp | Self::Unknown => Signal::TdpChanges,
            Self::Rmap | Self::Shadow => Signal::RmapChanges,
        }
    }

    /// The MMU in words.
    pub fn label(self) -> &'static str {
        match self {
            Self::Tdp => "TDP MMU",
            Self::Rmap => "rmap MMU",
            Self::Shadow => "shadow paging",
            Self::Unknown => "MMU unknown",
        }
    }
}

impl SignalStatus {
    /// Whether the signal is seen.
    pub fn is_seen(&self) -> bool {
        self.hooks.is_some()
    }
}

impl Coverage {
    /// Whether a signal is seen.
    pub fn sees(&self, signal: Signal) -> bool {
        self.signals.iter().any(|status| status.signal == signal && status.is_seen())
    }

    /// Returns a value that rests on `signal`: `None`, unknown, if that is not seen. The one way to
    /// ask whether a number is known.
    pub fn known<T>(&self, signal: Signal, value: T) -> Option<T> {
        self.sees(signal).then_some(value)
    }

    /// Marks a signal as not seen, and why. A reason that was given before stays.
    pub fn leave_out(&mut self, signal: Signal, why: &str) {
        for status in self.signals.iter_mut().filter(|status| status.signal == signal) {
            status.hooks = None;
            status.reason.get_or_insert_with(|| why.to_owned());
        }
    }

    /// Returns this coverage with nothing seen at all, because of `why`.
    #[must_use]
    pub fn blind(&self, why: &str) -> Self {
        let blind = |status: &SignalStatus| SignalStatus {
            hooks: None,
            reason: Some(why.to_owned()),
            signal: status.signal,
        };
        let signals = self.signals.iter().map(blind).collect();
        Self { mmu: Mmu::Unknown, signals, timed_faults: 0, ..self.clone() }
    }

    /// Signals that are not seen.
    pub fn missing(&self) -> impl Iterator<Item = &SignalStatus> {
        self.signals.iter().filter(|status| !status.is_seen())
    }
}
