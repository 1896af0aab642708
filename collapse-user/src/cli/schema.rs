//! `collapse schema`

use clap::ValueEnum;

use super::output::Output;
use crate::{
    events,
    exit::{Exit, Failure},
};

/// An output that has a published schema.
#[derive(Clone, Copy, Debug, ValueEnum)]
pub enum Schema {
    /// The lines of `collapse events`.
    Events,
}

pub(super) fn run(schema: Schema) -> Result<Exit, Failure> {
    let text = match schema {
        Schema::Events => events::schema::EVENTS,
    };
    Output::open(None)?.write(text)?;
    Ok(Exit::Ok)
}
