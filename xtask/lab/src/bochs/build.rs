//! Bochs itself: built from the distribution's source package, once, into the cache.
//!
//! Distributions' own builds have a debugger in them, which makes them three times slower, and no second
//! CPU.

use std::{
    fs,
    path::{Path, PathBuf},
    process::Command,
};

use anyhow::{Context, Result, bail};
use base::{
    CommandExt, cache,
    packages::{self, SystemPackage},
};

use crate::apt::Apt;

/// The suite whose source package is built, and the version that it has.
const SUITE: &str = "trixie";
const VERSION: &str = "3.0";

/// The machine's firmware.
pub const BIOS: &str = "/usr/share/bochs/BIOS-bochs-latest";
/// The firmware of the machine's graphics, without which the BIOS does not start.
pub const VGA_BIOS: &str = "/usr/share/vgabios/vgabios.bin";

/// Packages that the build and the machine need.
const PACKAGES: [SystemPackage; 4] = [
    SystemPackage { debian: "g++", provides: &["g++"] },
    SystemPackage { debian: "make", provides: &["make"] },
    SystemPackage { debian: "bochsbios", provides: &[BIOS] },
    SystemPackage { debian: "vgabios", provides: &[VGA_BIOS] },
];

/// Options of Bochs' `configure`.
const OPTIONS: &[&str] = &[
    "--enable-cpu-level=6",
    "--enable-x86-64",
    "--enable-smp",
    "--enable-vmx=2",
    // The CPU model has it, and 3.0 does not build without EVEX.
    "--enable-avx",
    "--enable-evex",
    "--enable-all-optimizations",
    // Prints speed from a signal handler, which may stop the process for good.
    "--disable-show-ips",
    "--disable-large-ramfile",
    "--disable-plugins",
    "--disable-debugger",
    "--disable-docbook",
    "--enable-pci",
    "--with-nogui",
    "--without-x",
    "--without-x11",
];

/// The path of the program once it is built.
pub fn program() -> Result<PathBuf> {
    Ok(home()?.join("bochs"))
}

fn home() -> Result<PathBuf> {
    Ok(cache::dir()?.join(format!("bochs-{VERSION}")))
}

fn work_of(home: &Path) -> PathBuf {
    home.with_extension("part")
}

/// Whether the program is built, and the packages are there that it needs.
pub fn is_done() -> Result<bool> {
    Ok(program()?.is_file() && missing().is_empty())
}

/// What a build has left that failed or is going on; to be removed for another try.
pub fn leftover() -> Result<Option<PathBuf>> {
    Ok(Some(work_of(&home()?)).filter(|work| work.exists()))
}

/// Builds the program unless that was done before, and installs the packages that it needs.
pub fn ensure_built() -> Result<()> {
    if is_done()? {
        return Ok(());
    }
    let _lock = cache::lock()?;
    let missing = missing();
    if !missing.is_empty() {
        eprintln!("setup: an emulated Intel CPU needs {}", missing.join(", "));
        packages::install(&missing)?;
    }
    if program()?.is_file() {
        return Ok(());
    }
    let home = home()?;
    eprintln!("setup: building Bochs {VERSION} into {} (some minutes)", home.display());
    build(&home).with_context(|| {
        format!("building Bochs {VERSION} from the source package bochs of Debian's {SUITE}")
    })
}

fn missing() -> Vec<&'static str> {
    let missing = PACKAGES.iter().filter(|package| !package.is_present());
    missing.map(|package| package.debian).collect()
}

/// Builds in a folder beside the program's, which appears whole or not at all.
fn build(home: &Path) -> Result<()> {
    let work = work_of(home);
    if work.exists() {
        fs::remove_dir_all(&work).with_context(|| format!("clearing {}", work.display()))?;
    }
    let build = work.join("build");
    fs::create_dir_all(&build).with_context(|| format!("creating {}", build.display()))?;
    let source = source(&work)?;
    Command::new(source.join("configure"))
        .args(OPTIONS)
        .current_dir(&build)
        .env("CFLAGS", "-O2 -pipe")
        .env("CXXFLAGS", "-O2 -pipe -w")
        .read()?;
    let jobs = std::thread::available_parallelism().map_or(1, std::num::NonZero::get);
    Command::new("make").arg(format!("-j{jobs}")).current_dir(&build).read()?;
    fs::create_dir_all(home).with_context(|| format!("creating {}", home.display()))?;
    Command::new("strip").arg("-o").arg(home.join("new")).arg(build.join("bochs")).run()?;
    fs::rename(home.join("new"), home.join("bochs")).context("keeping the program")?;
    fs::remove_dir_all(&work).context("removing what is not needed")
}

/// Downloads and unpacks the source package; returns its folder.
fn source(work: &Path) -> Result<PathBuf> {
    Apt::open(&cache::dir()?)?.download_source("bochs", SUITE, work)?;
    let entries =
        || fs::read_dir(work).context("listing the source package").map(Iterator::flatten);
    let is_archive = |path: &PathBuf| path.to_string_lossy().contains(".orig.tar.");
    let archive = entries()?.map(|entry| entry.path()).find(is_archive).context("no archive")?;
    Command::new("tar").arg("-xf").arg(&archive).arg("-C").arg(work).run()?;
    let has_configure = |path: &PathBuf| path.join("configure").is_file();
    match entries()?.map(|entry| entry.path()).find(has_configure) {
        Some(folder) if folder.to_string_lossy().contains(VERSION) => Ok(folder),
        Some(folder) => bail!("the source is another version: {}", folder.display()),
        None => bail!("the source has no configure script"),
    }
}
