//! The announcement that the window has begun: what happens from then on is seen.

use std::{
    env,
    ffi::{OsStr, OsString},
    fs::{self, File},
    io::{self, Write as _},
    os::{
        fd::{FromRawFd as _, OwnedFd, RawFd},
        linux::net::SocketAddrExt as _,
        unix::{
            ffi::OsStrExt as _,
            net::{SocketAddr, UnixDatagram},
        },
    },
    path::{Path, PathBuf},
};

use anyhow::{Context as _, anyhow};

use crate::{
    diagnostics::note,
    exit::{Exit, Failure, OrExit as _},
};

/// Systemd's socket for messages of services.
const NOTIFY_SOCKET: &str = "NOTIFY_SOCKET";

/// Where it is announced that the window has begun: a descriptor, a file, systemd where it asks for that,
/// and stderr.
#[derive(Debug, Default)]
pub struct Readiness {
    fd: Option<OwnedFd>,
    file: Option<PathBuf>,
    systemd: Option<OsString>,
    /// Whether stderr is spared.
    silent: bool,
}

impl Readiness {
    /// Takes over the descriptor `fd`, and removes what an earlier run left at `file`.
    ///
    /// # Errors
    ///
    /// [`Exit::Usage`] if the descriptor is not open or is one of the standard streams, and
    /// [`Exit::Output`] if the file is there and cannot be removed.
    pub fn new(fd: Option<RawFd>, file: Option<PathBuf>) -> Result<Self, Failure> {
        let fd = fd.map(owned).transpose().or_exit(Exit::Usage)?;
        if let Some(file) = &file {
            forget(file).with_context(|| cannot_write(file)).or_exit(Exit::Output)?;
        }
        let systemd = env::var_os(NOTIFY_SOCKET).filter(|path| !path.is_empty());
        Ok(Self { fd, file, systemd, silent: false })
    }

    /// Says nothing on stderr.
    #[must_use]
    pub fn silent(self, silent: bool) -> Self {
        Self { silent, ..self }
    }

    /// Announces everywhere that the window began at `started`, `CLOCK_MONOTONIC` ns.
    ///
    /// # Errors
    ///
    /// [`Exit::Output`] if the descriptor or the file cannot be written. Systemd may be gone.
    pub fn announce(self, started: u64) -> Result<(), Failure> {
        let Self { fd, file, systemd, silent } = self;
        let line = format!("{started}\n");
        if let Some(fd) = fd {
            let written = File::from(fd).write_all(line.as_bytes());
            written.context("cannot write to --ready-fd").or_exit(Exit::Output)?;
        }
        if let Some(file) = &file {
            write(file, &line).with_context(|| cannot_write(file)).or_exit(Exit::Output)?;
        }
        if let Some(Err(error)) = systemd.map(|socket| notify(&socket)) {
            log::warn!("systemd does not listen on {NOTIFY_SOCKET}: {error}");
        }
        if !silent {
            note("watching: what happens from now on is seen");
        }
        Ok(())
    }
}

/// The descriptor, if it is open and none of the standard streams.
fn owned(fd: RawFd) -> anyhow::Result<OwnedFd> {
    // SAFETY: a plain system call, which fails where the descriptor is not open.
    if fd <= libc::STDERR_FILENO || unsafe { libc::fcntl(fd, libc::F_SETFD, libc::FD_CLOEXEC) } < 0
    {
        return Err(anyhow!("--ready-fd {fd}: not an open descriptor from 3 on"));
    }
    // SAFETY: it is open, and whoever named it on the command line left it to us: this program opens
    // nothing before it reads the command line.
    Ok(unsafe { OwnedFd::from_raw_fd(fd) })
}

/// Removes a file, so that nobody takes it for that of this run. Pipes and devices stay.
fn forget(file: &Path) -> io::Result<()> {
    match fs::symlink_metadata(file) {
        Ok(found) if found.is_file() => fs::remove_file(file),
        _ => Ok(()),
    }
}

/// Writes a file whole, so that nobody reads a part of it; a pipe or a device as it is.
fn write(file: &Path, line: &str) -> io::Result<()> {
    if fs::metadata(file).is_ok_and(|found| !found.is_file()) {
        return File::options().write(true).open(file)?.write_all(line.as_bytes());
    }
    let mut partial = file.as_os_str().to_owned();
    partial.push(".partial");
    fs::write(&partial, line)?;
    fs::rename(&partial, file)
}

/// Sends systemd's message at a path, or at an abstract name that begins with @.
fn notify(socket: &OsStr) -> io::Result<()> {
    let address = match socket.as_bytes().strip_prefix(b"@") {
        Some(name) => SocketAddr::from_abstract_name(name)?,
        None => SocketAddr::from_pathname(socket)?,
    };
    UnixDatagram::unbound()?.send_to_addr(b"READY=1", &address).map(|_| ())
}

fn cannot_write(file: &Path) -> String {
    format!("cannot write {}", file.display())
}

#[cfg(test)]
mod tests {
    use std::{
        io::Read as _,
        os::fd::{AsRawFd as _, IntoRawFd as _},
    };

    use super::*;

    fn ready(fd: Option<RawFd>, file: Option<PathBuf>) -> Readiness {
        Readiness::new(fd, file).unwrap().silent(true)
    }

    #[test]
    fn a_descriptor_gets_a_line_and_is_closed() {
        let (mut reader, writer) = io::pipe().unwrap();
        ready(Some(writer.into_raw_fd()), None).announce(17).unwrap();
        let mut text = String::new();
        reader.read_to_string(&mut text).unwrap();
        assert_eq!(text, "17\n");
    }

    #[test]
    fn descriptors_that_are_not_ours_are_refused() {
        let (reader, writer) = io::pipe().unwrap();
        let closed = writer.as_raw_fd();
        drop((reader, writer));
        for fd in [-1, 0, 1, 2, closed] {
            let failure = Readiness::new(Some(fd), None).unwrap_err();
            assert_eq!(failure.exit, Exit::Usage, "{fd}");
        }
    }

    #[test]
    fn a_file_is_there_when_it_is_ready_and_not_before() {
        let folder = tempfile::tempdir().unwrap();
        let file = folder.path().join("ready");
        fs::write(&file, "of an earlier run").unwrap();
        let readiness = ready(None, Some(file.clone()));
        assert!(!file.exists());
        readiness.announce(18).unwrap();
        assert_eq!(fs::read_to_string(&file).unwrap(), "18\n");
        assert_eq!(fs::read_dir(folder.path()).unwrap().count(), 1);
        let missing = folder.path().join("no/such/folder");
        let failure = ready(None, Some(missing)).announce(1).unwrap_err();
        assert_eq!(failure.exit, Exit::Output);
    }

    #[test]
    fn systemd_gets_its_message() {
        let folder = tempfile::tempdir().unwrap();
        let path = folder.path().join("notify");
        let name = format!("collapse-test-{}", std::process::id());
        let abstract_name = SocketAddr::from_abstract_name(name.as_bytes()).unwrap();
        for (socket, address) in [
            (UnixDatagram::bind(&path).unwrap(), path.clone().into_os_string()),
            (UnixDatagram::bind_addr(&abstract_name).unwrap(), format!("@{name}").into()),
        ] {
            Readiness { systemd: Some(address), silent: true, ..Readiness::default() }
                .announce(1)
                .unwrap();
            let mut message = [0; 64];
            let size = socket.recv(&mut message).unwrap();
            assert_eq!(&message[..size], b"READY=1");
        }
    }
}
