//! The kernels of the lab, and KVM by CPU vendor. A further series is one more entry here; what it leaves
//! to [`LIKE_THE_NEWEST`] is as on the newest kernels.

use super::{
    CollapseRoutine::Zaps,
    CpuVendor, DefaultMmu,
    Feature::{
        EagerSplit, FaultCounter, MadviseCollapse, NxRecoveryPeriod, TaskRegisters, VerifierCounts,
    },
    KvmParameterSets, LIKE_THE_NEWEST, MeasuredTools, OracleProbes,
    SelectCase::{Budget, CrowdedVcpus, EachChange, HostWork, Recordings, Stacks},
    Series, VendorKvm,
};

/// The series that boots where no other is asked for.
pub const DEFAULT: &str = "6.12";

/// KVM on AMD's CPUs.
pub const AMD: VendorKvm = VendorKvm { module: "kvm_amd", shadow_paging: "npt=0" };

/// KVM on Intel's CPUs.
pub const INTEL: VendorKvm = VendorKvm { module: "kvm_intel", shadow_paging: "ept=0" };

/// Intel's way to log without PML, the MMUs besides the default one, and pages that are executable only if
/// they are small.
const INTEL_OTHERS: &[&str] = &["pml=0", "eptad=0", "tdp_mmu=N", "ept=0", "nx_huge_pages=force"];

/// The defaults in every run.
pub const INTEL_OTHERS_RARELY: KvmParameterSets =
    KvmParameterSets { vendor: CpuVendor::Intel, always: &[""], rarely: INTEL_OTHERS };

/// The defaults in every run, on CPUs of both vendors.
const DEFAULTS_ALWAYS: &[KvmParameterSets] = &[
    KvmParameterSets { vendor: CpuVendor::Amd, always: &[""], rarely: &["tdp_mmu=N", "npt=0"] },
    INTEL_OTHERS_RARELY,
];

/// All series, oldest first.
pub const KERNELS: &[Series] = &[
    Series {
        name: "5.10",
        suites: &["bullseye", "bullseye-security"],
        cases: &[EachChange, Stacks],
        parameters: &[
            KvmParameterSets {
                vendor: CpuVendor::Amd,
                always: &["", "tdp_mmu=Y"],
                rarely: &["npt=0"],
            },
            KvmParameterSets {
                vendor: CpuVendor::Intel,
                always: &[],
                // Not nx_huge_pages=force: the worker gives huge pages back once a minute here, and no
                // scenario waits that long.
                rarely: &["", "tdp_mmu=Y", "pml=0", "eptad=0", "ept=0"],
            },
        ],
        mmu: DefaultMmu::Rmap,
        collapse: Zaps,
        lacks: &[
            EagerSplit,
            FaultCounter,
            MadviseCollapse,
            NxRecoveryPeriod,
            TaskRegisters,
            VerifierCounts,
        ],
        unseen_signals: &["lock_yields", "gauges", "progress", "lock_waits", "retried_faults"],
        oracle: OracleProbes {
            // mmu_spte_clear_track_bits does not take the VM there.
            cleared_spte: "%di",
            changed_spte: Some("__handle_changed_spte old=%cx:x64 new=%r8:x64 level=%r9:u32"),
        },
        ..LIKE_THE_NEWEST
    },
    Series {
        name: "6.1",
        suites: &["bookworm", "bookworm-security"],
        cases: &[Stacks],
        bench: MeasuredTools::Collapse,
        parameters: DEFAULTS_ALWAYS,
        collapse: Zaps,
        ..LIKE_THE_NEWEST
    },
    Series {
        name: "6.12",
        suites: &["trixie", "trixie-security", "bookworm-backports"],
        cases: &[HostWork, Recordings, Stacks],
        other_mmu_cases: &[EachChange],
        bench: MeasuredTools::EveryTool,
        parameters: &[
            KvmParameterSets {
                vendor: CpuVendor::Amd,
                always: &["", "tdp_mmu=N", "npt=0"],
                rarely: &[],
            },
            KvmParameterSets {
                vendor: CpuVendor::Intel,
                always: &["", "pml=0", "eptad=0", "tdp_mmu=N", "ept=0"],
                rarely: &["nx_huge_pages=force"],
            },
        ],
        collapse: Zaps,
        ..LIKE_THE_NEWEST
    },
    Series {
        name: "6.18",
        suites: &["trixie-backports"],
        parameters: DEFAULTS_ALWAYS,
        ..LIKE_THE_NEWEST
    },
    Series {
        name: "7.3",
        suites: &["trixie-backports"],
        cases: &[Budget, CrowdedVcpus, EachChange, HostWork, Recordings, Stacks],
        bench: MeasuredTools::Collapse,
        ..LIKE_THE_NEWEST
    },
];
