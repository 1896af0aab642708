//! `collapse schema`

use clap::ValueEnum;

use crate::{
    events,
    exit::{Exit, Failure, OrExit as _},
    output::Output,
    report,
};

/// A JSON format.
#[derive(Clone, Copy, Debug, ValueEnum)]
pub(super) enum Document {
    /// The report
    Report,
    /// Lines of events
    Events,
    /// The explanation
    Explain,
}

pub(super) fn run(document: Document) -> Result<Exit, Failure> {
    let schema = match document {
        Document::Report => report::schema(),
        Document::Events => events::schema(),
        Document::Explain => report::explain::schema(),
    };
    let text = serde_json::to_string_pretty(&schema).or_exit(Exit::Output)?;
    Output::Stdout.write(&(text + "\n"))?;
    Ok(Exit::Ok)
}
