//! One boot, one command: carries its streams, waits for its end, fetches its files.

use std::{
    ffi::OsString,
    io::{self, BufRead, BufReader, IsTerminal, Read, Write},
    os::unix::net::UnixStream,
    process::ChildStderr,
    sync::mpsc::{self, Receiver, RecvTimeoutError, Sender},
    thread,
    time::{Duration, Instant},
};

use anyhow::{Context, Result, ensure};

use super::{
    Console, Ending, Lab, Outcome,
    image::Image,
    qemu::{Machine, Ports},
    streams::{Files, carry, end_mark, feed},
    terminal::{self, Raw, Size},
};

const BOOT_LIMIT: Duration = Duration::from_mins(3);
/// How long what a finished command has printed and left may be on its way.
const FLUSH_LIMIT: Duration = Duration::from_mins(3);
/// Streams that end with a mark: stdout, stderr, files.
const STREAMS: usize = 3;
/// How often the window's size is looked at; a signal handler would buy nothing here.
const RESIZE_PERIOD: Duration = Duration::from_millis(200);

/// Where a command's streams go.
#[derive(Clone, Copy, PartialEq, Eq)]
pub enum Streams {
    /// Into the outcome, with no input.
    Captured,
    /// To and from our own.
    Ours,
    /// All to the user's terminal.
    Terminal,
}

/// What happens during a run.
pub enum Event {
    /// The machine is up.
    Ready,
    /// The command has ended with this status.
    Exit(i32),
    /// A stream has come to its end mark.
    End,
    /// The machine is off.
    Gone,
    /// The user wants out.
    Leave,
}

/// Boots the lab's machine and runs one command on it.
pub fn run(lab: &Lab, command: &[OsString], streams: Streams) -> Result<Outcome> {
    ensure!(!command.is_empty(), "no command to run");
    let interactive = streams == Streams::Terminal;
    ensure!(!interactive || terminal::present(), "this needs a terminal on stdin and stdout");
    let kernel = lab.kernel.resolve()?;
    let stdin = streams == Streams::Ours && !io::stdin().is_terminal();
    let mark = end_mark();
    let image = Image {
        mark: &mark,
        kernel: &kernel,
        parameters: &lab.kvm_params,
        binaries: &lab.binaries,
        files: &lab.files,
        command,
        terminal: interactive.then(Size::current),
        stdin,
    };
    let image = image.build().context("building the initramfs")?;
    let machine = Machine {
        kernel: &kernel.vmlinuz,
        image: &image,
        cmdline: &cmdline(lab),
        cpus: if lab.icount { 1 } else { lab.cpus },
        memory: &lab.memory,
        icount: lab.icount,
        parallel: lab.parallel && !lab.icount,
    };
    if streams != Streams::Captured {
        eprintln!("lab: booting {}", kernel.name);
    }
    boot(lab, &machine, &mark, streams, stdin)
}

/// One boot, to the end of the command or of the machine.
fn boot(
    lab: &Lab,
    machine: &Machine,
    mark: &str,
    streams: Streams,
    stdin: bool,
) -> Result<Outcome> {
    let started = Instant::now();
    let (guest, ports) = machine.start()?;
    let Ports {
        console,
        terminal,
        control,
        stdin: input,
        stdout,
        stderr,
        files: archive,
        messages,
    } = ports;
    thread::spawn(move || warn(messages));

    let (events, inbox) = mpsc::channel();
    let gone = events.clone();
    let show = lab.verbose;
    let console = thread::spawn(move || {
        let console = Console::collect(console, show);
        // Nobody listens any more if the run is over.
        let _ = gone.send(Event::Gone);
        console
    });
    let reports = control.try_clone().context("sharing the control port")?;
    let sender = events.clone();
    thread::spawn(move || listen(reports, &sender));
    let (files, tar) = Files::receive(lab.out.as_deref())?;
    let collect = |port, target: Option<Box<dyn Write + Send>>| {
        let (events, mark) = (events.clone(), mark.as_bytes().to_vec());
        thread::spawn(move || carry(port, &mark, target, &events))
    };
    let captured = streams == Streams::Captured;
    let stdout = collect(stdout, (!captured).then(|| Box::new(io::stdout()) as _));
    let stderr = collect(stderr, (!captured).then(|| Box::new(io::stderr()) as _));
    let archive = collect(archive, Some(tar));

    let mut screen = None;
    let mut session = Session { lab, inbox, control, raw: None, started };
    let ending = session.follow(|session| {
        if streams == Streams::Captured {
            return Ok(());
        }
        eprintln!("lab: up after {:.1} s", session.started.elapsed().as_secs_f32());
        if streams == Streams::Terminal {
            eprintln!("lab: the way out is to end the command, or Ctrl-A x");
            session.raw = Some(Raw::enter()?);
            screen = Some(attach(&terminal, &events)?);
        }
        if stdin {
            let input = input.try_clone().context("sharing the stdin port")?;
            thread::spawn(move || feed(&input));
        }
        Ok(())
    });
    // Nothing is lost by not letting it shut down: every stream has come to its end mark.
    guest.end();
    if let Some(screen) = screen {
        // What the guest has shown last is to be seen before the terminal is given back.
        let _ = screen.join();
    }
    if let Some(mut raw) = session.raw.take() {
        raw.abandoned = !matches!(ending, Ok(Ending::Exited(_)));
    }
    drop(input);
    let joined = |thread: thread::JoinHandle<Vec<u8>>| thread.join().unwrap_or_default();
    let (stdout, stderr, _) = (joined(stdout), joined(stderr), joined(archive));
    let console = console.join().unwrap_or_default();
    let ending = match ending? {
        Ending::Died | Ending::TimedOut if console.emulator_artefact() => Ending::EmulatorArtefact,
        ending => ending,
    };
    let files = files.finish(matches!(ending, Ending::Exited(_)))?;
    Ok(Outcome { ending, stdout, stderr, files, console })
}

struct Session<'a> {
    lab: &'a Lab,
    inbox: Receiver<Event>,
    control: UnixStream,
    raw: Option<Raw>,
    started: Instant,
}

impl Session<'_> {
    /// Waits for the end of the run, calling `ready` when the machine is up.
    fn follow(&mut self, ready: impl FnOnce(&mut Self) -> Result<()>) -> Result<Ending> {
        let mut ready = Some(ready);
        let mut deadline = Some(self.started + BOOT_LIMIT);
        let mut size = Size::current();
        let (mut status, mut open_streams) = (None, STREAMS);
        loop {
            if let (Some(status), 0) = (status, open_streams) {
                return Ok(Ending::Exited(status));
            }
            let left = deadline.map(|deadline| deadline.saturating_duration_since(Instant::now()));
            if left == Some(Duration::ZERO) {
                return Ok(Ending::TimedOut);
            }
            let patience = left.unwrap_or(RESIZE_PERIOD).min(RESIZE_PERIOD);
            match self.inbox.recv_timeout(patience) {
                Ok(Event::Ready) => {
                    if let Some(ready) = ready.take() {
                        ready(self)?;
                    }
                    deadline = self.lab.timeout.map(|timeout| Instant::now() + timeout);
                }
                Ok(Event::Exit(code)) => {
                    status = Some(code);
                    deadline = Some(Instant::now() + FLUSH_LIMIT);
                }
                Ok(Event::End) => open_streams -= 1,
                Ok(Event::Gone) | Err(RecvTimeoutError::Disconnected) => return Ok(Ending::Died),
                Ok(Event::Leave) => return Ok(Ending::Left),
                Err(RecvTimeoutError::Timeout) => {
                    if self.raw.is_some() && Size::current() != size {
                        size = Size::current();
                        // A guest that is gone is noticed elsewhere.
                        let _ = writeln!(self.control, "size {} {}", size.rows, size.columns);
                    }
                }
            }
        }
    }
}

fn cmdline(lab: &Lab) -> String {
    let mut words = vec!["console=ttyS0", "rdinit=/init", "panic=-1", "oops=panic"];
    words.push(if lab.verbose { "loglevel=7" } else { "loglevel=5" });
    if lab.parallel {
        // A standstill is to show itself at once where it can.
        words.push("softlockup_panic=1");
    }
    if lab.icount {
        words.extend(["nokaslr", "tsc=reliable", "clocksource=tsc"]);
    }
    words.extend(lab.cmdline.iter().map(String::as_str));
    words.join(" ")
}

fn listen(control: UnixStream, events: &Sender<Event>) {
    for line in BufReader::new(control).lines().map_while(Result::ok) {
        let event = match line.split_once(' ').unwrap_or((&line, "")) {
            ("ready", _) => Event::Ready,
            ("exit", status) => Event::Exit(status.parse().unwrap_or(125)),
            _ => continue,
        };
        if events.send(event).is_err() {
            return;
        }
    }
}

/// Connects the user's terminal with the guest's.
fn attach(terminal: &UnixStream, events: &Sender<Event>) -> Result<thread::JoinHandle<()>> {
    let mut output = terminal.try_clone().context("sharing the terminal port")?;
    let mut input = terminal.try_clone().context("sharing the terminal port")?;
    let events = events.clone();
    let screen = thread::spawn(move || {
        let mut buffer = vec![0; 16 * 1024];
        let mut stdout = io::stdout();
        while let Ok(length @ 1..) = output.read(&mut buffer) {
            if stdout.write_all(&buffer[..length]).and_then(|()| stdout.flush()).is_err() {
                return;
            }
        }
    });
    thread::spawn(move || {
        let mut keys = Keys::default();
        let mut buffer = [0; 1024];
        while let Ok(length @ 1..) = io::stdin().lock().read(&mut buffer) {
            let Some(bytes) = keys.filter(&buffer[..length]) else { break };
            if input.write_all(&bytes).is_err() {
                return;
            }
        }
        let _ = events.send(Event::Leave);
    });
    Ok(screen)
}

/// Watches the keyboard for Ctrl-A x; Ctrl-A twice is one for the guest.
#[derive(Default)]
struct Keys {
    escaped: bool,
}

impl Keys {
    /// What to pass on, or nothing if the user wants out.
    fn filter(&mut self, typed: &[u8]) -> Option<Vec<u8>> {
        const CTRL_A: u8 = 1;
        let mut passed = Vec::new();
        for byte in typed {
            match (std::mem::take(&mut self.escaped), *byte) {
                (true, b'x' | b'X') => return None,
                (true, CTRL_A) => passed.push(CTRL_A),
                (true, other) => passed.extend([CTRL_A, other]),
                (false, CTRL_A) => self.escaped = true,
                (false, other) => passed.push(other),
            }
        }
        Some(passed)
    }
}

/// Shows QEMU's own messages, but for those on features of a real CPU that nobody asked for.
fn warn(messages: ChildStderr) {
    for line in BufReader::new(messages).lines().map_while(Result::ok) {
        if !line.contains("TCG doesn't support requested feature") {
            eprintln!("lab: {line}");
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_way_out() {
        let mut keys = Keys::default();
        assert_eq!(keys.filter(b"ls\x01"), Some(b"ls".to_vec()));
        assert_eq!(keys.filter(b"\x01x"), Some(b"\x01x".to_vec()));
        assert_eq!(keys.filter(b"\x01b"), Some(b"\x01b".to_vec()));
        assert_eq!(keys.filter(b"abc\x01xyz"), None);
    }
}
