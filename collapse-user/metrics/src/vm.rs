//! Families per VM.

use collapse_common::{Cause, Counter};
use collapse_feed::{Coverage, Signal};
use collapse_model::{
    Metric, MetricId, TimeTaken, TimedFaults, Vm, findings,
    metric::{MetricKind, Unit},
    wording::{SIZES, mapped_bytes},
};

use crate::{
    family::{Family, Kind, Measure, Out, Row, Subject, Value, seconds, word},
    histogram::{FAULTS, OPERATIONS},
};

/// VMs, as what families are about.
pub(crate) struct Vms;

impl Subject for Vms {
    type Scene<'a> = VmScene<'a>;
}

/// A VM as families see it.
pub(crate) struct VmScene<'a> {
    pub vm: &'a Vm,
    pub coverage: &'a Coverage,
}

impl VmScene<'_> {
    fn sees(&self, signal: Signal) -> bool {
        self.coverage.sees(signal)
    }

    fn timed(&self) -> Option<TimedFaults<'_>> {
        let one_in = self.coverage.timed_faults;
        self.coverage.known(Signal::FaultLatency, self.vm.timed_faults(one_in))
    }
}

/// The part of names that stands for a metric: never changed, as its key is not.
pub(crate) fn name(metric: &Metric) -> String {
    let key = metric.key.trim_end_matches("_ns");
    match metric.unit {
        Unit::Regions => format!("regions_{}", key.trim_start_matches("regions_")),
        _ => key.to_owned(),
    }
}

/// The family of a metric, per VM or for the host.
pub(crate) fn family(metric: &Metric, scope: &str) -> Family {
    Family {
        name: format!("{scope}_{}", name(metric)).into(),
        help: metric.help.into(),
        kind: match metric.kind {
            MetricKind::Counter => Kind::Counter,
            MetricKind::Gauge => Kind::Gauge,
        },
        unit: unit(metric),
        labels: &[],
    }
}

fn unit(metric: &Metric) -> Measure {
    match metric.unit {
        Unit::Nanoseconds => Measure::Seconds,
        Unit::Leaves | Unit::Regions | Unit::Faults | Unit::Exits | Unit::Waits => Measure::Count,
    }
}

/// A number of a metric in the unit in which it is exported.
pub(crate) fn value(metric: &Metric, n: u64) -> Value {
    match metric.unit {
        Unit::Nanoseconds => seconds(n),
        Unit::Leaves | Unit::Regions | Unit::Faults | Unit::Exits | Unit::Waits => n.into(),
    }
}

/// Takes the number of a metric.
pub(crate) fn read(metric: &Metric, scene: &VmScene, out: &mut Out) {
    if let Some(last) = scene.vm.history.last().filter(|_| metric.is_reported(scene.coverage)) {
        out.number(value(metric, last.values[metric.id]));
    }
}

/// The family of a metric by cause, for those that have causes.
pub(crate) fn family_by_cause(metric: &Metric) -> Option<Family> {
    let labels: &[_] = if metric.has_levels() {
        &["cause", "size"]
    } else if metric.counter().is_some() || has_region_causes(metric.id) {
        &["cause"]
    } else {
        return None;
    };
    Some(Family {
        name: format!("vm_{}_by_cause", name(metric)).into(),
        help: format!("{}, by what did it; none where nothing did", metric.help).into(),
        labels,
        ..family(metric, "vm")
    })
}

/// Takes the longest of what was timed, by cause.
fn read_longest(times: impl Iterator<Item = (Cause, TimeTaken)>, out: &mut Out) {
    for (cause, time) in times {
        if let Some(longest) = time.longest_ns {
            out.by("cause", cause.name(), seconds(longest));
        }
    }
}

/// Takes the numbers of a metric by cause, those above zero.
pub(crate) fn read_by_cause(metric: &Metric, scene: &VmScene, out: &mut Out) {
    if !metric.is_reported(scene.coverage) {
        return;
    }
    let vm = scene.vm;
    let mut by_cause = |cause: Cause, n| out.by("cause", cause.name(), value(metric, n));
    if let Some(breakdown) = metric.breakdown(vm) {
        for (cause, level, n) in breakdown.iter() {
            let size = SIZES[level as usize - 1].key;
            out.labelled(vec![("cause", cause.name().into()), ("size", size.into())], n);
        }
    } else if let Some(counter) = metric.counter() {
        vm.totals().counter_by_cause(counter).into_iter().for_each(|(cause, n)| by_cause(cause, n));
    } else if metric.id == MetricId::Lost {
        vm.regions.lost_by_cause().iter().for_each(|(cause, n)| by_cause(*cause, *n));
    } else if metric.id == MetricId::BecameHuge {
        vm.regions.became_huge().iter().for_each(|(cause, n)| by_cause(*cause, *n));
    }
}

fn has_region_causes(id: MetricId) -> bool {
    matches!(id, MetricId::Lost | MetricId::BecameHuge)
}

/// What is exported of a VM beside the table of metrics.
pub(crate) static ROWS: &[Row<Vms>] = &[
    Row {
        name: "vm",
        help: "what is known of the VM: the thread that created it, where its name is from, its UUID if \
               its command line has one, and whether it was created while it was watched",
        kind: Kind::Info,
        unit: Measure::Count,
        labels: &["tid", "name_source", "uuid", "created"],
        read: |scene, out| {
            let mut facts = Vec::new();
            if let Some(process) = &scene.vm.process {
                facts.push(("tid", process.tid.to_string().into()));
                facts.push(("name_source", word(process.name.source)));
            }
            let uuid = scene.vm.uuid.map(|uuid| uuid.to_string());
            facts.extend(uuid.map(|uuid| ("uuid", uuid.into())));
            let created = if scene.vm.created { "true" } else { "false" };
            facts.push(("created", created.into()));
            out.labelled(facts, Value::Facts);
        },
    },
    Row {
        name: "vm_mapped",
        help: "guest memory that KVM maps, by the size of the mapping (KVM's own gauges)",
        kind: Kind::Gauge,
        unit: Measure::Bytes,
        labels: &["size"],
        read: |scene, out| {
            let bytes = scene.vm.pages().map(mapped_bytes);
            for (size, bytes) in SIZES.iter().zip(bytes.into_iter().flatten()) {
                out.by("size", size.key, bytes);
            }
        },
    },
    Row {
        name: "vm_regions_now",
        help: "regions that have not got their huge leaf back, by how they are mapped now: small again, \
               still by the page table of the split, or not at all",
        kind: Kind::Gauge,
        unit: Measure::Count,
        labels: &["state"],
        read: |scene, out| {
            let counts = scene.vm.regions.counts();
            out.by("state", "refaulted_small", counts.refaulted_small);
            out.by("state", "still_split", counts.still_split);
            out.by("state", "unmapped", counts.unmapped());
        },
    },
    Row {
        name: "vm_regions_1g_lost",
        help: "times that a range of 1 GiB lost its leaf of this size while the guest could still use the memory",
        kind: Kind::Counter,
        unit: Measure::Count,
        labels: &[],
        read: |scene, out| out.number(scene.vm.regions.giants().counts().lost),
    },
    Row {
        name: "vm_regions_1g_recovered",
        help: "times that a range of 1 GiB that had lost its leaf of this size got it back",
        kind: Kind::Counter,
        unit: Measure::Count,
        labels: &[],
        read: |scene, out| out.number(scene.vm.regions.giants().counts().recovered),
    },
    Row {
        name: "vm_dirty_logging",
        help: "whether dirty logging is on for the VM as a whole; none where that is not known",
        kind: Kind::Gauge,
        unit: Measure::Count,
        labels: &[],
        read: |scene, out| {
            if let Some(on) = scene.vm.is_logging().filter(|_| scene.sees(Signal::DirtyLogging)) {
                out.number(on);
            }
        },
    },
    Row {
        name: "vm_dirty_logging_switches",
        help: "times that dirty logging of a memslot was switched",
        kind: Kind::Counter,
        unit: Measure::Count,
        labels: &["to"],
        read: |scene, out| {
            if scene.sees(Signal::DirtyLogging) {
                out.by("to", "on", scene.vm.log_on);
                out.by("to", "off", scene.vm.log_off);
            }
        },
    },
    Row {
        name: "vm_episodes",
        help: "episodes of dirty logging",
        kind: Kind::Counter,
        unit: Measure::Count,
        labels: &[],
        read: |scene, out| {
            if scene.sees(Signal::DirtyLogging) {
                out.number(scene.vm.episodes.count());
            }
        },
    },
    Row {
        name: "vm_finding",
        help: "whether a diagnosis holds: 1 or 0; none where it cannot be known",
        kind: Kind::Gauge,
        unit: Measure::Count,
        labels: &["finding"],
        read: |scene, out| {
            for (name, needs) in findings::needs() {
                let holds = scene.vm.findings.holding().any(|finding| finding.name == name);
                let decided = || {
                    findings::undecided(name, scene.vm, scene.coverage.into()).is_none()
                        && needs.iter().all(|signal| scene.sees(*signal))
                };
                if holds || decided() {
                    out.by("finding", name, holds);
                }
            }
        },
    },
    Row {
        name: "vm_findings",
        help: "times that a diagnosis began to hold; none for those that never did",
        kind: Kind::Counter,
        unit: Measure::Count,
        labels: &["finding"],
        read: |scene, out| {
            for found in scene.vm.findings.kinds() {
                out.by("finding", found.finding.name, found.times);
            }
        },
    },
    Row {
        name: "vm_finding_cost",
        help: "vCPU time that what a diagnosis is about has cost so far, where that is known; it holds now",
        kind: Kind::Gauge,
        unit: Measure::Seconds,
        labels: &["finding"],
        read: |scene, out| {
            for finding in scene.vm.findings.holding() {
                if let Some(cost) = finding.cost {
                    out.by("finding", finding.name, seconds(cost));
                }
            }
        },
    },
    Row {
        name: "vm_fault_latency",
        help: "how long guest faults kept a vCPU from its guest, of those that were timed (one in \
               collapse_timed_faults_one_in); the sum is NaN where it is not known",
        kind: Kind::Histogram(FAULTS),
        unit: Measure::Seconds,
        labels: &[],
        read: |scene, out| {
            if let Some(timed) = scene.timed() {
                out.number(FAULTS.of(&timed.all()));
            }
        },
    },
    Row {
        name: "vm_stall_error",
        help: "standard error of the vCPU time lost to faults, where not every fault is timed",
        kind: Kind::Gauge,
        unit: Measure::Seconds,
        labels: &[],
        read: |scene, out| {
            if let Some(timed) = scene.timed() {
                out.number(seconds(timed.stall().error));
            }
        },
    },
    Row {
        name: "vm_long_faults",
        help: "guest faults that took two ticks of the kernel's clock or more",
        kind: Kind::Counter,
        unit: Measure::Count,
        labels: &[],
        read: |scene, out| {
            if let Some(timed) = scene.timed() {
                out.number(timed.stall().long);
            }
        },
    },
    Row {
        name: "vm_time_to_recover",
        help: "how long regions went without a huge leaf that they could have had: from when dirty \
               logging went off for their slot, or from the loss",
        kind: Kind::Histogram(OPERATIONS),
        unit: Measure::Seconds,
        labels: &[],
        read: |scene, out| out.number(OPERATIONS.of(scene.vm.regions.time_to_recover())),
    },
    Row {
        name: "vm_collapse_duration",
        help: "how long runs of the collapse routine took",
        kind: Kind::Histogram(OPERATIONS),
        unit: Measure::Seconds,
        labels: &[],
        read: |scene, out| {
            if scene.sees(Signal::Collapse) {
                out.number(OPERATIONS.of(&scene.vm.collapse_durations));
            }
        },
    },
    Row {
        name: "vm_operations",
        help: "operations of KVM on the VM's mappings that ended, by cause; none of those that never did",
        kind: Kind::Counter,
        unit: Measure::Count,
        labels: &["cause"],
        read: |scene, out| {
            for (cause, time) in scene.vm.operations() {
                out.by("cause", cause.name(), time.count);
            }
        },
    },
    Row {
        name: "vm_operations_time",
        help: "what operations of KVM on the VM's mappings took; one within another is part of both",
        kind: Kind::Counter,
        unit: Measure::Seconds,
        labels: &["cause"],
        read: |scene, out| {
            for (cause, time) in scene.vm.operations() {
                out.by("cause", cause.name(), seconds(time.total_ns));
            }
        },
    },
    Row {
        name: "vm_operations_longest",
        help: "what the longest operation of KVM on the VM's mappings took; none where it is not known",
        kind: Kind::Gauge,
        unit: Measure::Seconds,
        labels: &["cause"],
        read: |scene, out| read_longest(scene.vm.operations(), out),
    },
    Row {
        name: "vm_lock_waits_longest",
        help: "the longest wait for mmu_lock, by the cause of what the thread did that waited; none where it is not known",
        kind: Kind::Gauge,
        unit: Measure::Seconds,
        labels: &["cause"],
        read: |scene, out| read_longest(scene.vm.lock_waits(), out),
    },
    Row {
        name: "vm_drop_spte_calls",
        help: "calls of drop_spte",
        kind: Kind::Counter,
        unit: Measure::Count,
        labels: &[],
        read: |scene, out| {
            if scene.sees(Signal::DropSpte) {
                out.number(scene.vm.totals().counter(Counter::DropSpte));
            }
        },
    },
    Row {
        name: "vm_checks",
        help: "comparisons of counts and KVM's own gauges in which nothing changed meanwhile, by result",
        kind: Kind::Counter,
        unit: Measure::Count,
        labels: &["result"],
        read: |scene, out| {
            let checks = &scene.vm.reconciliation;
            out.by("result", "exact", checks.exact);
            out.by("result", "off", checks.off);
        },
    },
    Row {
        name: "vm_residual",
        help: "KVM's gauges minus the counted changes, in leaves, when both were last read together",
        kind: Kind::Gauge,
        unit: Measure::Count,
        labels: &["size"],
        read: |scene, out| {
            for (size, residual) in SIZES.iter().zip(scene.vm.residual().into_iter().flatten()) {
                out.by("size", size.key, residual);
            }
        },
    },
];
