//! Hooks: what programs are attached to.

use std::fmt;

use collapse_common::{
    Cause,
    abi::{Function, Role},
};

/// A hook: an eBPF program or two, and where they attach.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Hook {
    /// A raw tracepoint `system:name`.
    Raw {
        /// Program in the eBPF object.
        program: &'static str,
        /// Tracepoint, as `system:name`.
        tracepoint: &'static str,
        /// Evidence that its arguments are as the program reads them.
        layout: Layout,
        /// Whether an event is lost if the kernel skips the program. It is not where only some of the
        /// events are looked at.
        skips_lose: bool,
    },
    /// The entry of a kernel function.
    Entry {
        /// Program in the eBPF object.
        program: &'static str,
        /// Function.
        function: &'static str,
    },
    /// A kernel function that shares its programs with all others of these: one for the entry, which
    /// finds by the function's address what to do, and one for the return.
    Function {
        /// Function.
        function: &'static str,
        /// The programs' work there.
        role: Role,
        /// The cause that it names; [`Cause::Unknown`] if none, or if the role gives it.
        cause: Cause,
    },
    /// A program that user space runs itself, starting from a kernel variable.
    Run {
        /// Program in the eBPF object.
        program: &'static str,
        /// Kernel variable that it starts from.
        variable: &'static str,
    },
    /// A program that user space runs itself to read a field of a kernel structure.
    Read {
        /// Program in the eBPF object.
        program: &'static str,
        /// Field, as `struct.field.field`.
        field: &'static str,
    },
}

impl Hook {
    /// Program at the entry of all functions that share it.
    pub const ENTRY: &'static str = "enter";

    /// Program at their return.
    pub const RETURN: &'static str = "leave";

    /// Returns the function whose entry it attaches to, if that is what it does.
    pub fn function(&self) -> Option<&'static str> {
        match *self {
            Self::Entry { function, .. } | Self::Function { function, .. } => Some(function),
            Self::Raw { .. } | Self::Run { .. } | Self::Read { .. } => None,
        }
    }

    /// Returns what the shared programs need to know of its function; `None` if it has others.
    pub fn shared(&self) -> Option<Function> {
        match *self {
            Self::Function { role, cause, .. } => {
                Some(Function { cause: cause as u32, role: role as u32, hits: 0 })
            }
            _ => None,
        }
    }

    /// Returns the programs.
    pub fn programs(&self) -> Vec<&'static str> {
        match *self {
            Self::Function { role, .. } => {
                let exit = role.returns().then_some(Self::RETURN);
                [Self::ENTRY].into_iter().chain(exit).collect()
            }
            Self::Raw { program, .. }
            | Self::Entry { program, .. }
            | Self::Run { program, .. }
            | Self::Read { program, .. } => vec![program],
        }
    }

    /// Whether it is a probe on a kernel function, which does not fire while kprobes or ftrace are off.
    pub fn is_on_function(&self) -> bool {
        matches!(self, Self::Entry { .. } | Self::Function { .. })
    }

    /// Returns the programs that lose an event each time the kernel skips them.
    pub fn losing_programs(&self) -> Vec<&'static str> {
        match *self {
            Self::Raw { skips_lose: false, .. } | Self::Run { .. } | Self::Read { .. } => {
                Vec::new()
            }
            _ => self.programs(),
        }
    }
}

impl fmt::Display for Hook {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Raw { tracepoint, .. } => write!(f, "raw_tp:{tracepoint}"),
            Self::Function { function, role, .. } if role.returns() => {
                write!(f, "kprobe+kretprobe:{function}")
            }
            Self::Entry { function, .. } | Self::Function { function, .. } => {
                write!(f, "kprobe:{function}")
            }
            Self::Run { program, variable } => write!(f, "run:{program}({variable})"),
            Self::Read { field, .. } => write!(f, "read:{field}"),
        }
    }
}

/// Evidence of the argument layout of a raw tracepoint.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Layout {
    /// The layout never changed.
    Stable,
    /// The tracepoint's format has this field.
    Field(&'static str),
    /// The tracepoint has this many arguments.
    Args(usize),
}
