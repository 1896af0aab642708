//! Running other programs so that a failure names the command.

use std::{
    env, io,
    os::fd::AsFd,
    process::{Command, Stdio},
};

use anyhow::{Context, Result, ensure};

/// Additions to [`Command`] that turn a bad exit status into an error.
pub trait CommandExt {
    /// Runs to the end with the child's output on our stderr, since our stdout is data.
    fn run(&mut self) -> Result<()>;
    /// Runs to the end and returns what the child wrote on stdout.
    fn read(&mut self) -> Result<Vec<u8>>;
    /// Whether the command can be started and succeeds; its output is dropped.
    fn succeeds(&mut self) -> bool;
}

impl CommandExt for Command {
    fn run(&mut self) -> Result<()> {
        let stderr = io::stderr().as_fd().try_clone_to_owned().context("duplicating stderr")?;
        let status = self
            .stdin(Stdio::null())
            .stdout(stderr)
            .status()
            .with_context(|| format!("starting {}", describe(self)))?;
        ensure!(status.success(), "{} failed: {status}", describe(self));
        Ok(())
    }

    fn read(&mut self) -> Result<Vec<u8>> {
        let output = self
            .stdin(Stdio::null())
            .stderr(Stdio::inherit())
            .output()
            .with_context(|| format!("starting {}", describe(self)))?;
        ensure!(output.status.success(), "{} failed: {}", describe(self), output.status);
        Ok(output.stdout)
    }

    fn succeeds(&mut self) -> bool {
        self.stdin(Stdio::null())
            .stdout(Stdio::null())
            .stderr(Stdio::null())
            .status()
            .is_ok_and(|status| status.success())
    }
}

/// The command as a person would type it, near enough for a message.
pub fn describe(command: &Command) -> String {
    let words = std::iter::once(command.get_program()).chain(command.get_args());
    words.map(|word| word.to_string_lossy()).collect::<Vec<_>>().join(" ")
}

/// Whether a program is on `PATH`.
pub fn on_path(program: &str) -> bool {
    let path = env::var_os("PATH").unwrap_or_default();
    env::split_paths(&path).any(|folder| folder.join(program).is_file())
}
