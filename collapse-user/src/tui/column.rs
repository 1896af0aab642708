//! The columns of the overview.

use collapse_model::{Metric, MetricId, metric::Prominence};

/// A column.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Column {
    /// Name of the VM.
    Name,
    /// Process id of the VMM.
    Pid,
    /// State of the VM.
    State,
    /// Mapped memory.
    Mapped,
    /// Part of the mapped memory that is mapped huge.
    Huge,
    /// Recovered of lost regions.
    Back,
    /// The rate of a metric.
    Rate(MetricId),
}

impl Column {
    /// Every column, in the order shown.
    pub fn all() -> Vec<Self> {
        let mut all = vec![Self::Name, Self::Pid, Self::State, Self::Mapped, Self::Huge];
        for metric in Metric::charted() {
            all.push(Self::Rate(metric.id));
            if metric.id == MetricId::Recovered {
                all.push(Self::Back);
            }
        }
        all
    }

    /// The column's weight: the greater, the earlier it goes where there is no room.
    pub(super) fn weight(self) -> u8 {
        match self {
            Self::Name => 0,
            Self::State => 1,
            Self::Mapped => 2,
            Self::Back => 3,
            Self::Pid => 8,
            // The bar of what is mapped shows it, too.
            Self::Huge => 11,
            Self::Rate(id) => id.metric().weight(),
        }
    }

    /// The column's name in settings.
    pub fn key(self) -> &'static str {
        match self {
            Self::Name => "vm",
            Self::Pid => "pid",
            Self::State => "state",
            Self::Mapped => "mapped",
            Self::Huge => "huge",
            Self::Back => "recovered",
            Self::Rate(id) => match id.metric().prominence {
                Prominence::Charted { column, .. } => column,
                _ => id.metric().key,
            },
        }
    }

    /// Whether its text begins at the left.
    pub(super) fn is_text(self) -> bool {
        matches!(self, Self::Name | Self::State | Self::Mapped)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn names_and_weights_are_unique() {
        let all = Column::all();
        for (at, column) in all.iter().enumerate() {
            let others = all[..at].iter();
            let clash =
                |other: &&Column| other.key() == column.key() || other.weight() == column.weight();
            assert_eq!(others.clone().find(clash), None, "{column:?}");
        }
    }
}
