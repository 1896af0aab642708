//! The formats of a report.

use std::path::Path;

use super::{Report, Style, csv, html, junit, markdown, render};

/// A format of reports.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub enum Format {
    /// Text for people.
    #[default]
    Text,
    /// One JSON object.
    Json,
    /// Markdown for the summary page of a CI job.
    Markdown,
    /// One HTML file with plots, for a browser.
    Html,
    /// Checks as test cases: XML that CI systems read.
    Junit,
    /// A table of every VM over time.
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

    /// The purpose of the format, for the help of the command line.
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

    /// The format that the ending of a file's name stands for; text if it stands for none.
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

    /// Writes a report, which ends with a line break. `style` is that of text.
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
