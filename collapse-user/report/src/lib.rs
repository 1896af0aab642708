//! The report: what a run amounts to, as one value. JSON is this value; the text is made from it.

mod csv;
mod episode;
pub mod events;
pub mod explain;
pub mod export;
mod figures;
mod finding;
mod format;
pub mod gate;
mod html;
mod junit;
mod keys;
mod live;
mod markdown;
mod pages;
mod per_metric;
mod report;
mod schema;
mod select;
mod table;
#[cfg(test)]
mod tests;
mod text;
mod timeline;
mod unknown;
mod verdicts;
mod vm;
mod words;

pub use collapse_model::{MapCell, SlotMap, metric::Better};
pub use episode::{EpisodeCollapse, EpisodeCostReport, EpisodeReport, FaultCostReport};
pub use figures::{
    HistogramReport, LatencyReport, LockWaitReport, LockWaitsReport, LongFaultReport,
    OperationReport, PmlFullReport, StallReport,
};
pub use finding::{FindingReport, KnobReport, MeasureReport};
pub use format::Format;
pub use keys::Name;
pub use live::live_lines;
pub use pages::{PagesBySize, PagesReport, ReconciliationReport, ResidualBySize};
pub use per_metric::{MetricValue, PerMetric};
pub use report::{
    CommandReport, Host, Report, SCHEMA, SCHEMA_MINOR, SelectionReport, SignalReport,
};
pub(crate) use schema::inlined as inlined_schema;
pub use schema::schema;
pub use select::{VmIdentity, VmSelect};
pub use text::{Style, render};
pub use timeline::Moment;
pub use verdicts::{
    BaselineReport, BaselineVerdict, BudgetCheck, BudgetReport, Required, RequiredCoverage,
    Verdicts,
};
pub use vm::{
    Counts, DirtyLogReport, Faults, GainsReport, GiantsReport, Racing, Recoveries, RegionsReport,
    SpanReport, VmReport,
};
