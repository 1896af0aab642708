//! Stored form of coverage: signals and facts by name, as names never change. Hooks are stored as
//! text for display; whatever depends on them is stored as facts.

use collapse_common::SpteLayout;
use serde::{Deserialize, Serialize};

use super::{Malformed, decode::value};
use crate::{Coverage, Mmu, Paging, Signal, SignalStatus, Vendor};

/// Coverage as stored from version 2 on.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct CoverageRecord {
    signals: SignalsRecord,
    /// Facts by name. Unknown facts are left out, and readers ignore names that they do not know.
    facts: Vec<(String, u64)>,
}

/// Coverage as stored by version 1, which later versions keep as a part.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
struct SignalsRecord {
    mmu: Mmu,
    timed_faults: u32,
    /// Bits of an SPTE: present, writable, accessed, dirty.
    spte: [u64; 4],
    signals: Vec<SignalRecord>,
}

#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
struct SignalRecord {
    name: String,
    /// Hooks in use; `None` if the signal is not seen.
    hooks: Option<Vec<String>>,
    reason: Option<String>,
}

/// Names of the facts.
const KVM_COUNTS_FAULTS: &str = "kvm_counts_faults";
const COLLAPSE_REBUILDS: &str = "collapse_rebuilds";
/// Whether the CPU is Intel's; AMD's otherwise.
const INTEL: &str = "intel";
const ACCESSED_DIRTY: &str = "accessed_dirty";
const PML: &str = "pml";

impl From<&Coverage> for CoverageRecord {
    fn from(coverage: &Coverage) -> Self {
        let signals = coverage.signals.iter().map(|status| SignalRecord {
            name: status.signal.name().to_owned(),
            hooks: status.hooks.clone(),
            reason: status.reason.clone(),
        });
        let &Coverage {
            mmu,
            timed_faults,
            spte,
            kvm_counts_faults,
            collapse_rebuilds,
            paging: Paging { vendor, accessed_dirty, pml },
            ..
        } = coverage;
        let spte = [spte.present, spte.writable, spte.accessed, spte.dirty];
        let facts = [
            (KVM_COUNTS_FAULTS, Some(kvm_counts_faults)),
            (COLLAPSE_REBUILDS, collapse_rebuilds),
            (INTEL, vendor.map(|vendor| vendor == Vendor::Intel)),
            (ACCESSED_DIRTY, accessed_dirty),
            (PML, pml),
        ];
        let known = |(name, fact): (&str, Option<bool>)| Some((name.to_owned(), fact?.into()));
        Self {
            signals: SignalsRecord { mmu, timed_faults, spte, signals: signals.collect() },
            facts: facts.into_iter().filter_map(known).collect(),
        }
    }
}

/// Decodes coverage that was written in this version of the format.
pub fn decode(version: u16, payload: &[u8]) -> Result<Coverage, Malformed> {
    if version == 1 {
        let record: SignalsRecord = value(payload)?;
        let facts = record.facts_of_version_1();
        return Ok(record.coverage(facts));
    }
    let CoverageRecord { signals, facts } = value(payload)?;
    let fact = |wanted: &str| facts.iter().find(|(name, _)| name == wanted).map(|(_, n)| *n != 0);
    let facts = CoverageFacts {
        kvm_counts_faults: fact(KVM_COUNTS_FAULTS).ok_or("coverage lacks a fact")?,
        collapse_rebuilds: fact(COLLAPSE_REBUILDS),
        paging: Paging {
            vendor: fact(INTEL).map(|intel| if intel { Vendor::Intel } else { Vendor::Amd }),
            accessed_dirty: fact(ACCESSED_DIRTY),
            pml: fact(PML),
        },
    };
    Ok(signals.coverage(facts))
}

/// The facts that numbers depend on.
#[derive(Clone, Copy)]
struct CoverageFacts {
    kvm_counts_faults: bool,
    collapse_rebuilds: Option<bool>,
    paging: Paging,
}

impl SignalsRecord {
    /// Converts to coverage, without signals that this build does not know.
    fn coverage(self, facts: CoverageFacts) -> Coverage {
        let signals = self.signals.into_iter().filter_map(|record| {
            let SignalRecord { name, hooks, reason } = record;
            Some(SignalStatus { signal: Signal::from_name(&name)?, hooks, reason })
        });
        let signals = signals.collect();
        let [present, writable, accessed, dirty] = self.spte;
        Coverage {
            mmu: self.mmu,
            signals,
            timed_faults: self.timed_faults,
            spte: SpteLayout { present, writable, accessed, dirty },
            kvm_counts_faults: facts.kvm_counts_faults,
            collapse_rebuilds: facts.collapse_rebuilds,
            paging: facts.paging,
        }
    }

    /// Derives the facts from the hooks of a version 1 recording. The spellings here must not change,
    /// whatever hooks are called today.
    fn facts_of_version_1(&self) -> CoverageFacts {
        let hooks = |name: &str| {
            let signal = self.signals.iter().find(|signal| signal.name == name);
            signal.and_then(|signal| signal.hooks.as_deref())
        };
        let uses = |hooks: &[String], hook: &str| hooks.iter().any(|used| used == hook);
        let faults = hooks("faults").unwrap_or_default();
        let rebuilds = "kprobe+kretprobe:kvm_mmu_recover_huge_pages";
        CoverageFacts {
            kvm_counts_faults: uses(faults, "read:kvm_vcpu.stat.pf_taken"),
            collapse_rebuilds: hooks("collapse").map(|hooks| uses(hooks, rebuilds)),
            paging: Paging::default(),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::fixtures::{full_coverage, patchy_coverage};

    fn stored(coverage: &Coverage) -> Coverage {
        let payload = postcard::to_stdvec(&CoverageRecord::from(coverage)).unwrap();
        decode(2, &payload).unwrap()
    }

    #[test]
    fn coverage_is_read_back_unchanged() {
        let rebuilds = Coverage { collapse_rebuilds: None, ..full_coverage(Mmu::Tdp) };
        let paging = |vendor, pml| Paging { vendor, accessed_dirty: Some(true), pml };
        let of_cpu = |vendor, pml| Coverage { paging: paging(vendor, pml), ..patchy_coverage() };
        let amd = of_cpu(Some(Vendor::Amd), Some(false));
        let intel = of_cpu(Some(Vendor::Intel), None);
        for coverage in [patchy_coverage(), full_coverage(Mmu::Tdp), rebuilds, amd, intel] {
            assert_eq!(stored(&coverage), coverage);
        }
    }

    /// A hook with another name, or one that no build knows any more, changes no fact.
    #[test]
    fn facts_do_not_depend_on_how_hooks_are_spelled() {
        let mut coverage = Coverage { kvm_counts_faults: true, ..full_coverage(Mmu::Tdp) };
        for status in &mut coverage.signals {
            status.hooks = Some(vec!["read:renamed".to_owned()]);
        }
        let stored = stored(&coverage);
        assert!(stored.kvm_counts_faults);
        assert_eq!(stored.collapse_rebuilds, Some(false));
        assert!(Signal::ALL.iter().all(|signal| stored.sees(*signal)));
    }

    /// Version 1 stores no facts; they follow from its hooks.
    #[test]
    fn version_1_is_read_by_its_own_spelling() {
        let version_1 = |hook: &str| {
            let record = SignalsRecord {
                mmu: Mmu::Tdp,
                timed_faults: 128,
                spte: [1, 2, 32, 64],
                signals: vec![
                    SignalRecord {
                        name: "faults".to_owned(),
                        hooks: Some(vec![hook.to_owned()]),
                        reason: None,
                    },
                    SignalRecord { name: "collapse".to_owned(), hooks: None, reason: None },
                ],
            };
            let coverage = decode(1, &postcard::to_stdvec(&record).unwrap()).unwrap();
            (coverage.kvm_counts_faults, coverage.collapse_rebuilds)
        };
        assert_eq!(version_1("read:kvm_vcpu.stat.pf_taken"), (true, None));
        assert_eq!(version_1("kprobe:kvm_mmu_page_fault"), (false, None));
    }
}
