//! The formats of a report.

use std::path::Path;

use super::{Report, Style, csv, html, junit, markdown, render};

/// How a report is written.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub enum Format {
    /// For people.
    #[default]
    Text,
    /// One JSON object.
    Json,
    /// For the summary page of a CI job.
    Markdown,
    /// One file with plots, for a browser.
    Html,
    /// Checks as test cases: XML that CI systems read.
    Junit,
    /// Every VM over time.
    Csv,
}

impl Format {
    /// Every format.
    pub const ALL: [Self; 6] =
        [Self::Text, Self::Json, Self::Markdown, Self::Html, Self::Junit, Self::Csv];

    /// The format's name on the command line.
    pub fn name(self) -> &'static str {
        match self {
            Self::Text => "text",
            Self::Json => "json",
            Self::Markdown => "markdown",
            Self::Html => "html",
            Self::Junit => "junit",
            Self::Csv => "csv",
        }
    }

    /// What the format is for, as the command line's help puts it.
    pub fn help(self) -> &'static str {
        match self {
            Self::Text => "For people",
            Self::Json => "One JSON object",
            Self::Markdown => "For the summary page of a CI job",
            Self::Html => "One file with plots, for a browser",
            Self::Junit => "Checks as test cases: XML that CI systems read",
            Self::Csv => "Every VM over time",
        }
    }

    /// The format that a file's name asks for; text if it asks for none.
    pub fn of_file(path: &Path) -> Self {
        match path.extension().and_then(|extension| extension.to_str()) {
            Some("json") => Self::Json,
            Some("md" | "markdown") => Self::Markdown,
            Some("html" | "htm") => Self::Html,
            Some("xml") => Self::Junit,
            Some("csv") => Self::Csv,
            _ => Self::Text,
        }
    }

    /// Writes a report. It ends with a line break. `style` is for text.
    pub fn write(self, report: &Report, style: Style) -> serde_json::Result<String> {
        Ok(match self {
            Self::Text => render(report, style),
            Self::Json => serde_json::to_string_pretty(report)? + "\n",
            Self::Markdown => markdown::render(report),
            Self::Html => html::render(report),
            Self::Junit => junit::render(report),
            Self::Csv => csv::render(report),
        })
    }
}
