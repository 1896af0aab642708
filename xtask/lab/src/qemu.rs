//! QEMU: an emulated AMD machine with SVM and nested paging.

use std::{
    os::{
        fd::{AsRawFd, OwnedFd},
        unix::net::UnixStream,
    },
    process::{Command, Stdio},
};

use anyhow::{Context, Result};

use crate::{
    emulator::{Emulator, Guest, Input, InputPorts, Machine, MachineSize, Ports, Running},
    kernels::CpuVendor,
    memory_file::memory_file,
};

/// Modules of the virtio ports, built in on some kernels.
pub const TRANSPORT_MODULES: &[&str] = &["virtio_pci", "virtio_console"];

/// QEMU's software emulation, which has SVM and no VMX.
#[derive(Debug)]
pub struct Qemu;

impl Emulator for Qemu {
    fn vendor(&self) -> CpuVendor {
        CpuVendor::Amd
    }

    fn prepare(&self) -> Result<()> {
        Ok(())
    }

    fn slowness(&self) -> u32 {
        1
    }

    fn default_size(&self) -> MachineSize {
        MachineSize { cpus: 2, memory: "2G".to_owned(), icount: false, parallel: false }
    }

    fn check(&self, _: &MachineSize, _: Input) -> Result<()> {
        Ok(())
    }

    fn signed_modules(&self) -> bool {
        true
    }

    fn ns_per_instruction(&self) -> u64 {
        // By `-icount shift=0`.
        1
    }

    fn transport(&self) -> &'static [&'static str] {
        TRANSPORT_MODULES
    }

    fn guest_script(&self) -> &'static [u8] {
        include_bytes!("../guest/virtio-ports.sh")
    }

    fn cmdline(&self, size: &MachineSize) -> Vec<&'static str> {
        // On a busy host, the timer may come too late for the kernel's test of it, which panics then:
        // no_timer_check.
        match size {
            MachineSize { icount: true, .. } => {
                vec!["no_timer_check", "nokaslr", "tsc=reliable", "clocksource=tsc"]
            }
            // A standstill is to show at once where there can be one.
            MachineSize { parallel: true, .. } => vec!["no_timer_check", "softlockup_panic=1"],
            _ => vec!["no_timer_check"],
        }
    }

    fn start(&self, machine: &Machine) -> Result<Running> {
        let image = memory_file(c"initramfs", machine.image).context("holding the initramfs")?;
        let image = OwnedFd::from(image);
        let mut qemu = command(machine, &image);
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
        let [control, stdin, stdout, stderr, files] = VIRTIO_PORTS.map(&mut connect);
        let control = control?;
        let input =
            InputPorts { stdin: stdin?, terminal, control: control.try_clone().context("a port")? };
        qemu.args(["-serial", "chardev:console", "-device", "virtio-serial-pci,ioeventfd=off"])
            .args(["-device", "virtconsole,chardev=terminal"]);
        for name in VIRTIO_PORTS {
            qemu.args(["-device", &format!("virtserialport,chardev={name},name={name}")]);
        }
        qemu.stdout(Stdio::null()).stderr(Stdio::piped());
        let mut guest = Guest::spawn(qemu, &inherited)?;
        let messages = guest.process().stderr.take().context("QEMU has no stderr")?;
        let ports = Ports {
            console: Box::new(console),
            control: Box::new(control),
            stdout: Box::new(stdout?),
            stderr: Box::new(stderr?),
            files: Box::new(files?),
            input: Some(input),
            messages: Box::new(messages),
        };
        Ok(Running { guest, ports })
    }
}

/// The ports that the guest's script connects, by name.
const VIRTIO_PORTS: [&str; 5] = ["control", "stdin", "stdout", "stderr", "files"];

/// QEMU's command line but for the ports.
fn command(machine: &Machine, image: &OwnedFd) -> Command {
    let MachineSize { cpus, memory, icount, parallel } = machine.size;
    let thread = if *parallel && !icount { "multi" } else { "single" };
    let mut qemu = Command::new("qemu-system-x86_64");
    qemu.args(["-nodefaults", "-no-user-config", "-no-reboot", "-display", "none"])
        .args(["-accel", &format!("tcg,thread={thread}"), "-cpu", "EPYC,+svm,+npt"])
        .args(["-smp", &cpus.to_string(), "-m", memory])
        // A device with memory of its own, which VMMs map by frame numbers.
        .args(["-object", "memory-backend-ram,id=bar,size=16M,share=on"])
        .args(["-device", "ivshmem-plain,memdev=bar"])
        .args(["-append", machine.cmdline, "-kernel"])
        .arg(machine.kernel)
        .args(["-initrd", &format!("/proc/self/fd/{}", image.as_raw_fd())]);
    if *icount {
        qemu.args(["-icount", "shift=0,align=off,sleep=off", "-rtc", "clock=vm", "-seed", "1"]);
    }
    qemu
}
