//! Runs a command as a user without rights, but for some capabilities:
//! `unprivileged CAP_BPF,CAP_PERFMON COMMAND…`. For tests of what capabilities suffice.

use std::{
    env,
    os::unix::process::CommandExt as _,
    process::{Command, ExitCode},
};

use anyhow::{Context as _, Error, Result};
use caps::{CapSet, Capability, CapsHashSet};

/// Nobody.
const USER: u32 = 65_534;

fn main() -> ExitCode {
    let error = run().unwrap_or_else(|error| error);
    eprintln!("unprivileged: {error:#}");
    ExitCode::FAILURE
}

/// Returns only if the command cannot be executed, and why.
fn run() -> Result<Error> {
    let mut words = env::args_os().skip(1);
    let names = words.next().context("no capabilities are given")?;
    let names = names.to_string_lossy();
    let names = names.split(',').filter(|name| !name.is_empty());
    let wanted: CapsHashSet = names.map(str::parse::<Capability>).collect::<Result<_, _>>()?;
    let program = words.next().context("no command is given")?;
    let mut command = Command::new(&program);
    command.args(words);
    for capability in caps::all() {
        if !wanted.contains(&capability) {
            // The kernel may not have it.
            let _ = caps::drop(None, CapSet::Bounding, capability);
        }
    }
    caps::securebits::set_keepcaps(true)?;
    become_nobody()?;
    caps::set(None, CapSet::Permitted, &wanted)?;
    caps::set(None, CapSet::Effective, &wanted)?;
    caps::set(None, CapSet::Inheritable, &wanted)?;
    caps::set(None, CapSet::Ambient, &wanted)?;
    Ok(Error::new(command.exec()).context(program.display().to_string()))
}

fn become_nobody() -> Result<()> {
    // SAFETY: plain system calls, in a process with one thread; the list of groups is empty.
    let failed = unsafe {
        libc::setgroups(0, std::ptr::null()) != 0
            || libc::setresgid(USER, USER, USER) != 0
            || libc::setresuid(USER, USER, USER) != 0
    };
    if failed { Err(std::io::Error::last_os_error()).context("becoming nobody") } else { Ok(()) }
}
