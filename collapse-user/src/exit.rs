//! Exit codes. A command's own failure comes before ours, and our codes stay out of its way.

use std::{fmt, process::ExitCode};

/// How the program ends.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Exit {
    /// Success.
    Ok,
    /// Wrong usage.
    Usage,
    /// A recording could not be read to its end.
    Recording,
    /// Less was seen than was required.
    Coverage,
    /// A budget was not met, or a metric was worse than the baseline.
    Budget,
    /// A measurement was wrong (`selftest`).
    Failed,
    /// Output could not be written.
    Output,
    /// Nothing can be measured here: no permission, no KVM, no kprobes.
    CannotMeasure,
    /// Only some signals can be seen (`doctor`).
    Partial,
    /// The command could not be executed.
    NotExecutable,
    /// The command was not found.
    NotFound,
    /// The command's own status.
    Command(u8),
}

impl Exit {
    /// Maps a command's status, or the signal that ended it, as shells do.
    pub fn of_command(status: Option<i32>, signal: Option<i32>) -> Self {
        let killed = || signal.map_or(1, |signal| 128 + signal);
        Self::Command(status.unwrap_or_else(killed) as u8)
    }

    /// The code.
    pub fn code(self) -> u8 {
        match self {
            Self::Ok => 0,
            Self::Usage => 2,
            Self::Recording => 116,
            Self::Coverage => 117,
            Self::Budget => 118,
            Self::Failed => 119,
            Self::Output => 120,
            Self::CannotMeasure => 121,
            Self::Partial => 123,
            Self::NotExecutable => 126,
            Self::NotFound => 127,
            Self::Command(code) => code,
        }
    }

    /// Chooses between how the watched command (or the recording read in its place) ended and what
    /// came of our own work. The command's failure comes first, as if it had been run alone: an error
    /// of ours is then only reported.
    pub fn or_else(self, own: Result<Self, Failure>) -> Result<Self, Failure> {
        if self.code() == Self::Ok.code() {
            return own;
        }
        if let Err(failure) = own {
            log::error!("{failure}");
        }
        Ok(self)
    }

    /// The table for `--help`.
    pub const HELP: &str = "\
Exit status:
  0    success
  2    wrong usage
  116  the recording could not be read to its end: missing, damaged, or of a newer version
  117  report: less was seen than --require demands
  118  report, explain: a budget was not met, or a metric was worse than the baseline
  119  selftest: a signal is wrong
  120  the output could not be written
  121  nothing can be measured here: no permission, no KVM, no kprobes, no BTF
  123  doctor: only some signals can be seen
  126  the command could not be executed
  127  the command was not found
  With -- COMMAND, the command's own status; 128+N if signal N ended it.
  If several apply, the command's failure comes first, then 116, 120, 118 and 117.";
}

impl From<Exit> for ExitCode {
    fn from(exit: Exit) -> Self {
        exit.code().into()
    }
}

/// An error that ends the program with a code of its own.
#[derive(Debug)]
pub struct Failure {
    /// How the program ends.
    pub exit: Exit,
    /// The reason, shown as one line on stderr.
    pub error: anyhow::Error,
}

impl fmt::Display for Failure {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{:#}", self.error)
    }
}

/// Gives an error an exit code.
pub trait OrExit<T> {
    /// Ends the program with `exit` on an error.
    fn or_exit(self, exit: Exit) -> Result<T, Failure>;
}

impl<T, E: Into<anyhow::Error>> OrExit<T> for Result<T, E> {
    fn or_exit(self, exit: Exit) -> Result<T, Failure> {
        self.map_err(|error| Failure { exit, error: error.into() })
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_commands_failure_comes_first() {
        let full = || Err(anyhow::anyhow!("disk full")).or_exit(Exit::Output);
        let code = |exit: Result<Exit, Failure>| exit.unwrap_or_else(|failure| failure.exit).code();
        for own in [Ok(Exit::Ok), Ok(Exit::Budget), full()] {
            assert_eq!(code(Exit::of_command(None, Some(9)).or_else(own)), 137);
        }
        let success = Exit::of_command(Some(0), None);
        assert_eq!(code(success.or_else(full())), 120);
        assert_eq!(code(success.or_else(Ok(Exit::Budget))), 118);
        assert_eq!(code(Exit::Recording.or_else(full())), 116);
    }
}
