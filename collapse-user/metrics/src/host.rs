//! Families for the host, and for what watches it.

use collapse_feed::{DetailStep, Signal};
use collapse_model::{
    Metric,
    wording::{SIZES, mapped_bytes},
};

use crate::{
    exposition::Scene,
    family::{Family, Kind, Measure, Out, Row, Subject, Value, seconds, word},
    vm,
};

/// The host, as what families are about.
pub(crate) struct Host;

impl Subject for Host {
    type Scene<'a> = HostScene<'a>;
}

/// The host as families see it.
pub(crate) struct HostScene<'a> {
    pub scene: &'a Scene<'a>,
    /// VMs that have not gone.
    pub live: u64,
    /// Of `live`: without series of their own.
    pub left_out: u64,
}

/// The family of a metric.
pub(crate) fn family(metric: &Metric) -> Family {
    let family = vm::family(metric, "host");
    Family { help: format!("{}, of all VMs since watching began", metric.help).into(), ..family }
}

/// Takes the number of a metric.
pub(crate) fn read(metric: &Metric, host: &HostScene, out: &mut Out) {
    let Scene { model, coverage, .. } = host.scene;
    if let Some(last) = model.history.last().filter(|_| metric.is_reported(coverage)) {
        out.number(vm::value(metric, last.values[metric.id]));
    }
}

/// What is exported of the host beside the table of metrics.
pub(crate) static ROWS: &[Row<Host>] = &[
    Row {
        name: "host_mapped",
        help: "guest memory that KVM maps, of all VMs, by the size of the mapping (KVM's own gauges)",
        kind: Kind::Gauge,
        unit: Measure::Bytes,
        labels: &["size"],
        read: |host, out| {
            let seen = host.scene.coverage.sees(Signal::Gauges);
            let last = host.scene.model.history.last().filter(|_| seen);
            let bytes = last.and_then(|last| last.pages).map(mapped_bytes);
            for (size, bytes) in SIZES.iter().zip(bytes.into_iter().flatten()) {
                out.by("size", size.key, bytes);
            }
        },
    },
    Row {
        name: "vms",
        help: "VMs that exist",
        kind: Kind::Gauge,
        unit: Measure::Count,
        labels: &[],
        read: |host, out| out.number(host.live),
    },
    Row {
        name: "vms_left_out",
        help: "VMs that exist and have no series of their own, because there are too many; the host's \
               numbers include them",
        kind: Kind::Gauge,
        unit: Measure::Count,
        labels: &[],
        read: |host, out| out.number(host.left_out),
    },
    Row {
        name: "vms_ended",
        help: "VMs that ended while they were watched",
        kind: Kind::Counter,
        unit: Measure::Count,
        labels: &[],
        read: |host, out| out.number(host.scene.model.ended()),
    },
    Row {
        name: "unattributed_changes",
        help: "changes of SPTEs whose VM is not known",
        kind: Kind::Counter,
        unit: Measure::Count,
        labels: &[],
        read: |host, out| out.number(host.scene.model.unattributed.changes(|_| true)),
    },
    Row {
        name: "lost",
        help: "what is known to have been missed, by way",
        kind: Kind::Counter,
        unit: Measure::Count,
        labels: &["way"],
        read: |host, out| {
            for (way, n) in &host.scene.model.losses {
                out.by("way", *way, *n);
            }
        },
    },
    Row {
        name: "signal_seen",
        help: "whether a signal is seen: 1 or 0. What depends on one that is not has no series",
        kind: Kind::Gauge,
        unit: Measure::Count,
        labels: &["signal"],
        read: |host, out| {
            for status in &host.scene.coverage.signals {
                out.by("signal", status.signal.name(), status.is_seen());
            }
        },
    },
    Row {
        name: "watching",
        help: "whether programs are attached to KVM: 0 while KVM is not loaded",
        kind: Kind::Gauge,
        unit: Measure::Count,
        labels: &[],
        read: |host, out| out.number(host.scene.model.unwatched.is_none()),
    },
    Row {
        name: "watched",
        help: "time since watching began, up to the reading that these numbers are from",
        kind: Kind::Counter,
        unit: Measure::Seconds,
        labels: &[],
        read: |host, out| out.number(seconds(host.scene.model.window())),
    },
    Row {
        name: "reloads",
        help: "times that KVM was loaded again and watched from then on",
        kind: Kind::Counter,
        unit: Measure::Count,
        labels: &[],
        read: |host, out| out.number(host.scene.model.reloads),
    },
    Row {
        name: "timed_faults_one_in",
        help: "one in how many guest faults is timed; 0 for none",
        kind: Kind::Gauge,
        unit: Measure::Count,
        labels: &[],
        read: |host, out| out.number(u64::from(host.scene.coverage.timed_faults)),
    },
    Row {
        name: "overhead",
        help: "run time of the eBPF programs as a part of one core, when it was last measured",
        kind: Kind::Gauge,
        unit: Measure::Ratio,
        labels: &[],
        read: |host, out| {
            if let Some(overhead) = &host.scene.model.overhead {
                out.number(overhead.percent / 100.0);
            }
        },
    },
    Row {
        name: "overhead_budget",
        help: "part of one core beyond which less is seen; none without a budget",
        kind: Kind::Gauge,
        unit: Measure::Ratio,
        labels: &[],
        read: |host, out| {
            let overhead = host.scene.model.overhead.as_ref();
            if let Some(percent) = overhead.and_then(|overhead| overhead.budget_percent) {
                out.number(percent / 100.0);
            }
        },
    },
    Row {
        name: "detail",
        help: "which amount of detail is seen: 1 for the one that is. Less than full keeps to the budget",
        kind: Kind::Gauge,
        unit: Measure::Count,
        labels: &["step"],
        read: |host, out| {
            if let Some(overhead) = &host.scene.model.overhead {
                for step in DetailStep::ALL {
                    out.by("step", word(step), step == overhead.step);
                }
            }
        },
    },
    Row {
        name: "detail_left_out",
        help: "time for which detail was left out to keep to the budget: no fault timed; of that, one \
               region in 16 followed; of that, none",
        kind: Kind::Counter,
        unit: Measure::Seconds,
        labels: &["step"],
        read: |host, out| {
            if let Some(overhead) = &host.scene.model.overhead {
                let left_out = overhead.degraded;
                let times = [
                    (DetailStep::NoLatency, left_out.no_latency_ns),
                    (DetailStep::Sampled, left_out.sampled_ns),
                    (DetailStep::CountersOnly, left_out.counters_only_ns),
                ];
                for (step, ns) in times {
                    out.by("step", word(step), seconds(ns));
                }
            }
        },
    },
    Row {
        name: "build",
        help: "the program's version",
        kind: Kind::Info,
        unit: Measure::Count,
        labels: &["version"],
        read: |host, out| {
            out.labelled(vec![("version", host.scene.version.into())], Value::Facts);
        },
    },
    Row {
        name: "host",
        help: "the kernel and its MMU: kernel release, kind of MMU, what the CPU does for it",
        kind: Kind::Info,
        unit: Measure::Count,
        labels: &["kernel", "mmu"],
        read: |host, out| {
            let kernel = host.scene.kernel.to_owned().into();
            let mmu = host.scene.coverage.label().into();
            out.labelled(vec![("kernel", kernel), ("mmu", mmu)], Value::Facts);
        },
    },
];
