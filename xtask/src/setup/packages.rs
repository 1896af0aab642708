//! The distribution's packages.

use std::{env, path::Path, process::Command};

use anyhow::{Context, Result, bail};

use crate::process::{CommandExt, describe};

/// A Debian package, and what shows that it, or another distribution's like it, is installed.
pub struct Package {
    /// Its name.
    pub debian: &'static str,
    /// Programs, or absolute paths.
    pub provides: &'static [&'static str],
}

impl Package {
    /// Whether all that it provides is here.
    pub fn is_present(&self) -> bool {
        self.provides.iter().all(|what| {
            if what.starts_with('/') { Path::new(what).exists() } else { on_path(what) }
        })
    }
}

/// Whether a program is on `PATH`.
pub fn on_path(program: &str) -> bool {
    let path = env::var_os("PATH").unwrap_or_default();
    env::split_paths(&path).any(|folder| folder.join(program).is_file())
}

/// Installs Debian packages, as root, through sudo, or by telling the user how.
pub fn install(packages: &[&str]) -> Result<()> {
    if !on_path("apt-get") {
        bail!(
            "this distribution is not one that I know how to install packages on; needed, by \
             their Debian names: {}",
            packages.join(" ")
        );
    }
    let update = ["apt-get", "update"];
    let install = ["apt-get", "install", "-y", "--no-install-recommends"];
    let install: Vec<&str> = install.into_iter().chain(packages.iter().copied()).collect();
    let prefix: &[&str] = match () {
        () if is_root() => &[],
        () if Command::new("sudo").args(["-n", "true"]).succeeds() => &["sudo", "-n"],
        () => bail!(
            "no root, and no sudo without a password; run these, then try again:\n    sudo {}\n    \
             sudo {}",
            update.join(" "),
            install.join(" ")
        ),
    };
    // A list that cannot be refreshed may still name what is needed.
    if let Err(error) = as_command(prefix, &update)?.run() {
        eprintln!("setup: {error:#}; going on with the lists there are");
    }
    as_command(prefix, &install)?
        .run()
        .with_context(|| format!("installing {}", packages.join(", ")))
}

/// Whether apt knows all of these packages.
pub fn available(packages: &[&str]) -> bool {
    on_path("apt-cache")
        && packages.iter().all(|package| {
            let policy =
                Command::new("apt-cache").args(["policy", package]).env("LC_ALL", "C").read();
            policy.is_ok_and(|text| {
                let text = String::from_utf8_lossy(&text);
                text.lines().any(|line| {
                    let candidate = line.trim().strip_prefix("Candidate:");
                    candidate.is_some_and(|version| version.trim() != "(none)")
                })
            })
        })
}

/// Brings apt's lists up to date if we may; what follows shows whether it was needed.
pub fn refresh() {
    if is_root() && on_path("apt-get") {
        eprintln!("setup: fetching apt's package lists");
        if let Err(error) = Command::new("apt-get").arg("update").run() {
            eprintln!("setup: {error:#}");
        }
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
