//! Exit codes. Those of a command that was run come first; ours stay out of its way.

use std::{fmt, process::ExitCode};

/// How the program ends.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Exit {
    /// All went well.
    Ok,
    /// Wrong usage.
    Usage,
    /// A recording could not be read, or not to its end.
    Recording,
    /// Less is seen than was demanded.
    Coverage,
    /// A budget was not kept, or something got worse than the baseline.
    Budget,
    /// What was measured is wrong (`selftest`).
    Failed,
    /// Output could not be written.
    Output,
    /// Nothing can be measured here: no permission, no KVM, no kprobes.
    CannotMeasure,
    /// Only part can be seen (`doctor`).
    Partial,
    /// The command could not be executed.
    NotExecutable,
    /// The command was not found.
    NotFound,
    /// The command's own status.
    Command(u8),
}

impl Exit {
    /// That of a command that ended with this status, or by this signal.
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

    /// The table for `--help`.
    pub const HELP: &str = "\
Exit status:
  0    success
  2    wrong usage
  116  the recording could not be read to its end: missing, damaged, of a newer version
  117  report: less is seen than --require demands
  118  report: a budget was not kept, or something got worse than the baseline
  119  selftest: a signal is wrong
  120  the output could not be written
  121  nothing can be measured here: no permission, no KVM, no kprobes, no BTF
  123  doctor: only part can be seen
  126  the command could not be executed
  127  the command was not found
  With -- COMMAND, its own status; 128+N if signal N ended it.
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
    /// What to tell.
    pub error: anyhow::Error,
}

impl fmt::Display for Failure {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{:#}", self.error)
    }
}

/// Gives an error its exit code.
pub trait OrExit<T> {
    /// Ends with `exit` on an error.
    fn or_exit(self, exit: Exit) -> Result<T, Failure>;
}

impl<T, E: Into<anyhow::Error>> OrExit<T> for Result<T, E> {
    fn or_exit(self, exit: Exit) -> Result<T, Failure> {
        self.map_err(|error| Failure { exit, error: error.into() })
    }
}
