//! The columns of the overview.

/// A column.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Column {
    /// Name of the VM.
    Name,
    /// Process id of the VMM.
    Pid,
    /// What it goes through.
    State,
    /// Mapped memory.
    Mapped,
    /// Splits.
    Splits,
    /// Zaps.
    Zaps,
    /// Recoveries.
    Recoveries,
    /// Recovered of lost regions.
    Back,
    /// Guest faults.
    Faults,
    /// Time that they take from vCPUs.
    Stall,
}

impl Column {
    /// All, in the order shown.
    pub const ALL: [Self; 10] = [
        Self::Name,
        Self::Pid,
        Self::State,
        Self::Mapped,
        Self::Splits,
        Self::Zaps,
        Self::Recoveries,
        Self::Back,
        Self::Faults,
        Self::Stall,
    ];

    /// All by what matters most: the others go first where there is no room.
    pub(super) const BY_WEIGHT: [Self; 10] = [
        Self::Name,
        Self::State,
        Self::Mapped,
        Self::Back,
        Self::Splits,
        Self::Recoveries,
        Self::Faults,
        Self::Zaps,
        Self::Pid,
        Self::Stall,
    ];

    /// Its name in settings.
    pub fn key(self) -> &'static str {
        match self {
            Self::Name => "vm",
            Self::Pid => "pid",
            Self::State => "state",
            Self::Mapped => "mapped",
            Self::Splits => "splits",
            Self::Zaps => "zaps",
            Self::Recoveries => "recoveries",
            Self::Back => "recovered",
            Self::Faults => "faults",
            Self::Stall => "vcpu",
        }
    }

    /// Whether it begins at the left.
    pub(super) fn is_text(self) -> bool {
        matches!(self, Self::Name | Self::State | Self::Mapped)
    }
}
