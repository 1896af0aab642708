//! Loading the eBPF programs and attaching them as planned. The kernel boundary.

mod attach;
mod error;
mod multi;

use std::{
    collections::BTreeSet,
    fs,
    os::fd::{AsFd as _, AsRawFd as _},
    rc::Rc,
    time::Duration,
};

use aya::{
    EbpfLoader, TestRun as _,
    maps::Map,
    programs::{Program, RawTracePointRunOptions},
};
use aya_log::EbpfLogger;
use collapse_common::abi::{
    CPUS, map,
    request::{ARGS, Adopt, GiveBack, Peek, Request, SetDetail, Walk},
};

use crate::plan::{Hook, Plan};
use collapse_feed::{Coverage, Signal};

pub use error::{HookError, ProbeError, chain};

use attach::Programs;
use error::is_permission_error;

/// File descriptors of all maps, programs and links, and of everything else that a process has open.
const FILES: u64 = 512;

/// Programs that serve requests for which there is no signal, and what does not work without them.
const SERVICES: [(&str, &str); 4] = [
    (GiveBack::PROGRAM, "table rows of VMs that have ended cannot be used again"),
    (SetDetail::PROGRAM, "the overhead budget cannot be enforced"),
    (Peek::PROGRAM, "memslots of VMs that existed before are not known"),
    (Adopt::PROGRAM, "faults of VMs that were under dirty logging before count as ordinary ones"),
];

/// The eBPF object that the build script made.
const OBJECT: &[u8] = aya::include_bytes_aligned!(concat!(env!("OUT_DIR"), "/collapse-ebpf"));

/// Size of the tables in the kernel. Memory: rows take 512 bytes each per CPU and 2.5 KiB besides,
/// threads some 410, VMs 160, run lists 6 KiB per CPU, the ring its size.
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
    /// Places for different kernel stacks in the first of two tables, 1 KiB each. The second one, for stacks
    /// whose place in the first is taken, has twice as many.
    pub stacks: u32,
}

impl Limits {
    /// Returns the sizes for `vms` VMs at one time, up to 8000, each of some 30 vCPUs. Those that
    /// are not in a migration, or have fewer vCPUs, leave room for others.
    pub fn for_vms(vms: u32) -> Self {
        // The number of a row has 16 bits. One row is that of everything unknown.
        Self { rows: 8 * vms + 8, threads: 32 * vms, vms: 8 * vms, ring: 1 << 20, stacks: 1 }
    }
}

impl Default for Limits {
    fn default() -> Self {
        Self::for_vms(128)
    }
}

/// Running programs. They are detached and everything in the kernel is freed when it is dropped,
/// or when the process dies: nothing is pinned.
pub struct Probe {
    programs: Programs,
    /// Signals that are seen and that are not.
    pub coverage: Coverage,
    /// Hooks that were tried.
    pub hooks: Vec<HookStatus>,
    /// CPUs that the kernel-side tables have a part for.
    pub cpus: u32,
    /// Hooks to attach, by signal.
    planned: Vec<(Signal, &'static [Hook])>,
}

/// A hook that was tried.
#[derive(Clone, Debug)]
pub struct HookStatus {
    /// The signal that it is for.
    pub signal: Signal,
    /// The hook.
    pub hook: Hook,
    /// Why it is not attached; `None` if it is.
    pub refused: Option<Rc<HookError>>,
}

impl HookStatus {
    /// Returns why it is not attached, in one line; `None` if it is.
    pub fn reason(&self) -> Option<String> {
        self.refused.as_deref().map(HookError::line)
    }

    /// Returns the verifier's full log, if the verifier refused a program.
    pub fn verifier_log(&self) -> Option<String> {
        self.refused.as_deref()?.verifier_log()
    }
}

/// Facts that the kernel reports about a program that it accepted.
#[derive(Clone, Debug)]
pub struct ProgramStatus {
    /// Name of the program.
    pub name: String,
    /// Instructions that the verifier went through; `None` before 5.16.
    pub verified: Option<u32>,
    /// Size after verification, bytes.
    pub translated: Option<u32>,
    /// Size as machine code, bytes; 0 if it is interpreted.
    pub jited: u32,
    /// Times that it ran while the kernel counted.
    pub runs: u64,
    /// Time that those runs took.
    pub run_time: Duration,
}

impl Probe {
    /// Loads the object for the kernel that `plan` was made for. Nothing runs yet.
    ///
    /// With `log` the programs log their own diagnostics, see [`Self::logger`]; without it the verifier
    /// removes that code.
    pub fn load(plan: &Plan, limits: Limits, log: bool) -> Result<Self, ProbeError> {
        raise_memlock_limit();
        raise_file_limit()?;
        let log_level = if log { u8::MAX } else { 0 };
        let cpus = cpus()?;
        let ebpf = EbpfLoader::new()
            .override_global("KERNEL", &plan.kernel, true)
            .override_global("SELECTION", &plan.selection, true)
            .override_global(aya_log::LEVEL, &log_level, false)
            .map_max_entries(map::CPUS, cpus)
            .map_max_entries(map::ROWS, cpus * limits.rows)
            .map_max_entries(map::LATENCIES, limits.rows)
            .map_max_entries(map::ROW_OWNERS, limits.rows)
            .map_max_entries(map::FREE_ROWS, limits.rows)
            .map_max_entries(map::VMS, limits.vms)
            .map_max_entries(map::THREADS, limits.threads)
            .map_max_entries(map::THREAD_INDEX, limits.threads)
            .map_max_entries(map::FREE_THREADS, limits.threads)
            .map_max_entries(map::VCPUS, limits.threads)
            .map_max_entries(map::RING, limits.ring)
            .map_max_entries(map::STACKS, limits.stacks)
            .map_max_entries(map::MORE_STACKS, 2 * limits.stacks)
            .load(OBJECT)
            .map_err(|error| {
                if is_permission_error(&error) {
                    ProbeError::NotPermitted
                } else {
                    ProbeError::Load(Box::new(error))
                }
            })?;
        let programs = Programs::new(ebpf, plan);
        let coverage = plan.coverage();
        let planned = plan.hooks.clone();
        Ok(Self { programs, coverage, hooks: Vec::new(), cpus, planned })
    }

    /// Attaches every planned hook, in the order of the table of signals: operations before the
    /// changes in them. A hook that cannot be attached lowers coverage, unless the changes of the MMU
    /// in use cannot be seen without it.
    pub fn attach(&mut self) -> Result<(), ProbeError> {
        for (program, without) in SERVICES {
            if let Err(error) = self.programs.load(program) {
                log::warn!("{without}: {}", error.line());
            }
        }
        let planned = self.planned.iter().flat_map(|(_, hooks)| hooks.iter().copied());
        let planned: Vec<_> = planned.collect();
        self.programs.attach_together(&planned);
        self.programs.load_ahead(&planned);
        for (signal, hooks) in &self.planned {
            for &hook in *hooks {
                // Two signals may share a hook.
                let tried = self.hooks.iter().find(|tried| tried.hook == hook);
                let refused = match tried {
                    Some(tried) => tried.refused.clone(),
                    None => self.programs.attach(&hook).err().map(Rc::new),
                };
                let status = HookStatus { signal: *signal, hook, refused };
                let reason = status.reason();
                self.hooks.push(status);
                if let Some(why) = reason {
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

    /// Loads the programs that answer what is asked without anything being attached. Those that are refused
    /// are logged, and do not answer.
    pub fn load_questions(&mut self) {
        for program in [Peek::PROGRAM, Walk::PROGRAM] {
            if let Err(error) = self.programs.load(program) {
                log::warn!("{}", error.line());
            }
        }
    }

    /// Detaches the raw tracepoints that serve these signals and no others, or attaches them again.
    pub fn suspend(&mut self, signals: &[Signal], suspended: bool) -> Result<(), HookError> {
        let attached = self.hooks.iter().filter(|status| status.refused.is_none());
        for hook in serving_only(signals, attached.map(|status| (status.signal, status.hook))) {
            if suspended {
                self.programs.detach(&hook)?;
            } else {
                self.programs.attach(&hook)?;
            }
        }
        Ok(())
    }

    /// Takes a map out of the object.
    pub fn take_map(&mut self, name: &'static str) -> Result<Map, ProbeError> {
        self.programs.ebpf.take_map(name).ok_or(ProbeError::NoMap(name))
    }

    /// Returns the number of values that a map has room for; 0 if it is no array, or was taken.
    pub fn map_len(&self, name: &str) -> u32 {
        let Some(Map::Array(map)) = self.programs.ebpf.map(name) else { return 0 };
        map.info().map_or(0, |info| info.max_entries())
    }

    /// Runs the program that serves a request, here and now.
    pub fn request<R: Request>(&self, request: &R) -> Result<(), HookError> {
        let Some(Program::RawTracePoint(program)) = self.programs.ebpf.program(R::PROGRAM) else {
            return Err(HookError::NoProgram(R::PROGRAM));
        };
        let mut options = RawTracePointRunOptions::new();
        options.args[..ARGS].copy_from_slice(&request.encode());
        match program.test_run(options) {
            Ok(_) => Ok(()),
            Err(error) => Err(HookError::Run { program: R::PROGRAM, source: Box::new(error) }),
        }
    }

    /// Forwards the programs' own diagnostics to a logger, where [`Self::load`] was asked for them.
    pub fn logger<L: log::Log>(&mut self, logger: L) -> Result<EbpfLogger<L>, aya_log::Error> {
        EbpfLogger::init_with_logger(&mut self.programs.ebpf, logger)
    }

    /// Returns how often the kernel skipped a program; `None` before 5.12.
    pub fn misses(&self, program: &str) -> Option<u64> {
        self.programs.get(program).and_then(skipped)
    }

    /// Returns how often a function that shares its programs was entered since it was attached; `None` for
    /// other hooks.
    pub fn hits(&self, hook: &Hook) -> Option<u64> {
        self.programs.hits(hook)
    }

    /// Returns the programs that the kernel accepted.
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
        let mut programs: Vec<_> = self.programs.all().filter_map(status).collect();
        programs.sort_by(|a, b| a.name.cmp(&b.name));
        programs
    }

    /// Detaches everything, first what keeps KVM from being unloaded: taking probes back takes the kernel
    /// a while.
    pub fn detach(self) {
        self.programs.detach_all();
    }

    /// Returns how often a program should have run and did not, where that loses an event.
    pub fn skipped(&self) -> u64 {
        let attached = self.hooks.iter().filter(|status| status.refused.is_none());
        let losing: BTreeSet<_> =
            attached.flat_map(|status| status.hook.losing_programs()).collect();
        losing.into_iter().filter_map(|program| self.misses(program)).sum()
    }
}

/// Returns the number of CPUs that the kernel may ever have.
fn cpus() -> Result<u32, ProbeError> {
    match aya::util::nr_cpus().map_err(|(_, error)| ProbeError::Cpus(error))? {
        cpus @ 0..=CPUS => Ok(cpus as u32),
        cpus => Err(ProbeError::TooManyCpus(cpus)),
    }
}

/// Returns how often the kernel skipped a program because it, or anything that keeps programs from
/// running, was at work on that CPU, from `/proc/self/fdinfo`: 5.12 and later, for kprobes 6.7 and
/// later.
fn skipped(program: &Program) -> Option<u64> {
    let fd = program.fd().ok()?.as_fd().as_raw_fd();
    let info = fs::read_to_string(format!("/proc/self/fdinfo/{fd}")).ok()?;
    info.lines().find_map(|line| line.strip_prefix("recursion_misses:"))?.trim().parse().ok()
}

/// Returns the hooks that serve these signals and no others, each once.
fn serving_only(signals: &[Signal], hooks: impl Iterator<Item = (Signal, Hook)>) -> Vec<Hook> {
    let (own, others): (Vec<_>, Vec<_>) = hooks.partition(|(signal, _)| signals.contains(signal));
    let mut only = Vec::new();
    for (_, hook) in own {
        if !only.contains(&hook) && others.iter().all(|(_, other)| *other != hook) {
            only.push(hook);
        }
    }
    only
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

#[cfg(test)]
mod tests {
    use collapse_common::abi::request::{ReadPending, Walk};

    use super::*;
    use crate::plan::{SIGNALS, TIMED_SIGNALS};

    /// Maps that the loader or the logger makes of their own accord.
    fn is_declared(map: &str) -> bool {
        !map.starts_with('.') && map != "AYA_LOGS"
    }

    #[test]
    fn the_object_has_the_declared_maps() {
        let object = aya_obj::Object::parse(OBJECT).unwrap();
        let maps = object.maps.keys().map(String::as_str).filter(|name| is_declared(name));
        assert_eq!(maps.collect::<BTreeSet<_>>(), map::ALL.iter().copied().collect());
    }

    /// What is detached to keep to the budget.
    #[test]
    fn timing_has_hooks_of_its_own() {
        let hooks = SIGNALS.iter().flat_map(|row| {
            let hooks = row.hook_sets[0].iter();
            hooks.map(|hook| (row.signal, *hook))
        });
        let hooks = serving_only(&TIMED_SIGNALS, hooks);
        let programs: Vec<_> = hooks.iter().flat_map(Hook::programs).collect();
        assert_eq!(programs, ["page_fault"]);
    }

    #[test]
    fn every_program_of_the_object_has_a_use() {
        let object = aya_obj::Object::parse(OBJECT).unwrap();
        let programs: BTreeSet<_> = object.programs.keys().map(String::as_str).collect();
        let hooks = SIGNALS.iter().flat_map(|row| row.hook_sets).flat_map(|hooks| hooks.iter());
        let answering = [Walk::PROGRAM, ReadPending::PROGRAM, Peek::PROGRAM, Adopt::PROGRAM];
        let requests = [GiveBack::PROGRAM, SetDetail::PROGRAM].into_iter().chain(answering);
        assert_eq!(programs, hooks.flat_map(Hook::programs).chain(requests).collect());
    }
}
