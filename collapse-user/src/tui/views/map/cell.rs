//! What a cell of the map stands for.

use crate::tui::theme::Role;
use collapse_model::Mapping;

/// How the regions of a cell are mapped; the worst of them counts.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub enum CellState {
    /// None was lost since watching began.
    NotLost,
    /// Huge again.
    Returned,
    /// Nothing is mapped: the next touch tells.
    Nothing,
    /// By the page table of a split.
    StillSplit,
    /// By small leaves installed since.
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
