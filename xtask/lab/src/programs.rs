//! The programs that go into the lab's machines: static, so that they need nothing beside the kernel.

use std::{path::PathBuf, process::Command};

use anyhow::{Result, ensure};
use base::{CommandExt, workspace};

/// The target of static programs: with glibc, linked statically.
pub const TARGET: &str = "x86_64-unknown-linux-gnu";
const PROGRAMS: [&str; 8] = [
    "collapse",
    "workload",
    "drive",
    "debugport",
    "unprivileged",
    "qemu-guest",
    "meter",
    "collector",
];

/// Makes a cargo command build static programs, the same wherever the checkout is, in a target folder of its own:
/// with other flags than a plain build's, each would make the other build all dependencies again.
///
/// By variables and not by options, so that it holds for whatever is run below the command, too.
pub fn make_static(command: &mut Command) -> &mut Command {
    let root = format!("--remap-path-prefix={}=.", workspace::root().display());
    let crates = format!("--remap-path-prefix={}=crates", workspace::crates_dir().display());
    command
        .env("CARGO_TARGET_DIR", workspace::lab_dir())
        .env("CARGO_BUILD_TARGET", TARGET)
        .env(
            "CARGO_ENCODED_RUSTFLAGS",
            ["-Ctarget-feature=+crt-static", &root, &crates].join("\x1f"),
        )
        .env_remove("RUSTFLAGS")
}

/// Builds the programs that every machine has, and returns their paths.
pub fn build() -> Result<Vec<PathBuf>> {
    eprintln!("lab: building collapse and workload (minutes the first time)");
    build_packages(&[
        "collapse-user",
        "workload",
        "pty",
        "debugport",
        "unprivileged",
        "qemu-guest",
        "meter",
        "collector",
    ])?;
    built()
}

fn build_packages(packages: &[&str]) -> Result<()> {
    let packages = packages.iter().flat_map(|package| ["-p", package]);
    make_static(&mut workspace::cargo())
        .args(["build", "--quiet", "--release"])
        .args(packages)
        .run()
}

/// The paths of what [`build`] built before.
pub fn built() -> Result<Vec<PathBuf>> {
    PROGRAMS.iter().map(|name| existing(name)).collect()
}

fn existing(name: &str) -> Result<PathBuf> {
    let path = workspace::lab_dir().join(TARGET).join("release").join(name);
    ensure!(path.is_file(), "{} has not been built", path.display());
    Ok(path)
}
