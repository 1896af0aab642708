//! Options of the dashboard.

use std::time::Duration;

use super::column::Column;
use collapse_model::findings::Thresholds;

/// Options that the user sets before the dashboard starts.
#[derive(Clone, Debug, PartialEq)]
pub struct DashboardOptions {
    /// Time between refreshes.
    pub interval: Duration,
    /// Time that charts span.
    pub window: Duration,
    /// Columns of the overview, where there is room.
    pub columns: Vec<Column>,
    /// Column that VMs are sorted by at first.
    pub sort: Column,
    /// Limits beyond which findings are reported.
    pub thresholds: Thresholds,
}

impl Default for DashboardOptions {
    fn default() -> Self {
        Self {
            interval: Duration::from_secs(1),
            window: Duration::from_mins(2),
            columns: Column::all(),
            sort: Column::State,
            thresholds: Thresholds::default(),
        }
    }
}
