//! `collapse schema`: what the JSON formats look like, as JSON Schema.

use clap::ValueEnum;

use super::output::Output;
use crate::{
    events,
    exit::{Exit, Failure, OrExit as _},
    report,
};

/// A JSON format.
#[derive(Clone, Copy, Debug, ValueEnum)]
pub(super) enum Document {
    /// The report.
    Report,
    /// The lines of events.
    Events,
}

pub(super) fn run(document: Document) -> Result<Exit, Failure> {
    let text = match document {
        Document::Report => {
            serde_json::to_string_pretty(&report::schema()).or_exit(Exit::Output)? + "\n"
        }
        Document::Events => events::schema::EVENTS.to_owned(),
    };
    Output::open(None)?.write(&text)?;
    Ok(Exit::Ok)
}
