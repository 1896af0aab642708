//! The table of metrics: one row each, in the order of all outputs.

use collapse_common::Counter;
use collapse_feed::Signal;

use super::{
    Better, LeafChange, Metric, MetricKind, Needs, Prominence, Source, Tone, Unit, derive::LEVELS,
};

macro_rules! metrics {
    ($($id:ident {
        key: $key:literal,
        label: $label:literal,
        title: $title:literal,
        help: $help:literal,
        $($field:ident: $value:expr,)*
    })*) => {
        /// A row of the table of metrics.
        #[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
        pub enum MetricId {
            $(#[doc = $help] $id,)*
        }

        /// Every metric, in the order of all outputs.
        pub static METRICS: [Metric; [$(MetricId::$id),*].len()] = [$(Metric {
            id: MetricId::$id,
            key: $key,
            label: $label,
            title: $title,
            help: $help,
            $($field: $value,)*
        },)*];
    };
}

metrics! {
    Splits {
        key: "splits",
        label: "splits",
        title: "SPLIT",
        help: "huge leaves that became page tables",
        path: "splits",
        kind: MetricKind::Counter,
        unit: Unit::Leaves,
        better: Some(Better::Lower),
        needs: Needs::Changes,
        tone: Tone::Split,
        prominence: Prominence::Charted { column: "splits", weight: 5 },
        source: Source::Leaves(LeafChange::Split),
    }
    Zaps {
        key: "zaps",
        label: "zaps",
        title: "ZAP",
        help: "leaves removed, other than by a split",
        path: "zaps",
        kind: MetricKind::Counter,
        unit: Unit::Leaves,
        better: Some(Better::Lower),
        needs: Needs::Changes,
        tone: Tone::Zap,
        prominence: Prominence::Charted { column: "zaps", weight: 7 },
        source: Source::Leaves(LeafChange::Zap),
    }
    Installs {
        key: "installs",
        label: "installs",
        title: "INST",
        help: "leaves that were installed",
        path: "installs",
        kind: MetricKind::Counter,
        unit: Unit::Leaves,
        better: None,
        needs: Needs::Changes,
        tone: Tone::Small,
        prominence: Prominence::Listed,
        source: Source::Leaves(LeafChange::Install),
    }
    Refaults {
        key: "refaults",
        label: "refaults",
        title: "REFLT",
        help: "leaves installed in regions that had lost their huge leaf",
        path: "refaults",
        kind: MetricKind::Counter,
        unit: Unit::Leaves,
        better: Some(Better::Lower),
        needs: Needs::Changes,
        tone: Tone::Small,
        prominence: Prominence::Reported,
        source: Source::Refaults(&LEVELS),
    }
    RefaultsSmall {
        key: "refaults_small",
        label: "refaults small",
        title: "SMALL",
        help: "4 KiB leaves where a huge one was lost",
        path: "refaults_small",
        kind: MetricKind::Counter,
        unit: Unit::Leaves,
        better: Some(Better::Lower),
        needs: Needs::Changes,
        tone: Tone::Small,
        prominence: Prominence::Charted { column: "refaults_small", weight: 10 },
        source: Source::Refaults(&[1]),
    }
    Lost {
        key: "lost",
        label: "regions lost",
        title: "LOST",
        help: "regions that lost their huge leaf while in use",
        path: "regions.lost",
        kind: MetricKind::Counter,
        unit: Unit::Regions,
        better: None,
        needs: Needs::Changes,
        tone: Tone::Small,
        prominence: Prominence::Reported,
        source: Source::Regions(|regions| regions.lost),
    }
    Recovered {
        key: "recovered",
        label: "recoveries",
        title: "RECOV",
        help: "regions that got their huge leaf back",
        path: "recoveries",
        kind: MetricKind::Counter,
        unit: Unit::Regions,
        better: None,
        needs: Needs::Changes,
        tone: Tone::Huge,
        prominence: Prominence::Charted { column: "recoveries", weight: 4 },
        source: Source::Recoveries,
    }
    Outstanding {
        key: "outstanding",
        label: "regions outstanding",
        title: "OUTST",
        help: "regions that have not got their huge leaf back",
        path: "regions.outstanding",
        kind: MetricKind::Gauge,
        unit: Unit::Regions,
        better: None,
        needs: Needs::Changes,
        tone: Tone::Small,
        prominence: Prominence::Reported,
        source: Source::Regions(|regions| regions.outstanding),
    }
    TakenAway {
        key: "taken_away",
        label: "regions taken away",
        title: "TAKEN",
        help: "regions that went with their slot or the VMM's mapping",
        path: "regions.taken_away",
        kind: MetricKind::Counter,
        unit: Unit::Regions,
        better: None,
        needs: Needs::Changes,
        tone: Tone::Plain,
        prominence: Prominence::Reported,
        source: Source::Regions(|regions| regions.taken_away),
    }
    Gone {
        key: "gone",
        label: "regions gone",
        title: "GONE",
        help: "lost regions that were taken away before they could come back",
        path: "regions.gone",
        kind: MetricKind::Counter,
        unit: Unit::Regions,
        better: None,
        needs: Needs::Changes,
        tone: Tone::Plain,
        prominence: Prominence::Reported,
        source: Source::Regions(|regions| regions.gone),
    }
    SmallToTheEnd {
        key: "small_to_the_end",
        label: "regions small to the end",
        title: "STUCK",
        help: "lost regions that were mapped small when they were taken away",
        path: "regions.gone_refaulted_small",
        kind: MetricKind::Counter,
        unit: Unit::Regions,
        better: Some(Better::Lower),
        needs: Needs::Changes,
        tone: Tone::Small,
        prominence: Prominence::Reported,
        source: Source::Regions(|regions| regions.small_to_the_end),
    }
    BecameHuge {
        key: "became_huge",
        label: "became huge",
        title: "GAIN",
        help: "regions small from the start that became huge",
        path: "became_huge",
        kind: MetricKind::Counter,
        unit: Unit::Regions,
        better: None,
        needs: Needs::Changes,
        tone: Tone::Huge,
        prominence: Prominence::Reported,
        source: Source::Gains,
    }
    WriteProtects {
        key: "write_protects",
        label: "write-protects",
        title: "WPROT",
        help: "leaves that were write-protected in place",
        path: "write_protects",
        kind: MetricKind::Counter,
        unit: Unit::Leaves,
        better: None,
        needs: Needs::Changes,
        tone: Tone::Plain,
        prominence: Prominence::Reported,
        source: Source::Leaves(LeafChange::WriteProtect),
    }
    DirtyClears {
        key: "dirty_clears",
        label: "dirty clears",
        title: "DCLR",
        help: "leaves whose dirty bit was cleared in place, for the CPU to log the next write",
        path: "dirty_clears",
        kind: MetricKind::Counter,
        unit: Unit::Leaves,
        better: None,
        needs: Needs::Changes,
        tone: Tone::Plain,
        prominence: Prominence::Reported,
        source: Source::Leaves(LeafChange::ClearDirty),
    }
    Faults {
        key: "faults",
        label: "faults",
        title: "FAULT",
        help: "guest faults",
        path: "faults",
        kind: MetricKind::Counter,
        unit: Unit::Faults,
        better: Some(Better::Lower),
        needs: Needs::Signal(Signal::Faults),
        tone: Tone::Fault,
        prominence: Prominence::Charted { column: "faults", weight: 6 },
        source: Source::Counter(Counter::Fault),
    }
    FastFaults {
        key: "fast_faults",
        label: "fast faults",
        title: "FAST",
        help: "guest faults that the lockless fast path resolved",
        path: "faults.fast",
        kind: MetricKind::Counter,
        unit: Unit::Faults,
        better: None,
        needs: Needs::Signal(Signal::FastFaults),
        tone: Tone::Fault,
        prominence: Prominence::Reported,
        source: Source::Counter(Counter::FastFault),
    }
    RingFull {
        key: "ring_full_exits",
        label: "dirty rings full",
        title: "RFULL",
        help: "exits of vCPUs because a dirty ring is full",
        path: "ring_full_exits",
        kind: MetricKind::Counter,
        unit: Unit::Exits,
        better: Some(Better::Lower),
        needs: Needs::Signal(Signal::DirtyLogHarvest),
        tone: Tone::Fault,
        prominence: Prominence::Reported,
        source: Source::Counter(Counter::RingFull),
    }
    Stall {
        key: "stall_ns",
        label: "vCPU time lost",
        title: "vCPU",
        help: "time lost to faults",
        path: "stall",
        kind: MetricKind::Counter,
        unit: Unit::Nanoseconds,
        better: Some(Better::Lower),
        needs: Needs::Signal(Signal::FaultLatency),
        tone: Tone::Fault,
        prominence: Prominence::Charted { column: "vcpu", weight: 9 },
        source: Source::Counter(Counter::Stall),
    }
    PmlFullExits {
        key: "pml_full_exits",
        label: "PML-full exits",
        title: "PML",
        help: "exits for a full log of dirty pages, where the CPU logs them",
        path: "pml_full_exits",
        kind: MetricKind::Counter,
        unit: Unit::Exits,
        better: Some(Better::Lower),
        needs: Needs::Signal(Signal::PmlFull),
        tone: Tone::Fault,
        prominence: Prominence::Reported,
        source: Source::Counter(Counter::PmlFull),
    }
    PmlFullTime {
        key: "pml_full_ns",
        label: "vCPU time in PML-full exits",
        title: "PMLns",
        help: "time from exits for a full log of dirty pages to guest re-entry",
        path: "pml_full_exits.time_ns",
        kind: MetricKind::Counter,
        unit: Unit::Nanoseconds,
        better: Some(Better::Lower),
        needs: Needs::Signal(Signal::PmlFull),
        tone: Tone::Fault,
        prominence: Prominence::Reported,
        source: Source::Counter(Counter::PmlFullNs),
    }
    RetriedFaults {
        key: "retried_faults",
        label: "retried faults",
        title: "RETRY",
        help: "guest faults of which nothing came, so that the guest took them again",
        path: "retried_faults",
        kind: MetricKind::Counter,
        unit: Unit::Faults,
        better: Some(Better::Lower),
        needs: Needs::Signal(Signal::RetriedFaults),
        tone: Tone::Fault,
        prominence: Prominence::Reported,
        source: Source::Counter(Counter::Retried),
    }
    LockWaits {
        key: "lock_waits",
        label: "mmu_lock waits",
        title: "LOCK",
        help: "waits of vCPUs and of KVM's operations for the lock on the VM's page tables",
        path: "lock_waits",
        kind: MetricKind::Counter,
        unit: Unit::Waits,
        better: Some(Better::Lower),
        needs: Needs::Signal(Signal::LockWaits),
        tone: Tone::Plain,
        prominence: Prominence::Reported,
        source: Source::Counter(Counter::LockWait),
    }
    LockWaitTime {
        key: "lock_wait_ns",
        label: "time waiting for mmu_lock",
        title: "LCKns",
        help: "time of all threads together that waited for the lock on the VM's page tables",
        path: "lock_waits.time_ns",
        kind: MetricKind::Counter,
        unit: Unit::Nanoseconds,
        better: Some(Better::Lower),
        needs: Needs::Signal(Signal::LockWaits),
        tone: Tone::Plain,
        prominence: Prominence::Reported,
        source: Source::Counter(Counter::LockWaitNs),
    }
}
