//! A program on a pseudo-terminal, and its screen.

use std::{
    fs::{self, File, OpenOptions},
    io::{Read as _, Write},
    num::NonZero,
    os::unix::fs::OpenOptionsExt as _,
    path::PathBuf,
    process::Command,
    sync::mpsc::{self, Receiver, RecvTimeoutError},
    thread,
    time::{Duration, Instant},
};

use anyhow::{Context, Error, Result, bail, ensure};
use portable_pty::{Child, CommandBuilder, MasterPty, PtySize, SlavePty, native_pty_system};
use vt100::{MouseProtocolMode, Parser, Screen};

/// The time limit for anything: emulated machines are slow, and nothing waits for it that works.
const PATIENCE: Duration = Duration::from_mins(2);

/// Time between two looks at things that cannot be waited for.
const PERIOD: Duration = Duration::from_millis(20);

/// The size of a terminal in characters.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Size {
    /// Width.
    pub columns: u16,
    /// Height.
    pub rows: u16,
}

impl From<Size> for PtySize {
    fn from(size: Size) -> Self {
        Self { rows: size.rows, cols: size.columns, pixel_width: 0, pixel_height: 0 }
    }
}

impl Size {
    /// Rows and columns as the parser wants them; at least one of each.
    fn counts(self) -> (NonZero<u16>, NonZero<u16>) {
        let least = |n| NonZero::new(n).unwrap_or(NonZero::<u16>::MIN);
        (least(self.rows), least(self.columns))
    }

    /// A parser for the output of a program on a terminal of this size.
    pub fn parser(self) -> Parser {
        let (rows, columns) = self.counts();
        Parser::new(rows, columns, 0)
    }
}

/// A program on a terminal of its own. It is killed when this is dropped.
pub struct Terminal {
    master: Box<dyn MasterPty + Send>,
    /// Kept open, so that settings and typed text outlive the program.
    slave: Box<dyn SlavePty + Send>,
    path: PathBuf,
    child: Box<dyn Child + Send + Sync>,
    keyboard: Box<dyn Write + Send>,
    output: Receiver<Vec<u8>>,
    parser: Parser,
    /// The settings before it began.
    before: String,
}

impl Terminal {
    /// Starts a program: its path or name, and arguments.
    pub fn run(words: &[String], variables: &[(&str, &str)], size: Size) -> Result<Self> {
        let pair = native_pty_system().openpty(size.into()).context("opening a terminal")?;
        let path = pair.master.tty_name().context("the terminal has no name")?;
        let before = settings(&path)?;
        let (program, arguments) = words.split_first().context("no program")?;
        let mut command = CommandBuilder::new(program);
        command.args(arguments);
        for (name, value) in variables {
            command.env(name, value);
        }
        let child =
            pair.slave.spawn_command(command).with_context(|| format!("starting {program}"))?;
        let mut reader = pair.master.try_clone_reader().context("reading the terminal")?;
        let keyboard = pair.master.take_writer().context("typing at the terminal")?;
        let (send, output) = mpsc::channel();
        thread::spawn(move || {
            let mut buffer = vec![0; 64 * 1024];
            while let Ok(length @ 1..) = reader.read(&mut buffer) {
                if send.send(buffer[..length].to_vec()).is_err() {
                    return;
                }
            }
        });
        let parser = size.parser();
        let (master, slave) = (pair.master, pair.slave);
        Ok(Self { master, slave, path, child, keyboard, output, parser, before })
    }

    /// The content of the screen.
    pub fn screen(&self) -> &Screen {
        self.parser.screen()
    }

    /// The text on the screen.
    pub fn text(&self) -> String {
        self.screen().contents()
    }

    /// Types keys.
    pub fn keys(&mut self, keys: &str) -> Result<()> {
        self.keyboard.write_all(keys.as_bytes()).context("typing")?;
        self.keyboard.flush().context("typing")
    }

    /// Clicks on the first place that shows a text.
    pub fn click(&mut self, text: &str) -> Result<()> {
        let rows = self.screen().rows(0, self.screen().size().1.get()).collect::<Vec<_>>();
        let found = rows.iter().zip(1..).find_map(|(row, line)| {
            let column = row[..row.find(text)?].chars().count() + 1;
            Some((column, line))
        });
        let (column, line) = found.with_context(|| format!("no {text:?} to click on"))?;
        self.keys(&format!("\x1b[<0;{column};{line}M\x1b[<0;{column};{line}m"))
    }

    /// Changes the size.
    pub fn resize(&mut self, size: Size) -> Result<()> {
        let (rows, columns) = size.counts();
        self.parser.screen_mut().set_size(rows, columns);
        self.master.resize(size.into()).context("changing the terminal's size")
    }

    /// Sends a signal to the program.
    pub fn signal(&self, signal: libc::c_int) -> Result<()> {
        let pid = self.pid()?;
        // SAFETY: no memory is involved.
        match unsafe { libc::kill(pid as libc::pid_t, signal) } {
            0 => Ok(()),
            _ => Err(std::io::Error::last_os_error()).context("sending a signal"),
        }
    }

    /// Waits until the screen fulfils a condition, `what` in messages.
    pub fn wait(&mut self, what: &str, wanted: impl Fn(&Screen) -> bool) -> Result<()> {
        let deadline = Instant::now() + PATIENCE;
        while !wanted(self.screen()) {
            match self.output.recv_timeout(PERIOD) {
                Ok(bytes) => self.parser.process(&bytes),
                // Of a program that has ended nothing more will come.
                Err(RecvTimeoutError::Timeout) if Instant::now() > deadline || self.is_over() => {
                    return Err(self.never(what));
                }
                Err(RecvTimeoutError::Timeout) => {}
                Err(RecvTimeoutError::Disconnected) => bail!("the terminal is gone"),
            }
        }
        Ok(())
    }

    /// Waits until the screen shows a text.
    pub fn wait_for(&mut self, text: &str) -> Result<()> {
        self.wait(text, |screen| screen.contents().contains(text))
    }

    /// Reads output for a while.
    pub fn watch(&mut self, time: Duration) {
        let end = Instant::now() + time;
        while let Ok(bytes) =
            self.output.recv_timeout(end.saturating_duration_since(Instant::now()))
        {
            self.parser.process(&bytes);
        }
    }

    /// Waits until the program ends; returns its exit code, or 128 and the signal's number.
    pub fn ended(&mut self) -> Result<u32> {
        let mut status = None;
        self.until("its end", |terminal| {
            status = terminal.child.try_wait().context("waiting for the program")?;
            Ok(status.is_some())
        })?;
        let status = status.context("no status")?;
        Ok(if status.signal().is_some() { 128 } else { status.exit_code() })
    }

    /// Waits until the program is stopped, as by Ctrl-Z.
    pub fn stopped(&mut self) -> Result<()> {
        let stat = format!("/proc/{}/stat", self.pid()?);
        self.until("the program to stop", |_| {
            let stat = fs::read_to_string(&stat).context("looking at the program")?;
            Ok(stat.rsplit(')').next().is_some_and(|rest| rest.trim_start().starts_with('T')))
        })
    }

    /// Checks that the terminal is as it was before the program.
    pub fn restored(&mut self) -> Result<()> {
        self.wait("the terminal as it was", |screen| {
            !screen.alternate_screen()
                && !screen.hide_cursor()
                && screen.mouse_protocol_mode() == MouseProtocolMode::None
        })?;
        let (path, before) = (self.path.clone(), self.before.clone());
        let what = format!("the settings {before}, not {}", settings(&path)?);
        self.until(&what, |_| Ok(settings(&path)? == before))
    }

    /// Typed text that no program has read, up to the end of the line.
    pub fn unread(&self) -> Result<String> {
        let mut options = OpenOptions::new();
        options.read(true).custom_flags(libc::O_NOCTTY | libc::O_NONBLOCK);
        let mut file: File = options.open(&self.path).context("opening the terminal")?;
        let mut buffer = [0; 4096];
        let length = file.read(&mut buffer).unwrap_or_default();
        Ok(String::from_utf8_lossy(&buffer[..length]).into_owned())
    }

    /// Reads output until a condition holds.
    fn until(&mut self, what: &str, mut is: impl FnMut(&mut Self) -> Result<bool>) -> Result<()> {
        let deadline = Instant::now() + PATIENCE;
        while !is(self)? {
            if Instant::now() > deadline {
                return Err(self.never(what));
            }
            self.watch(PERIOD);
        }
        // The last output may still be on its way.
        self.watch(PERIOD);
        Ok(())
    }

    fn is_over(&mut self) -> bool {
        matches!(self.child.try_wait(), Ok(Some(_)))
    }

    fn never(&self, what: &str) -> Error {
        Error::msg(format!("waited in vain for {what}; the screen shows\n{}", self.text()))
    }

    fn pid(&self) -> Result<u32> {
        self.child.process_id().context("the program is gone")
    }
}

impl Drop for Terminal {
    fn drop(&mut self) {
        // Both fail only when it is gone already.
        let _ = self.child.kill();
        let _ = self.child.wait();
        // Named here, as it is held for its own sake.
        let _ = &self.slave;
    }
}

/// A terminal's settings, as `stty -g` prints them.
fn settings(path: &std::path::Path) -> Result<String> {
    let output =
        Command::new("stty").arg("-F").arg(path).arg("-g").output().context("running stty")?;
    ensure!(output.status.success(), "stty: {}", String::from_utf8_lossy(&output.stderr));
    Ok(String::from_utf8_lossy(&output.stdout).trim().to_owned())
}
