//! Durations, summed up.

use std::collections::BTreeMap;

use collapse_common::{Cause, Counter, latency::Outcome};
use schemars::JsonSchema;
use serde::{Deserialize, Serialize};

use super::{
    keys::{self, Name},
    schema::NS,
};
use collapse_feed::LongFault;
use collapse_model::{
    EndedFault, Histogram, PmlFullCost, StallEstimate, TimeTaken, TimedFaults, Totals, Vm, wording,
};

/// A histogram of durations, ns. What the kernel side counted is known by its buckets only, two per
/// octave: its shortest and longest duration are then bounds.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
pub struct HistogramReport {
    /// How many.
    pub count: u64,
    /// Their mean; `None` if there are none, or only their buckets are known.
    #[schemars(extend("x-sum" = false))]
    pub mean_ns: Option<u64>,
    /// Whether `min_ns` and `max_ns` are durations that occurred; else they are bounds: none was shorter or
    /// longer.
    #[serde(default)]
    pub exact: bool,
    /// The shortest, or a bound.
    #[schemars(extend("x-sum" = false))]
    pub min_ns: Option<u64>,
    /// The median. Quantiles are exact to within their bucket.
    #[schemars(extend("x-sum" = false))]
    pub p50_ns: Option<u64>,
    /// The duration that 9 of 10 do not exceed.
    #[schemars(extend("x-sum" = false))]
    pub p90_ns: Option<u64>,
    /// The duration that 99 of 100 do not exceed.
    #[schemars(extend("x-sum" = false))]
    pub p99_ns: Option<u64>,
    /// The longest, or a bound.
    #[schemars(extend("x-sum" = false))]
    pub max_ns: Option<u64>,
    /// Buckets that hold any: lower bound and count. A bucket ends where the next begins.
    pub buckets: Vec<(u64, u64)>,
}

impl From<&Histogram> for HistogramReport {
    fn from(histogram: &Histogram) -> Self {
        Self {
            count: histogram.count(),
            mean_ns: histogram.mean(),
            exact: histogram.is_exact(),
            min_ns: histogram.min(),
            p50_ns: histogram.quantile(0.5),
            p90_ns: histogram.quantile(0.9),
            p99_ns: histogram.quantile(0.99),
            max_ns: histogram.max(),
            buckets: histogram.buckets().collect(),
        }
    }
}

/// How long guest faults took, from the fault to guest re-entry.
#[derive(Clone, Debug, Serialize, Deserialize, JsonSchema)]
pub struct LatencyReport {
    /// One in this many faults was timed: the counts here are of timed faults.
    #[schemars(extend("x-sum" = false))]
    pub timed_one_in: u32,
    /// All of them.
    pub total: HistogramReport,
    /// By what they came to.
    #[schemars(extend("propertyNames" = keys::outcomes()))]
    pub by_outcome: BTreeMap<Name, HistogramReport>,
    /// By cause: outside dirty logging, under it, during collapse.
    #[schemars(extend("propertyNames" = keys::causes()))]
    pub by_cause: BTreeMap<Name, HistogramReport>,
}

impl LatencyReport {
    pub(super) fn new(timed: &TimedFaults) -> Self {
        let outcomes = Outcome::ALL.map(|outcome| (outcome.name(), timed.of_outcome(outcome)));
        let causes = timed.causes().map(|cause| (cause.name(), timed.of_cause(cause)));
        Self {
            timed_one_in: timed.one_in(),
            total: (&timed.all()).into(),
            by_outcome: some_of(outcomes.into_iter()),
            by_cause: some_of(causes),
        }
    }
}

/// A guest fault that spanned two ticks of the kernel's clock or more.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
pub struct LongFaultReport {
    /// When it ended, `CLOCK_MONOTONIC` ns.
    #[schemars(extend("x-sum" = false))]
    pub end_ns: u64,
    /// How long it took, ns: to a tick, unless it was timed.
    pub duration_ns: u64,
    /// Number of the vCPU; `None` if not known.
    #[schemars(extend("x-sum" = false))]
    pub vcpu: Option<u32>,
    /// Thread of the vCPU.
    #[schemars(extend("x-sum" = false))]
    pub tid: u32,
    /// The address that the guest wanted: guest physical, or virtual with shadow paging.
    #[schemars(extend("x-sum" = false))]
    pub address: u64,
    /// Cause that it counts under.
    pub cause: Name,
}

impl From<&EndedFault> for LongFaultReport {
    fn from(ended: &EndedFault) -> Self {
        let &EndedFault { end, tid, fault: LongFault { cause, vcpu, address, duration } } = ended;
        Self { end_ns: end, duration_ns: duration, vcpu, tid, address, cause: cause.name().into() }
    }
}

/// Those that hold any.
fn some_of(
    histograms: impl Iterator<Item = (&'static str, Histogram)>,
) -> BTreeMap<Name, HistogramReport> {
    let some = histograms.filter(|(_, histogram)| histogram.count() > 0);
    some.map(|(name, histogram)| (name.into(), (&histogram).into())).collect()
}

/// Exits for a full log of dirty pages, where the CPU logs them (PML): what dirty logging costs the guest there.
/// They are no guest faults, and each is timed from `kvm_pml_full` on.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
pub struct PmlFullReport {
    /// All of them.
    pub total: u64,
    /// Time that they kept vCPUs from their guest after KVM had emptied the log, ns, summed over vCPUs.
    pub time_ns: u64,
}

impl From<PmlFullCost> for PmlFullReport {
    fn from(PmlFullCost { exits, time_ns }: PmlFullCost) -> Self {
        Self { total: exits, time_ns }
    }
}

/// How long operations of one cause took, from when KVM's function was called until it returned: with what they
/// waited for, and with the operations inside them.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
pub struct OperationReport {
    /// Operations that ended.
    pub calls: u64,
    /// Their time, ns.
    pub total_ns: u64,
    /// The time of the longest, ns; `None` if one before the window was as long.
    #[schemars(extend("x-sum" = false))]
    pub longest_ns: Option<u64>,
}

impl OperationReport {
    pub(super) fn of(vm: &Vm) -> BTreeMap<Name, Self> {
        let report =
            |TimeTaken { count: calls, total_ns, longest_ns }| Self { calls, total_ns, longest_ns };
        vm.operations().map(|(cause, time)| (cause.name().into(), report(time))).collect()
    }
}

/// How often, and how long, threads waited for `mmu_lock`, which serialises whatever changes the VM's page tables.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
pub struct LockWaitsReport {
    /// All waits that ended.
    pub total: u64,
    /// Their time, ns, of all threads together.
    pub time_ns: u64,
    /// The waits by the cause of what the thread did that waited: vCPUs wait in guest faults.
    #[schemars(extend("propertyNames" = keys::causes()))]
    pub by_cause: BTreeMap<Name, LockWaitReport>,
}

/// Waits for `mmu_lock` of one cause.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
pub struct LockWaitReport {
    /// Waits that ended.
    pub waits: u64,
    /// Their time, ns.
    pub total_ns: u64,
    /// The longest, ns; `None` if one before the window was as long.
    #[schemars(extend("x-sum" = false))]
    pub longest_ns: Option<u64>,
}

impl LockWaitsReport {
    pub(super) fn of(vm: &Vm) -> Self {
        let report = |TimeTaken { count: waits, total_ns, longest_ns }| LockWaitReport {
            waits,
            total_ns,
            longest_ns,
        };
        Self {
            total: vm.totals().counter(Counter::LockWait),
            time_ns: vm.totals().counter(Counter::LockWaitNs),
            by_cause: vm
                .lock_waits()
                .map(|(cause, time)| (cause.name().into(), report(time)))
                .collect(),
        }
    }
}

/// Time that guest faults kept vCPUs from their guest, summed over vCPUs: an estimate where not every
/// fault is timed.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
pub struct StallReport {
    /// All of it, ns.
    pub total_ns: u64,
    /// By cause, ns.
    #[schemars(extend("propertyNames" = keys::causes(), "x-unit" = NS))]
    pub by_cause: BTreeMap<Name, u64>,
    /// Standard error of `total_ns`: 0 if every fault is timed; `None` if an earlier version wrote the report.
    #[serde(default)]
    #[schemars(extend("x-sum" = false))]
    pub error_ns: Option<u64>,
    /// `total_ns` and two errors: exceeded in one of some 40 runs only. Budgets with `<` and `<=` on
    /// `total_ns` are held against it. `None` if an earlier version wrote the report.
    #[serde(default)]
    pub upper_ns: Option<u64>,
    /// Standard error by cause, ns.
    #[serde(default)]
    #[schemars(extend("propertyNames" = keys::causes(), "x-unit" = NS, "x-sum" = false))]
    pub error_by_cause: BTreeMap<Name, u64>,
    /// By cause, with two errors, ns: for budgets with `<` and `<=` on `by_cause`.
    #[serde(default)]
    #[schemars(extend("propertyNames" = keys::causes(), "x-unit" = NS))]
    pub upper_by_cause: BTreeMap<Name, u64>,
    /// Faults that spanned two ticks of the kernel's clock or more (of 1 to 10 ms each). Each of them is
    /// counted, timed or not.
    #[serde(default)]
    pub long_faults: u64,
    /// Part of `total_ns` that these took: no estimate, but known to a tick each.
    #[serde(default)]
    pub long_ns: u64,
}

impl StallReport {
    pub(super) fn new(totals: &Totals, timed: &TimedFaults) -> Self {
        let causes = totals.counter_by_cause(Counter::Stall).into_keys();
        let by_cause: BTreeMap<Cause, _> =
            causes.map(|cause| (cause, timed.stall_of(cause))).collect();
        let named = |of: fn(&StallEstimate) -> u64| {
            by_cause.iter().map(|(cause, stall)| (cause.name().into(), of(stall))).collect()
        };
        let stall = timed.stall();
        Self {
            total_ns: stall.total,
            by_cause: named(|stall| stall.total),
            error_ns: Some(stall.error),
            upper_ns: Some(stall.upper()),
            error_by_cause: named(|stall| stall.error),
            upper_by_cause: named(StallEstimate::upper),
            long_faults: stall.long,
            long_ns: stall.long_ns,
        }
    }

    /// Of one cause, for people: its error is told only where it says all there is to say.
    pub(super) fn estimate_of(&self, cause: Cause) -> String {
        let (ns, error) = (self.of(cause), self.error_by_cause.get(cause.name()).copied());
        wording::estimate(ns, error.filter(|error| error.saturating_mul(2) >= ns))
    }

    /// Of one cause, ns.
    pub fn of(&self, cause: Cause) -> u64 {
        self.by_cause.get(cause.name()).copied().unwrap_or_default()
    }
}
