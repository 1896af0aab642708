//! The static binaries that go into the lab.

use std::{
    env,
    path::{Path, PathBuf},
    process::Command,
};

use anyhow::{Result, ensure};

use crate::process::CommandExt;

const TARGET: &str = "x86_64-unknown-linux-gnu";
const BINARIES: [&str; 3] = ["collapse", "workload", "drive"];

/// The root of the workspace.
pub fn workspace() -> PathBuf {
    let manifest = Path::new(env!("CARGO_MANIFEST_DIR"));
    manifest.parent().unwrap_or(manifest).to_path_buf()
}

/// The folder for everything that the lab builds or brings back.
pub fn lab_dir() -> PathBuf {
    workspace().join("target/lab")
}

/// The cargo that runs us.
pub fn cargo() -> Command {
    let mut cargo = Command::new(env::var_os("CARGO").unwrap_or_else(|| "cargo".into()));
    cargo.current_dir(workspace());
    cargo
}

/// Builds `collapse` and `workload` as static binaries and returns their paths.
pub fn static_binaries() -> Result<Vec<PathBuf>> {
    eprintln!("lab: building collapse and workload (minutes the first time)");
    build_static(&["collapse-user", "workload", "pty"])?;
    existing_binaries()
}

/// Builds one more program of the workspace for the lab and returns its path.
pub fn static_binary(package: &str) -> Result<PathBuf> {
    build_static(&[package])?;
    existing(package)
}

fn build_static(packages: &[&str]) -> Result<()> {
    // A target folder of its own: other flags than a plain build's would make each rebuild the
    // other's dependencies.
    cargo()
        .args(["build", "--quiet", "--release", "--target", TARGET])
        .args(packages.iter().flat_map(|package| ["-p", package]))
        .arg("--target-dir")
        .arg(lab_dir())
        .arg("--config")
        .arg(format!("target.{TARGET}.rustflags=['-C', 'target-feature=+crt-static']"))
        .env_remove("RUSTFLAGS")
        .env_remove("CARGO_ENCODED_RUSTFLAGS")
        .run()
}

/// The binaries of an earlier build.
pub fn existing_binaries() -> Result<Vec<PathBuf>> {
    BINARIES.iter().map(|name| existing(name)).collect()
}

fn existing(name: &str) -> Result<PathBuf> {
    let path = lab_dir().join(TARGET).join("release").join(name);
    ensure!(path.is_file(), "{} has not been built", path.display());
    Ok(path)
}
