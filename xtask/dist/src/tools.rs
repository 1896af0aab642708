//! The tools that make packages, installed in the cache.

use std::{fs, path::PathBuf, process::Command};

use anyhow::{Result, ensure};
use base::{CommandExt as _, cache, workspace};

/// A tool from crates.io.
pub struct Tool {
    name: &'static str,
    version: &'static str,
}

/// Makes `.deb`.
pub const DEB: Tool = Tool { name: "cargo-deb", version: "3.8.0" };

/// Makes `.rpm`.
pub const RPM: Tool = Tool { name: "cargo-generate-rpm", version: "0.21.1" };

impl Tool {
    /// Returns the path of the program, which is built at its first use.
    pub fn program(&self) -> Result<PathBuf> {
        let root = cache::dir()?.join(format!("{}-{}", self.name, self.version));
        let program = root.join("bin").join(self.name);
        let _lock = cache::lock()?;
        if !program.exists() {
            eprintln!("dist: building {} {} (minutes)", self.name, self.version);
            self.build()
                .arg("--root")
                .arg(&root)
                .arg("--target-dir")
                .arg(root.join("target"))
                .run()?;
            fs::remove_dir_all(root.join("target"))?;
        }
        ensure!(program.exists(), "{} was installed, and is not there", program.display());
        Ok(program)
    }

    /// Building takes longer than all that the tool will do, so it is not optimised for speed.
    fn build(&self) -> Command {
        let mut cargo = workspace::cargo();
        cargo.args(["install", "--quiet", "--locked", "--version", self.version, self.name]);
        for (setting, value) in [("LTO", "off"), ("OPT_LEVEL", "1"), ("CODEGEN_UNITS", "16")] {
            cargo.env(format!("CARGO_PROFILE_RELEASE_{setting}"), value);
        }
        cargo
    }
}
