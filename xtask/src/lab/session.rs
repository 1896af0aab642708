//! One boot, one command: carries its streams, waits for its end, fetches its files.

use std::{
    ffi::OsString,
    fs,
    hash::{BuildHasher, Hasher, RandomState},
    io::{self, BufRead, BufReader, IsTerminal, Read, Write},
    net::Shutdown,
    os::unix::net::UnixStream,
    path::{Path, PathBuf},
    process::{Child, ChildStderr, Command, Stdio},
    sync::mpsc::{self, Receiver, RecvTimeoutError, Sender},
    thread,
    time::{Duration, Instant},
};

use anyhow::{Context, Result, ensure};

use super::{
    Console, Ending, Lab, Outcome,
    image::Image,
    qemu::{Machine, Ports},
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

enum Event {
    Ready,
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
    };
    if streams != Streams::Captured {
        eprintln!("lab: booting {}", kernel.name);
    }
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
        let (events, mark) = (events.clone(), mark.clone().into_bytes());
        thread::spawn(move || carry(port, &mark, target, &events))
    };
    let captured = streams == Streams::Captured;
    let stdout = collect(stdout, (!captured).then(|| Box::new(io::stdout()) as _));
    let stderr = collect(stderr, (!captured).then(|| Box::new(io::stderr()) as _));
    let archive = collect(archive, Some(tar));
    if stdin {
        let input = input.try_clone().context("sharing the stdin port")?;
        thread::spawn(move || feed(&input));
    }

    let mut session = Session { lab, inbox, control, raw: None, started };
    let ending = session.follow(|session| {
        if streams == Streams::Captured {
            return Ok(());
        }
        eprintln!("lab: up after {:.1} s", session.started.elapsed().as_secs_f32());
        if interactive {
            eprintln!("lab: the way out is to end the command, or Ctrl-A x");
            session.raw = Some(Raw::enter()?);
            attach(&terminal, &events)?;
        }
        Ok(())
    });
    // Nothing is lost by not letting it shut down: every stream has come to its end mark.
    guest.end();
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

/// Takes everything from a port at once, whoever reads it at whatever pace: a guest whose port is
/// full spins.
fn carry(
    mut port: UnixStream,
    mark: &[u8],
    mut target: Option<Box<dyn Write + Send>>,
    events: &Sender<Event>,
) -> Vec<u8> {
    let keep = target.is_none();
    let (chunks, queue) = mpsc::channel::<Vec<u8>>();
    let writer = thread::spawn(move || {
        for chunk in queue {
            let Some(target) = &mut target else { return };
            // A reader that has closed its end wants no more.
            if target.write_all(&chunk).and_then(|()| target.flush()).is_err() {
                return;
            }
        }
    });
    let mut kept = Vec::new();
    let mut held = Vec::new();
    let mut buffer = vec![0; 64 * 1024];
    let mut open = true;
    while open {
        match port.read(&mut buffer) {
            Ok(0) => open = false,
            Ok(length) => held.extend_from_slice(&buffer[..length]),
            Err(error) if error.kind() == io::ErrorKind::Interrupted => continue,
            Err(_) => open = false,
        }
        let ended = held.ends_with(mark);
        let certain = match () {
            () if ended => held.len() - mark.len(),
            () if open => held.len() - overlap(&held, mark),
            () => held.len(),
        };
        let chunk: Vec<u8> = held.drain(..certain).collect();
        if keep {
            kept.extend_from_slice(&chunk);
        } else {
            let _ = chunks.send(chunk);
        }
        if ended {
            let _ = events.send(Event::End);
            break;
        }
    }
    drop(chunks);
    let _ = writer.join();
    kept
}

/// How many of the last bytes may be the start of the mark.
fn overlap(bytes: &[u8], mark: &[u8]) -> usize {
    (1..mark.len()).rev().find(|length| bytes.ends_with(&mark[..*length])).unwrap_or(0)
}

/// What no stream contains by chance.
fn end_mark() -> String {
    let number = || RandomState::new().build_hasher().finish();
    format!("[lab:{:016x}{:016x}]", number(), number())
}

/// Our stdin to the command's. Only our direction is closed at its end: closing both would drop
/// what QEMU has not read yet.
fn feed(mut port: &UnixStream) {
    // A command that does not read all its input is none of our concern.
    let _ = io::copy(&mut io::stdin().lock(), &mut port);
    let _ = port.shutdown(Shutdown::Write);
}

/// Connects the user's terminal with the guest's.
fn attach(terminal: &UnixStream, events: &Sender<Event>) -> Result<()> {
    let mut output = terminal.try_clone().context("sharing the terminal port")?;
    let mut input = terminal.try_clone().context("sharing the terminal port")?;
    let events = events.clone();
    thread::spawn(move || {
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
    Ok(())
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

/// The files on their way from `/out`.
struct Files {
    folder: PathBuf,
    tar: Option<Child>,
}

impl Files {
    /// Prepares to unpack into the folder; also returns what to write the archive to.
    fn receive(folder: Option<&Path>) -> Result<(Self, Box<dyn Write + Send>)> {
        let Some(folder) = folder else {
            return Ok((Self { folder: PathBuf::new(), tar: None }, Box::new(io::sink())));
        };
        fs::create_dir_all(folder).with_context(|| format!("creating {}", folder.display()))?;
        let mut tar = Command::new("tar")
            .args(["-x", "--no-same-owner", "-C"])
            .arg(folder)
            .stdin(Stdio::piped())
            .stdout(Stdio::null())
            .stderr(Stdio::piped())
            .spawn()
            .context("starting tar")?;
        let input = tar.stdin.take().context("tar has no input")?;
        Ok((Self { folder: folder.to_path_buf(), tar: Some(tar) }, Box::new(input)))
    }

    /// The folder, once everything is in it. `complete` says whether all was sent.
    fn finish(self, complete: bool) -> Result<Option<PathBuf>> {
        let Some(tar) = self.tar else { return Ok(None) };
        let output = tar.wait_with_output().context("waiting for tar")?;
        ensure!(
            output.status.success() || !complete,
            "cannot keep the files from /out in {}: {}",
            self.folder.display(),
            String::from_utf8_lossy(&output.stderr).trim()
        );
        Ok(Some(self.folder))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn streams_end_at_the_mark_however_they_are_cut() {
        let content = b"x[lab[lab:\n\0[lab:0";
        for cut in 1..content.len() {
            let (mut guest, host) = UnixStream::pair().unwrap();
            let (events, inbox) = mpsc::channel();
            let reader = thread::spawn(move || carry(host, b"[lab:1]", None, &events));
            guest.write_all(&content[..cut]).unwrap();
            thread::yield_now();
            guest.write_all(&content[cut..]).unwrap();
            guest.write_all(b"[lab:1]").unwrap();
            assert_eq!(reader.join().unwrap(), content);
            assert!(matches!(inbox.recv(), Ok(Event::End)));
        }
    }

    #[test]
    fn a_stream_without_a_mark_is_kept() {
        let (mut guest, host) = UnixStream::pair().unwrap();
        guest.write_all(b"abc[lab:").unwrap();
        drop(guest);
        let (events, inbox) = mpsc::channel();
        assert_eq!(carry(host, b"[lab:1]", None, &events), b"abc[lab:");
        drop(events);
        assert!(inbox.recv().is_err());
    }

    #[test]
    fn the_way_out() {
        let mut keys = Keys::default();
        assert_eq!(keys.filter(b"ls\x01"), Some(b"ls".to_vec()));
        assert_eq!(keys.filter(b"\x01x"), Some(b"\x01x".to_vec()));
        assert_eq!(keys.filter(b"\x01b"), Some(b"\x01b".to_vec()));
        assert_eq!(keys.filter(b"abc\x01xyz"), None);
    }
}
