//! Loading the eBPF programs and attaching them as planned. The kernel boundary.

use std::{
    collections::BTreeMap,
    fs, io,
    os::fd::{AsFd as _, AsRawFd as _},
    time::Duration,
};

use aya::{
    Ebpf, EbpfLoader,
    maps::MapError,
    programs::{Program, ProgramError, raw_trace_point::RawTracePointLinkId},
};

use collapse_common::abi::CPUS;

use crate::plan::{Hook, Plan};
use collapse_feed::{Coverage, Signal};

/// File descriptors of all maps, programs and links, and what a process has open besides.
const FILES: u64 = 512;

/// Size of the tables in the kernel. Memory: rows take 512 bytes each per CPU and 2.5 KiB besides,
/// threads some 350, VMs 160, run lists 6 KiB per CPU, the ring its size.
#[derive(Clone, Copy, Debug)]
pub struct Limits {
    /// (VM, cause) rows; a VM that goes through a migration uses about ten.
    pub rows: u32,
    /// Threads known to KVM at one time: vCPUs, and whoever changes SPTEs otherwise.
    pub threads: u32,
    /// VMs at one time.
    pub vms: u32,
    /// Ring buffer, bytes; a power of two and a multiple of the page size.
    pub ring: u32,
    /// Kernel stacks told apart, 1 KiB each. Of two that meet in a place by their hash, the second cannot
    /// be taken: there should be many more than stacks.
    pub stacks: u32,
}

impl Limits {
    /// For so many VMs at one time, up to 8000, each of some 30 vCPUs. Those that are not in a
    /// migration, or have fewer vCPUs, leave room for others.
    pub fn for_vms(vms: u32) -> Self {
        // A row's number has 16 bits. Not even one VM goes without the row of what is unknown.
        Self { rows: 8 * vms + 8, threads: 32 * vms, vms: 8 * vms, ring: 1 << 20, stacks: 1 }
    }
}

impl Default for Limits {
    fn default() -> Self {
        Self::for_vms(128)
    }
}

/// Why the programs are not running.
#[derive(Debug, thiserror::Error)]
pub enum ProbeError {
    /// The kernel refuses eBPF to this user.
    #[error(
        "not permitted to load eBPF programs: run as root, or with CAP_BPF, CAP_PERFMON and \
         CAP_SYS_RESOURCE"
    )]
    NotPermitted,
    /// The object could not be loaded.
    #[error("cannot load the eBPF object")]
    Load(#[source] Box<aya::EbpfError>),
    /// A map is not as expected.
    #[error("eBPF map {name}")]
    Map {
        /// Name of the map.
        name: &'static str,
        /// What is wrong with it.
        #[source]
        source: MapError,
    },
    /// This process may open too few files, and may not raise the limit.
    #[error("may open {allowed} files and needs {FILES}: `ulimit -n {FILES}`")]
    Files {
        /// `RLIMIT_NOFILE`.
        allowed: u64,
    },
    /// The number of CPUs is not to be had.
    #[error("cannot go by the number of CPUs")]
    Cpus(#[source] io::Error),
    /// The object lacks a map that this build of user space needs.
    #[error("the eBPF object has no map {0}")]
    NoMap(&'static str),
    /// A signal without which nothing can be measured could not be attached.
    #[error("cannot see {signal}: {reason}")]
    Essential {
        /// The signal.
        signal: &'static str,
        /// Why.
        reason: String,
    },
}

/// Running programs. They are detached and everything in the kernel is freed when it is dropped,
/// or when the process dies: nothing is pinned.
pub struct Probe {
    /// The loaded object.
    pub ebpf: Ebpf,
    /// What is seen and what is not.
    pub coverage: Coverage,
    /// Hooks that were tried.
    pub hooks: Vec<HookStatus>,
    /// CPUs that the kernel-side tables have a part for.
    pub cpus: u32,
    /// Hooks to attach, by signal.
    planned: Vec<(Signal, &'static [Hook])>,
    preemptible: bool,
    /// Of raw tracepoints, by program.
    links: Links,
}

type Links = BTreeMap<&'static str, RawTracePointLinkId>;

/// What came of one hook.
#[derive(Clone, Debug)]
pub struct HookStatus {
    /// The signal that it is for.
    pub signal: Signal,
    /// The hook.
    pub hook: Hook,
    /// Why it is not attached; `None` if it is.
    pub refused: Option<String>,
}

/// What the kernel tells of a program that it accepted.
#[derive(Clone, Debug)]
pub struct ProgramStatus {
    /// Its name.
    pub name: String,
    /// Instructions that the verifier went through; `None` before 5.16.
    pub verified: Option<u32>,
    /// Size after verification, bytes.
    pub translated: Option<u32>,
    /// Size as machine code, bytes; 0 if it is interpreted.
    pub jited: u32,
    /// Times that it ran while the kernel counted.
    pub runs: u64,
    /// What that took.
    pub run_time: Duration,
}

impl Probe {
    /// Loads the object for the kernel that `plan` was made for. Nothing runs yet.
    ///
    /// `log` lets the eBPF side's own diagnostics through; without it they are compiled away by the
    /// verifier.
    pub fn load(plan: &Plan, limits: Limits, log: bool) -> Result<Self, ProbeError> {
        raise_memlock_limit();
        raise_file_limit()?;
        let log_level = if log { u8::MAX } else { 0 };
        let cpus = cpus()?;
        let ebpf = EbpfLoader::new()
            .override_global("KERNEL", &plan.kernel, true)
            .override_global("SELECTION", &plan.selection, true)
            .override_global(aya_log::LEVEL, &log_level, false)
            .map_max_entries("CPUS", cpus)
            .map_max_entries("ROWS", cpus * limits.rows)
            .map_max_entries("LATENCIES", limits.rows)
            .map_max_entries("ROW_OWNERS", limits.rows)
            .map_max_entries("FREE_ROWS", limits.rows)
            .map_max_entries("VMS", limits.vms)
            .map_max_entries("THREADS", limits.threads)
            .map_max_entries("THREAD_INDEX", limits.threads)
            .map_max_entries("FREE_THREADS", limits.threads)
            .map_max_entries("VCPUS", limits.threads)
            .map_max_entries("RING", limits.ring)
            .map_max_entries("STACKS", limits.stacks)
            .load(aya::include_bytes_aligned!(concat!(env!("OUT_DIR"), "/collapse-ebpf")))
            .map_err(|error| {
                if is_permission_error(&error) {
                    ProbeError::NotPermitted
                } else {
                    ProbeError::Load(Box::new(error))
                }
            })?;
        let preemptible = plan.kernel.preemptible != 0;
        let coverage = plan.coverage();
        let links = Links::new();
        let planned = plan.hooks.clone();
        Ok(Self { ebpf, coverage, hooks: Vec::new(), cpus, planned, preemptible, links })
    }

    /// Attaches every planned hook, in the order of the table of signals: operations before the
    /// changes in them. A hook that cannot be attached lowers coverage, unless the changes of the MMU
    /// in use cannot be seen without it.
    pub fn attach(&mut self) -> Result<(), ProbeError> {
        for (program, without) in [
            ("give_back", "rows of VMs that are gone will not be used again"),
            ("set_detail", "no budget can be kept to"),
        ] {
            if let Err(reason) = with(&mut self.ebpf, program, |_| Ok(())) {
                log::warn!("{without}: {reason}");
            }
        }
        for (signal, hooks) in &self.planned {
            for &hook in *hooks {
                // Two signals may share a hook.
                let tried = self.hooks.iter().find(|tried| tried.hook == hook);
                let refused = match tried {
                    Some(tried) => tried.refused.clone(),
                    None => attach(&mut self.ebpf, &hook, self.preemptible, &mut self.links).err(),
                };
                self.hooks.push(HookStatus { signal: *signal, hook, refused: refused.clone() });
                if let Some(why) = refused {
                    self.coverage.leave_out(*signal, &why);
                    break;
                }
            }
        }
        let essential = self.coverage.mmu.essential_signal();
        if let Some(status) = self.coverage.missing().find(|status| status.signal == essential) {
            return Err(ProbeError::Essential {
                signal: status.signal.loses(),
                reason: status.reason.clone().unwrap_or_default(),
            });
        }
        Ok(())
    }

    /// Detaches the raw tracepoints of a signal that is seen, or attaches them again.
    pub fn suspend(&mut self, signal: Signal, suspended: bool) -> Result<(), String> {
        let hooks =
            self.hooks.iter().filter(|hook| hook.signal == signal && hook.refused.is_none());
        for hook in hooks.map(|status| status.hook).collect::<Vec<_>>() {
            if !suspended {
                attach(&mut self.ebpf, &hook, self.preemptible, &mut self.links)?;
                continue;
            }
            for name in self.programs_of(&hook) {
                let link = self.links.remove(name);
                if let Some(link) = link
                    && let Some(Program::RawTracePoint(raw)) = self.ebpf.program_mut(name)
                {
                    raw.detach(link).map_err(|error| chain(&error))?;
                }
            }
        }
        Ok(())
    }

    /// Times that the kernel skipped a program; `None` before 5.12.
    pub fn misses(&self, program: &str) -> Option<u64> {
        self.ebpf.program(program).and_then(skipped)
    }

    /// Programs of a hook, the one that runs first first.
    pub fn programs_of(&self, hook: &Hook) -> Vec<&'static str> {
        hook.programs(self.preemptible)
    }

    /// Programs that the kernel accepted.
    pub fn programs(&self) -> Vec<ProgramStatus> {
        let status = |(name, program): (&str, &Program)| {
            program.fd().ok()?;
            let info = program.info().ok()?;
            Some(ProgramStatus {
                name: name.to_owned(),
                verified: info.verified_instruction_count(),
                translated: info.size_translated(),
                jited: info.size_jitted(),
                runs: info.run_count(),
                run_time: info.run_time(),
            })
        };
        let mut programs: Vec<_> = self.ebpf.programs().filter_map(status).collect();
        programs.sort_by(|a, b| a.name.cmp(&b.name));
        programs
    }

    /// Detaches everything, first what keeps KVM from being unloaded: taking probes back takes the kernel
    /// a while.
    pub fn detach(mut self) {
        for (_, program) in self.ebpf.programs_mut() {
            if let Program::RawTracePoint(raw) = program {
                // Fails where it was not loaded.
                let _ = raw.unload();
            }
        }
    }

    /// Times that a program should have run and did not. Left out are those that look again, and that
    /// at the begin of guest faults, which KVM counts itself.
    pub fn skipped(&self) -> u64 {
        let counts = |name: &str| !name.ends_with("_again") && name != "page_fault";
        let counting = self.ebpf.programs().filter(|(name, _)| counts(name));
        counting.filter_map(|(_, program)| skipped(program)).sum()
    }
}

/// CPUs that the kernel may ever have.
fn cpus() -> Result<u32, ProbeError> {
    let cpus = aya::util::nr_cpus().map_err(|(_, error)| ProbeError::Cpus(error))?;
    let most = format!("more than {CPUS}");
    u32::try_from(cpus.min(CPUS + 1))
        .ok()
        .filter(|cpus| *cpus as usize <= CPUS)
        .ok_or_else(|| ProbeError::Cpus(io::Error::other(most)))
}

/// What `/proc/self/fdinfo` says of a program that the kernel skipped because it, or anything that
/// keeps programs from running, was at work on that CPU. From 5.12 on; of kprobes from 6.7 on.
fn skipped(program: &Program) -> Option<u64> {
    let fd = program.fd().ok()?.as_fd().as_raw_fd();
    let info = fs::read_to_string(format!("/proc/self/fdinfo/{fd}")).ok()?;
    info.lines().find_map(|line| line.strip_prefix("recursion_misses:"))?.trim().parse().ok()
}

/// Maps count against `RLIMIT_MEMLOCK` before 5.11. Failing is harmless where it is not needed.
fn raise_memlock_limit() {
    let limit = libc::rlimit { rlim_cur: libc::RLIM_INFINITY, rlim_max: libc::RLIM_INFINITY };
    // SAFETY: the pointer is to a live value.
    unsafe { libc::setrlimit(libc::RLIMIT_MEMLOCK, &raw const limit) };
}

/// Makes room for a file descriptor of every map, program and link. A limit that has room is left as
/// it is, and with it that of a measured command.
fn raise_file_limit() -> Result<(), ProbeError> {
    let mut limit = libc::rlimit { rlim_cur: 0, rlim_max: 0 };
    // SAFETY: the pointer is to a live value.
    let known = unsafe { libc::getrlimit(libc::RLIMIT_NOFILE, &raw mut limit) } == 0;
    if !known || limit.rlim_cur >= FILES {
        return Ok(());
    }
    let allowed = limit.rlim_cur;
    limit.rlim_cur = FILES;
    limit.rlim_max = limit.rlim_max.max(FILES);
    // SAFETY: the pointer is to a live value.
    match unsafe { libc::setrlimit(libc::RLIMIT_NOFILE, &raw const limit) } {
        0 => Ok(()),
        _ => Err(ProbeError::Files { allowed }),
    }
}

fn attach(
    ebpf: &mut Ebpf,
    hook: &Hook,
    preemptible: bool,
    links: &mut Links,
) -> Result<(), String> {
    match *hook {
        Hook::Raw { tracepoint, .. } => {
            let name = tracepoint.split_once(':').map_or(tracepoint, |(_, name)| name);
            hook.programs(preemptible).into_iter().try_for_each(|program| {
                with(ebpf, program, |loaded| match loaded {
                    Program::RawTracePoint(raw) => {
                        links.insert(program, raw.attach(name)?);
                        Ok(())
                    }
                    _ => Err(ProgramError::UnexpectedProgramType),
                })
            })
        }
        Hook::Entry { program, function } => probe(ebpf, program, function),
        Hook::Pair { program, exit, function } => {
            // The return first: an operation seen to begin is then also seen to end.
            probe(ebpf, exit, function)?;
            probe(ebpf, program, function)
        }
        Hook::Run { program, .. } | Hook::Read { program, .. } => with(ebpf, program, |_| Ok(())),
    }
}

fn probe(ebpf: &mut Ebpf, program: &str, function: &str) -> Result<(), String> {
    with(ebpf, program, |loaded| match loaded {
        Program::KProbe(probe) => probe.attach(function, 0).map(drop),
        _ => Err(ProgramError::UnexpectedProgramType),
    })
}

/// Loads a program if it is not yet, then does something with it.
fn with(
    ebpf: &mut Ebpf,
    name: &str,
    attach: impl FnOnce(&mut Program) -> Result<(), ProgramError>,
) -> Result<(), String> {
    let program =
        ebpf.program_mut(name).ok_or_else(|| format!("the eBPF object has no program {name}"))?;
    if program.fd().is_err() {
        let loaded = match program {
            Program::RawTracePoint(raw) => raw.load(),
            Program::KProbe(probe) => probe.load(),
            _ => Err(ProgramError::UnexpectedProgramType),
        };
        loaded
            .map_err(|error| format!("the kernel refuses program {name}: {}", refusal(&error)))?;
    }
    attach(program).map_err(|error| format!("cannot attach {name}: {}", chain(&error)))
}

/// Why a program was refused, in one line: of the verifier's log, the line that says so.
fn refusal(error: &ProgramError) -> String {
    let ProgramError::LoadError { io_error, verifier_log } = error else { return chain(error) };
    let log = verifier_log.to_string();
    log::debug!("{log}");
    let verdict = log.lines().rev().find(|line| {
        let statistics = ["processed ", "stack depth", "verification time"];
        !line.trim().is_empty() && !statistics.iter().any(|start| line.starts_with(start))
    });
    format!("{io_error}: {}", verdict.unwrap_or("no reason given"))
}

/// An error with its sources, in one line.
pub fn chain(error: &dyn std::error::Error) -> String {
    let mut text = error.to_string();
    let mut source = error.source();
    while let Some(error) = source {
        text.push_str(": ");
        text.push_str(&error.to_string());
        source = error.source();
    }
    text
}

fn is_permission_error(error: &aya::EbpfError) -> bool {
    let mut source: Option<&dyn std::error::Error> = Some(error);
    while let Some(error) = source {
        if let Some(io) = error.downcast_ref::<io::Error>()
            && io.kind() == io::ErrorKind::PermissionDenied
        {
            return true;
        }
        source = error.source();
    }
    false
}
