//! One VM's part of the report.

use std::collections::BTreeMap;

use collapse_common::{Cause, Counter, latency::Outcome};
use schemars::{JsonSchema, Schema, SchemaGenerator};
use serde::{Deserialize, Serialize};

use super::{
    episode::EpisodeReport,
    figures::{
        HistogramReport, LatencyReport, LockWaitsReport, LongFaultReport, OperationReport,
        PmlFullReport, StallReport,
    },
    finding::{self, FindingReport},
    keys::{self, Name, SIZES, by_name},
    pages::{PagesBySize, PagesReport, ReconciliationReport, ratio},
    per_metric::{MetricValue, PerMetric},
    schema::ratio_of_sums,
    timeline::Moment,
    unknown,
};
use collapse_feed::{Coverage, Signal, Slot};
use collapse_model::{
    CollapseSpan, GiantCounts, LoggedBy, Metric, Race, RegionCounts, SlotMap, TimedFaults, Vm,
    Work,
    metric::{Breakdown, LEVELS},
};

/// One VM.
#[derive(Clone, Debug, Serialize, Deserialize, JsonSchema)]
pub struct VmReport {
    /// Process id of the VMM.
    #[schemars(extend("x-sum" = false))]
    pub pid: Option<u32>,
    /// Thread that created the VM.
    #[schemars(extend("x-sum" = false))]
    pub tid: Option<u32>,
    /// File descriptor of the VM in that process.
    #[schemars(extend("x-sum" = false))]
    pub fd: Option<u32>,
    /// Name, made safe to print.
    pub name: Option<String>,
    /// Where the name is from.
    pub name_source: Option<collapse_feed::NameSource>,
    /// UUID; absent where its command line gives it none.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub uuid: Option<String>,
    /// When it was created or first seen, `CLOCK_MONOTONIC` ns.
    #[schemars(extend("x-sum" = false))]
    pub born_ns: u64,
    /// Whether it was created inside the window: its counts are complete then.
    pub created: bool,
    /// Whether it ended inside the window.
    pub gone: bool,
    /// Whether it was being torn down as the window ended: counts of changes are then ahead of the gauges.
    #[serde(default)]
    pub in_teardown: bool,
    /// What was found about it, the gravest first.
    #[serde(default)]
    #[schemars(extend("x-count-by" = "name"))]
    pub findings: Vec<FindingReport>,
    /// KVM's own gauges.
    pub pages: PagesReport,
    /// Memory that is mapped huge, as a part of all that is mapped, at the end of the window or before teardown;
    /// `None` if nothing is mapped.
    #[serde(default)]
    #[schemars(extend("x-sum" = false))]
    pub huge_share: Option<f64>,
    /// Memory that is mapped by 2 MiB leaves, as a part of all that is mapped.
    #[serde(default)]
    #[schemars(extend("x-sum" = false))]
    pub huge_share_2m: Option<f64>,
    /// Memory that is mapped by 1 GiB leaves, as a part of all that is mapped.
    #[serde(default)]
    #[schemars(extend("x-sum" = false))]
    pub huge_share_1g: Option<f64>,
    /// Whether counts and gauges agree.
    pub reconciliation: ReconciliationReport,
    /// Metrics that count leaves.
    #[serde(flatten)]
    pub changes: PerMetric<Counts>,
    /// Regions that got their huge leaf back.
    pub recoveries: Recoveries,
    /// Regions that lost their huge leaf, and what became of them.
    pub regions: RegionsReport,
    /// Ranges of 1 GiB that lost their leaf of this size, and what became of them. Leaves of 2 MiB in its place are no
    /// recovery.
    #[serde(default)]
    pub regions_1g: GiantsReport,
    /// How long regions that had lost their huge leaf had nothing mapped, until the next leaf of any
    /// size.
    pub time_to_refault: HistogramReport,
    /// How long regions that could have a huge leaf went without one before they got it: from when dirty
    /// logging went off for their slot, or from the loss if that was later.
    pub time_to_recover: HistogramReport,
    /// How long regions went without a huge leaf before they got one again, from the loss on.
    #[serde(default)]
    pub time_to_recover_from_loss: HistogramReport,
    /// Regions that were small from the start and became huge: no recoveries.
    #[serde(default)]
    pub became_huge: GainsReport,
    /// `recovered / (lost - gone)`: over the regions that could come back; `None` if there were none.
    #[schemars(extend("x-sum" = ratio_of_sums(
        "regions.recovered",
        &["regions.recovered", "regions.outstanding", "regions.gone_refaulted_small"],
    )))]
    pub recovery_rate: Option<f64>,
    /// `recovered / (recovered + refaulted_small + gone_refaulted_small)`: over the regions touched again.
    #[schemars(extend("x-sum" = ratio_of_sums(
        "regions.recovered",
        &["regions.recovered", "regions.refaulted_small", "regions.gone_refaulted_small"],
    )))]
    pub recovery_rate_touched: Option<f64>,
    /// `recovered / (lost + taken_away)`: over all regions whose huge leaf went while the VM lived. `None` if
    /// there were none.
    #[serde(default)]
    #[schemars(extend("x-sum" = ratio_of_sums(
        "regions.recovered",
        &["regions.lost", "regions.taken_away"],
    )))]
    pub recovery_rate_of_all_lost: Option<f64>,
    /// Guest faults; `None` if not seen.
    pub faults: Option<Faults>,
    /// Guest faults during collapse; `None` if not seen.
    pub racing: Option<Racing>,
    /// How long guest faults took; `None` if not measured.
    pub latency: Option<LatencyReport>,
    /// vCPU time lost to guest faults; `None` if not measured.
    pub stall: Option<StallReport>,
    /// The longest of the faults that `stall.long_faults` counts, up to 32, the longest first; `None` if not
    /// measured.
    #[serde(default)]
    pub longest_faults: Option<Vec<LongFaultReport>>,
    /// Exits of vCPUs to their VMM because a dirty ring is full; `None` if not seen.
    #[serde(default)]
    pub ring_full_exits: Option<u64>,
    /// Exits for a full log of dirty pages; `None` if not seen, as where the CPU does not log them.
    #[serde(default)]
    pub pml_full_exits: Option<PmlFullReport>,
    /// How long KVM's operations on the VM took, by cause. Those that end after the window, or whose hooks are
    /// missing, are in none.
    #[serde(default)]
    #[schemars(extend("propertyNames" = keys::causes()))]
    pub operations: BTreeMap<Name, OperationReport>,
    /// Refaults by why the huge leaf was lost: the faults that each such cause cost the guest.
    #[serde(default)]
    #[schemars(extend("propertyNames" = keys::causes()))]
    pub refaults_after: BTreeMap<Name, u64>,
    /// Waits for `mmu_lock`; `None` if not seen.
    #[serde(default)]
    pub lock_waits: Option<LockWaitsReport>,
    /// Guest faults of which nothing came, so that the guest took them again: an invalidation of that memory was
    /// open, another thread was changing the SPTE, or the page had to be read in first. `None` if not seen.
    #[serde(default)]
    pub retried_faults: Option<u64>,
    /// Calls of `drop_spte`; `None` if not seen.
    pub drop_spte_calls: Option<u64>,
    /// Whether dirty logging is on for the VM as a whole. `None` if not seen, or if the VM was there
    /// before, its memslots could not be read, and its dirty logging was not switched since.
    pub dirty_logging: Option<bool>,
    /// How dirty logging was done; `None` if not seen, or if an earlier version wrote the report.
    #[serde(default)]
    pub dirty_log: Option<DirtyLogReport>,
    /// Times dirty logging went on for a slot; `None` if not seen.
    pub log_on: Option<u64>,
    /// Times dirty logging went off for a slot; `None` if not seen.
    pub log_off: Option<u64>,
    /// Episodes of dirty logging; `None` if not seen.
    pub episode_count: Option<u64>,
    /// The latest of them; `None` if not seen.
    pub episodes: Option<Vec<EpisodeReport>>,
    /// Runs of the collapse routine; `None` if not seen.
    pub collapse_runs: Option<u64>,
    /// The latest of them; `None` if not seen.
    pub collapse_spans: Option<Vec<SpanReport>>,
    /// Where it stood over time, oldest first; long times are thinned out.
    pub timeline: Vec<Moment>,
    /// Where huge leaves are missing, by slot, as far as slots were seen: at the end, or just before
    /// teardown, and as dirty logging was switched.
    pub memory_map: Vec<SlotMap>,
    /// Why what is null is not known: path and reason.
    pub unknown: BTreeMap<Name, String>,
}

/// How KVM learnt which pages the guest wrote to, and how often it was asked.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
pub struct DirtyLogReport {
    /// How KVM learnt it, for every memslot; `None` if it is not known whether the CPU logs, or if the VM was not
    /// under dirty logging.
    pub logged_by: Option<LoggedBy>,
    /// `KVM_GET_DIRTY_LOG`, a slot's log as a bitmap; `None` if not seen.
    pub reads: Option<u64>,
    /// `KVM_CLEAR_DIRTY_LOG`; `None` if not seen.
    pub clears: Option<u64>,
    /// Dirty rings that `KVM_RESET_DIRTY_RINGS` went through, one per vCPU; `None` if not seen.
    pub ring_resets: Option<u64>,
}

/// Regions that lost their huge leaf.
#[derive(Clone, Debug, Serialize, Deserialize, JsonSchema)]
pub struct RegionsReport {
    /// Regions by what became of them.
    #[serde(flatten)]
    pub counts: RegionCounts,
    /// Why they lost it.
    #[schemars(extend("propertyNames" = keys::causes()))]
    pub lost_by_cause: BTreeMap<Name, u64>,
}

/// Ranges of 1 GiB that lost their leaf of this size.
#[derive(Clone, Debug, Default, Serialize, Deserialize, JsonSchema)]
pub struct GiantsReport {
    /// Ranges by what became of them.
    #[serde(flatten)]
    pub counts: GiantCounts,
    /// Why they lost it.
    #[schemars(extend("propertyNames" = keys::causes()))]
    pub lost_by_cause: BTreeMap<Name, u64>,
}

/// Changes of one kind.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
pub struct Counts {
    /// All of them.
    pub total: u64,
    /// By size of what the SPTE maps.
    #[schemars(extend("propertyNames" = keys::levels()))]
    pub by_level: BTreeMap<Name, u64>,
    /// By cause.
    #[schemars(extend("propertyNames" = keys::causes()))]
    pub by_cause: BTreeMap<Name, u64>,
}

/// Regions that got their huge leaf back.
#[derive(Clone, Copy, Debug, Serialize, Deserialize, JsonSchema)]
pub struct Recoveries {
    /// All of them.
    pub total: u64,
    /// By a fault that installed a huge leaf where nothing was mapped.
    pub by_refault: u64,
    /// By replacing the page table with a huge leaf.
    pub in_place: u64,
    /// Of `in_place`: at a guest fault.
    pub by_promotion: u64,
    /// Of `in_place`: write-protected.
    pub read_only: u64,
}

/// Regions that were small from the start (first touched under dirty logging, split for execution, or backed
/// by 4 KiB pages) and became huge.
#[derive(Clone, Debug, Default, Serialize, Deserialize, JsonSchema)]
pub struct GainsReport {
    /// All of them.
    pub total: u64,
    /// By what made them huge.
    #[schemars(extend("propertyNames" = keys::causes()))]
    pub by_cause: BTreeMap<Name, u64>,
}

/// Guest faults.
#[derive(Clone, Copy, Debug, Serialize, Deserialize, JsonSchema)]
pub struct Faults {
    /// All of them.
    pub total: u64,
    /// While dirty logging was on for the VM as a whole. `None` if that was not known all the time: the
    /// VM was there before, its memslots could not be read, and its dirty logging was not seen to go on.
    pub while_logging: Option<u64>,
    /// From the publication of a slot without dirty logging until the collapse routine was through
    /// with it.
    pub while_collapsing: u64,
    /// Resolved by the lockless fast path, or found resolved by it; `None` if not seen.
    pub fast: Option<u64>,
    /// Of `fast`: on a huge leaf; `None` where KVM counts fast faults itself and does not say.
    pub fast_huge: Option<u64>,
}

/// Guest faults from the publication of a slot without dirty logging until the collapse routine was
/// through with it.
#[derive(Clone, Copy, Debug, Serialize, Deserialize, JsonSchema)]
pub struct Racing {
    /// All of them.
    pub faults: u64,
    /// Resolved by the lockless fast path; `None` if not seen.
    pub fast: Option<u64>,
    /// Came to nothing: on 6.1 a vCPU spins so on a page table that is being removed. `None` if not
    /// measured.
    pub unresolved: Option<u64>,
}

/// One run of the collapse routine.
#[derive(Clone, Debug, Serialize, Deserialize, JsonSchema)]
pub struct SpanReport {
    /// The slot.
    #[schemars(extend("x-sum" = false))]
    pub slot: Slot,
    /// `CLOCK_MONOTONIC` ns at which it began.
    #[schemars(extend("x-sum" = false))]
    pub start_ns: u64,
    /// Duration, ns.
    pub duration_ns: u64,
    /// Changes that it made.
    #[serde(flatten)]
    pub work: Work,
    /// Leaves that guest faults installed in the slot meanwhile; `None` if its log-off was not seen.
    pub race: Option<Race>,
    /// Times it gave up `mmu_lock` to others; `None` if not seen.
    pub yields: Option<u32>,
    /// KVM's gauges when it began.
    pub pages_before: Option<PagesBySize>,
    /// KVM's gauges when it ended.
    pub pages_after: Option<PagesBySize>,
}

impl VmReport {
    pub(super) fn new(vm: &Vm, coverage: &Coverage) -> Self {
        let process = vm.process.as_ref();
        let counts = vm.regions.counts();
        let sees = |signal| coverage.sees(signal);
        let timed = coverage.known(Signal::FaultLatency, vm.timed_faults(coverage.timed_faults));
        let logging = |n: u64| coverage.known(Signal::DirtyLogging, n);
        let mut report = Self {
            pid: process.map(|process| process.pid),
            tid: process.map(|process| process.tid),
            fd: vm.fd,
            name: process.map(|process| process.name.text.clone()),
            name_source: process.map(|process| process.name.source),
            uuid: vm.uuid.map(|uuid| uuid.to_string()),
            born_ns: vm.key.born,
            created: vm.created,
            gone: vm.gone,
            in_teardown: vm.in_teardown(),
            findings: finding::of(vm),
            pages: PagesReport::new(vm),
            huge_share: vm.pages().map(PagesBySize::from).and_then(PagesBySize::huge_share),
            huge_share_2m: vm.pages().map(PagesBySize::from).and_then(PagesBySize::share_2m),
            huge_share_1g: vm.pages().map(PagesBySize::from).and_then(PagesBySize::share_1g),
            reconciliation: ReconciliationReport::new(&vm.reconciliation),
            changes: PerMetric::new(|metric| {
                metric.breakdown(vm).as_ref().map(Counts::of).unwrap_or_default()
            }),
            recoveries: Recoveries::new(&counts),
            regions: RegionsReport { counts, lost_by_cause: by_name(vm.regions.lost_by_cause()) },
            regions_1g: GiantsReport {
                counts: vm.regions.giants().counts(),
                lost_by_cause: by_name(vm.regions.giants().lost_by_cause()),
            },
            time_to_refault: vm.regions.time_to_refault().into(),
            time_to_recover: vm.regions.time_to_recover().into(),
            time_to_recover_from_loss: vm.regions.time_to_recover_from_loss().into(),
            became_huge: GainsReport::new(vm.regions.became_huge()),
            recovery_rate: ratio(counts.recovered, counts.could_return()),
            recovery_rate_touched: ratio(counts.recovered, counts.touched()),
            recovery_rate_of_all_lost: ratio(counts.recovered, counts.lost + counts.taken_away),
            faults: sees(Signal::Faults).then(|| Faults::new(vm, coverage)),
            racing: sees(Signal::Faults).then(|| Racing::new(vm, coverage, timed.as_ref())),
            latency: timed.as_ref().map(LatencyReport::new),
            stall: timed.as_ref().map(|timed| StallReport::new(vm.totals(), timed)),
            longest_faults: sees(Signal::FaultLatency)
                .then(|| vm.longest.iter().map(LongFaultReport::from).collect()),
            ring_full_exits: coverage
                .known(Signal::DirtyLogHarvest, vm.totals().counter(Counter::RingFull)),
            pml_full_exits: coverage.known(
                Signal::PmlFull,
                PmlFullReport {
                    total: vm.totals().counter(Counter::PmlFull),
                    time_ns: vm.totals().counter(Counter::PmlFullNs),
                },
            ),
            operations: OperationReport::of(vm),
            refaults_after: by_name(vm.regions.refaults_after()),
            lock_waits: coverage.known(Signal::LockWaits, LockWaitsReport::of(vm)),
            retried_faults: coverage
                .known(Signal::RetriedFaults, vm.totals().counter(Counter::Retried)),
            drop_spte_calls: coverage
                .known(Signal::DropSpte, vm.totals().counter(Counter::DropSpte)),
            dirty_logging: vm.is_logging().filter(|_| sees(Signal::DirtyLogging)),
            dirty_log: sees(Signal::DirtyLogging).then(|| DirtyLogReport::new(vm, coverage)),
            log_on: logging(vm.log_on),
            log_off: logging(vm.log_off),
            episode_count: logging(vm.episodes.count()),
            episodes: sees(Signal::DirtyLogging).then(|| {
                vm.episodes.kept().map(|episode| EpisodeReport::new(episode, coverage)).collect()
            }),
            collapse_runs: coverage.known(Signal::Collapse, vm.span_count),
            collapse_spans: sees(Signal::Collapse)
                .then(|| vm.spans.iter().map(SpanReport::new).collect()),
            timeline: Vec::new(),
            memory_map: Vec::new(),
            unknown: BTreeMap::new(),
        };
        report.unknown = unknown::of(&report, coverage);
        report.unknown.extend(finding::unknown(vm, coverage));
        report
    }
}

impl DirtyLogReport {
    fn new(vm: &Vm, coverage: &Coverage) -> Self {
        let operations = |cause| {
            let n = vm.totals().counter_of(cause, Counter::Operation);
            coverage.known(Signal::DirtyLogHarvest, n)
        };
        Self {
            logged_by: vm.logged_by(coverage.paging.pml),
            reads: operations(Cause::GetDirtyLog),
            clears: operations(Cause::ClearDirtyLog),
            ring_resets: operations(Cause::ResetDirtyRing),
        }
    }
}

impl Counts {
    fn of(breakdown: &Breakdown) -> Self {
        let by_level = LEVELS.iter().zip(SIZES);
        let by_level = by_level.map(|(level, size)| (size.into(), breakdown.of_level(*level)));
        Self {
            total: breakdown.total(),
            by_level: by_level.filter(|(_, n)| *n > 0).collect(),
            by_cause: by_name(&breakdown.by_cause()),
        }
    }
}

impl MetricValue for Counts {
    fn is_of(metric: &Metric) -> bool {
        metric.has_levels()
    }

    fn schema_of(_: &Metric, generator: &mut SchemaGenerator) -> Schema {
        generator.subschema_for::<Self>()
    }
}

impl GainsReport {
    fn new(by_cause: &BTreeMap<Cause, u64>) -> Self {
        Self { total: by_cause.values().sum(), by_cause: by_name(by_cause) }
    }
}

impl Recoveries {
    fn new(counts: &RegionCounts) -> Self {
        Self {
            total: counts.recovered,
            by_refault: counts.recovered_by_refault,
            in_place: counts.recovered_in_place,
            by_promotion: counts.recovered_by_promotion,
            read_only: counts.recovered_read_only,
        }
    }
}

impl Faults {
    fn new(vm: &Vm, coverage: &Coverage) -> Self {
        let totals = vm.totals();
        let fast = |counter| coverage.known(Signal::FastFaults, totals.counter(counter));
        let of_cause = |cause| totals.counter_of(cause, Counter::Fault);
        Self {
            total: totals.counter(Counter::Fault),
            while_logging: vm.logging_was_known().then(|| of_cause(Cause::LoggedFault)),
            while_collapsing: of_cause(Cause::RacingFault),
            fast: fast(Counter::FastFault),
            fast_huge: fast(Counter::FastFaultHuge).filter(|_| !coverage.kvm_counts_faults),
        }
    }
}

impl Racing {
    /// `timed`: the faults that were timed, if any are.
    fn new(vm: &Vm, coverage: &Coverage, timed: Option<&TimedFaults>) -> Self {
        let racing = |counter| vm.totals().counter_of(Cause::RacingFault, counter);
        Self {
            faults: racing(Counter::Fault),
            fast: coverage.known(Signal::FastFaults, racing(Counter::FastFault)),
            unresolved: timed.map(|timed| timed.estimate(Cause::RacingFault, Outcome::Nothing)),
        }
    }
}

impl SpanReport {
    fn new(span: &CollapseSpan) -> Self {
        Self {
            slot: span.slot,
            start_ns: span.start,
            duration_ns: span.duration,
            work: span.work,
            race: span.race,
            yields: span.yields,
            pages_before: span.pages_before.map(PagesBySize::from),
            pages_after: span.pages_after.map(PagesBySize::from),
        }
    }
}
