//! Coverage: which signals are seen, and so which numbers are known.

use collapse_common::SpteLayout;

use crate::Signal;

/// The signals that are seen on a kernel, and the facts about it that decide the meaning of numbers.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Coverage {
    /// The MMU that VMs use.
    pub mmu: Mmu,
    /// Status of every signal that this MMU needs.
    pub signals: Vec<SignalStatus>,
    /// Number of guest faults of which one is timed; 0 if none is.
    pub timed_faults: u32,
    /// Positions of the bits of an SPTE.
    pub spte: SpteLayout,
    /// Whether guest faults are KVM's own counts (`pf_taken`, `pf_fast`; 5.19 and later), which do
    /// not record the level at which a fast fault was resolved.
    pub kvm_counts_faults: bool,
    /// Whether the collapse routine rebuilds huge pages in place (`kvm_mmu_recover_huge_pages`, 6.13
    /// and later) instead of zapping; `None` if its runs are not seen, or if an earlier version wrote
    /// the recording.
    pub collapse_rebuilds: Option<bool>,
    /// What the CPU does for the page tables of guests.
    pub paging: Paging,
}

/// What the CPU does for the page tables of guests. Facts are `None` where they could not be read, or if an
/// earlier version wrote the recording.
#[derive(
    Clone,
    Copy,
    Debug,
    Default,
    PartialEq,
    Eq,
    serde::Serialize,
    serde::Deserialize,
    schemars::JsonSchema,
)]
pub struct Paging {
    /// Vendor of the CPU.
    pub vendor: Option<Vendor>,
    /// Whether KVM's page tables have accessed and dirty bits (`kvm_intel.eptad`); always on AMD.
    pub accessed_dirty: Option<bool>,
    /// Whether the CPU logs dirty pages (page-modification logging, `kvm_intel.pml`); never on AMD.
    pub pml: Option<bool>,
}

/// A CPU vendor with a KVM module of its own.
#[derive(
    Clone, Copy, Debug, PartialEq, Eq, serde::Serialize, serde::Deserialize, schemars::JsonSchema,
)]
#[serde(rename_all = "snake_case")]
pub enum Vendor {
    /// `kvm_amd`: SVM with NPT.
    Amd,
    /// `kvm_intel`: VMX with EPT.
    Intel,
}

impl Vendor {
    /// Returns the name of the vendor module.
    pub fn module(self) -> &'static str {
        match self {
            Self::Amd => "kvm_amd",
            Self::Intel => "kvm_intel",
        }
    }
}

impl Paging {
    /// Returns the name for display of an MMU with this paging: `TDP MMU on Intel with PML`.
    pub fn label(self, mmu: Mmu) -> String {
        let vendor = match self.vendor {
            None => "",
            Some(Vendor::Amd) => " on AMD",
            Some(Vendor::Intel) => " on Intel",
        };
        let logging = match (self.vendor, mmu, self.accessed_dirty, self.pml) {
            (Some(Vendor::Intel), Mmu::Tdp | Mmu::Rmap, Some(false), _) => " without A/D bits",
            (Some(Vendor::Intel), Mmu::Tdp | Mmu::Rmap, _, Some(true)) => " with PML",
            (Some(Vendor::Intel), Mmu::Tdp | Mmu::Rmap, _, Some(false)) => " without PML",
            _ => "",
        };
        format!("{}{vendor}{logging}", mmu.label())
    }
}

/// The hooks that one signal is seen by, or the reason why it is not.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct SignalStatus {
    /// The signal.
    pub signal: Signal,
    /// Hooks in use, for display only: nothing depends on their spelling. `None` if the signal is not
    /// seen.
    pub hooks: Option<Vec<String>>,
    /// Reason why the signal is not seen; `None` if it is.
    pub reason: Option<String>,
}

/// The MMU that KVM uses for ordinary guests.
#[derive(
    Clone, Copy, Debug, PartialEq, Eq, serde::Serialize, serde::Deserialize, schemars::JsonSchema,
)]
#[serde(rename_all = "snake_case")]
pub enum Mmu {
    /// Nested paging with page tables kept by the TDP MMU: the default from 5.14 on.
    Tdp,
    /// Nested paging with page tables kept by the rmap MMU: `tdp_mmu=N`, the default on 5.10.
    Rmap,
    /// Shadow paging, without nested paging: `npt=0`, `ept=0`.
    Shadow,
    /// Unknown, because the module parameters could not be read.
    Unknown,
}

impl Mmu {
    /// Returns the signal without which SPTE changes of this MMU are not seen.
    pub fn essential_signal(self) -> Signal {
        match self {
            Self::Tdp | Self::Unknown => Signal::TdpChanges,
            Self::Rmap | Self::Shadow => Signal::RmapChanges,
        }
    }

    /// Returns the name for display.
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
    /// Returns whether the signal is seen.
    pub fn is_seen(&self) -> bool {
        self.hooks.is_some()
    }
}

impl Coverage {
    /// Returns whether `signal` is seen.
    pub fn sees(&self, signal: Signal) -> bool {
        self.signals.iter().any(|status| status.signal == signal && status.is_seen())
    }

    /// Returns a value that depends on `signal`, or `None` (unknown) if that is not seen. This is the
    /// one way to ask whether a number is known.
    pub fn known<T>(&self, signal: Signal, value: T) -> Option<T> {
        self.sees(signal).then_some(value)
    }

    /// Marks a signal as not seen because of `why`. A reason that was given before stays.
    pub fn leave_out(&mut self, signal: Signal, why: &str) {
        for status in self.signals.iter_mut().filter(|status| status.signal == signal) {
            status.hooks = None;
            status.reason.get_or_insert_with(|| why.to_owned());
        }
    }

    /// Marks a signal that was seen as not seen any more, because of `why`.
    pub fn lose(&mut self, signal: Signal, why: &str) {
        let seen = |status: &&mut SignalStatus| status.signal == signal && status.is_seen();
        for status in self.signals.iter_mut().filter(seen) {
            status.hooks = None;
            status.reason = Some(why.to_owned());
        }
    }

    /// Returns this coverage with no signal seen, because of `why`.
    #[must_use]
    pub fn with_none_seen(&self, why: &str) -> Self {
        let unseen = |status: &SignalStatus| SignalStatus {
            hooks: None,
            reason: Some(why.to_owned()),
            signal: status.signal,
        };
        let signals = self.signals.iter().map(unseen).collect();
        let paging = Paging::default();
        Self { mmu: Mmu::Unknown, signals, timed_faults: 0, paging, ..self.clone() }
    }

    /// Returns the name for display of the MMU and of what the CPU does for it.
    pub fn label(&self) -> String {
        self.paging.label(self.mmu)
    }

    /// Returns the status of every signal that is not seen.
    pub fn missing(&self) -> impl Iterator<Item = &SignalStatus> {
        self.signals.iter().filter(|status| !status.is_seen())
    }
}
