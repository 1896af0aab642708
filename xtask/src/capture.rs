//! `cargo xtask capture`: the dashboard as a picture, at one time of a recording of a real run.

use std::{fs, path::PathBuf, time::Duration};

use anyhow::{Context, Result, ensure};
use base::{CommandExt as _, workspace};
use clap::Args;
use pty::{Frame, Size, Terminal, svg};

/// The description of the picture for those who cannot see it.
const SHOWN: &str = "collapse: huge pages split under dirty logging, and what brought them back";

/// Options of `cargo xtask capture`.
#[derive(Args)]
pub struct CaptureOptions {
    /// The recording; by default one of four guests in the lab
    #[arg(long, default_value = "collapse-user/tests/fixtures/recorded/four-guests.rec")]
    from: PathBuf,
    /// The time in the recording
    #[arg(long, default_value = "52s")]
    at: String,
    /// The file for the picture
    #[arg(long, default_value = "docs/dashboard.svg")]
    output: PathBuf,
    /// Width and height in characters
    #[arg(long, default_value = "120x36", value_parser = size)]
    size: Size,
    /// Keys to press first, such as 2 for the view of one VM; by default, the second VM is selected
    #[arg(long, default_value = "j")]
    keys: String,
    /// The first line's text
    #[arg(long, default_value = "four guests")]
    title: String,
    /// Draw for a light background
    #[arg(long)]
    light: bool,
}

/// Draws the picture and returns the exit code.
pub fn run(options: &CaptureOptions) -> Result<i32> {
    workspace::cargo().args(["build", "--quiet", "-p", "collapse-user"]).run()?;
    let program = workspace::target_dir().join("debug/collapse");
    let (look, background) =
        if options.light { (svg::LIGHT, "light") } else { (svg::DARK, "dark") };
    let from = workspace::root().join(&options.from);
    let words = [
        &*program.to_string_lossy(),
        "live",
        "--paused",
        "--from",
        &from.to_string_lossy(),
        "--at",
        &options.at,
        "--title",
        &options.title,
        "--background",
        background,
    ]
    .map(str::to_owned);
    let variables = [("TERM", "xterm-256color"), ("COLORTERM", "truecolor"), ("LANG", "C.UTF-8")];
    let mut terminal = Terminal::run(&words, &variables, options.size)?;
    terminal.wait_for("paused")?;
    terminal.keys(&options.keys)?;
    // The dashboard follows keys at once.
    terminal.watch(Duration::from_secs(1));
    let picture = svg::picture(&Frame::from(terminal.screen()), look, SHOWN);
    terminal.keys("q")?;
    let status = terminal.ended()?;
    ensure!(status == 0, "the dashboard ended with {status}");
    let path = workspace::root().join(&options.output);
    fs::write(&path, picture).with_context(|| format!("writing {}", path.display()))?;
    eprintln!("capture: {}", path.display());
    Ok(0)
}

fn size(text: &str) -> Result<Size, String> {
    let numbers = text.split_once('x').and_then(|(columns, rows)| {
        Some(Size { columns: columns.parse().ok()?, rows: rows.parse().ok()? })
    });
    numbers.ok_or_else(|| "expected COLUMNSxROWS".to_owned())
}
