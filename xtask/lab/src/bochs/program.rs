//! The program: built, or the distribution's where that cannot be done.

use std::{
    path::{Path, PathBuf},
    process::Command,
};

use anyhow::{Context, Result};
use base::packages::{self, SystemPackage};

use super::build;

/// The distribution's program, beside its display that needs neither a terminal nor X.
const PACKAGED: &str = "/usr/bin/bochs-bin";
const PACKAGES: [SystemPackage; 2] = [
    SystemPackage { debian: "bochs", provides: &[PACKAGED] },
    SystemPackage {
        debian: "bochs-term",
        provides: &["/usr/lib/x86_64-linux-gnu/bochs/plugins/libbx_term_gui.so"],
    },
];

/// Bochs, as it was found.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Program {
    /// Built for the lab.
    Built(PathBuf),
    /// The distribution's: one CPU, and a debugger that makes it three times slower.
    Packaged,
}

impl Program {
    /// Finds the one that [`prepare`] provided.
    pub fn find() -> Result<Self> {
        let built = build::program()?;
        let use_packaged = !built.is_file() && Path::new(PACKAGED).is_file();
        Ok(if use_packaged { Self::Packaged } else { Self::Built(built) })
    }

    /// The command that starts it with a configuration. `go_on` is a file with a command for the debugger.
    pub fn command(&self, configuration: &str, go_on: &str) -> Command {
        let mut command = Command::new(match self {
            Self::Built(path) => path,
            Self::Packaged => Path::new(PACKAGED),
        });
        command.args(["-q", "-f", configuration]);
        if *self == Self::Packaged {
            command.args(["-rc", go_on]).env("TERM", "vt100");
        }
        command
    }

    /// The display that shows nothing to anybody.
    pub fn display(&self) -> &'static str {
        match self {
            Self::Built(_) => "nogui",
            Self::Packaged => "term",
        }
    }

    /// CPUs of a machine at most.
    pub fn most_cpus(&self) -> u32 {
        match self {
            Self::Built(_) => 2,
            Self::Packaged => 1,
        }
    }

    /// How many times as long as in QEMU a command may take.
    pub fn slowness(&self) -> u32 {
        match self {
            Self::Built(_) => 6,
            Self::Packaged => 20,
        }
    }
}

/// Builds Bochs or, where that fails or has failed before, installs the distribution's.
pub fn prepare() -> Result<()> {
    let missing = PACKAGES.iter().filter(|package| !package.is_present());
    let missing: Vec<&str> = missing.map(|package| package.debian).collect();
    if missing.is_empty()
        && !build::is_done()?
        && let Some(leftover) = build::leftover()?
    {
        let leftover = leftover.display();
        eprintln!(
            "setup: Bochs could not be built, {PACKAGED} will do (remove {leftover} to try again)"
        );
        return Ok(());
    }
    let Err(error) = build::ensure_built() else { return Ok(()) };
    eprintln!("setup: {error:#}");
    eprintln!("setup: the distribution's Bochs instead: one CPU, and 3.5 times as long");
    if missing.is_empty() {
        return Ok(());
    }
    packages::install(&missing).context("nor can the packaged Bochs be installed")
}
