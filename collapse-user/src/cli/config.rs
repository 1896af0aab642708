//! `collapse config`

use crate::{
    exit::{Exit, Failure},
    output::Output,
    settings::{Flags, Settings, file_text},
};

pub(super) fn run(flags: &Flags) -> Result<Exit, Failure> {
    let settings = Settings::load(flags)?;
    Output::Stdout.write(&file_text(&settings, Settings::path().as_deref()))?;
    Ok(Exit::Ok)
}
