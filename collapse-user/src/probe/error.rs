//! Why programs do not run, or not all of them.

use std::{error::Error, io};

use aya::{maps::MapError, programs::ProgramError};
use collapse_common::abi::CPUS;

use super::FILES;

/// Why the programs are not running.
#[derive(Debug, thiserror::Error)]
pub enum ProbeError {
    /// The kernel refuses eBPF to this user.
    #[error(
        "not permitted to load eBPF programs: run as root, or with CAP_BPF, CAP_PERFMON and \
         CAP_SYS_RESOURCE"
    )]
    NotPermitted,
    /// The object could not be loaded.
    #[error("cannot load the eBPF object")]
    Load(#[source] Box<aya::EbpfError>),
    /// A map is not as expected.
    #[error("eBPF map {name}")]
    Map {
        /// Name of the map.
        name: &'static str,
        /// The error.
        #[source]
        source: MapError,
    },
    /// This process may open too few files, and may not raise the limit.
    #[error("may open {allowed} files and needs {FILES}: `ulimit -n {FILES}`")]
    Files {
        /// `RLIMIT_NOFILE`.
        allowed: u64,
    },
    /// The number of CPUs is not available.
    #[error("cannot determine the number of CPUs")]
    Cpus(#[source] io::Error),
    /// The machine may have more CPUs than the kernel side has room for.
    #[error("{0} CPUs are more than the {CPUS} that are supported")]
    TooManyCpus(usize),
    /// The object lacks a map that this build of user space needs.
    #[error("the eBPF object has no map {0}")]
    NoMap(&'static str),
    /// A signal without which nothing can be measured could not be attached.
    #[error("cannot see {signal}: {reason}")]
    Essential {
        /// The signal.
        signal: &'static str,
        /// Why.
        reason: String,
    },
}

/// Why a program of the eBPF object does not do its work.
#[derive(Debug, thiserror::Error)]
pub enum HookError {
    /// The object lacks a program that this build of user space needs.
    #[error("the eBPF object has no program {0}")]
    NoProgram(&'static str),
    /// The kernel refused to load the program. Of the verifier's log, which is in the source, the message
    /// has the line that gives the reason.
    #[error("the kernel refuses program {program}: {}", verdict(source))]
    Refused {
        /// Name of the program.
        program: &'static str,
        /// The refusal.
        #[source]
        source: Box<ProgramError>,
    },
    /// The program could not be attached.
    #[error("cannot attach {program}")]
    Attach {
        /// Name of the program.
        program: &'static str,
        /// The reason.
        #[source]
        source: Box<ProgramError>,
    },
    /// The object lacks a map that this build of user space needs.
    #[error("the eBPF object has no map {0}")]
    NoMap(&'static str),
    /// A map is not as expected, or full.
    #[error("eBPF map {name}")]
    Map {
        /// Name of the map.
        name: &'static str,
        /// The error.
        #[source]
        source: MapError,
    },
    /// The program could not be detached.
    #[error("cannot detach {program}")]
    Detach {
        /// Name of the program.
        program: &'static str,
        /// The reason.
        #[source]
        source: Box<ProgramError>,
    },
    /// The program could not be run.
    #[error("cannot run {program}")]
    Run {
        /// Name of the program.
        program: &'static str,
        /// The reason.
        #[source]
        source: Box<dyn Error>,
    },
}

impl HookError {
    /// Returns the error with its sources in one line, without the verifier's log.
    pub fn line(&self) -> String {
        match self {
            Self::Refused { .. } => self.to_string(),
            _ => chain(self),
        }
    }

    /// Returns the verifier's full log, if the verifier refused the program.
    pub fn verifier_log(&self) -> Option<String> {
        match self {
            Self::Refused { source, .. } => match &**source {
                ProgramError::LoadError { verifier_log, .. } => Some(verifier_log.to_string()),
                _ => None,
            },
            _ => None,
        }
    }
}

/// Returns why a program was refused, in one line: of the verifier's log, the line that gives the
/// reason.
fn verdict(error: &ProgramError) -> String {
    let ProgramError::LoadError { io_error, verifier_log } = error else { return chain(error) };
    let log = verifier_log.to_string();
    let verdict = log.lines().rev().find(|line| {
        let statistics = ["processed ", "stack depth", "verification time"];
        !line.trim().is_empty() && !statistics.iter().any(|start| line.starts_with(start))
    });
    format!("{io_error}: {}", verdict.unwrap_or("no reason given"))
}

/// Formats an error with its sources, in one line.
pub fn chain(error: &dyn Error) -> String {
    let mut text = error.to_string();
    let mut source = error.source();
    while let Some(error) = source {
        text.push_str(": ");
        text.push_str(&error.to_string());
        source = error.source();
    }
    text
}

/// Whether an error comes from the kernel refusing permission.
pub(super) fn is_permission_error(error: &aya::EbpfError) -> bool {
    let mut source: Option<&dyn Error> = Some(error);
    while let Some(error) = source {
        if let Some(io) = error.downcast_ref::<io::Error>()
            && io.kind() == io::ErrorKind::PermissionDenied
        {
            return true;
        }
        source = error.source();
    }
    false
}
