//! Where output goes.

use std::{
    fs::File,
    io::{self, IsTerminal as _, Write as _},
    path::{Path, PathBuf},
};

use anyhow::Context as _;

use crate::{
    exit::{Exit, Failure, OrExit as _},
    report::Style,
};

/// A place for output, opened before anything is measured.
pub enum Output {
    /// Standard output.
    Stdout,
    /// A file.
    File(PathBuf, File),
}

impl Output {
    /// Opens a file, or standard output if none is given.
    pub fn open(path: Option<&Path>) -> Result<Self, Failure> {
        let Some(path) = path else { return Ok(Self::Stdout) };
        let file = File::create(path)
            .with_context(|| format!("cannot write {}", path.display()))
            .or_exit(Exit::Output)?;
        Ok(Self::File(path.to_owned(), file))
    }

    /// Whether to set off parts of a text.
    pub fn style(&self) -> Style {
        let no_color = std::env::var_os("NO_COLOR").is_some_and(|value| !value.is_empty());
        let dumb = std::env::var_os("TERM").is_some_and(|value| value == "dumb");
        match self {
            Self::Stdout if io::stdout().is_terminal() && !no_color && !dumb => Style::Ansi,
            _ => Style::Plain,
        }
    }

    /// Writes all of it. A reader of a pipe that has seen enough is no error.
    pub fn write(&mut self, text: &str) -> Result<(), Failure> {
        let (name, result) = match self {
            Self::Stdout => {
                let mut stdout = io::stdout().lock();
                let result = stdout.write_all(text.as_bytes()).and_then(|()| stdout.flush());
                ("standard output".to_owned(), result)
            }
            Self::File(path, file) => {
                let result = file.write_all(text.as_bytes()).and_then(|()| file.sync_all());
                (path.display().to_string(), result)
            }
        };
        match result {
            Err(error) if error.kind() == io::ErrorKind::BrokenPipe => Ok(()),
            // Devices and pipes cannot be synced.
            Err(error) if error.raw_os_error() == Some(libc::EINVAL) => Ok(()),
            result => result.with_context(|| format!("cannot write {name}")).or_exit(Exit::Output),
        }
    }
}
