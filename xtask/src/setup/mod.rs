//! `cargo xtask setup`: finds or installs what the other tasks need.

mod toolchain;

use std::{fs::File, io::Read, path::Path};

use anyhow::{Context, Result};
use base::{
    cache,
    packages::{self, SystemPackage},
};
use clap::Args;
use lab::{emulator, image::BUSYBOX, kernels::CpuVendor};

/// Packages with the programs and files that the lab uses.
const LAB: [SystemPackage; 7] = [
    SystemPackage { debian: "qemu-system-x86", provides: &["qemu-system-x86_64"] },
    SystemPackage { debian: "busybox-static", provides: &[BUSYBOX] },
    SystemPackage { debian: "dpkg", provides: &["dpkg", "dpkg-deb"] },
    SystemPackage { debian: "tar", provides: &["tar"] },
    SystemPackage { debian: "xz-utils", provides: &["xz"] },
    SystemPackage { debian: "zstd", provides: &["zstd"] },
    SystemPackage {
        debian: "debian-archive-keyring",
        provides: &["/usr/share/keyrings/debian-archive-keyring.gpg"],
    },
];

/// Makes sure that everything is there, and announces each step of what is to be done.
pub fn ensure_ready() -> Result<()> {
    let mut missing: Vec<&str> =
        LAB.iter().filter(|package| !package.is_present()).map(|package| package.debian).collect();
    // Another package of the same program needs libraries, which are not in the image.
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

/// Options of `cargo xtask setup`.
#[derive(Args)]
pub struct SetupOptions {
    /// Also what machines with CPUs of this vendor need: `intel` builds Bochs, in some minutes
    #[arg(long, value_name = "VENDOR", default_value = CpuVendor::Amd.name())]
    cpu: CpuVendor,
}

/// Finishes what a vendor's CPUs need, and reports that everything is there, as `cargo xtask setup` does.
pub fn report(options: &SetupOptions) -> Result<i32> {
    emulator::with_cpu_of(options.cpu).prepare()?;
    eprintln!("setup: everything is in place");
    for line in toolchain::summary()?.lines() {
        eprintln!("setup:   {line}");
    }
    Ok(0)
}

/// Whether a program runs without a loader, whose path would be among its first headers.
fn is_static(program: &Path) -> Result<bool> {
    let mut head = Vec::new();
    File::open(program)
        .and_then(|file| file.take(4096).read_to_end(&mut head))
        .with_context(|| format!("reading {}", program.display()))?;
    Ok(!head.windows(3).any(|window| window == b"/ld"))
}
