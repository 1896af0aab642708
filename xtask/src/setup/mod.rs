//! `cargo xtask setup`: finds or installs what the other tasks need.

mod packages;
mod toolchain;

use std::{fs::File, io::Read, path::Path, process::Command};

use anyhow::{Context, Result};

use crate::{build, cache, lab::image::BUSYBOX, process::CommandExt};
use packages::Package;

/// What the lab runs or reads.
const LAB: [Package; 7] = [
    Package { debian: "qemu-system-x86", provides: &["qemu-system-x86_64"] },
    Package { debian: "busybox-static", provides: &[BUSYBOX] },
    Package { debian: "dpkg", provides: &["dpkg-deb"] },
    Package { debian: "tar", provides: &["tar"] },
    Package { debian: "xz-utils", provides: &["xz"] },
    Package { debian: "zstd", provides: &["zstd"] },
    Package {
        debian: "debian-archive-keyring",
        provides: &["/usr/share/keyrings/debian-archive-keyring.gpg"],
    },
];

/// Makes sure that everything is there, saying before each step what it will do. Says nothing
/// when there is nothing to do.
pub fn ensure_ready() -> Result<()> {
    let mut missing: Vec<&str> =
        LAB.iter().filter(|package| !package.is_present()).map(|package| package.debian).collect();
    // There is a package of the same program that needs libraries, which the image has not.
    if Path::new(BUSYBOX).exists() && !is_static(Path::new(BUSYBOX))? {
        missing.push("busybox-static");
    }
    if missing.is_empty() && toolchain::is_ready()? {
        return Ok(());
    }
    let _lock = cache::lock()?;
    if !missing.is_empty() {
        eprintln!("setup: the lab needs {}", missing.join(", "));
        packages::install(&missing)?;
    }
    if !toolchain::is_ready()? {
        toolchain::install()?;
    }
    Ok(())
}

/// `cargo xtask setup` itself, which reports also when all is well.
pub fn run() -> Result<i32> {
    ensure_ready()?;
    eprintln!("setup: everything is in place");
    for line in toolchain::summary()?.lines() {
        eprintln!("setup:   {line}");
    }
    Ok(0)
}

/// Whether a program runs without a loader, whose path would stand among its first headers.
fn is_static(program: &Path) -> Result<bool> {
    let mut head = Vec::new();
    File::open(program)
        .and_then(|file| file.take(4096).read_to_end(&mut head))
        .with_context(|| format!("reading {}", program.display()))?;
    Ok(!head.windows(3).any(|window| window == b"/ld"))
}

/// Makes sure that cargo has a component, asking rustup for it; says whether it is there.
pub fn ensure_component(name: &str, subcommand: &str) -> bool {
    let present = || build::cargo().args([subcommand, "--version"]).succeeds();
    if !present() && packages::on_path("rustup") {
        eprintln!("setup: asking rustup for {name}");
        if let Err(error) = Command::new("rustup").args(["component", "add", name]).run() {
            eprintln!("setup: {error:#}");
        }
    }
    present()
}
