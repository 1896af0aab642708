//! What is exported at one time.

use std::{borrow::Cow, collections::BTreeSet, fmt};

use collapse_feed::Coverage;
use collapse_model::{Model, Vm, metric::METRICS};
use prometheus_client::{
    collector::Collector,
    encoding::{DescriptorEncoder, MetricEncoder, NoLabelSet},
    registry::Unit,
};

use crate::{
    family::{Family, Label, Out, Row, Series, Value},
    host::{self, HostScene},
    vm::{self, VmScene},
};

/// What is to be exported.
#[derive(Clone, Copy, Debug)]
pub struct Scene<'a> {
    /// Everything known.
    pub model: &'a Model,
    /// The signals that are seen.
    pub coverage: &'a Coverage,
    /// Kernel release.
    pub kernel: &'a str,
    /// Version of the program.
    pub version: &'static str,
}

/// Bounds.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Options {
    /// VMs that have series of their own; the oldest come first, so that none comes and goes.
    pub max_vms: usize,
}

impl Default for Options {
    fn default() -> Self {
        Self { max_vms: 256 }
    }
}

/// Every series at one time. VMs that went away have none, so that Prometheus takes theirs for stale; the
/// host's numbers keep what was counted of them.
#[derive(Debug)]
pub struct Exposition {
    /// Since when it is counted, and when it was read, `CLOCK_MONOTONIC` ns.
    #[cfg(feature = "otlp")]
    pub(crate) span: (u64, u64),
    vms: Vec<[Label; 3]>,
    families: Vec<(Family, Vec<Series>)>,
}

impl Exposition {
    /// Reads everything off the model.
    pub fn new(scene: &Scene, options: Options) -> Self {
        let mut live: Vec<_> = scene.model.vms.values().filter(|vm| !vm.gone).collect();
        live.sort_by_key(|vm| (vm.key.born, vm.key.kvm));
        let mut taken = BTreeSet::new();
        // Series are told apart by these labels alone.
        let shown = live.iter().map(|vm| (*vm, labels(vm)));
        let shown = shown.filter(|(_, labels)| taken.insert(labels.clone()));
        let (shown, vms): (Vec<_>, Vec<_>) = shown.take(options.max_vms).unzip();
        let left_out = (live.len() - shown.len()) as u64;
        let host = HostScene { scene, live: live.len() as u64, left_out };
        let mut exposition = Self {
            #[cfg(feature = "otlp")]
            span: (scene.model.started.unwrap_or(scene.model.now), scene.model.now),
            vms,
            families: Vec::new(),
        };
        let see = |vm| VmScene { vm, coverage: scene.coverage };
        let seen: Vec<_> = shown.into_iter().map(see).collect();
        for metric in &METRICS {
            let read = |vm: &VmScene, out: &mut Out| vm::read(metric, vm, out);
            exposition.per_vm(vm::family(metric, "vm"), &seen, read);
            if let Some(family) = vm::family_by_cause(metric) {
                let read = |vm: &VmScene, out: &mut Out| vm::read_by_cause(metric, vm, out);
                exposition.per_vm(family, &seen, read);
            }
        }
        for row in vm::ROWS {
            exposition.per_vm(row.family(), &seen, row.read);
        }
        for metric in &METRICS {
            exposition.of_host(host::family(metric), |out| host::read(metric, &host, out));
        }
        for row in host::ROWS {
            exposition.of_host(row.family(), |out| (row.read)(&host, out));
        }
        exposition
    }

    /// The number of series, where a histogram is one.
    pub fn series(&self) -> usize {
        self.families.iter().map(|(_, series)| series.len()).sum()
    }

    /// Families that have series.
    pub(crate) fn families(&self) -> impl Iterator<Item = (&Family, &[Series])> {
        let families = self.families.iter().filter(|(_, series)| !series.is_empty());
        families.map(|(family, series)| (family, series.as_slice()))
    }

    /// Labels of a series, those of its VM first; one whose value is not known is left out.
    pub(crate) fn labels<'a>(
        &'a self,
        series: &'a Series,
    ) -> impl Iterator<Item = (&'static str, &'a str)> {
        let vm = series.vm.map(|at| &self.vms[at]).into_iter().flatten();
        let labels = vm.chain(&series.labels).map(|(name, value)| (*name, value.as_ref()));
        labels.filter(|(_, value)| !value.is_empty())
    }

    fn per_vm<'a>(
        &mut self,
        family: Family,
        vms: &[VmScene<'a>],
        read: impl Fn(&VmScene<'a>, &mut Out),
    ) {
        let mut series = Vec::new();
        for (at, vm) in vms.iter().enumerate() {
            read(vm, &mut Out { vm: Some(at), series: &mut series });
        }
        self.families.push((family, series));
    }

    fn of_host(&mut self, family: Family, read: impl Fn(&mut Out)) {
        let mut series = Vec::new();
        read(&mut Out { vm: None, series: &mut series });
        self.families.push((family, series));
    }
}

/// Names of the labels that tell VMs apart.
pub(crate) const VM_LABELS: [&str; 3] = ["vm", "pid", "fd"];

/// What tells a VM from others: its name, and process and descriptor as far as they are known.
fn labels(vm: &Vm) -> [Label; 3] {
    let number = |n: Option<u32>| n.map_or(Cow::Borrowed(""), |n| Cow::Owned(n.to_string()));
    let pid = vm.process.as_ref().map(|process| process.pid);
    let values = [Cow::Owned(vm.name().to_owned()), number(pid), number(vm.fd)];
    let mut values = values.into_iter();
    VM_LABELS.map(|name| (name, values.next().unwrap_or_default()))
}

impl Collector for Exposition {
    fn encode(&self, mut encoder: DescriptorEncoder) -> fmt::Result {
        for (family, series) in self.families() {
            let unit = family.unit.suffix().map(|unit| Unit::Other(unit.to_owned()));
            let kind = family.kind.metric_type();
            let mut metric =
                encoder.encode_descriptor(&family.name, &family.help, unit.as_ref(), kind)?;
            for series in series {
                let labels: Vec<_> = self.labels(series).collect();
                write(metric.encode_family(&labels)?, family, &series.value)?;
            }
        }
        Ok(())
    }
}

fn write(mut series: MetricEncoder, family: &Family, value: &Value) -> fmt::Result {
    use crate::family::Kind;
    const NO_LABELS: [(&str, &str); 0] = [];
    match (family.kind, value) {
        (Kind::Counter, Value::Integer(n)) => series.encode_counter::<NoLabelSet, _, u64>(n, None),
        (Kind::Counter, Value::Float(n)) => series.encode_counter::<NoLabelSet, _, f64>(n, None),
        (_, Value::Integer(n)) => series.encode_gauge(n),
        (_, Value::Signed(n)) => series.encode_gauge(n),
        (_, Value::Float(n)) => series.encode_gauge(n),
        (_, Value::Facts) => series.encode_info(&NO_LABELS),
        (_, Value::Histogram { sum, count, buckets }) => {
            series.encode_histogram::<NoLabelSet>(*sum, *count, buckets, None)
        }
    }
}

/// Rows of all tables, for whoever lists them.
pub(crate) fn families() -> impl Iterator<Item = (Family, bool)> {
    let per_vm = METRICS.iter().flat_map(|metric| {
        [Some(vm::family(metric, "vm")), vm::family_by_cause(metric)].into_iter().flatten()
    });
    let per_vm = per_vm.chain(vm::ROWS.iter().map(Row::family));
    let host = METRICS.iter().map(host::family).chain(host::ROWS.iter().map(Row::family));
    per_vm.map(|family| (family, true)).chain(host.map(|family| (family, false)))
}
