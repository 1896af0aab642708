//! `collapse completions` and `collapse manual`: what packages carry beside the program, made from the command
//! line's own definition.

use std::{
    fs,
    io::{self, Write as _},
    path::PathBuf,
};

use anyhow::Context as _;
use clap::{Args, Command};
use clap_complete::Shell;

use crate::{
    exit::{Exit, Failure, OrExit as _},
    output::written,
};

#[derive(Debug, Args)]
pub(super) struct CompletionsArgs {
    /// Shell to complete for
    shell: Shell,
}

#[derive(Debug, Args)]
pub(super) struct ManualArgs {
    /// Folder for the pages; it is made if it is missing
    #[arg(long, short, value_name = "FOLDER")]
    output: PathBuf,
}

pub(super) fn completions(args: &CompletionsArgs, mut command: Command) -> Result<Exit, Failure> {
    let mut script = Vec::new();
    let name = command.get_name().to_owned();
    clap_complete::generate(args.shell, &mut command, name, &mut script);
    let mut stdout = io::stdout().lock();
    let result = stdout.write_all(&script).and_then(|()| stdout.flush());
    written(result, "standard output").map(|()| Exit::Ok)
}

pub(super) fn manual(args: &ManualArgs, command: Command) -> Result<Exit, Failure> {
    let folder = &args.output;
    let pages = fs::create_dir_all(folder).and_then(|()| clap_mangen::generate_to(command, folder));
    pages.with_context(|| format!("cannot write {}", folder.display())).or_exit(Exit::Output)?;
    Ok(Exit::Ok)
}
