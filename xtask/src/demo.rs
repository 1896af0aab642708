//! `cargo xtask demo`: huge pages being split, zapped and recovered, on the screen.

use std::{
    io,
    os::fd::AsFd,
    path::{Path, PathBuf},
    process::{Child, Command, ExitStatus, Stdio},
};

use anyhow::{Context, Result};
use clap::Args;
use lab::{KernelChoice, KvmParameter, Lab, kernels, programs, terminal};

/// A guest that goes through failed migrations without end, slowly enough to watch.
const LOOP: [&str; 5] = ["failed-migration", "--loop", "--quiet", "--pause", "500"];
const ONCE: [&str; 6] = ["collapse", "report", "--", "workload", "failed-migration", "--quiet"];

/// Options of `cargo xtask demo`.
#[derive(Args)]
pub struct DemoOptions {
    /// Use the lab even where this machine could show it itself
    #[arg(long)]
    lab: bool,
    /// The kernel series for the lab
    #[arg(long, default_value = kernels::default().name)]
    kernel: String,
    /// A parameter for KVM in the lab, such as `tdp_mmu=N`; may be repeated
    #[arg(long, value_name = "PARAMETER=VALUE")]
    kvm: Vec<KvmParameter>,
}

/// Runs the demo and returns the exit code.
pub fn run(options: DemoOptions) -> Result<i32> {
    let binaries = programs::build()?;
    if !options.lab && host_will_do() {
        eprintln!("demo: on this machine's own kernel and KVM");
        return on_host(&binaries);
    }
    eprintln!(
        "demo: in an emulated machine with a stock kernel {} (this one lacks KVM, kprobes or root)",
        options.kernel
    );
    let mut lab =
        Lab { kvm_params: options.kvm, ..Lab::new(KernelChoice::Series(options.kernel), binaries) };
    let outcome = if terminal::present() {
        lab.timeout = None;
        let script =
            format!("workload {} & exec collapse live --title 'emulated machine'", LOOP.join(" "));
        lab.interactive(["sh", "-c", &script])?
    } else {
        lab.stream(ONCE)?
    };
    outcome.explain();
    Ok(outcome.ending.code())
}

/// Whether this machine has root, kprobes and KVM. Without kprobes, KVM is not looked for.
fn host_will_do() -> bool {
    // SAFETY: geteuid has no preconditions and cannot fail.
    let root = unsafe { libc::geteuid() == 0 };
    root && Path::new("/sys/bus/event_source/devices/kprobe").exists()
        && Path::new("/dev/kvm").exists()
        && Path::new("/sys/module/kvm").exists()
}

fn on_host(binaries: &[PathBuf]) -> Result<i32> {
    let program = |name: &str| {
        let path = binaries.iter().find(|path| path.ends_with(name));
        path.with_context(|| format!("{name} has not been built"))
    };
    let (collapse, workload) = (program("collapse")?, program("workload")?);
    let status = if terminal::present() {
        let _guest = Background(
            Command::new(workload)
                .args(LOOP)
                .stdin(Stdio::null())
                .stdout(io::stderr().as_fd().try_clone_to_owned().context("duplicating stderr")?)
                .spawn()
                .context("starting the guest")?,
        );
        Command::new(collapse).args(["live", "--title", "this machine"]).status()
    } else {
        Command::new(collapse)
            .args(["report", "--"])
            .arg(workload)
            .args(["failed-migration", "--quiet"])
            .status()
    };
    Ok(code(status.context("starting collapse")?))
}

fn code(status: ExitStatus) -> i32 {
    status.code().unwrap_or(1)
}

/// A child that ends when this is dropped.
struct Background(Child);

impl Drop for Background {
    fn drop(&mut self) {
        // Both fail only when it is gone already.
        let _ = self.0.kill();
        let _ = self.0.wait();
    }
}
