//! Bochs: an emulated Intel machine with VMX, EPT with accessed and dirty bits, and PML.

mod build;
mod disk;
mod program;
mod vmlinux;

use std::{
    fmt::Write as _,
    fs::File,
    io,
    os::fd::{AsRawFd, OwnedFd},
    process::Stdio,
    thread,
};

use anyhow::{Context, Result, ensure};

use crate::{
    emulator::{Emulator, Guest, Input, Machine, MachineSize, Ports, Running},
    kernels::CpuVendor,
    memory_file::memory_file,
};

use program::Program;
use vmlinux::Vmlinux;

/// Emulated instructions, and so ticks of the TSC, in an emulated second.
const INSTRUCTIONS_PER_SECOND: u32 = 100_000_000;

/// Words of the kernel's command line, in the order of what they cost without.
const CMDLINE: &[&str] = &[
    // A panic is to end the emulator, and a reboot would begin all over: both end in a triple fault.
    "reboot=t",
    // CPUID has the frequency of the real CPU.
    "tsc=reliable",
    "clocksource=tsc",
    "tsc_early_khz=100000",
    "nokaslr",
    "mitigations=off",
    "cryptomgr.notests=1",
    "nowatchdog",
    "random.trust_cpu=on",
    "audit=0",
    "apparmor=0",
];

/// Further words for the distribution's Bochs, whose CPUID up to 2.7 has a wrong size of what XSAVE saves.
const CMDLINE_PACKAGED: &[&str] = &["noxsave"];

/// Memory that the emulated chipset has below 4 GiB.
const MOST_MEMORY: u64 = 3 << 30;

/// Bochs' emulation of a Skylake server.
#[derive(Debug)]
pub struct Bochs;

impl Emulator for Bochs {
    fn vendor(&self) -> CpuVendor {
        CpuVendor::Intel
    }

    fn prepare(&self) -> Result<()> {
        program::prepare()
    }

    fn slowness(&self) -> u32 {
        Program::find().map_or(1, |program| program.slowness())
    }

    fn default_size(&self) -> MachineSize {
        // Time is a function of executed instructions in any case.
        MachineSize { cpus: 1, memory: "1G".to_owned(), icount: false, parallel: false }
    }

    fn check(&self, size: &MachineSize, input: Input) -> Result<()> {
        ensure!(
            input != Input::Terminal,
            "Bochs' machines have no terminal: give a command after --"
        );
        ensure!(
            input != Input::Stdin,
            "commands in Bochs' machines have no stdin: give </dev/null"
        );
        ensure!(size.cpus <= 2, "Bochs' machines have one CPU or two, not {}", size.cpus);
        let most = Program::find()?.most_cpus();
        ensure!(size.cpus <= most, "the distribution's Bochs has one CPU only, not {}", size.cpus);
        ensure!(!size.parallel, "Bochs emulates all CPUs on one thread");
        ensure!(
            size.memory_bytes()? <= MOST_MEMORY,
            "Bochs' machines have at most 3G of memory, not {}",
            size.memory
        );
        Ok(())
    }

    fn signed_modules(&self) -> bool {
        // Those of KVM take as long as the rest of the boot.
        false
    }

    fn ns_per_instruction(&self) -> u64 {
        u64::from(1_000_000_000 / INSTRUCTIONS_PER_SECOND)
    }

    fn transport(&self) -> &'static [&'static str] {
        &[]
    }

    fn guest_script(&self) -> &'static [u8] {
        include_bytes!("../../guest/debug-port.sh")
    }

    fn cmdline(&self, _: &MachineSize) -> Vec<&'static str> {
        let packaged = Program::find().is_ok_and(|program| program == Program::Packaged);
        let more: &[&str] = if packaged { CMDLINE_PACKAGED } else { &[] };
        [CMDLINE, more].concat()
    }

    fn start(&self, machine: &Machine) -> Result<Running> {
        let memory = machine.size.memory_bytes()?;
        let vmlinux = Vmlinux::unpack(machine.kernel)?;
        let disk = disk::image(&vmlinux, machine.image, machine.cmdline, memory)?;
        let disk = memory_file(c"disk", &disk).context("holding the disk")?;
        let (console, console_end) = io::pipe().context("connecting to the console")?;
        let files = Files { disk, console: console_end.into() };
        let program = Program::find()?;
        let configuration = configuration(machine.size, memory, &files, program.display());
        let configuration = memory_file(c"bochsrc", configuration.as_bytes())
            .context("holding the configuration")?;
        let go_on = memory_file(c"go on", b"c\n").context("holding the debugger's command")?;
        let mut bochs = program.command(&path_of(&configuration), &path_of(&go_on));
        bochs.stdout(Stdio::piped()).stderr(Stdio::piped());
        let inherited = [configuration.into(), go_on.into(), files.disk.into(), files.console];
        let mut guest = Guest::spawn(bochs, &inherited)?;
        let output = guest.process().stdout.take().context("Bochs has no stdout")?;
        let messages = guest.process().stderr.take().context("Bochs has no stderr")?;
        let mut ends = Vec::new();
        let mut port = || -> Result<_> {
            let (ours, theirs) = io::pipe().context("a port")?;
            ends.push(theirs);
            Ok(Box::new(ours))
        };
        // In the order of the guest's script.
        let (control, stdout, stderr, brought) = (port()?, port()?, port()?, port()?);
        // An error means that the machine is gone, which the console's end reports.
        thread::spawn(move || debugport::distribute(io::BufReader::new(output), &mut ends));
        let ports = Ports {
            console: Box::new(console),
            control,
            stdout,
            stderr,
            files: brought,
            input: None,
            messages: Box::new(messages),
        };
        Ok(Running { guest, ports })
    }
}

/// Files that Bochs inherits and opens by their descriptors.
struct Files {
    disk: File,
    console: OwnedFd,
}

/// The path of a file in a process that has inherited its descriptor.
fn path_of(file: &impl AsRawFd) -> String {
    format!("/proc/self/fd/{}", file.as_raw_fd())
}

/// Bochs' configuration.
fn configuration(size: &MachineSize, memory: u64, files: &Files, display: &str) -> String {
    let mebibytes = memory >> 20;
    let mut text = String::new();
    let mut line = |line: std::fmt::Arguments| {
        // Writing to a String cannot fail.
        let _ = writeln!(text, "{line}");
    };
    line(format_args!("config_interface: textconfig"));
    line(format_args!("display_library: {display}"));
    line(format_args!(
        "cpu: model=corei7_skylake_x, count={}, ips={INSTRUCTIONS_PER_SECOND}, \
         reset_on_triple_fault=0, ignore_bad_msrs=1",
        size.cpus
    ));
    line(format_args!("memory: guest={mebibytes}, host={mebibytes}"));
    line(format_args!("romimage: file={}, options=fastboot", build::BIOS));
    line(format_args!("vgaromimage: file={}", build::VGA_BIOS));
    line(format_args!("ata0-master: type=disk, path={}, mode=flat", path_of(&files.disk)));
    line(format_args!("boot: disk"));
    line(format_args!("com1: enabled=1, mode=file, dev={}", path_of(&files.console)));
    line(format_args!("port_e9_hack: enabled=1"));
    line(format_args!("clock: sync=none, time0=local"));
    line(format_args!("speaker: enabled=0"));
    line(format_args!("log: /dev/stderr"));
    line(format_args!("panic: action=fatal"));
    for level in ["error", "info", "debug"] {
        line(format_args!("{level}: action=ignore"));
    }
    text
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_it_cannot_do_is_refused() {
        let size = |cpus, memory: &str| MachineSize {
            cpus,
            memory: memory.to_owned(),
            ..Bochs.default_size()
        };
        let refusal = |size: &MachineSize, input| {
            Bochs.check(size, input).err().map(|error| error.to_string()).unwrap_or_default()
        };
        assert_eq!(refusal(&size(2, "3G"), Input::None), "");
        assert!(refusal(&size(3, "1G"), Input::None).ends_with("one CPU or two, not 3"));
        assert!(refusal(&size(1, "4G"), Input::None).ends_with("at most 3G of memory, not 4G"));
        assert!(refusal(&size(1, "much"), Input::None).contains("no size of memory"));
        assert!(refusal(&size(1, "512M"), Input::Stdin).contains("no stdin"));
        assert!(refusal(&size(1, "512"), Input::Terminal).contains("no terminal"));
        let parallel = MachineSize { parallel: true, ..Bochs.default_size() };
        assert!(refusal(&parallel, Input::None).contains("one thread"));
    }
}
