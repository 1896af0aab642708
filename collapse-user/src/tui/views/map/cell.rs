//! States of the cells of the map.

use crate::tui::theme::Role;
use collapse_feed::Slot;
use collapse_model::{Mapping, Vm, fit::Fit};

/// State of a cell: that of the worst of its regions.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub enum CellState {
    /// No region was lost since watching began.
    NotLost,
    /// Nor was any huge: most of what is mapped of the VM is small.
    NeverHuge,
    /// Dirty logging of the memslot keeps it small.
    Logged,
    /// The memslot cannot be mapped huge: it is misaligned, say.
    Unfit,
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
    pub const ALL: [Self; 8] = [
        Self::NotLost,
        Self::NeverHuge,
        Self::Logged,
        Self::Unfit,
        Self::Returned,
        Self::StillSplit,
        Self::Small,
        Self::Nothing,
    ];

    /// The state of what was not lost of a memslot.
    pub fn before(vm: &Vm, slot: &Slot) -> Self {
        match Fit::of(slot) {
            Fit::Logged => Self::Logged,
            Fit::GuestMemfd | Fit::TooSmall | Fit::Misaligned(_) => Self::Unfit,
            Fit::UpTo(_) | Fit::Unknown => {
                let is_small = vm.findings.holding().any(|found| found.name == "never_huge");
                if is_small { Self::NeverHuge } else { Self::NotLost }
            }
        }
    }

    /// Whether it is of a whole memslot, and not from losses.
    pub fn is_by_slot(self) -> bool {
        self < Self::Returned
    }

    /// What it means, in a few words.
    pub fn help(self) -> &'static str {
        match self {
            Self::NotLost => "no huge page lost while watched",
            Self::NeverHuge => "small, as most of the VM ever was",
            Self::Logged => "kept small by dirty logging",
            Self::Unfit => "no huge page fits its slot",
            Self::Returned => "lost, and huge again",
            Self::StillSplit => "lost, and still split",
            Self::Small => "lost, and mapped small again",
            Self::Nothing => "lost, and not touched since",
        }
    }

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
            Self::NeverHuge => ("▁", Role::Small, "never huge"),
            Self::Logged => ("L", Role::Split, "logged"),
            Self::Unfit => ("×", Role::Bad, "no huge page fits"),
            Self::Returned => ("▇", Role::Good, "huge again"),
            Self::StillSplit => ("▄", Role::Split, "split"),
            Self::Small => ("▂", Role::Small, "small"),
            Self::Nothing => ("·", Role::Zap, "untouched"),
        }
    }
}
