//! Getting to attached programs, or to one clear line that names what is in the way.

use std::path::Path;

use anyhow::anyhow;
use aya_log::EbpfLogger;
use collapse_common::Selection;

use crate::{
    diagnostics::EbpfLog,
    exit::{Exit, Failure, OrExit as _},
    kernel::{Inspected, Instance},
    plan::{
        Coverage, FaultLatency, InspectionDepth, Plan, addresses_are_hidden, lacking, obstacles,
    },
    probe::{Limits, Probe, ProbeError},
    source::{
        Batch,
        cost::Limit,
        live::{Live, RowFilter},
    },
};

/// How programs are loaded, and how much they may cost.
#[derive(Clone, Copy, Debug, Default)]
pub struct Setup {
    /// Whether the programs log to stderr.
    pub ebpf_log: bool,
    /// Guest faults that are timed.
    pub fault_latency: FaultLatency,
    /// Overhead at which less is seen.
    pub budget_overhead: Limit,
    /// Size of the ring buffer, bytes; `None` for one that suits the selection.
    pub ring_size: Option<u32>,
    /// VMs that tables have room for; `None` for the default.
    pub max_vms: Option<u32>,
}

/// Requirements on the programs.
#[derive(Clone, Default)]
pub struct Wanted {
    /// How they are loaded.
    pub setup: Setup,
    /// Changes that they record.
    pub selection: Selection,
    /// Rows whose changes they record, if not all.
    pub rows: Option<RowFilter>,
}

impl From<Setup> for Wanted {
    fn from(setup: Setup) -> Self {
        Self { setup, ..Self::default() }
    }
}

/// Ring buffer where each change is a record, bytes. Switching dirty logging for 1 GiB makes a quarter
/// of a million records in one system call, during which nobody reads.
const RING_FOR_EACH: u32 = 1 << 24;

/// Room for kernel stacks, where they are recorded: a few dozen lead to SPTE changes.
const STACKS: u32 = 1 << 12;

/// Programs attached to a running KVM.
pub struct Attached {
    /// The running kernel.
    pub host: Inspected,
    pub(super) wanted: Wanted,
    /// The KVM that they are attached to.
    pub(super) kvm: Option<Instance>,
    live: Live,
    log: Option<EbpfLogger<EbpfLog>>,
}

impl Attached {
    /// Loads and attaches everything that `wanted` needs.
    ///
    /// Looks closely at the kernel only where hooks are refused: others may then do, and usually all
    /// can be attached.
    pub fn new(wanted: &Wanted) -> Result<Self, Failure> {
        let attached = Self::with_most_hooks(wanted)?;
        let is_limited = attached.live.is_refused() || addresses_are_hidden(&attached.host);
        if let Some(names) = lacking(&attached.host).filter(|_| is_limited) {
            log::warn!("less is seen without {names}: `collapse doctor` tells what");
        }
        Ok(attached)
    }

    fn with_most_hooks(wanted: &Wanted) -> Result<Self, Failure> {
        match Self::looking(wanted, InspectionDepth::Quick) {
            Ok(attached) if attached.live.is_refused() => attached.detach(),
            Err(Failure { error, .. })
                if matches!(error.downcast_ref(), Some(ProbeError::Essential { .. })) => {}
            attached => return attached,
        }
        log::info!("hooks were refused: looking closely at the kernel for others");
        Self::looking(wanted, InspectionDepth::Thorough)
    }

    fn looking(wanted: &Wanted, look: InspectionDepth) -> Result<Self, Failure> {
        let Wanted { setup, selection, rows } = wanted.clone();
        // Seen before anything is attached: a KVM that is loaded meanwhile is another.
        let kvm = loaded_kvm();
        let (mut plan, host) = Plan::for_running_kernel(setup.fault_latency, look);
        plan.selection = selection;
        if let Some(obstacle) = obstacles(&host).into_iter().find(|obstacle| obstacle.fatal) {
            return Err(Failure {
                exit: Exit::CannotMeasure,
                error: anyhow!(obstacle.to_string()),
            });
        }
        let limits = limits(setup, selection);
        let mut probe = Probe::load(&plan, limits, setup.ebpf_log).or_exit(Exit::CannotMeasure)?;
        let log = setup.ebpf_log.then(|| probe.logger(EbpfLog));
        let log = log.transpose().or_exit(Exit::CannotMeasure)?;
        let slots = plan.slots.as_ref().inspect_err(|why| log::debug!("memslots: {why}")).ok();
        let slots = slots.copied();
        let budget = setup.budget_overhead.percent();
        let mut live = Live::new(probe, plan.kernel.kvm_vm_list, slots, rows, budget)
            .map_err(|error| with_rights(error, &host))
            .or_exit(Exit::CannotMeasure)?;
        if selection.stacks != 0 {
            live.learn_functions();
        }
        let seen = live.coverage().signals.iter().filter(|signal| signal.is_seen()).count();
        log::info!("attached to kernel {}: {seen} signals are seen", host.release());
        Ok(Self { host, wanted: wanted.clone(), kvm, live, log })
    }

    /// The signals that are seen and those that are not.
    pub fn coverage(&self) -> &Coverage {
        self.live.coverage()
    }

    /// Empties the ring buffer; whether dirty logging was switched, so that the totals are due.
    pub(super) fn drain(&mut self) -> bool {
        if let Some(log) = &mut self.log {
            log.flush();
        }
        self.live.drain()
    }

    /// Reads everything; with `last`, completely.
    pub(super) fn read(&mut self, last: bool) -> Batch {
        self.live.poll(last)
    }

    /// Takes all probes on functions for silent from now on, because of `why`.
    pub(super) fn silenced(&mut self, why: &str) {
        self.live.silenced(why);
    }

    /// Detaches the programs.
    pub(super) fn detach(self) {
        self.live.detach();
    }
}

/// The KVM that is loaded.
pub(super) fn loaded_kvm() -> Option<Instance> {
    Instance::loaded(Path::new("/"))
}

/// Names the capabilities that may be why nothing is seen, if any are lacking.
fn with_rights(error: ProbeError, host: &Inspected) -> anyhow::Error {
    let error = anyhow::Error::new(error);
    match lacking(host) {
        Some(names) => error.context(format!("without {names}")),
        None => error,
    }
}

fn limits(setup: Setup, selection: Selection) -> Limits {
    let mut limits = setup.max_vms.map_or_else(Limits::default, Limits::for_vms);
    if selection.each != 0 {
        limits.ring = RING_FOR_EACH;
    }
    if selection.stacks != 0 {
        limits.stacks = STACKS;
    }
    limits.ring = setup.ring_size.unwrap_or(limits.ring);
    limits
}
