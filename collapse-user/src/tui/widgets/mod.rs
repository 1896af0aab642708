//! Parts that views share.

mod bar;
mod chart;
mod list;
mod spread;

pub use bar::{SIZES, bar, huge, parts, sizes};
pub use chart::{LABEL, area, episodes, plot, spark, sparkline, stacked, time_axis};
pub use list::{first_shown, paragraph, rule, title};
pub use spread::spread;
