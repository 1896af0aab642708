//! The kernels that the project is tested on, and their differences.

mod list;

use list::{AMD, DEFAULT, INTEL, INTEL_OTHERS_RARELY, KERNELS};

/// A kernel series and its differences from others.
#[derive(Debug)]
pub struct Series {
    /// The series, such as `6.12`.
    pub name: &'static str,
    /// Debian suites that carry it. Every series is looked for in the suites of all.
    pub suites: &'static [&'static str],
    /// Cases of every run that not every kernel has.
    pub cases: &'static [SelectCase],
    /// Further cases of every run, with the first set of other KVM parameters.
    pub other_mmu_cases: &'static [SelectCase],
    /// The tools that `cargo xtask bench` measures on it.
    pub bench: MeasuredTools,
    /// Sets of KVM parameters to test, by vendor.
    pub parameters: &'static [KvmParameterSets],
    /// The MMU with KVM's default parameters.
    pub mmu: DefaultMmu,
    /// The means of the slot-wide routine at the end of dirty logging in the TDP MMU.
    pub collapse: CollapseRoutine,
    /// Features that it does not have.
    pub lacks: &'static [Feature],
    /// Signals that `collapse` cannot see on it.
    pub unseen_signals: &'static [&'static str],
    /// Arguments of the independent recording's kprobes.
    pub oracle: OracleProbes,
}

/// The properties of the newest kernels, for all others to differ from.
const LIKE_THE_NEWEST: Series = Series {
    name: "",
    suites: &[],
    cases: &[],
    other_mmu_cases: &[],
    bench: MeasuredTools::Report,
    parameters: &[
        KvmParameterSets { vendor: CpuVendor::Amd, always: &["", "tdp_mmu=N"], rarely: &["npt=0"] },
        INTEL_OTHERS_RARELY,
    ],
    mmu: DefaultMmu::Tdp,
    collapse: CollapseRoutine::Rebuilds,
    lacks: &[],
    unseen_signals: &[],
    oracle: OracleProbes { cleared_spte: "%si", changed_spte: None },
};

impl Series {
    /// Whether it has a feature.
    pub fn has(&self, feature: Feature) -> bool {
        !self.lacks.contains(&feature)
    }

    /// Whether KVM keeps the gauges `pages_4k`, `pages_2m` and `pages_1g` (from 5.13 on).
    pub fn has_gauges(&self) -> bool {
        !self.unseen_signals.contains(&"gauges")
    }

    /// Sets of KVM parameters to test; with `rarely`, those of `--all`, too.
    pub fn parameters(
        &self,
        vendor: CpuVendor,
        rarely: bool,
    ) -> impl Iterator<Item = &'static str> + use<> {
        let of_vendor = self.parameters.iter().filter(move |sets| sets.vendor == vendor);
        of_vendor.flat_map(move |sets| {
            sets.always.iter().chain(if rarely { sets.rarely } else { &[] }).copied()
        })
    }
}

/// Sets of KVM parameters, each as `name=value name=value`; the empty one means KVM's defaults.
#[derive(Debug)]
pub struct KvmParameterSets {
    /// The vendor of the CPUs.
    pub vendor: CpuVendor,
    /// Sets that are tested in every run.
    pub always: &'static [&'static str],
    /// Sets that `cargo xtask test --all` tests.
    pub rarely: &'static [&'static str],
}

/// Vendors of CPUs that the lab's emulators have.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum CpuVendor {
    /// SVM with nested paging.
    Amd,
    /// VMX with EPT, its accessed and dirty bits, and PML.
    Intel,
}

/// KVM on the CPUs of one vendor.
#[derive(Debug)]
pub struct VendorKvm {
    /// The module on top of `kvm`, as in `/sys/module`.
    pub module: &'static str,
    /// The parameter that switches two-dimensional paging off, as `name=value`.
    pub shadow_paging: &'static str,
}

impl CpuVendor {
    /// All vendors.
    pub const ALL: [Self; 2] = [Self::Amd, Self::Intel];

    /// KVM on CPUs of this vendor.
    pub fn kvm(self) -> &'static VendorKvm {
        match self {
            Self::Amd => &AMD,
            Self::Intel => &INTEL,
        }
    }

    /// The name on command lines and in names of tests.
    pub fn name(self) -> &'static str {
        match self {
            Self::Amd => "amd",
            Self::Intel => "intel",
        }
    }
}

impl std::str::FromStr for CpuVendor {
    type Err = String;

    fn from_str(text: &str) -> Result<Self, String> {
        let named = Self::ALL.into_iter().find(|vendor| vendor.name() == text);
        named.ok_or_else(|| format!("expected {}", Self::ALL.map(Self::name).join(" or ")))
    }
}

/// Groups of cases that a run holds on some kernels only.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum SelectCase {
    /// A budget for overhead, a full ring, and faults that a VMM makes itself or holds up.
    Budget,
    /// More vCPUs than CPUs, where that makes the kernel skip programs.
    CrowdedVcpus,
    /// Each change on its own.
    EachChange,
    /// What the host does to guest memory.
    HostWork,
    /// Recordings and replays.
    Recordings,
    /// Stacks of splits and zaps.
    Stacks,
}

/// Tools that `cargo xtask bench` measures on a kernel; each set is part of those before it.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub enum MeasuredTools {
    /// `collapse` and other tools.
    EveryTool,
    /// `collapse` in its modes, and `perf stat`.
    Collapse,
    /// `collapse report` and `perf stat`.
    Report,
}

/// KVM's MMU for two-dimensional paging.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum DefaultMmu {
    /// The TDP MMU.
    Tdp,
    /// The MMU with reverse maps, as for shadow paging.
    Rmap,
}

impl DefaultMmu {
    /// The name in reports.
    pub fn name(self) -> &'static str {
        match self {
            Self::Tdp => "tdp",
            Self::Rmap => "rmap",
        }
    }
}

/// The slot-wide routine's means to bring huge pages back.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum CollapseRoutine {
    /// `kvm_mmu_zap_collapsible_sptes`: zaps, for faults to map huge (up to 6.12).
    Zaps,
    /// `kvm_mmu_recover_huge_pages`: maps huge in place (from 6.13 on).
    Rebuilds,
}

/// Features that came with some series.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Feature {
    /// The TDP MMU splits huge pages when dirty logging goes on (from 5.18 on).
    EagerSplit,
    /// `pf_taken` counts every guest fault.
    FaultCounter,
    /// `MADV_COLLAPSE` (from 6.1 on).
    MadviseCollapse,
    /// `nx_huge_pages_recovery_period_ms` (from 5.17 on).
    NxRecoveryPeriod,
    /// eBPF programs can read the user's registers (from 5.15 on), and so tell which system call is under way.
    TaskRegisters,
    /// The number of verified instructions in a program's information (from 5.16 on).
    VerifierCounts,
}

/// Arguments of the independent recording's kprobes.
#[derive(Debug)]
pub struct OracleProbes {
    /// The register with the SPTE's address in `mmu_spte_clear_track_bits`.
    pub cleared_spte: &'static str,
    /// A kprobe with `old`, `new` and `level` of each change in the TDP MMU, where no tracepoint is.
    pub changed_spte: Option<&'static str>,
}

/// All series, oldest first.
pub fn all() -> &'static [Series] {
    KERNELS
}

/// The series that boots where no other is asked for.
pub fn default() -> &'static Series {
    all().iter().find(|series| series.name == DEFAULT).unwrap_or(&all()[0])
}

/// The names of all series, for help and messages.
pub fn names() -> String {
    all().iter().map(|series| series.name).collect::<Vec<_>>().join(", ")
}

#[cfg(test)]
mod tests {
    use std::collections::BTreeSet;

    use super::*;

    #[test]
    fn the_list_is_consistent() {
        let numbers = |series: &Series| -> Vec<u32> {
            series.name.split('.').map(|part| part.parse().unwrap()).collect()
        };
        assert!(all().is_sorted_by_key(numbers));
        assert_eq!(all().iter().map(numbers).collect::<BTreeSet<_>>().len(), all().len());
        assert_eq!(default().name, DEFAULT);
        for series in all() {
            assert!(!series.suites.is_empty(), "{} is in no suite", series.name);
            let vendors: Vec<_> = series.parameters.iter().map(|sets| sets.vendor).collect();
            assert_eq!(vendors, CpuVendor::ALL, "{}", series.name);
            for vendor in CpuVendor::ALL {
                let mut sets: Vec<_> = series.parameters(vendor, true).collect();
                assert!(sets.contains(&""), "{} is not tested by default", series.name);
                sets.sort_unstable();
                assert!(sets.windows(2).all(|pair| pair[0] != pair[1]), "{sets:?}");
            }
        }
    }

    #[test]
    fn parameters_are_plain() {
        for series in all() {
            for set in CpuVendor::ALL.iter().flat_map(|vendor| series.parameters(*vendor, true)) {
                let mut parsed = set.split_whitespace().map(str::parse::<crate::KvmParameter>);
                assert!(parsed.all(|one| one.is_ok()), "{set}");
            }
        }
    }
}
