//! Which machine was measured.

/// A machine, as far as outputs name it.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Machine {
    /// Its host name; `None` if it has none, or if it was not recorded.
    pub name: Option<String>,
    /// `uname -r`.
    pub kernel: String,
}
