//! The distribution's packages.

use std::{
    fs,
    path::{Path, PathBuf},
    process::Command,
    sync::Once,
};

use crate::cache;
use crate::process::{CommandExt, describe, on_path};
use anyhow::{Context, Result, bail};

const UPDATE: [&str; 2] = ["apt-get", "update"];
const INSTALL: [&str; 4] = ["apt-get", "install", "-y", "--no-install-recommends"];

/// A Debian package, and the signs that it, or another distribution's like it, is installed.
pub struct SystemPackage {
    /// The package's name.
    pub debian: &'static str,
    /// Programs, or absolute paths.
    pub provides: &'static [&'static str],
}

impl SystemPackage {
    /// Whether everything that it provides is here.
    pub fn is_present(&self) -> bool {
        self.provides.iter().all(|what| {
            if what.starts_with('/') { Path::new(what).exists() } else { on_path(what) }
        })
    }
}

/// Installs Debian packages as root or through sudo; where neither is possible, fails with the commands
/// for the user to run.
pub fn install(packages: &[&str]) -> Result<()> {
    if !on_path("apt-get") {
        bail!(
            "only apt-get is known for installing packages; needed, by their Debian names: {}",
            packages.join(" ")
        );
    }
    let install = INSTALL.iter().chain(packages).copied().collect::<Vec<_>>();
    let prefix = prefix().with_context(|| {
        format!(
            "no root, and no sudo without a password; run these, then try again:\n    sudo {}\n    \
             sudo {}",
            UPDATE.join(" "),
            install.join(" ")
        )
    })?;
    refresh();
    as_command(prefix, &install)?
        .run()
        .with_context(|| format!("installing {}", packages.join(", ")))
}

/// Returns the folder with a package's programs, `program` among them: where it is installed already, `None`; else
/// the package is unpacked in the cache, not installed, so that no service starts.
pub fn unpacked(package: &str, program: &str) -> Result<Option<PathBuf>> {
    if on_path(program) {
        return Ok(None);
    }
    let folder = cache::dir()?.join("packages").join(package);
    let programs = folder.join("usr/bin");
    let _lock = cache::lock()?;
    if !programs.join(program).exists() {
        refresh();
        let download = folder.join("download");
        fs::create_dir_all(&download)
            .with_context(|| format!("creating {}", download.display()))?;
        Command::new("apt-get").args(["download", package]).current_dir(&download).run()?;
        for archive in fs::read_dir(&download)? {
            Command::new("dpkg-deb").arg("-x").arg(archive?.path()).arg(&folder).run()?;
        }
        fs::remove_dir_all(&download)?;
    }
    Ok(Some(programs))
}

/// The version of a package that apt would install.
pub fn candidate(package: &str) -> Option<String> {
    let mut policy = Command::new("apt-cache");
    let text = policy.args(["policy", package]).env("LC_ALL", "C").read().ok()?;
    parse_candidate(&String::from_utf8_lossy(&text))
}

fn parse_candidate(policy: &str) -> Option<String> {
    let version = policy.lines().find_map(|line| line.trim().strip_prefix("Candidate:"))?.trim();
    (version != "(none)").then(|| version.to_owned())
}

/// Brings apt's lists up to date, once, where that is permitted. A failure shows in what follows, if it
/// matters.
pub fn refresh() {
    static DONE: Once = Once::new();
    DONE.call_once(|| {
        let Some(prefix) = prefix() else { return };
        if let Err(error) = as_command(prefix, &UPDATE).and_then(|mut update| update.run()) {
            eprintln!("setup: {error:#}; continuing with the old lists");
        }
    });
}

/// The words before a command for it to run as root, where that is permitted.
fn prefix() -> Option<&'static [&'static str]> {
    if is_root() {
        Some(&[])
    } else {
        Command::new("sudo").args(["-n", "true"]).succeeds().then_some(&["sudo", "-n"])
    }
}

fn as_command(prefix: &[&str], words: &[&str]) -> Result<Command> {
    let mut all = prefix.iter().chain(words);
    let mut command = Command::new(all.next().context("empty command")?);
    command.args(all).env("DEBIAN_FRONTEND", "noninteractive");
    eprintln!("setup: running {}", describe(&command));
    Ok(command)
}

fn is_root() -> bool {
    // SAFETY: geteuid has no preconditions and cannot fail.
    unsafe { libc::geteuid() == 0 }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn reads_the_candidate() {
        let policy = |candidate: &str| {
            parse_candidate(&format!(
                "rustc-web:\n  Installed: (none)\n  Candidate: {candidate}\n  Version table:\n"
            ))
        };
        assert_eq!(policy("1.96.0+dfsg1-1~deb12u2").as_deref(), Some("1.96.0+dfsg1-1~deb12u2"));
        assert_eq!(policy("(none)"), None);
        assert_eq!(parse_candidate(""), None);
    }
}
