//! Where output goes.

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

/// Whether a path is `-`, which is standard output, or input.
pub fn is_dash(path: &Path) -> bool {
    path.as_os_str() == "-"
}

/// A place for output, opened before anything is measured.
pub enum Output {
    /// Standard output.
    Stdout,
    /// A file.
    File(PathBuf, File),
}

impl Output {
    /// Opens a file, or standard output if none is given or `-`.
    pub fn open(path: Option<&Path>) -> Result<Self, Failure> {
        let Some(path) = path.filter(|path| !is_dash(path)) else {
            return Ok(Self::Stdout);
        };
        let file = File::create(path)
            .with_context(|| format!("cannot write {}", path.display()))
            .or_exit(Exit::Output)?;
        Ok(Self::File(path.to_owned(), file))
    }

    /// Its name, and a way to write to it bit by bit.
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

    /// Whether to set off parts of a text.
    pub fn style(&self) -> Style {
        let no_color = std::env::var_os("NO_COLOR").is_some_and(|value| !value.is_empty());
        let dumb = std::env::var_os("TERM").is_some_and(|value| value == "dumb");
        match self {
            Self::Stdout if io::stdout().is_terminal() && !no_color && !dumb => Style::Ansi,
            _ => Style::Plain,
        }
    }

    /// Writes all of it.
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

/// What came of writing to `name`. A reader of a pipe that has seen enough is no error.
pub fn written(result: io::Result<()>, name: &str) -> Result<(), Failure> {
    match result {
        Err(error) if error.kind() == io::ErrorKind::BrokenPipe => Ok(()),
        result => result.with_context(|| format!("cannot write {name}")).or_exit(Exit::Output),
    }
}
