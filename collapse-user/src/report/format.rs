//! The formats of a report.

use std::path::Path;

use super::{Report, Style, render};

/// How a report is written.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, clap::ValueEnum)]
pub enum Format {
    /// For people.
    #[default]
    Text,
    /// One JSON object.
    Json,
}

impl Format {
    /// The format that a file's name asks for; text if it asks for none.
    pub fn of_file(path: &Path) -> Self {
        match path.extension().and_then(|extension| extension.to_str()) {
            Some("json") => Self::Json,
            _ => Self::Text,
        }
    }

    /// Writes a report. It ends with a line break. `style` is for text.
    pub fn write(self, report: &Report, style: Style) -> serde_json::Result<String> {
        Ok(match self {
            Self::Text => render(report, style),
            Self::Json => serde_json::to_string_pretty(report)? + "\n",
        })
    }
}
