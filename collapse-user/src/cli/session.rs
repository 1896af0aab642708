//! Getting to attached programs, or to one clear line that says what is in the way.

use std::time::Duration;

use anyhow::anyhow;
use aya_log::EbpfLogger;

use crate::{
    exit::{Exit, Failure, OrExit as _},
    kernel::inspect::{Inspected, ModuleState},
    model::Model,
    plan::{Coverage, Plan},
    probe::{Limits, Probe},
    source::{Batch, live::Live, recording::Command},
};

/// Time between readings of the ring, so that it does not fill up.
pub const DRAIN_INTERVAL: Duration = Duration::from_millis(100);

/// What takes batches beside the model. It keeps its errors for the end.
pub trait Sink {
    /// Takes a batch and passes it on to the model.
    fn batch(&mut self, batch: Batch, coverage: &Coverage, model: &mut Model);

    /// Whether it wants no more.
    fn is_done(&self) -> bool;

    /// Takes the end of the window, in which this command ran, if any.
    fn finish(&mut self, command: Option<Command>) -> Result<(), Failure>;
}

/// Attached programs, and the model of what they saw.
pub struct Session {
    /// The running kernel.
    pub host: Inspected,
    /// What came of it so far.
    pub model: Model,
    live: Live,
    sink: Option<Box<dyn Sink>>,
    log: Option<EbpfLogger<&'static dyn log::Log>>,
}

impl Session {
    /// Attaches everything and takes the first reading.
    pub fn start(ebpf_log: bool) -> Result<Self, Failure> {
        Self::start_with(ebpf_log, |_, _| Ok(None))
    }

    /// The same, with what takes every batch.
    pub fn start_with(
        ebpf_log: bool,
        sink: impl FnOnce(&Inspected, &Coverage) -> Result<Option<Box<dyn Sink>>, Failure>,
    ) -> Result<Self, Failure> {
        if ebpf_log {
            let _ = env_logger::builder().filter_level(log::LevelFilter::Debug).try_init();
        }
        let (plan, host) = Plan::for_running_kernel();
        if let Some(obstacle) = obstacle(&host) {
            return Err(Failure { exit: Exit::CannotMeasure, error: anyhow!(obstacle) });
        }
        let mut probe =
            Probe::load(&plan, Limits::default(), ebpf_log).or_exit(Exit::CannotMeasure)?;
        let log = if ebpf_log { Some(ebpf_logger(&mut probe)?) } else { None };
        let live = Live::new(probe, plan.kernel.kvm_vm_list).or_exit(Exit::CannotMeasure)?;
        let sink = sink(&host, live.coverage())?;
        let mut session = Self { host, model: Model::default(), live, sink, log };
        session.poll(false);
        Ok(session)
    }

    /// What is seen and what is not.
    pub fn coverage(&self) -> &Coverage {
        self.live.coverage()
    }

    /// Takes what the ring holds, and brings the model up to date where dirty logging was switched: what
    /// an episode cost is the change of totals between two readings.
    pub fn drain(&mut self) {
        if let Some(log) = &mut self.log {
            log.flush();
        }
        if self.live.drain() {
            self.poll(false);
        }
    }

    /// Brings the model up to date; with `last`, completely.
    pub fn poll(&mut self, last: bool) {
        let batch = self.live.poll(last);
        match &mut self.sink {
            None => self.model.apply(batch),
            Some(sink) => sink.batch(batch, self.live.coverage(), &mut self.model),
        }
    }

    /// Whether what takes the batches wants no more.
    pub fn is_done(&self) -> bool {
        self.sink.as_ref().is_some_and(|sink| sink.is_done())
    }

    /// Takes the last batch and ends the window, in which this command ran, if any.
    pub fn finish(&mut self, command: Option<Command>) -> Result<(), Failure> {
        self.poll(true);
        self.sink.as_mut().map_or(Ok(()), |sink| sink.finish(command))
    }
}

/// What makes measuring impossible, and what to do about it. The order is that in which a person
/// would have to deal with it.
pub fn obstacle(host: &Inspected) -> Option<String> {
    use crate::kernel::inspect::Capability::{Bpf, Perfmon};
    let privileges = &host.privileges;
    let permitted = privileges.is_root() || privileges.has(Bpf) && privileges.has(Perfmon);
    if !permitted {
        return Some("not permitted: run as root (sudo collapse …)".to_owned());
    }
    if host.machine != "x86_64" {
        return Some(format!("only x86_64 is supported, this is {}", host.machine));
    }
    if host.kvm.core == ModuleState::Absent {
        return Some(
            "KVM is not loaded: load it with `modprobe kvm_amd` or `modprobe kvm_intel`".to_owned(),
        );
    }
    if let Err(why) = &host.vmlinux_btf {
        return Some(format!(
            "the kernel does not describe its types ({why}): a kernel built with \
             CONFIG_DEBUG_INFO_BTF is needed"
        ));
    }
    if let Err(why) = &host.tracefs {
        return Some(format!(
            "tracefs is not to be had ({why}): mount it with \
             `mount -t tracefs tracefs /sys/kernel/tracing`"
        ));
    }
    if host.kprobes != Ok(true) {
        return Some(
            "kprobes are not to be had: a kernel built with CONFIG_KPROBES is needed, and \
             /sys/kernel/debug/kprobes/enabled must be 1"
                .to_owned(),
        );
    }
    None
}

/// Prepares to forward the eBPF side's own diagnostics to stderr.
fn ebpf_logger(probe: &mut Probe) -> Result<EbpfLogger<&'static dyn log::Log>, Failure> {
    EbpfLogger::init(&mut probe.ebpf).or_exit(Exit::CannotMeasure)
}
