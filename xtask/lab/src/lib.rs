//! The VM lab: runs a command on a real kernel with real KVM inside QEMU's software emulation.

pub mod apt;
pub mod console;
pub mod cpio;
pub mod image;
pub mod kernel;
pub mod modules;
pub mod qemu;
pub mod session;
pub mod streams;
pub mod terminal;
pub mod version;

use std::{ffi::OsString, path::PathBuf, time::Duration};

use anyhow::{Result, bail};

pub use console::Console;
pub use image::{ImageFile, KvmParameter};
pub use kernel::{Choice, TESTED};

/// How long a command may take unless the caller says otherwise.
pub const DEFAULT_TIMEOUT: Duration = Duration::from_mins(5);

/// A machine to run a command on.
#[derive(Clone, Debug)]
pub struct Lab {
    /// The kernel to boot.
    pub kernel: Choice,
    /// Parameters for kvm's modules.
    pub kvm_params: Vec<KvmParameter>,
    /// Number of CPUs.
    pub cpus: u32,
    /// Size of the memory as QEMU takes it.
    pub memory: String,
    /// Whether guest time is a function of executed instructions; takes one CPU.
    pub icount: bool,
    /// Whether each CPU is emulated by a thread of its own. Races are then as near to real ones as
    /// they get here, but the emulator now and then goes on executing code that another CPU has
    /// patched away: a kernel that changes its own code (kprobes, static keys) dies of that or stands
    /// still in some 6 % of runs. One thread for all CPUs is safe, and no slower on a busy machine.
    pub parallel: bool,
    /// How long the command may take once the machine is up.
    pub timeout: Option<Duration>,
    /// Programs for `/bin`.
    pub binaries: Vec<PathBuf>,
    /// Further files for the image.
    pub files: Vec<ImageFile>,
    /// Further words for the kernel's command line.
    pub cmdline: Vec<String>,
    /// Where to put what the command leaves in `/out`, if it is wanted.
    pub out: Option<PathBuf>,
    /// Whether to show the kernel's console on stderr.
    pub verbose: bool,
}

impl Lab {
    /// A machine with two CPUs and 2 GiB, running the latest kernel of a series.
    pub fn new(kernel: Choice, binaries: Vec<PathBuf>) -> Self {
        Self {
            kernel,
            kvm_params: Vec::new(),
            cpus: 2,
            memory: "2G".to_owned(),
            icount: false,
            parallel: false,
            timeout: Some(DEFAULT_TIMEOUT),
            binaries,
            files: Vec::new(),
            cmdline: Vec::new(),
            out: None,
            verbose: false,
        }
    }

    /// Runs a command without input and keeps what it prints.
    pub fn run<S: Into<OsString>>(&self, command: impl IntoIterator<Item = S>) -> Result<Outcome> {
        session::run(self, &words(command), session::Streams::Captured)
    }

    /// Runs a command with our own stdout and stderr, and our stdin where that is no terminal.
    pub fn stream<S: Into<OsString>>(
        &self,
        command: impl IntoIterator<Item = S>,
    ) -> Result<Outcome> {
        session::run(self, &words(command), session::Streams::Ours)
    }

    /// Runs a command on the user's terminal.
    pub fn interactive<S: Into<OsString>>(
        &self,
        command: impl IntoIterator<Item = S>,
    ) -> Result<Outcome> {
        session::run(self, &words(command), session::Streams::Terminal)
    }
}

fn words<S: Into<OsString>>(command: impl IntoIterator<Item = S>) -> Vec<OsString> {
    command.into_iter().map(Into::into).collect()
}

/// How a run ended.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Ending {
    /// The command ended with this status; 128 and the signal's number if by a signal.
    Exited(i32),
    /// The command, or the boot, took longer than it may.
    TimedOut,
    /// The kernel died or the machine did not come up.
    Died,
    /// The kernel died of a known fault of the emulator: worth repeating, openly.
    EmulatorArtefact,
    /// The user left.
    Left,
}

impl Ending {
    /// What the lab's own commands exit with: the command's status; 122 for the emulator's fault,
    /// 124 at the time limit, 125 if the machine died.
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

/// What a run left.
#[derive(Debug)]
pub struct Outcome {
    /// How it ended.
    pub ending: Ending,
    /// What the command wrote on stdout, if captured.
    pub stdout: Vec<u8>,
    /// What the command wrote on stderr, if captured.
    pub stderr: Vec<u8>,
    /// Where the files from `/out` are, if wanted.
    pub files: Option<PathBuf>,
    /// What the kernel said.
    pub console: Console,
}

impl Outcome {
    /// An error with all that is known, unless the command ended with status 0.
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
