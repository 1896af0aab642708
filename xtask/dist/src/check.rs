//! What is distributed, tried: the same bytes wherever it is built, packages that install, run and go without a trace,
//! and a program that needs nothing but a kernel.

use std::{
    collections::BTreeSet,
    fs,
    os::unix::fs::PermissionsExt as _,
    path::{Path, PathBuf},
    process::{Command, Stdio},
};

use anyhow::{Context as _, Result, ensure};
use base::{CommandExt as _, packages, workspace};
use lab::{Archive, image::BUSYBOX};

use crate::{Distribution, VERSION, make, time};

/// What is needed to try packages and services.
const TOOLS: [packages::SystemPackage; 2] = [
    packages::SystemPackage { debian: "rpm", provides: &["rpm", "rpmkeys"] },
    packages::SystemPackage { debian: "systemd", provides: &["systemd-analyze"] },
];

/// Services that packages bring.
const SERVICES: [&str; 2] = ["collapse-metrics.service", "collapse-record.service"];

/// The exposure from which on systemd does not call a service "OK" any more, in tenths.
const EXPOSED: &str = "40";

/// Builds everything, here and in a copy of the checkout, and tries it. `kernel` is an image to boot.
pub fn run(kernel: &Path) -> Result<()> {
    let missing = TOOLS.iter().filter(|tool| !tool.is_present()).map(|tool| tool.debian);
    let missing: Vec<_> = missing.collect();
    if !missing.is_empty() {
        packages::install(&missing)?;
    }
    let scratch = workspace::target_dir().join("dist-check");
    if scratch.exists() {
        fs::remove_dir_all(&scratch).with_context(|| format!("clearing {}", scratch.display()))?;
    }
    let here = make(&scratch.join("here"))?;
    boots(&here.program, kernel)?;
    debian(&here.deb, &scratch.join("debian"))?;
    red_hat(&here.rpm, &scratch.join("red-hat"))?;
    let elsewhere = make_elsewhere(&scratch.join("some/other/folder"))?;
    for (here, elsewhere) in here.files().iter().zip(elsewhere.files()) {
        let same = fs::read(here)? == fs::read(elsewhere)?;
        let why = "is there a configuration of cargo in a folder above one of them?";
        ensure!(same, "{} differs from {}: {why}", elsewhere.display(), here.display());
    }
    fs::remove_dir_all(&scratch).with_context(|| format!("removing {}", scratch.display()))
}

/// Copies the sources, and builds everything of the copy.
fn make_elsewhere(folder: &Path) -> Result<Distribution> {
    let sources = Command::new("git")
        .args(["ls-files", "-z", "--cached", "--others", "--exclude-standard"])
        .current_dir(workspace::root())
        .read()?;
    let sources = String::from_utf8(sources).context("a file's name is not text")?;
    for name in sources.split_terminator('\0') {
        let (from, to) = (workspace::root().join(name), folder.join(name));
        // Removed, and not yet for git.
        if !from.exists() {
            continue;
        }
        fs::create_dir_all(to.parent().context("a file has a folder")?)?;
        fs::copy(&from, &to).with_context(|| format!("copying {}", from.display()))?;
    }
    let output = folder.join("made");
    workspace::cargo()
        .current_dir(folder)
        .env_remove("CARGO_TARGET_DIR")
        .env("SOURCE_DATE_EPOCH", time()?)
        .args(["xtask", "dist", "--output"])
        .arg(&output)
        .run()?;
    Ok(Distribution::at(&output))
}

/// The program runs as the only file of a system.
fn boots(program: &Path, kernel: &Path) -> Result<()> {
    let mut image = Archive::default();
    image.file("/collapse", 0o755, &fs::read(program)?)?;
    let path = program.with_extension("cpio");
    fs::write(&path, image.finish()?)?;
    let mut qemu = Command::new("timeout");
    qemu.args(["120", "qemu-system-x86_64", "-nodefaults", "-no-reboot", "-display", "none"])
        .args(["-accel", "tcg", "-cpu", "max", "-m", "512M", "-serial", "stdio", "-kernel"])
        .arg(kernel)
        .arg("-initrd")
        .arg(&path)
        .args(["-append", "console=ttyS0 no_timer_check panic=-1 rdinit=/collapse -- --version"]);
    let output = qemu.stdin(Stdio::null()).output().context("starting QEMU")?;
    let console = String::from_utf8_lossy(&output.stdout);
    // A first process that ends takes the kernel with it, which says how it ended.
    let ended = console.contains("exitcode=0x00000000");
    let said = console.contains(&format!("collapse {VERSION}"));
    ensure!(said && ended, "it did not run:\n{console}");
    Ok(())
}

/// The package for Debian, in a system that has a shell only.
fn debian(deb: &Path, system: &Path) -> Result<()> {
    let admin = system.join("var/lib/dpkg");
    for folder in ["updates", "info"] {
        fs::create_dir_all(admin.join(folder))?;
    }
    for file in ["status", "available"] {
        fs::write(admin.join(file), "")?;
    }
    let root = format!("--root={}", system.display());
    let dpkg = |arguments: &[&str]| Command::new("dpkg").arg(&root).args(arguments).run();
    let deb = deb.to_string_lossy();
    let zsh = "usr/share/zsh/vendor-completions/_collapse";
    comes_and_goes(system, zsh, || dpkg(&["--install", &deb]), || dpkg(&["--purge", "collapse"]))
}

/// The package for Red Hat's kind of system, in one that has a shell only.
fn red_hat(rpm: &Path, system: &Path) -> Result<()> {
    let root = system.to_string_lossy();
    let run = |arguments: &[&str]| {
        let mut command = Command::new("rpm");
        command.args(["--root", &root, "--dbpath", "/var/lib/rpm"]).args(arguments).run()
    };
    let rpm = rpm.to_string_lossy();
    Command::new("rpmkeys").args(["--checksig", "--nosignature", &rpm]).run()?;
    let install = || {
        // The shell belongs to no package.
        run(&["--install", "--nosignature", "--nodeps", &rpm])?;
        run(&["--verify", "--nodeps", "collapse"])
    };
    let zsh = "usr/share/zsh/site-functions/_collapse";
    comes_and_goes(system, zsh, install, || run(&["--erase", "collapse"]))
}

/// Installs a package, tries what it brought, and removes it. `zsh` is where completions for zsh are expected.
fn comes_and_goes(
    system: &Path,
    zsh: &str,
    install: impl FnOnce() -> Result<()>,
    remove: impl FnOnce() -> Result<()>,
) -> Result<()> {
    fs::create_dir_all(system.join("bin"))?;
    // For what packages run when they come and go.
    fs::copy(BUSYBOX, system.join("bin/sh")).context("a shell")?;
    let before = files(system)?;
    install()?;
    installed(system, zsh)?;
    remove()?;
    let left = files(system)?;
    // The managers' own notes stay.
    let left: Vec<_> = left.difference(&before).filter(|path| !path.starts_with("var")).collect();
    ensure!(left.is_empty(), "left behind: {left:?}");
    Ok(())
}

/// What packages install, and that the program and its manual can be used.
fn installed(system: &Path, zsh: &str) -> Result<()> {
    for path in [
        "usr/share/bash-completion/completions/collapse",
        "usr/share/fish/vendor_completions.d/collapse.fish",
        zsh,
        "usr/share/doc/collapse/licences",
        "usr/share/doc/collapse/docs/metrics.md",
        "usr/share/doc/collapse/docs/contrib/prometheus/collapse.rules.yml",
        "etc/default/collapse",
        "etc/xdg/collapse/config.toml",
    ] {
        ensure!(system.join(path).is_file(), "{path} is not installed");
    }
    for service in SERVICES {
        let unit = system.join("usr/lib/systemd/system").join(service);
        let mut security = Command::new("systemd-analyze");
        security.args(["security", "--offline=true", "--no-pager", "--threshold", EXPOSED]);
        security.arg(unit).read().context("a service is more exposed than \"OK\"")?;
    }
    let program = system.join("usr/bin/collapse");
    let mode = fs::metadata(&program)?.permissions().mode() & 0o7777;
    ensure!(mode == 0o755, "the program's mode is {mode:o}");
    let mut inside = Command::new("chroot");
    let version = inside.arg(system).args(["/usr/bin/collapse", "--version"]).read()?;
    let version = String::from_utf8_lossy(&version);
    ensure!(version == format!("collapse {VERSION}\n"), "the program says {version}");
    for page in ["collapse", "collapse-metrics"] {
        let file = system.join(format!("usr/share/man/man1/{page}.1.gz"));
        let text = Command::new("gzip").args(["-c", "-d"]).arg(file).read()?;
        let text = String::from_utf8_lossy(&text);
        ensure!(text.contains(".SH NAME"), "{page}(1) is no page of a manual:\n{text}");
    }
    Ok(())
}

/// Every file below a folder, relative to it.
fn files(folder: &Path) -> Result<BTreeSet<PathBuf>> {
    let (mut found, mut open) = (BTreeSet::new(), vec![folder.to_owned()]);
    while let Some(next) = open.pop() {
        for entry in fs::read_dir(&next).with_context(|| format!("reading {}", next.display()))? {
            let path = entry?.path();
            if path.is_dir() && !path.is_symlink() {
                open.push(path);
            } else {
                found.insert(path.strip_prefix(folder)?.to_owned());
            }
        }
    }
    Ok(found)
}
