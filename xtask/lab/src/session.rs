//! One boot, one command: carries its streams, waits for its end, fetches its files.

use std::{
    ffi::OsString,
    fs::{self, File},
    io::{self, BufRead, BufReader, IsTerminal, Read, Write},
    os::{fd::AsFd, unix::fs::MetadataExt},
    sync::mpsc::{self, Receiver, RecvTimeoutError, Sender},
    thread::{self, JoinHandle},
    time::{Duration, Instant},
};

use anyhow::{Context, Result, ensure};

use crate::{
    Console, Ending, Lab, LabOutcome,
    emulator::{Input, InputPorts, Machine, Ports, Running},
    event::Event,
    image::Image,
    screen,
    streams::{Files, carry, end_mark, feed},
    terminal::{self, Raw, WindowSize},
};

const BOOT_LIMIT: Duration = Duration::from_mins(3);
/// Time for output and files of a finished command to arrive.
const FLUSH_LIMIT: Duration = Duration::from_mins(3);
/// Streams that end with a mark: stdout, stderr, files.
const STREAMS: usize = 3;
/// Time between two looks at the window's size; a signal handler would buy nothing here.
const RESIZE_PERIOD: Duration = Duration::from_millis(200);

impl Lab {
    /// Runs a command without input and captures its output.
    pub fn run<S: Into<OsString>>(
        &self,
        command: impl IntoIterator<Item = S>,
    ) -> Result<LabOutcome> {
        run(self, &words(command), StreamTarget::Captured)
    }

    /// Runs a command with our own stdout and stderr, and with our stdin unless that is a terminal.
    pub fn stream<S: Into<OsString>>(
        &self,
        command: impl IntoIterator<Item = S>,
    ) -> Result<LabOutcome> {
        run(self, &words(command), StreamTarget::Ours)
    }

    /// Runs a command on the user's terminal.
    pub fn interactive<S: Into<OsString>>(
        &self,
        command: impl IntoIterator<Item = S>,
    ) -> Result<LabOutcome> {
        run(self, &words(command), StreamTarget::Terminal)
    }
}

fn words<S: Into<OsString>>(command: impl IntoIterator<Item = S>) -> Vec<OsString> {
    command.into_iter().map(Into::into).collect()
}

/// The target of a command's streams.
#[derive(Clone, Copy, PartialEq, Eq)]
enum StreamTarget {
    /// The outcome; there is no input.
    Captured,
    /// Our own streams.
    Ours,
    /// The user's terminal.
    Terminal,
}

/// Boots the lab's machine and runs one command on it.
fn run(lab: &Lab, command: &[OsString], target: StreamTarget) -> Result<LabOutcome> {
    ensure!(!command.is_empty(), "no command to run");
    let interactive = target == StreamTarget::Terminal;
    ensure!(!interactive || terminal::present(), "this needs a terminal on stdin and stdout");
    let input = match target {
        StreamTarget::Terminal => Input::Terminal,
        StreamTarget::Ours if has_input()? => Input::Stdin,
        StreamTarget::Ours | StreamTarget::Captured => Input::None,
    };
    lab.emulator.check(&lab.size, input)?;
    lab.emulator.prepare()?;
    let kernel = lab.kernel.resolve()?;
    let stdin = input == Input::Stdin;
    let mark = end_mark();
    let image = Image {
        emulator: lab.emulator,
        mark: &mark,
        kernel: &kernel,
        parameters: &lab.kvm_params,
        binaries: &lab.binaries,
        files: &lab.files,
        command,
        terminal: interactive.then(WindowSize::current),
        stdin,
    };
    let image = image.build().context("building the initramfs")?;
    let machine =
        Machine { kernel: &kernel.vmlinuz, image: &image, cmdline: &cmdline(lab), size: &lab.size };
    if target != StreamTarget::Captured {
        eprintln!("lab: booting {}", kernel.name);
    }
    boot(lab, &machine, &mark, target, stdin)
}

/// Whether our stdin is something to be read, and no terminal.
fn has_input() -> Result<bool> {
    let stdin = io::stdin();
    let file = File::from(stdin.as_fd().try_clone_to_owned().context("duplicating stdin")?);
    let null = fs::metadata("/dev/null").context("looking at /dev/null")?;
    let device = file.metadata().context("looking at stdin")?.rdev();
    Ok(!stdin.is_terminal() && device != null.rdev())
}

fn cmdline(lab: &Lab) -> String {
    let mut words = vec!["console=ttyS0", "rdinit=/init", "panic=-1", "oops=panic"];
    words.push(if lab.verbose { "loglevel=7" } else { "loglevel=5" });
    words.extend(lab.emulator.cmdline(&lab.size));
    words.extend(lab.cmdline.iter().map(String::as_str));
    words.join(" ")
}

/// One boot, to the end of the command or of the machine.
fn boot(
    lab: &Lab,
    machine: &Machine,
    mark: &str,
    target: StreamTarget,
    stdin: bool,
) -> Result<LabOutcome> {
    let started = Instant::now();
    let Running { guest, ports } = lab.emulator.start(machine)?;
    let (events, inbox) = mpsc::channel();
    let (files, archive) = Files::receive(lab.out.as_deref())?;
    let Ports { console, control, stdout, stderr, files: brought, input, messages } = ports;
    thread::spawn(move || warn(messages));
    let sender = events.clone();
    thread::spawn(move || listen(control, &sender));
    let captured = target == StreamTarget::Captured;
    let carriers = Carriers {
        console: watch(console, lab.verbose, &events),
        stdout: carrier(stdout, mark, (!captured).then(|| Box::new(io::stdout()) as _), &events),
        stderr: carrier(stderr, mark, (!captured).then(|| Box::new(io::stderr()) as _), &events),
        archive: carrier(brought, mark, Some(archive), &events),
    };

    let mut session =
        Session { lab, target, stdin, inbox, input, screen: None, raw: None, started };
    let ending = session.follow(&events);
    // Nothing is lost by not letting it shut down: every stream has come to its end mark.
    drop(guest);
    session.give_back(matches!(ending, Ok(Ending::Exited(_))));
    let (stdout, stderr, console) = carriers.join();
    let ending = match ending? {
        Ending::Died | Ending::TimedOut if console.emulator_artefact() => Ending::EmulatorArtefact,
        ending => ending,
    };
    let files = files.finish(matches!(ending, Ending::Exited(_)))?;
    Ok(LabOutcome { ending, stdout, stderr, files, console })
}

/// Threads that empty a machine's ports.
struct Carriers {
    console: JoinHandle<Console>,
    stdout: JoinHandle<Vec<u8>>,
    stderr: JoinHandle<Vec<u8>>,
    archive: JoinHandle<Vec<u8>>,
}

impl Carriers {
    /// Waits for all of them; returns stdout and stderr as captured, and the console.
    fn join(self) -> (Vec<u8>, Vec<u8>, Console) {
        let captured = |thread: JoinHandle<Vec<u8>>| thread.join().unwrap_or_default();
        let (stdout, stderr, _) =
            (captured(self.stdout), captured(self.stderr), captured(self.archive));
        (stdout, stderr, self.console.join().unwrap_or_default())
    }
}

fn carrier(
    port: Box<dyn Read + Send>,
    mark: &str,
    target: Option<Box<dyn Write + Send>>,
    events: &Sender<Event>,
) -> JoinHandle<Vec<u8>> {
    let (events, mark) = (events.clone(), mark.as_bytes().to_vec());
    thread::spawn(move || carry(port, &mark, target, &events))
}

/// Collects the console, whose end means that the machine is off.
fn watch(console: Box<dyn Read + Send>, show: bool, events: &Sender<Event>) -> JoinHandle<Console> {
    let events = events.clone();
    thread::spawn(move || {
        let console = Console::collect(console, show);
        // Nobody listens any more if the run is over.
        let _ = events.send(Event::Gone);
        console
    })
}

struct Session<'a> {
    lab: &'a Lab,
    target: StreamTarget,
    /// Whether the command reads our stdin.
    stdin: bool,
    inbox: Receiver<Event>,
    input: Option<InputPorts>,
    /// Shows the guest's terminal.
    screen: Option<JoinHandle<()>>,
    raw: Option<Raw>,
    started: Instant,
}

impl Session<'_> {
    /// Waits for the end of the run.
    fn follow(&mut self, events: &Sender<Event>) -> Result<Ending> {
        let mut deadline = Some(self.started + BOOT_LIMIT);
        let mut size = WindowSize::current();
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
                    self.connect(events)?;
                    deadline = self.lab.timeout.map(|timeout| Instant::now() + timeout);
                }
                Ok(Event::Exit(code)) => {
                    status = Some(code);
                    deadline = Some(Instant::now() + FLUSH_LIMIT);
                }
                Ok(Event::End) => open_streams -= 1,
                Ok(Event::Gone) | Err(RecvTimeoutError::Disconnected) => return Ok(Ending::Died),
                Ok(Event::Leave) => return Ok(Ending::Left),
                Err(RecvTimeoutError::Timeout) => self.resize(&mut size),
            }
        }
    }

    /// Connects our side with the machine that has come up.
    fn connect(&mut self, events: &Sender<Event>) -> Result<()> {
        if self.target == StreamTarget::Captured {
            return Ok(());
        }
        eprintln!("lab: up after {:.1} s", self.started.elapsed().as_secs_f32());
        let input = || self.input.as_ref().context("this emulator's machines take no input");
        if self.target == StreamTarget::Terminal {
            eprintln!("lab: to leave, end the command, or press Ctrl-A x");
            self.raw = Some(Raw::enter()?);
            self.screen = Some(screen::attach(&input()?.terminal, events)?);
        }
        if self.stdin {
            let port = input()?.stdin.try_clone().context("sharing the stdin port")?;
            thread::spawn(move || feed(&port));
        }
        Ok(())
    }

    /// Passes a new size of the user's window on.
    fn resize(&mut self, size: &mut WindowSize) {
        let now = WindowSize::current();
        if let Some(input) = &mut self.input
            && self.raw.is_some()
            && now != *size
        {
            *size = now;
            // A guest that is gone is noticed elsewhere.
            let _ = writeln!(input.control, "size {} {}", now.rows, now.columns);
        }
    }

    /// Gives the terminal back. `orderly` means that the command came to its end.
    fn give_back(mut self, orderly: bool) {
        if let Some(screen) = self.screen.take() {
            // The guest's last output is to be seen before that.
            let _ = screen.join();
        }
        if let Some(mut raw) = self.raw.take() {
            raw.abandoned = !orderly;
        }
    }
}

fn listen(control: Box<dyn Read + Send>, events: &Sender<Event>) {
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

/// Shows the emulator's own messages, except those that are of no use.
fn warn(messages: Box<dyn Read + Send>) {
    for line in BufReader::new(messages).lines().map_while(Result::ok) {
        if !is_chatter(&line) {
            eprintln!("lab: {line}");
        }
    }
}

/// Whether a message is QEMU's on a feature of a real CPU that nobody asked for, or one of Bochs' below
/// a panic: `TIMEi[DEVICE] TEXT`, where `i` is information, `e` an error and `d` for debugging.
fn is_chatter(line: &str) -> bool {
    let level = line.trim_start_matches(|c: char| c.is_ascii_digit());
    line.contains("TCG doesn't support requested feature")
        || level.len() < line.len() && ["i[", "e[", "d["].iter().any(|low| level.starts_with(low))
}

#[cfg(test)]
mod tests {
    use super::is_chatter;

    #[test]
    fn panics_are_no_chatter() {
        assert!(is_chatter("00000000000i[      ] reading configuration from /proc/self/fd/7"));
        assert!(is_chatter("qemu: warning: TCG doesn't support requested feature: X"));
        assert!(!is_chatter("00000000000p[HD    ] >>PANIC<< could not open the image"));
        assert!(!is_chatter("could not set up guest memory"));
    }
}
