//! A terminal without a user.

use std::{ffi::OsString, io, thread};

use anyhow::{Context, Result, anyhow};
use portable_pty::{CommandBuilder, PtySize, native_pty_system};

/// Rows and columns of a terminal of ordinary size.
const SIZE: PtySize = PtySize { rows: 40, cols: 120, pixel_width: 0, pixel_height: 0 };

/// Runs a command on a terminal of its own and passes on the output.
pub fn run(words: Vec<OsString>) -> Result<i32> {
    let pair = native_pty_system().openpty(SIZE).map_err(|error| anyhow!("{error:#}"))?;
    let mut command = CommandBuilder::from_argv(words);
    command.env("TERM", "xterm-256color");
    let mut child = pair.slave.spawn_command(command).map_err(|error| anyhow!("{error:#}"))?;
    // An open slave side would keep the terminal open.
    drop(pair.slave);
    let mut screen = pair.master.try_clone_reader().map_err(|error| anyhow!("{error:#}"))?;
    let reader = thread::spawn(move || {
        // Ends with an error once the slave side is closed.
        let _ = io::copy(&mut screen, &mut io::stdout());
    });
    let status = child.wait().context("waiting for the command")?;
    let _ = reader.join();
    Ok(status.exit_code() as i32)
}
