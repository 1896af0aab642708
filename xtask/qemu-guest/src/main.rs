//! `qemu-guest STEP...`: starts QEMU with a guest, waits until that is up, and takes it through steps of QMP.

mod machine;
mod qmp;
mod step;

use std::{ffi::OsString, process::ExitCode, time::Instant};

use anyhow::Result;
use clap::Parser;

use machine::Machine;
use step::Step;

/// Starts QEMU with a guest of the lab's kernel, takes it through steps, and ends it.
///
/// Each step is an argument. `hold MS` waits. `guest TEXT` waits until the guest's console has that text. `sh COMMAND`
/// runs a command of the machine's shell. `event NAME` waits for QMP's next event of that name. `until COMMAND {"KEY":VALUE}` repeats a command of QMP until its reply
/// has these values. Any other step is a command of QMP, `COMMAND` or `COMMAND {"ARGUMENT":VALUE}`.
#[derive(Parser)]
pub struct Options {
    /// The name of the VM
    #[arg(long, default_value = "qemu")]
    name: String,
    /// Size of the guest's memory, as QEMU takes it
    #[arg(long, default_value = "256M")]
    memory: String,
    /// Log dirty pages in rings of this many entries
    #[arg(long, value_name = "ENTRIES")]
    dirty_ring: Option<u32>,
    /// Words for the guest's kernel: `write=N` fills N MiB of memory at boot (by default 32), `again=N` writes
    /// them again every N ms
    #[arg(long, default_value = "")]
    append: String,
    /// A device, as QEMU takes it; may be repeated
    #[arg(long, value_name = "DEVICE")]
    device: Vec<String>,
    /// What happens, in this order
    #[arg(value_name = "STEP")]
    steps: Vec<Step>,
    /// Further arguments for QEMU
    #[arg(last = true, value_name = "ARGUMENT")]
    qemu: Vec<OsString>,
}

fn main() -> ExitCode {
    match run(&Options::parse()) {
        Ok(()) => ExitCode::SUCCESS,
        Err(error) => {
            eprintln!("qemu-guest: {error:#}");
            ExitCode::FAILURE
        }
    }
}

fn run(options: &Options) -> Result<()> {
    let started = Instant::now();
    let mut machine = Machine::start(options)?;
    machine.wait_for("guest: ready")?;
    println!("{:7.3} s: the guest is ready", started.elapsed().as_secs_f32());
    for step in &options.steps {
        let reply = step.perform(&mut machine)?;
        println!("{:7.3} s: {step}: {reply}", started.elapsed().as_secs_f32());
    }
    machine.quit()
}
