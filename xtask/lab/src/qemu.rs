//! One QEMU process: an emulated AMD machine with SVM and nested paging.

use std::{
    ffi::CStr,
    fs::File,
    io::{self, Write},
    os::{
        fd::{AsRawFd, FromRawFd, OwnedFd, RawFd},
        unix::{net::UnixStream, process::CommandExt},
    },
    path::Path,
    process::{Child, ChildStderr, Command, Stdio},
};

use anyhow::{Context, Result};

/// What to emulate.
pub struct Machine<'a> {
    /// The kernel image.
    pub kernel: &'a Path,
    /// The initramfs.
    pub image: &'a [u8],
    /// The kernel's command line.
    pub cmdline: &'a str,
    /// Number of CPUs.
    pub cpus: u32,
    /// Size of the memory as QEMU takes it, such as `2G`.
    pub memory: &'a str,
    /// Whether guest time is to be a function of executed instructions.
    pub icount: bool,
    /// Whether each CPU is emulated by a thread of its own.
    pub parallel: bool,
}

/// Our ends of the connections to a machine.
pub struct Ports {
    /// The kernel's console.
    pub console: UnixStream,
    /// A terminal for interactive use.
    pub terminal: UnixStream,
    /// What the init script and the host tell each other.
    pub control: UnixStream,
    /// The command's stdin.
    pub stdin: UnixStream,
    /// The command's stdout.
    pub stdout: UnixStream,
    /// The command's stderr.
    pub stderr: UnixStream,
    /// The files brought back.
    pub files: UnixStream,
    /// What QEMU itself has to say.
    pub messages: ChildStderr,
}

/// A running machine; dropping it ends it.
pub struct Guest(Child);

impl Guest {
    /// Ends the machine.
    pub fn end(mut self) {
        self.kill();
    }

    fn kill(&mut self) {
        // Both fail only when the process is gone already.
        let _ = self.0.kill();
        let _ = self.0.wait();
    }
}

impl Drop for Guest {
    fn drop(&mut self) {
        self.kill();
    }
}

impl Machine<'_> {
    /// Starts the machine. It ends with the thread that called this, at the latest.
    pub fn start(&self) -> Result<(Guest, Ports)> {
        let image = memory_file(c"initramfs", self.image).context("holding the initramfs")?;
        let accelerator = if self.parallel { "tcg,thread=multi" } else { "tcg,thread=single" };
        let mut qemu = Command::new("qemu-system-x86_64");
        qemu.args(["-nodefaults", "-no-user-config", "-no-reboot", "-display", "none"])
            .args(["-accel", accelerator, "-cpu", "EPYC,+svm,+npt"])
            .args(["-smp", &self.cpus.to_string(), "-m", self.memory])
            .args(["-append", self.cmdline, "-kernel"])
            .arg(self.kernel)
            .args(["-initrd", &format!("/proc/self/fd/{}", image.as_raw_fd())]);
        if self.icount {
            qemu.args(["-icount", "shift=0,align=off,sleep=off", "-rtc", "clock=vm", "-seed", "1"]);
        }
        let mut inherited = vec![image];
        let mut connect = |name: &str| -> Result<UnixStream> {
            let (ours, theirs) = UnixStream::pair().context("connecting to QEMU")?;
            let fd = theirs.as_raw_fd();
            qemu.args(["-chardev", &format!("socket,id={name},fd={fd}")]);
            inherited.push(theirs.into());
            Ok(ours)
        };
        let console = connect("console")?;
        let terminal = connect("terminal")?;
        let control = connect("control")?;
        let stdin = connect("stdin")?;
        let stdout = connect("stdout")?;
        let stderr = connect("stderr")?;
        let files = connect("files")?;
        qemu.args(["-serial", "chardev:console", "-device", "virtio-serial-pci,ioeventfd=off"])
            .args(["-device", "virtconsole,chardev=terminal"]);
        for name in ["control", "stdin", "stdout", "stderr", "files"] {
            qemu.args(["-device", &format!("virtserialport,chardev={name},name={name}")]);
        }
        // A group of its own: Ctrl-C is for us, who then end it.
        qemu.stdin(Stdio::null()).stdout(Stdio::null()).stderr(Stdio::piped()).process_group(0);
        let fds: Vec<RawFd> = inherited.iter().map(AsRawFd::as_raw_fd).collect();
        let parent = std::process::id();
        // SAFETY: the closure runs between fork and exec and calls nothing but system calls.
        unsafe { qemu.pre_exec(move || prepare_child(parent, &fds)) };
        let mut child = qemu.spawn().context("starting qemu-system-x86_64")?;
        let messages = child.stderr.take();
        let guest = Guest(child);
        let messages = messages.context("QEMU has no stderr")?;
        Ok((guest, Ports { console, terminal, control, stdin, stdout, stderr, files, messages }))
    }
}

/// In the child: dies with the parent, and hands on the given descriptors.
fn prepare_child(parent: u32, fds: &[RawFd]) -> io::Result<()> {
    // SAFETY: these take and return plain integers.
    unsafe {
        if libc::prctl(libc::PR_SET_PDEATHSIG, libc::SIGKILL) != 0 {
            return Err(io::Error::last_os_error());
        }
        if libc::getppid() as u32 != parent {
            return Err(io::ErrorKind::Interrupted.into());
        }
        for fd in fds {
            if libc::fcntl(*fd, libc::F_SETFD, 0) != 0 {
                return Err(io::Error::last_os_error());
            }
        }
    }
    Ok(())
}

/// A file without a name: nothing to clean up, however we end.
fn memory_file(name: &CStr, content: &[u8]) -> io::Result<OwnedFd> {
    // SAFETY: `name` is a valid C string, and the result is checked before it is owned.
    let fd = unsafe {
        let fd = libc::memfd_create(name.as_ptr(), libc::MFD_CLOEXEC);
        if fd < 0 {
            return Err(io::Error::last_os_error());
        }
        OwnedFd::from_raw_fd(fd)
    };
    let mut file = File::from(fd);
    file.write_all(content)?;
    Ok(file.into())
}
