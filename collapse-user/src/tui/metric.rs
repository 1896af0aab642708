//! Metrics as the dashboard shows them: titles, colours, widths and formats.

use unicode_width::UnicodeWidthStr as _;

use super::{format, theme::Role};
use collapse_model::{
    Metric,
    metric::{Tone, Unit},
};

/// The title of a column of rates.
pub fn title(metric: &Metric) -> String {
    format!("{}{}", metric.title, unit(metric))
}

/// The width of a column of rates.
pub fn width(metric: &Metric) -> usize {
    title(metric).width().max(6)
}

/// The unit after a rate.
pub fn unit(metric: &Metric) -> &'static str {
    match metric.unit {
        Unit::Nanoseconds => "",
        _ => "/s",
    }
}

/// A metric's meaning, and how to read its rate.
pub fn help(metric: &Metric) -> String {
    let busy = if metric.unit == Unit::Nanoseconds { "; 100% is one vCPU" } else { "" };
    format!("{}{busy}", metric.help)
}

/// A rate; a dash if it is not known.
pub fn shown(metric: &Metric, rate: Option<f64>) -> String {
    format::known(rate, |rate| match metric.unit {
        Unit::Nanoseconds => format::busy(rate),
        _ => format::rate(rate),
    })
}

impl From<Tone> for Role {
    fn from(tone: Tone) -> Self {
        match tone {
            Tone::Plain => Self::Text,
            Tone::Small => Self::Small,
            Tone::Huge => Self::Huge,
            Tone::Split => Self::Split,
            Tone::Zap => Self::Zap,
            Tone::Fault => Self::Fault,
        }
    }
}
