//! An attempt to load and attach everything, watched for a second.

use std::{
    collections::BTreeMap,
    thread,
    time::{Duration, Instant},
};

use aya::sys::{Stats, enable_stats};
use serde::Serialize;

use crate::{
    plan::{Coverage, Obstacle, Plan},
    probe::{HookStatus, Limits, Probe, ProbeError, ProgramStatus, chain},
    watch::Setup,
};

/// How long hits are counted.
const WATCHED: Duration = Duration::from_secs(1);

/// Hooks and programs after the attempt.
#[derive(Serialize)]
pub struct Check {
    /// How long hits were counted, ns.
    pub watched_ns: u64,
    /// Every hook that was tried, in order. The first that fails is the last of its signal.
    pub hooks: Vec<HookCheck>,
    /// Every program that the kernel accepted.
    pub programs: Vec<ProgramCheck>,
}

/// A hook after the attempt.
#[derive(Serialize)]
pub struct HookCheck {
    /// Signal that the hook is for.
    pub signal: &'static str,
    /// Place in the kernel.
    pub hook: String,
    /// Programs of the hook. Several hooks may share one, and then its hits, unless they are counted by
    /// function.
    pub programs: Vec<&'static str>,
    /// Whether the programs were attached.
    pub attached: bool,
    /// Reason if they were not.
    pub reason: Option<String>,
    /// Full log of the verifier, if it refused a program and the log was asked for.
    pub verifier_log: Option<String>,
    /// Hits of the first program, or of the function where it shares its programs; `None` if they could
    /// not be counted. Zero is no error: hooks are hit when VMs do what they watch.
    pub hits: Option<u64>,
    /// Name of what `hits` counts.
    #[serde(skip)]
    pub counted: String,
}

/// A program that the kernel accepted.
#[derive(Serialize)]
pub struct ProgramCheck {
    /// Name of the program.
    pub program: String,
    /// Times that it ran; `None` if they could not be counted.
    pub hits: Option<u64>,
    /// Instructions that the verifier processed; `None` before 5.16.
    pub verified_instructions: Option<u32>,
    /// Size after verification, bytes.
    pub translated_bytes: Option<u32>,
    /// Size as machine code, bytes; 0 if it is interpreted.
    pub jited_bytes: u32,
}

impl Check {
    /// Attaches what was planned, and detaches it after a second. `coverage` becomes what was really
    /// seen. Returns the attempt, unless loading failed, and what makes measuring impossible, if
    /// anything.
    pub fn run(
        plan: &Plan,
        setup: Setup,
        verbose: bool,
        coverage: &mut Coverage,
    ) -> (Option<Self>, Option<Obstacle>) {
        let mut probe = match Probe::load(plan, Limits::default(), setup.ebpf_log) {
            Ok(probe) => probe,
            Err(error) => return (None, Some(obstacle(&error))),
        };
        let attached = probe.attach();
        coverage.clone_from(&probe.coverage);
        // The kernel counts for as long as this is held.
        let counting = enable_stats(Stats::RunTime);
        let since = Instant::now();
        thread::sleep(WATCHED);
        let watched_ns = since.elapsed().as_nanos() as u64;
        let check = Self::new(&probe, watched_ns, counting.is_ok(), verbose);
        probe.detach();
        (Some(check), attached.err().as_ref().map(obstacle))
    }

    fn new(probe: &Probe, watched_ns: u64, counted: bool, verbose: bool) -> Self {
        let programs = probe.programs();
        let hits: BTreeMap<&str, u64> =
            programs.iter().map(|program| (program.name.as_str(), program.runs)).collect();
        let hook = |status: &HookStatus| {
            let programs = status.hook.programs();
            let of_program = hits.get(programs[0]).copied().filter(|_| counted);
            let of_function = probe.hits(&status.hook);
            let function = status.hook.function().filter(|_| of_function.is_some());
            HookCheck {
                signal: status.signal.name(),
                hook: status.hook.to_string(),
                hits: of_function.or(of_program).filter(|_| status.refused.is_none()),
                counted: function.unwrap_or(programs[0]).to_owned(),
                programs,
                attached: status.refused.is_none(),
                reason: status.reason(),
                verifier_log: status.verifier_log().filter(|_| verbose),
            }
        };
        Self {
            watched_ns,
            hooks: probe.hooks.iter().map(hook).collect(),
            programs: programs.iter().map(|status| ProgramCheck::new(status, counted)).collect(),
        }
    }

    /// Hits of a signal's hooks, those that hooks share counted once; `None` if they could not be
    /// counted.
    pub fn hits(&self, signal: &str) -> Option<u64> {
        let hooks = self.hooks.iter().filter(|hook| hook.signal == signal);
        let counts: BTreeMap<_, _> =
            hooks.filter_map(|hook| Some((&hook.counted, hook.hits?))).collect();
        (!counts.is_empty()).then(|| counts.values().sum())
    }
}

impl ProgramCheck {
    fn new(status: &ProgramStatus, counted: bool) -> Self {
        Self {
            program: status.name.clone(),
            hits: counted.then_some(status.runs),
            verified_instructions: status.verified,
            translated_bytes: status.translated,
            jited_bytes: status.jited,
        }
    }
}

fn obstacle(error: &ProbeError) -> Obstacle {
    let remedy = match error {
        ProbeError::NotPermitted => "run as root (sudo collapse …)",
        ProbeError::Files { .. } => "raise the limit of open files",
        _ => "please report it, with the output of `collapse doctor -v --format json`",
    };
    Obstacle { fatal: true, what: chain(error), remedy: remedy.to_owned() }
}
