//! What the user may set before it starts.

use std::time::Duration;

use super::column::Column;
use collapse_model::findings::Thresholds;

/// What the user may set before it starts.
#[derive(Clone, Debug, PartialEq)]
pub struct Options {
    /// Time between refreshes.
    pub interval: Duration,
    /// Length of the time that charts show.
    pub window: Duration,
    /// Columns of the overview, if there is room.
    pub columns: Vec<Column>,
    /// The column that VMs are sorted by.
    pub sort: Column,
    /// When something is worth a look.
    pub thresholds: Thresholds,
}

impl Default for Options {
    fn default() -> Self {
        Self {
            interval: Duration::from_secs(1),
            window: Duration::from_mins(2),
            columns: Column::ALL.to_vec(),
            sort: Column::State,
            thresholds: Thresholds::default(),
        }
    }
}
