//! `collapse selftest`

use std::path::{Path, PathBuf};

use clap::Args;

use super::Format;
use crate::{
    diagnostics::note,
    exit::{Exit, Failure, OrExit as _},
    output::Output,
    selftest::{DEFAULT_BUNDLE, Selftest},
    watch::Setup,
};

#[derive(Debug, Args)]
pub(super) struct SelftestArgs {
    /// Output format
    #[arg(long, short, value_enum, default_value_t)]
    format: Format,
    /// Write everything that a bug report needs to this file [default: collapse-selftest.json, if a
    /// signal is wrong]
    #[arg(long, value_name = "FILE")]
    bundle: Option<PathBuf>,
    /// Write it even if no signal is wrong
    #[arg(long)]
    keep: bool,
}

pub(super) fn run(args: &SelftestArgs, setup: Setup) -> Result<Exit, Failure> {
    let default = Path::new(DEFAULT_BUNDLE);
    let wanted = args.bundle.as_deref().or(args.keep.then_some(default));
    let bundle = wanted.map(|path| Output::open(Some(path))).transpose()?;
    let selftest = Selftest::run(setup)?;
    let mut output = Output::Stdout;
    let text = match args.format {
        Format::Text => selftest.verdict.text(output.style()),
        Format::Json => {
            serde_json::to_string_pretty(&selftest.verdict).or_exit(Exit::Output)? + "\n"
        }
    };
    output.write(&text)?;
    let exit = selftest.exit();
    if bundle.is_none() && exit == Exit::Ok {
        return Ok(exit);
    }
    // A wrong signal counts for more than a file that cannot be written.
    exit.or_else(save(&selftest, bundle).map(|()| Exit::Ok))
}

/// Writes the bundle, to the default file if no other was opened.
fn save(selftest: &Selftest, bundle: Option<Output>) -> Result<(), Failure> {
    let text = selftest.bundle().or_exit(Exit::Output)?;
    let default = || Output::open(Some(Path::new(DEFAULT_BUNDLE)));
    let mut file = bundle.map_or_else(default, Ok)?;
    file.write(&text)?;
    if let Output::File(path, _) = file {
        note(format_args!("for a bug report: {}", path.display()));
    }
    Ok(())
}
