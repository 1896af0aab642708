//! A test in the lab.

use std::{fs, path::PathBuf, time::Duration};

use anyhow::{Context, Result};
use base::workspace;
use lab::{
    DEFAULT_TIMEOUT, ImageFile, KernelChoice, KvmParameter, Lab, LabOutcome, MachineSize, Series,
    emulator, kernel::Kernel, kernels::CpuVendor, tools::TOOLS, vmm::QemuRelease,
};

/// One test: a boot, a command, and a check of its result.
pub struct LabCase {
    /// The subject, in a few words.
    pub name: String,
    /// The kernel series.
    pub kernel: &'static Series,
    /// The vendor of the CPUs.
    pub cpu: CpuVendor,
    /// Parameters for KVM, as `name=value name=value`.
    pub kvm: String,
    /// Further words for the kernel's command line.
    pub cmdline: &'static [&'static str],
    /// Whether time is the number of executed instructions, and passes at once where nothing runs; in QEMU only.
    pub icount: bool,
    /// Number of CPUs.
    pub cpus: u32,
    /// Size of the memory, unless it is the emulator's default.
    pub memory: Option<&'static str>,
    /// The QEMU for guests that are not our own, if it needs one.
    pub qemu: Option<QemuRelease>,
    /// Whether it needs the other tools that look at KVM.
    pub tools: bool,
    /// The time limit of the command in QEMU.
    pub timeout: Duration,
    /// Files that it needs besides the programs.
    pub files: Vec<ImageFile>,
    /// The command; the files that it leaves in `/out` are in the outcome's folder.
    pub command: Vec<String>,
    /// Judges the outcome. Not called when the command did not come to an end.
    pub check: LabCheck,
}

/// Judges the outcome of a command on a kernel.
pub type LabCheck = fn(&LabOutcome, &Series) -> Result<()>;

impl LabCase {
    /// A case with the lab's defaults, on AMD's CPUs.
    pub fn new(
        name: impl Into<String>,
        kernel: &'static Series,
        command: &[&str],
        check: LabCheck,
    ) -> Self {
        Self {
            name: name.into(),
            kernel,
            cpu: CpuVendor::Amd,
            kvm: String::new(),
            cmdline: &[],
            icount: false,
            cpus: 2,
            memory: None,
            qemu: None,
            tools: false,
            timeout: DEFAULT_TIMEOUT,
            files: Vec::new(),
            command: command.iter().map(|word| (*word).to_owned()).collect(),
            check,
        }
    }

    /// Kernel, vendor unless it is AMD, parameters and name.
    pub fn title(&self) -> String {
        let vendor = if self.cpu == CpuVendor::Amd { "" } else { self.cpu.name() };
        let words = [self.kernel.name, vendor, &self.kvm];
        let machine: Vec<&str> = words.into_iter().filter(|word| !word.is_empty()).collect();
        format!("{}: {}", machine.join(" "), self.name)
    }

    /// The machine for it.
    pub fn lab(&self, kernel: Kernel, binaries: &[PathBuf]) -> Result<Lab> {
        let kvm = self.kvm.split_whitespace().map(str::parse);
        let name: String =
            self.title().chars().map(|c| if c.is_alphanumeric() { c } else { '-' }).collect();
        let out = workspace::lab_dir().join("tests").join(name);
        if out.exists() {
            fs::remove_dir_all(&out).with_context(|| format!("clearing {}", out.display()))?;
        }
        let mut files = self.files.clone();
        if let Some(qemu) = self.qemu {
            files.extend(qemu.files(&kernel)?);
        }
        if self.tools {
            files.extend(TOOLS.fetch()?.files);
        }
        let lab = Lab::with_cpu_of(self.cpu, KernelChoice::Found(kernel), binaries.to_vec());
        Ok(Lab {
            kvm_params: kvm.collect::<Result<Vec<KvmParameter>>>()?,
            size: MachineSize {
                cpus: self.cpus,
                icount: self.icount,
                parallel: self.cpus > 1 && self.cpu == CpuVendor::Amd,
                memory: self.memory.map_or(lab.size.memory, str::to_owned),
            },
            timeout: Some(self.timeout * emulator::with_cpu_of(self.cpu).slowness()),
            files,
            cmdline: self.cmdline.iter().map(|word| (*word).to_owned()).collect(),
            out: Some(out),
            ..lab
        })
    }
}
