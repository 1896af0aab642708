//! Getting to attached programs, or to one clear line that says what is in the way; and following KVM
//! when it is unloaded and loaded again.

use std::{mem, path::Path, time::Duration};

use anyhow::anyhow;
use aya_log::EbpfLogger;
use collapse_common::Selection;

use crate::{
    cli::Setup,
    clock::monotonic_ns,
    exit::{Exit, Failure, OrExit as _},
    kernel::{Inspected, Instance},
    model::Model,
    plan::{Coverage, Look, NO_KVM, Plan, obstacles},
    probe::{Limits, Probe, ProbeError},
    source::{
        Update,
        live::{Live, RowFilter},
        recording::Command,
    },
};

/// Time between readings of the ring, so that it does not fill up.
pub const DRAIN_INTERVAL: Duration = Duration::from_millis(100);

/// What takes what a source tells beside the model. It keeps its errors for the end.
pub trait Sink {
    /// Takes an update and passes it on to the model.
    fn update(&mut self, update: Update, coverage: &Coverage, model: &mut Model);

    /// Whether it wants no more.
    fn is_done(&self) -> bool;

    /// Takes the end of the window, in which this command ran, if any.
    fn finish(&mut self, command: Option<&Command>, model: &Model) -> Result<(), Failure>;
}

/// Makes a sink once the programs are attached and it is known what they see.
pub type MakeSink = Box<dyn FnOnce(&Inspected, &Coverage) -> Result<Box<dyn Sink>, Failure>>;

/// No more than the model.
impl Sink for () {
    fn update(&mut self, update: Update, _: &Coverage, model: &mut Model) {
        model.update(update);
    }

    fn is_done(&self) -> bool {
        false
    }

    fn finish(&mut self, _: Option<&Command>, _: &Model) -> Result<(), Failure> {
        Ok(())
    }
}

/// What is asked of the programs.
#[derive(Clone, Default)]
pub struct Wanted {
    /// How they are loaded and attached.
    pub setup: Setup,
    /// What they record.
    pub selection: Selection,
    /// Rows whose changes they record, if not all.
    pub rows: Option<RowFilter>,
}

impl From<Setup> for Wanted {
    fn from(setup: Setup) -> Self {
        Self { setup, ..Self::default() }
    }
}

/// Ring buffer where each change is a record, bytes: dirty logging of 1 GiB that goes on or off is a
/// quarter of a million, in one system call that nobody can read meanwhile.
const RING_FOR_EACH: u32 = 1 << 24;

/// Kernel stacks told apart where they are asked for: a few dozens lead to SPTE changes.
const STACKS: u32 = 1 << 13;

/// Attached programs, and the model of what they saw.
pub struct Session {
    /// The running kernel.
    pub host: Inspected,
    /// What came of it so far.
    pub model: Model,
    /// `None` while there is no KVM to attach to.
    attached: Option<Attached>,
    /// What is seen and what is not, or was when programs were last attached.
    coverage: Coverage,
    /// The KVM that programs are attached to, or that they could not be attached to.
    kvm: Option<Instance>,
    sink: Box<dyn Sink>,
    wanted: Wanted,
}

struct Attached {
    live: Live,
    log: Option<EbpfLogger<&'static dyn log::Log>>,
}

impl Session {
    /// Attaches everything and takes the first reading.
    pub fn start(setup: Setup) -> Result<Self, Failure> {
        Self::start_with(setup.into(), Box::new(|_, _| Ok(Box::new(()))))
    }

    /// The same, with a sink.
    pub fn start_with(wanted: Wanted, sink: MakeSink) -> Result<Self, Failure> {
        if wanted.setup.ebpf_log {
            let _ = env_logger::builder().filter_level(log::LevelFilter::Debug).try_init();
        }
        let kvm = loaded_kvm();
        let (attached, host) = attach(&wanted)?;
        let coverage = attached.live.coverage().clone();
        let mut session = Self {
            sink: sink(&host, &coverage)?,
            host,
            model: Model::default(),
            coverage,
            attached: Some(attached),
            kvm,
            wanted,
        };
        session.read(false);
        Ok(session)
    }

    /// What is seen and what is not. While nothing is, as the model tells, what was before.
    pub fn coverage(&self) -> &Coverage {
        &self.coverage
    }

    /// Takes what the ring holds, and brings the model up to date where dirty logging was switched: what
    /// an episode cost is the change of totals between two readings.
    pub fn drain(&mut self) {
        self.follow_kvm();
        let Some(attached) = &mut self.attached else { return };
        if let Some(log) = &mut attached.log {
            log.flush();
        }
        if attached.live.drain() {
            self.read(false);
        }
    }

    /// Brings the model up to date; with `last`, completely.
    pub fn poll(&mut self, last: bool) {
        self.follow_kvm();
        self.read(last);
    }

    /// Whether the sink wants no more.
    pub fn is_done(&self) -> bool {
        self.sink.is_done()
    }

    /// Brings the model up to date for the last time; the window in which this command ran, if any, is
    /// over.
    pub fn finish(&mut self, command: Option<&Command>) -> Result<(), Failure> {
        self.poll(true);
        mem::replace(&mut self.sink, Box::new(())).finish(command, &self.model)
    }

    fn read(&mut self, last: bool) {
        let update = match &mut self.attached {
            Some(attached) => Update::Batch(attached.live.poll(last)),
            None => Update::Blind { at: monotonic_ns() },
        };
        self.tell(update);
    }

    fn tell(&mut self, update: Update) {
        self.sink.update(update, &self.coverage, &mut self.model);
    }

    /// Kprobes die with the module that they are in, silently and for good, and raw tracepoints keep
    /// it from being unloaded. So nothing stays attached without a whole KVM: its first part to go
    /// takes the last VM with it, and then the other is free to go.
    fn follow_kvm(&mut self) {
        let kvm = loaded_kvm();
        if kvm == self.kvm {
            return;
        }
        self.kvm = kvm;
        self.read(true);
        if let Some(attached) = self.attached.take() {
            attached.live.detach();
        }
        self.tell(Update::Detached { at: monotonic_ns(), why: NO_KVM.to_owned() });
        if kvm.is_some() {
            self.reattach();
        }
    }

    fn reattach(&mut self) {
        match attach(&self.wanted) {
            Ok((attached, host)) => {
                self.host = host;
                self.coverage = attached.live.coverage().clone();
                self.attached = Some(attached);
                self.tell(Update::Attached { at: monotonic_ns() });
                self.read(false);
            }
            // What was measured before is worth the rest of the window.
            Err(failure) => {
                self.tell(Update::Detached { at: monotonic_ns(), why: failure.to_string() });
            }
        }
    }
}

fn loaded_kvm() -> Option<Instance> {
    Instance::loaded(Path::new("/"))
}

/// Looks closely only where hooks are refused: another way may then do, and all could be attached so far.
fn attach(wanted: &Wanted) -> Result<(Attached, Inspected), Failure> {
    match attach_looking(wanted, Look::Quick) {
        Ok((Attached { live, .. }, _)) if live.is_refused() => live.detach(),
        Err(Failure { error, .. })
            if matches!(error.downcast_ref(), Some(ProbeError::Essential { .. })) => {}
        attached => return attached,
    }
    attach_looking(wanted, Look::Thorough)
}

fn attach_looking(wanted: &Wanted, look: Look) -> Result<(Attached, Inspected), Failure> {
    let &Wanted { setup, selection, ref rows } = wanted;
    let (mut plan, host) = Plan::for_running_kernel(setup.fault_latency, look);
    plan.selection = selection;
    if let Some(obstacle) = obstacles(&host).into_iter().find(|obstacle| obstacle.fatal) {
        return Err(Failure { exit: Exit::CannotMeasure, error: anyhow!(obstacle.to_string()) });
    }
    let mut limits = setup.max_vms.map_or_else(Limits::default, Limits::for_vms);
    if selection.each != 0 {
        limits.ring = RING_FOR_EACH;
    }
    if selection.stacks != 0 {
        limits.stacks = STACKS;
    }
    limits.ring = setup.ring_size.unwrap_or(limits.ring);
    let mut probe = Probe::load(&plan, limits, setup.ebpf_log).or_exit(Exit::CannotMeasure)?;
    let log = if setup.ebpf_log { Some(ebpf_logger(&mut probe)?) } else { None };
    let budget = setup.budget_overhead.percent();
    let mut live = Live::new(probe, plan.kernel.kvm_vm_list, rows.clone(), budget)
        .or_exit(Exit::CannotMeasure)?;
    if selection.stacks != 0 {
        live.learn_functions();
    }
    Ok((Attached { live, log }, host))
}

/// Prepares to forward the eBPF side's own diagnostics to stderr.
fn ebpf_logger(probe: &mut Probe) -> Result<EbpfLogger<&'static dyn log::Log>, Failure> {
    probe.logger().or_exit(Exit::CannotMeasure)
}
