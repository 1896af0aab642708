//! A machine to run a command on, and the result of a run.

use std::{path::PathBuf, time::Duration};

use anyhow::{Result, bail};

use crate::{
    Console, Emulator, ImageFile, KernelChoice, KvmParameter, MachineSize, emulator,
    kernels::CpuVendor,
};

/// The time limit of a command unless the caller has another.
pub const DEFAULT_TIMEOUT: Duration = Duration::from_mins(5);

/// A machine to run a command on.
#[derive(Clone, Debug)]
pub struct Lab {
    /// The emulator to boot it in.
    pub emulator: &'static dyn Emulator,
    /// The kernel to boot.
    pub kernel: KernelChoice,
    /// Parameters for KVM's modules.
    pub kvm_params: Vec<KvmParameter>,
    /// CPUs, memory and clock.
    pub size: MachineSize,
    /// The time limit of the command once the machine is up.
    pub timeout: Option<Duration>,
    /// Programs for `/bin`.
    pub binaries: Vec<PathBuf>,
    /// Further files for the image.
    pub files: Vec<ImageFile>,
    /// Further words for the kernel's command line.
    pub cmdline: Vec<String>,
    /// The folder for the files that the command leaves in `/out`, if they are wanted.
    pub out: Option<PathBuf>,
    /// Whether to show the kernel's console on stderr.
    pub verbose: bool,
}

impl Lab {
    /// A machine with AMD's CPUs, of its emulator's default size.
    pub fn new(kernel: KernelChoice, binaries: Vec<PathBuf>) -> Self {
        Self::with_cpu_of(CpuVendor::Amd, kernel, binaries)
    }

    /// A machine with CPUs of a vendor, of its emulator's default size.
    pub fn with_cpu_of(vendor: CpuVendor, kernel: KernelChoice, binaries: Vec<PathBuf>) -> Self {
        let emulator = emulator::with_cpu_of(vendor);
        Self {
            emulator,
            kernel,
            kvm_params: Vec::new(),
            size: emulator.default_size(),
            timeout: Some(DEFAULT_TIMEOUT),
            binaries,
            files: Vec::new(),
            cmdline: Vec::new(),
            out: None,
            verbose: false,
        }
    }
}

/// The way a run ended.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Ending {
    /// The command ended with this status; 128 and the signal's number if by a signal.
    Exited(i32),
    /// The command, or the boot, exceeded the time limit.
    TimedOut,
    /// The kernel died or the machine did not come up.
    Died,
    /// The kernel died of a known fault of the emulator: worth another run, openly.
    EmulatorArtefact,
    /// The user left.
    Left,
}

impl Ending {
    /// The exit code of the lab's own commands: the command's status; 122 for the emulator's fault, 124 at
    /// the time limit, 125 if the machine died.
    pub fn code(self) -> i32 {
        match self {
            Self::Exited(status) => status,
            Self::EmulatorArtefact => 122,
            Self::TimedOut => 124,
            Self::Died => 125,
            Self::Left => 0,
        }
    }
}

/// The result of a run.
#[derive(Debug)]
pub struct LabOutcome {
    /// The way it ended.
    pub ending: Ending,
    /// The command's stdout, if captured.
    pub stdout: Vec<u8>,
    /// The command's stderr, if captured.
    pub stderr: Vec<u8>,
    /// The folder with the files from `/out`, if they were wanted.
    pub files: Option<PathBuf>,
    /// The kernel's console.
    pub console: Console,
}

impl LabOutcome {
    /// Reports on stderr why a run has no result of its own.
    pub fn explain(&self) {
        let reason = match self.ending {
            Ending::Exited(_) | Ending::Left => return,
            Ending::TimedOut => "ended at the time limit",
            Ending::Died => "the machine died",
            Ending::EmulatorArtefact => "the emulator ran a stale breakpoint; repeat the run",
        };
        eprintln!("lab: {reason}; the end of its console:\n{}", self.console.tail(40));
    }

    /// Fails with all that is known unless the command ended with status 0.
    pub fn success(&self) -> Result<&Self> {
        let tail = |bytes: &[u8]| {
            let text = String::from_utf8_lossy(bytes);
            let lines: Vec<&str> = text.lines().collect();
            lines[lines.len().saturating_sub(20)..].join("\n")
        };
        match self.ending {
            Ending::Exited(0) => Ok(self),
            Ending::Exited(status) => {
                bail!("exit status {status}; stderr:\n{}", tail(&self.stderr))
            }
            ending => bail!(
                "{ending:?}; stdout:\n{}\nstderr:\n{}\nconsole:\n{}",
                tail(&self.stdout),
                tail(&self.stderr),
                self.console.tail(40)
            ),
        }
    }
}
