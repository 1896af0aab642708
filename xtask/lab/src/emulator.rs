//! The interface between the lab and the emulators that boot its machines.

use std::{
    fmt::Debug,
    io::{self, Read},
    os::{
        fd::{AsRawFd, OwnedFd, RawFd},
        unix::{net::UnixStream, process::CommandExt},
    },
    path::Path,
    process::{Child, Command, Stdio},
};

use anyhow::{Context, Result};

use crate::{bochs::Bochs, kernels::CpuVendor, qemu::Qemu};

/// The emulator whose machines have CPUs of a vendor.
pub fn with_cpu_of(vendor: CpuVendor) -> &'static dyn Emulator {
    match vendor {
        CpuVendor::Amd => &Qemu,
        CpuVendor::Intel => &Bochs,
    }
}

/// A program that boots machines.
///
/// The guest's side of it is a shell script with two functions. `connect` makes the ports `control`,
/// `stdout`, `stderr` and `files` in `/run/lab`, and `stdin` and `terminal` where there is input; any
/// file will do that can be written to. `leave` is called once all has been written to them.
pub trait Emulator: Debug + Sync {
    /// The vendor of the CPU, which decides on KVM's module and parameters.
    fn vendor(&self) -> CpuVendor;

    /// Finds or installs what it needs beyond what every part of the lab does, and announces each step.
    fn prepare(&self) -> Result<()>;

    /// How many times as long as in QEMU a command may take.
    fn slowness(&self) -> u32;

    /// The size of a machine unless the caller has another.
    fn default_size(&self) -> MachineSize;

    /// Fails, with the reason, if it has no machines of this size or with this input.
    fn check(&self, size: &MachineSize, input: Input) -> Result<()>;

    /// Whether KVM's modules keep their signatures, whose check takes its time.
    fn signed_modules(&self) -> bool;

    /// Guest time that an instruction takes where it is a function of executed instructions, ns.
    fn ns_per_instruction(&self) -> u64;

    /// Modules that the guest loads before `connect`, where the kernel has them.
    fn transport(&self) -> &'static [&'static str];

    /// The guest's side: a shell script that defines `connect` and `leave`.
    fn guest_script(&self) -> &'static [u8];

    /// Further words for the kernel's command line.
    fn cmdline(&self, machine: &MachineSize) -> Vec<&'static str>;

    /// Starts the machine, which ends with the calling thread at the latest.
    fn start(&self, machine: &Machine) -> Result<Running>;
}

/// Input of a command.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Input {
    /// There is none.
    None,
    /// Bytes on its stdin.
    Stdin,
    /// The user's terminal.
    Terminal,
}

/// The size and the clock of a machine.
#[derive(Clone, Debug)]
pub struct MachineSize {
    /// Number of CPUs.
    pub cpus: u32,
    /// Size of the memory as QEMU takes it, such as `2G`.
    pub memory: String,
    /// Whether guest time is the number of instructions that the CPUs executed, all together.
    pub icount: bool,
    /// Whether each CPU is emulated by a thread of its own, where the emulator can. Races are then as near
    /// to real ones as they get here, but QEMU now and then goes on executing code that another CPU has
    /// patched away: a kernel that changes its own code (kprobes, static keys) dies of that or stands
    /// still in some 6 % of runs. One thread for all CPUs is safe, and no slower on a busy machine.
    pub parallel: bool,
}

impl MachineSize {
    /// Size of the memory, bytes.
    pub fn memory_bytes(&self) -> Result<u64> {
        let (number, unit) = match self.memory.strip_suffix(['G', 'g']) {
            Some(number) => (number, 30),
            None => (self.memory.strip_suffix(['M', 'm']).unwrap_or(&self.memory), 20),
        };
        let number = number.parse::<u64>().ok().filter(|number| *number < 1 << 20);
        number
            .map(|number| number << unit)
            .with_context(|| format!("{:?} is no size of memory, such as 1G or 1536M", self.memory))
    }
}

/// A machine to be booted.
pub struct Machine<'a> {
    /// The kernel image.
    pub kernel: &'a Path,
    /// The initramfs.
    pub image: &'a [u8],
    /// The kernel's command line.
    pub cmdline: &'a str,
    /// Size and clock.
    pub size: &'a MachineSize,
}

/// A machine that was started.
pub struct Running {
    /// The emulator's process.
    pub guest: Guest,
    /// Our ends of the ports.
    pub ports: Ports,
}

/// Our ends of a machine's ports.
pub struct Ports {
    /// The kernel's console, which ends when the machine is off and after all other ports.
    pub console: Box<dyn Read + Send>,
    /// The init script's lines, `ready` and `exit STATUS`.
    pub control: Box<dyn Read + Send>,
    /// The command's stdout, and a mark.
    pub stdout: Box<dyn Read + Send>,
    /// The command's stderr, and a mark.
    pub stderr: Box<dyn Read + Send>,
    /// A tar archive of the files brought back, and a mark.
    pub files: Box<dyn Read + Send>,
    /// The ways in; `None` if commands can have no input.
    pub input: Option<InputPorts>,
    /// The emulator's own messages.
    pub messages: Box<dyn Read + Send>,
}

/// The ways into a machine.
pub struct InputPorts {
    /// The command's stdin.
    pub stdin: UnixStream,
    /// A terminal for interactive use, in both directions.
    pub terminal: UnixStream,
    /// Lines for the init script: `size ROWS COLUMNS` of the terminal.
    pub control: UnixStream,
}

/// A running emulator; dropping it ends it.
pub struct Guest(Child);

impl Guest {
    /// Starts an emulator that ends with this thread and inherits some descriptors. Ctrl-C does not reach
    /// it: the lab ends it then.
    pub fn spawn(mut emulator: Command, inherited: &[OwnedFd]) -> Result<Self> {
        emulator.stdin(Stdio::null()).process_group(0);
        let fds: Vec<RawFd> = inherited.iter().map(AsRawFd::as_raw_fd).collect();
        let parent = std::process::id();
        // SAFETY: the closure runs between fork and exec and calls nothing but system calls.
        unsafe { emulator.pre_exec(move || prepare_child(parent, &fds)) };
        let child = emulator.spawn();
        child.map(Self).with_context(|| format!("starting {}", emulator.get_program().display()))
    }

    /// The process, for its streams.
    pub fn process(&mut self) -> &mut Child {
        &mut self.0
    }
}

impl Drop for Guest {
    fn drop(&mut self) {
        // Both fail only when the process is gone already.
        let _ = self.0.kill();
        let _ = self.0.wait();
    }
}

/// In the child: makes it die with the parent, and hands on the given descriptors.
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
