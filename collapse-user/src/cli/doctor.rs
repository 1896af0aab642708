//! `collapse doctor`

use clap::Args;

use super::Format;
use crate::{
    doctor::Diagnosis,
    exit::{Exit, Failure, OrExit as _},
    output::Output,
    watch::Setup,
};

#[derive(Debug, Args)]
pub(super) struct DoctorArgs {
    /// Output format
    #[arg(long, short, value_enum, default_value_t)]
    format: Format,
    /// Only look: load and attach nothing
    #[arg(long)]
    no_attach: bool,
}

pub(super) fn run(args: &DoctorArgs, verbose: bool, setup: Setup) -> Result<Exit, Failure> {
    let diagnosis = Diagnosis::of_running_kernel(!args.no_attach, verbose, setup);
    let text = match args.format {
        Format::Text => diagnosis.text(),
        Format::Json => diagnosis.json().or_exit(Exit::Output)?,
    };
    Output::Stdout.write(&text)?;
    Ok(diagnosis.exit())
}
