//! States of the cells of the map.

use crate::tui::theme::Role;
use collapse_model::Mapping;

/// State of a cell: that of the worst of its regions.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub enum CellState {
    /// No region was lost since watching began.
    NotLost,
    /// Lost and huge again.
    Returned,
    /// Lost, and nothing is mapped until the next fault.
    Nothing,
    /// Lost, and mapped by the page table of a split.
    StillSplit,
    /// Lost, and mapped by small leaves installed since.
    Small,
}

impl CellState {
    /// Every state, in the order of the legend.
    pub const ALL: [Self; 5] =
        [Self::NotLost, Self::Returned, Self::StillSplit, Self::Small, Self::Nothing];

    /// The state of a region that is mapped like this.
    pub fn of(mapping: Mapping) -> Self {
        match mapping {
            Mapping::None => Self::Nothing,
            Mapping::StillSplit => Self::StillSplit,
            Mapping::Small => Self::Small,
        }
    }

    /// Glyph, colour and name.
    pub fn look(self) -> (&'static str, Role, &'static str) {
        match self {
            Self::NotLost => ("▆", Role::Huge, "not lost"),
            Self::Returned => ("▇", Role::Good, "huge again"),
            Self::StillSplit => ("▄", Role::Split, "split"),
            Self::Small => ("▂", Role::Small, "small"),
            Self::Nothing => ("·", Role::Zap, "untouched"),
        }
    }
}
