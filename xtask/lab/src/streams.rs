//! The command's streams and files on their way out of the guest, and ours on their way in.

use std::{
    fs,
    hash::{BuildHasher, Hasher, RandomState},
    io::{self, Read, Write},
    net::Shutdown,
    os::unix::net::UnixStream,
    path::{Path, PathBuf},
    process::{Child, Command, Stdio},
    sync::mpsc::{self, Sender},
    thread,
};

use anyhow::{Context, Result, ensure};

use crate::event::Event;

/// Takes everything from a port as soon as it comes, however slow the target is: a guest whose port is
/// full spins. Returns the bytes if there is no target.
pub fn carry(
    mut port: impl Read,
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

/// The number of last bytes that may be the start of the mark.
fn overlap(bytes: &[u8], mark: &[u8]) -> usize {
    (1..mark.len()).rev().find(|length| bytes.ends_with(&mark[..*length])).unwrap_or(0)
}

/// Returns bytes that no stream contains by chance.
pub fn end_mark() -> String {
    let number = || RandomState::new().build_hasher().finish();
    format!("[lab:{:016x}{:016x}]", number(), number())
}

/// Copies our stdin to the command's. Only our direction is closed at the end: closing both would drop
/// the bytes that the emulator has not read yet.
pub fn feed(mut port: &UnixStream) {
    // A command need not read all of its input.
    let _ = io::copy(&mut io::stdin().lock(), &mut port);
    let _ = port.shutdown(Shutdown::Write);
}

/// The files on their way from `/out`.
pub struct Files {
    folder: PathBuf,
    tar: Option<Child>,
}

impl Files {
    /// Prepares to unpack into the folder; also returns the writer that takes the archive.
    pub fn receive(folder: Option<&Path>) -> Result<(Self, Box<dyn Write + Send>)> {
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

    /// Returns the folder once everything is in it. `complete` means that the archive was sent whole.
    pub fn finish(self, complete: bool) -> Result<Option<PathBuf>> {
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
}
