//! The machines that cases run on, whose clocks count executed instructions.

use clap::ValueEnum;
use lab::{
    KernelChoice, Lab, MachineSize, Series,
    kernels::{CpuVendor, MeasuredTools},
};

use super::cases::{BenchCase, Part};

/// A machine, on which each kernel is booted once for all of its cases.
#[derive(Clone, Copy, Debug, PartialEq, Eq, ValueEnum)]
pub enum BenchMachine {
    /// One CPU of AMD's: the costs of all tools, and their agreement
    OneCpu,
    /// Two of them: the cost of `collapse` to a guest whose vCPUs contend
    TwoCpus,
    /// One CPU of Intel's, with EPT and PML
    Intel,
}

impl BenchMachine {
    /// All machines, in the order of their tables.
    pub const ALL: [Self; 3] = [Self::OneCpu, Self::TwoCpus, Self::Intel];

    /// What the heading of the tables adds to the kernel's name.
    pub fn heading(self) -> &'static str {
        match self {
            Self::OneCpu => "",
            Self::TwoCpus => ", on two CPUs",
            Self::Intel => ", on Intel",
        }
    }

    /// Whether a case is for this machine and kernel.
    pub fn runs(self, case: &BenchCase, kernel: &Series) -> bool {
        let has_case = match self {
            Self::OneCpu => case.part != Part::Contention,
            Self::TwoCpus => matches!(case.part, Part::WarmUp | Part::Contention),
            Self::Intel => case.of == MeasuredTools::Report && case.part != Part::Contention,
        };
        // Where only one mode is measured, one machine is enough.
        let has_kernel = self == Self::OneCpu || kernel.bench <= MeasuredTools::Collapse;
        has_case && has_kernel && kernel.bench <= case.of
    }

    /// The machine with a kernel, and the time that an instruction takes on it, ns.
    pub fn lab(self, kernel: &Series) -> (Lab, u64) {
        let (vendor, cpus) = match self {
            Self::OneCpu => (CpuVendor::Amd, 1),
            Self::TwoCpus => (CpuVendor::Amd, 2),
            Self::Intel => (CpuVendor::Intel, 1),
        };
        let lab =
            Lab::with_cpu_of(vendor, KernelChoice::Series(kernel.name.to_owned()), Vec::new());
        let memory = if vendor == CpuVendor::Amd { "4G" } else { "2G" };
        let size = MachineSize { cpus, memory: memory.to_owned(), icount: true, parallel: false };
        let ns_per_instruction = lab.emulator.ns_per_instruction();
        (Lab { size, ..lab }, ns_per_instruction)
    }
}
