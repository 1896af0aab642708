//! `cargo xtask capture`: the dashboard as a picture, while it watches a guest whose migrations fail.

use std::{env, fs, path::PathBuf, time::Duration};

use anyhow::{Context, Result};
use clap::Args;
use pty::{Frame, Size, Terminal, svg};

use crate::{build, setup};

/// What it shows, and how one gets there.
const SHOWN: &str = "collapse: huge pages split under dirty logging, and what brought them back";

/// Guests: two whose migrations fail at different paces, and one that nobody migrates. A VM is called
/// by the name of its program.
const SCRIPT: &str = "guest() { ln -s /bin/workload /tmp/$1; name=$1; shift
        /tmp/$name \"$@\" --loop --quiet >/dev/null 2>&1 & }
    guest web-frontend failed-migration --pause 2200
    guest database failed-migration --pause 900
    guest batch steady
    exec collapse live --window 1m --title 'three guests' --background $0";

/// Options of `cargo xtask capture`.
#[derive(Args)]
pub struct Options {
    /// Where to put the picture
    #[arg(long, default_value = "docs/dashboard.svg")]
    output: PathBuf,
    /// Width and height in characters
    #[arg(long, default_value = "120x36", value_parser = size)]
    size: Size,
    /// Keys to press before, such as 2 for the view of one VM
    #[arg(long, default_value = "")]
    keys: String,
    /// Seconds to watch before
    #[arg(long, default_value_t = 75)]
    seconds: u64,
    /// Draw for a light background
    #[arg(long)]
    light: bool,
    /// The kernel series for the lab
    #[arg(long, default_value = "6.12")]
    kernel: String,
}

/// Runs it and returns the exit code.
pub fn run(options: &Options) -> Result<i32> {
    setup::ensure_ready()?;
    build::static_binaries()?;
    let own = env::current_exe().context("finding this program")?;
    let size = options.size;
    let words = [
        &*own.to_string_lossy(),
        "vm",
        "--no-build",
        "--terminal",
        "--kernel",
        &options.kernel,
        "--",
        "sh",
        "-c",
        SCRIPT,
        if options.light { "light" } else { "dark" },
    ]
    .map(str::to_owned);
    let variables = [("TERM", "xterm-256color"), ("COLORTERM", "truecolor")];
    let mut terminal = Terminal::run(&words, &variables, size)?;
    terminal.wait("the dashboard", |screen| {
        screen.alternate_screen() && screen.contents().contains("RECOVERED")
    })?;
    eprintln!("capture: the dashboard is up; watching for {} s", options.seconds);
    terminal.watch(Duration::from_secs(options.seconds));
    terminal.keys(&options.keys)?;
    // One refresh, and what it takes to get here.
    terminal.watch(Duration::from_secs(3));
    let look = if options.light { svg::LIGHT } else { svg::DARK };
    let picture = svg::picture(&Frame::from(terminal.screen()), look, SHOWN);
    terminal.keys("q")?;
    terminal.ended()?;
    let path = build::workspace().join(&options.output);
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
