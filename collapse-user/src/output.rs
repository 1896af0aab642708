//! Standard output and files, opened before anything is measured, and what becomes of writing there.

use std::{
    fs::File,
    io::{self, BufWriter, IsTerminal as _, Write},
    path::{Path, PathBuf},
};

use anyhow::Context as _;

use crate::{
    exit::{Exit, Failure, OrExit as _},
    report::Style,
};

/// Whether a path is `-`: standard output, or standard input.
pub fn is_dash(path: &Path) -> bool {
    path.as_os_str() == "-"
}

/// A place for output.
pub enum Output {
    /// Standard output.
    Stdout,
    /// A file.
    File(PathBuf, File),
}

impl Output {
    /// Opens a file, or standard output without a path or for `-`.
    pub fn open(path: Option<&Path>) -> Result<Self, Failure> {
        let Some(path) = path.filter(|path| !is_dash(path)) else {
            return Ok(Self::Stdout);
        };
        let file = File::create(path)
            .with_context(|| cannot_write(&path.display().to_string()))
            .or_exit(Exit::Output)?;
        Ok(Self::File(path.to_owned(), file))
    }

    /// The name for messages, and a buffered writer.
    pub fn into_writer(self) -> (String, Box<dyn Write>) {
        let name = self.name();
        match self {
            Self::Stdout => (name, Box::new(BufWriter::new(io::stdout()))),
            Self::File(_, file) => (name, Box::new(BufWriter::new(file))),
        }
    }

    fn name(&self) -> String {
        match self {
            Self::Stdout => "standard output".to_owned(),
            Self::File(path, _) => path.display().to_string(),
        }
    }

    /// Whether text may be in bold and dim.
    pub fn style(&self) -> Style {
        let no_color = std::env::var_os("NO_COLOR").is_some_and(|value| !value.is_empty());
        let dumb = std::env::var_os("TERM").is_some_and(|value| value == "dumb");
        match self {
            Self::Stdout if io::stdout().is_terminal() && !no_color && !dumb => Style::Ansi,
            _ => Style::Plain,
        }
    }

    /// Writes a whole text.
    pub fn write(&mut self, text: &str) -> Result<(), Failure> {
        let result = match self {
            Self::Stdout => {
                let mut stdout = io::stdout().lock();
                stdout.write_all(text.as_bytes()).and_then(|()| stdout.flush())
            }
            Self::File(_, file) => file.write_all(text.as_bytes()).and_then(|()| file.sync_all()),
        };
        match result {
            // Devices and pipes cannot be synced.
            Err(error) if error.raw_os_error() == Some(libc::EINVAL) => Ok(()),
            result => written(result, &self.name()),
        }
    }
}

/// Gives a failed write to `name` its exit code. A reader of a pipe that has seen enough is no error.
pub fn written(result: io::Result<()>, name: &str) -> Result<(), Failure> {
    match result {
        Err(error) if error.kind() == io::ErrorKind::BrokenPipe => Ok(()),
        result => result.with_context(|| cannot_write(name)).or_exit(Exit::Output),
    }
}

/// The message for a failed write to `name`.
pub fn cannot_write(name: &str) -> String {
    format!("cannot write {name}")
}

/// A writer that is left alone after its first error, which [`Self::finish`] returns.
#[derive(Debug)]
pub struct Guarded<W> {
    writer: W,
    failed: Option<io::Error>,
}

impl<W> Guarded<W> {
    /// Guards a writer.
    pub fn new(writer: W) -> Self {
        Self { writer, failed: None }
    }

    /// The writer, to look at.
    pub fn get(&self) -> &W {
        &self.writer
    }

    /// Whether a write has failed.
    pub fn has_failed(&self) -> bool {
        self.failed.is_some()
    }

    /// Writes, unless an earlier write failed.
    pub fn write(&mut self, write: impl FnOnce(&mut W) -> io::Result<()>) {
        if self.failed.is_none() {
            self.failed = write(&mut self.writer).err();
        }
    }

    /// Writes for the last time, unless an earlier write failed; returns the first error.
    pub fn finish(mut self, write: impl FnOnce(&mut W) -> io::Result<()>) -> io::Result<()> {
        self.write(write);
        self.failed.map_or(Ok(()), Err)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_first_error_ends_writing_and_is_returned() {
        let mut guarded = Guarded::new(Vec::new());
        guarded.write(|out| out.write_all(b"a"));
        guarded.write(|out| {
            out.push(b'b');
            Err(io::Error::other("first"))
        });
        guarded.write(|out| {
            out.push(b'c');
            Err(io::Error::other("second"))
        });
        assert!(guarded.has_failed());
        assert_eq!(guarded.get(), b"ab");
        let error = guarded.finish(|out| out.write_all(b"d")).unwrap_err();
        assert_eq!(error.to_string(), "first");
    }
}
