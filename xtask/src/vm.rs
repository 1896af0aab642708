//! `cargo xtask vm`: one command, or a shell, in the lab.

use std::{ffi::OsString, fs, path::PathBuf, time::Duration};

use anyhow::{Context, Result, bail};
use base::workspace;
use clap::Args;
use lab::{
    DEFAULT_TIMEOUT, KernelChoice, KvmParameter, Lab, MachineSize,
    kernels::{self, CpuVendor},
    programs, terminal,
    tools::TOOLS,
    vmm::QemuRelease,
};

/// Options of `cargo xtask vm`.
#[derive(Args)]
#[allow(clippy::struct_excessive_bools, reason = "each is a switch of its own")]
pub struct VmOptions {
    #[arg(
        long,
        default_value = kernels::default().name,
        help = format!("A Debian kernel series ({}), or a kernel image with --modules", kernels::names())
    )]
    kernel: String,
    /// The folder with the modules of a kernel of your own
    #[arg(long, value_name = "DIR")]
    modules: Option<PathBuf>,
    /// The vendor of the emulated CPU: `amd` (QEMU) or `intel` (Bochs, with EPT and PML, which is built at
    /// its first use)
    #[arg(long, value_name = "VENDOR", default_value = CpuVendor::Amd.name())]
    cpu: CpuVendor,
    /// A parameter for KVM's modules, such as `tdp_mmu=N`, `npt=0` or `pml=0`; may be repeated
    #[arg(long, value_name = "PARAMETER=VALUE")]
    kvm: Vec<KvmParameter>,
    /// A word for the kernel's command line, such as `hugepagesz=1G`; may be repeated
    #[arg(long, value_name = "WORD")]
    cmdline: Vec<String>,
    /// Also QEMU of this version (7.2 or 10.0), and `qemu-guest`, which boots a guest in it and takes it through
    /// steps
    #[arg(long, value_name = "VERSION")]
    qemu: Option<QemuRelease>,
    /// Also other tools that look at KVM, from Debian: perf, trace-cmd and bpftrace
    #[arg(long, conflicts_with = "qemu")]
    tools: bool,
    /// Number of CPUs; by default 2, with --icount and on Intel 1 (of at most 2)
    #[arg(long, value_parser = clap::value_parser!(u32).range(1..=255))]
    cpus: Option<u32>,
    /// Size of the memory; by default 2G, on Intel 1G
    #[arg(long)]
    memory: Option<String>,
    /// Make guest time the number of executed instructions, one a nanosecond
    #[arg(long)]
    icount: bool,
    /// Emulate each CPU on a thread of its own: nearer to real races, but some 6 % of such runs die
    /// of stale code in the emulator
    #[arg(long, conflicts_with = "icount")]
    parallel: bool,
    /// Time limit for a command
    #[arg(long, value_name = "SECONDS", default_value_t = DEFAULT_TIMEOUT.as_secs())]
    timeout: u64,
    /// The folder for the files that the command leaves in /out
    #[arg(long, value_name = "DIR")]
    out: Option<PathBuf>,
    /// Show the kernel's console on stderr
    #[arg(long, short)]
    verbose: bool,
    /// Use the programs of the last build
    #[arg(long)]
    no_build: bool,
    /// Run the command on your terminal instead of carrying its streams
    #[arg(long, short = 't')]
    terminal: bool,
    /// The command; without one, a shell
    #[arg(last = true)]
    command: Vec<OsString>,
}

/// Runs the command and returns the exit code.
pub fn run(options: VmOptions) -> Result<i32> {
    let kernel = choose_kernel(options.kernel, options.modules);
    let binaries = if options.no_build { programs::built() } else { programs::build() }?;
    let out = if let Some(out) = options.out {
        out
    } else {
        let out = workspace::lab_dir().join("out");
        if out.exists() {
            fs::remove_dir_all(&out).with_context(|| format!("clearing {}", out.display()))?;
        }
        out
    };
    let (kernel, mut files) = match options.qemu {
        Some(qemu) => {
            let kernel = kernel.resolve()?;
            let files = qemu.files(&kernel)?;
            (KernelChoice::Found(kernel), files)
        }
        None => (kernel, Vec::new()),
    };
    if options.tools {
        files.extend(TOOLS.fetch()?.files);
    }
    let lab = Lab::with_cpu_of(options.cpu, kernel, binaries);
    let mut lab = Lab {
        kvm_params: options.kvm,
        cmdline: options.cmdline,
        size: MachineSize {
            cpus: options.cpus.unwrap_or(if options.icount { 1 } else { lab.size.cpus }),
            memory: options.memory.unwrap_or(lab.size.memory),
            icount: options.icount,
            parallel: options.parallel,
        },
        timeout: Some(Duration::from_secs(options.timeout)),
        files,
        out: Some(out),
        verbose: options.verbose,
        ..lab
    };
    let outcome = if options.terminal && !options.command.is_empty() {
        lab.timeout = None;
        lab.interactive(options.command)?
    } else if !options.command.is_empty() {
        lab.stream(options.command)?
    } else if terminal::present() {
        lab.timeout = None;
        lab.interactive(["sh", "-l"])?
    } else {
        bail!("a shell needs a terminal on stdin and stdout; give a command after --");
    };
    outcome.explain();
    Ok(outcome.ending.code())
}

/// The kernel that `--kernel` and `--modules` mean.
fn choose_kernel(kernel: String, modules: Option<PathBuf>) -> KernelChoice {
    match modules {
        Some(modules) => KernelChoice::Own { vmlinuz: kernel.into(), modules },
        None => KernelChoice::Series(kernel),
    }
}
