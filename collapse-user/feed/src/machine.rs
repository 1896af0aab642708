//! The machine that was measured.

/// A machine, as outputs identify it.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Machine {
    /// Host name; `None` if it was never set, or not recorded.
    pub name: Option<String>,
    /// Kernel release, as `uname -r` prints it.
    pub kernel: String,
}
