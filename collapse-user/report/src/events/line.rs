//! Lines of events. Their JSON Schema is derived from these types: keys are added, never renamed.

mod of_event;

use std::{
    rc::Rc,
    time::{Duration, SystemTime},
};

use collapse_common::{Cause, abi::Pages};
pub(super) use of_event::{Known, slot_of};
use schemars::JsonSchema;
use serde::{Serialize, Serializer};

use super::kind::{
    ChangeKind, CollapseKind, FaultKind, FindingKind, ProgressKind, SlotKind, VcpuKind, VmKind,
};
use crate::{FindingReport, Host};
use collapse_feed::{Slot, recording::Clocks};

/// Name and version of the format.
pub const SCHEMA: &str = "collapse.events/1";

/// One line of `collapse events`. Keys are added, never renamed.
#[derive(Clone, Debug, Serialize, JsonSchema)]
#[serde(untagged)]
pub(super) enum EventLine {
    Header(HeaderLine),
    Change(ChangeLine),
    Slot(SlotLine),
    VmMark(VmMarkLine),
    Collapse(CollapseLine),
    Finding(FindingLine),
    Vcpu(VcpuLine),
    LongFault(LongFaultLine),
    NoProgress(NoProgressLine),
    Lost(LostLine),
    End(EndLine),
    Sight(SightLine),
}

/// The first line.
#[derive(Clone, Debug, Serialize, JsonSchema)]
pub(super) struct HeaderLine {
    /// Name and version of the format.
    #[schemars(extend("const" = SCHEMA))]
    schema: &'static str,
    /// Version of this program.
    version: &'static str,
    /// The machine.
    host: Host,
    /// Both clocks at one moment, to convert by.
    clock: ClockLine,
}

#[derive(Clone, Copy, Debug, Serialize, JsonSchema)]
#[schemars(inline)]
struct ClockLine {
    /// `CLOCK_MONOTONIC`, ns.
    ts_ns: u64,
    /// The wall clock, UTC.
    time: WallTime,
}

/// A time by the wall clock, UTC.
#[derive(Clone, Copy, Debug, JsonSchema)]
#[schemars(inline)]
struct WallTime(
    #[schemars(with = "String", regex(pattern = r"^\d{4}-\d\d-\d\dT\d\d:\d\d:\d\d\.\d{9}Z$"))]
    SystemTime,
);

/// The beginning of every line about an event. Keys that do not apply to a kind of event are left out; a
/// key of something unknown is `None`.
#[derive(Clone, Debug, Serialize, JsonSchema)]
struct EventHead<K> {
    /// `CLOCK_MONOTONIC`, ns.
    ts_ns: u64,
    /// The wall clock at that time, UTC.
    time: WallTime,
    /// The kind of event.
    kind: K,
    /// The VM; `None` if unknown.
    vm: Option<VmLine>,
    /// Thread in which it happened.
    tid: u32,
}

/// A VM.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, JsonSchema)]
struct VmLine {
    /// When the VM was created or first seen: identifies it within a run.
    born_ns: u64,
    /// Process id of the VMM.
    pid: Option<u32>,
    /// Thread that created the VM: its folder in debugfs is named TID-FD.
    tid: Option<u32>,
    /// File descriptor of the VM in that process.
    fd: Option<u32>,
    /// Name of the VM.
    name: Option<String>,
}

/// SPTEs changed.
#[derive(Clone, Debug, Serialize, JsonSchema)]
pub(super) struct ChangeLine {
    #[serde(flatten)]
    head: EventHead<ChangeKind>,
    /// Level of the SPTEs: 1 maps 4 KiB, 2 maps 2 MiB, 3 maps 1 GiB.
    #[schemars(range(min = 1, max = 5))]
    level: u32,
    /// First guest frame.
    gfn: u64,
    /// Number of SPTEs, of the guest frames `gfn`, `gfn + step`, and so on.
    #[schemars(range(min = 1))]
    count: u32,
    /// Guest frames per SPTE.
    #[schemars(range(min = 1))]
    step: u64,
    /// Address space.
    as_id: u32,
    /// Cause of the change.
    #[schemars(extend("enum" = Cause::ALL.map(Cause::name).to_vec()))]
    cause: &'static str,
    /// Whether the new leaves are write-protected.
    read_only: bool,
    /// The SPTE before, if each change is recorded on its own.
    #[serde(skip_serializing_if = "Option::is_none")]
    #[schemars(with = "SpteLine")]
    old: Option<SpteLine>,
    /// The SPTE after, if each change is recorded on its own.
    #[serde(skip_serializing_if = "Option::is_none")]
    #[schemars(with = "SpteLine")]
    new: Option<SpteLine>,
    /// The kernel's stack by functions, innermost first, if stacks are recorded; `None` if it could not
    /// be taken.
    #[serde(skip_serializing_if = "Option::is_none")]
    #[schemars(with = "StackLine")]
    stack: Option<StackLine>,
    /// Regions of 2 MiB that the change touched and that lost their huge leaf while watched, by how they
    /// are mapped now; `None` if they are not followed.
    regions: Option<RegionsLine>,
    /// The slot; `None` if it is not known.
    slot: Option<Slot>,
    #[serde(flatten)]
    within: Within,
}

/// The course of things that an event is part of.
#[derive(Clone, Copy, Debug, Serialize, JsonSchema)]
struct Within {
    /// Number of the VM's episode of dirty logging in which it happened.
    episode: Option<u32>,
    /// Number of the VM's run of the collapse routine that did it.
    span: Option<u64>,
}

/// Functions of a stack, innermost first; `None` if it could not be taken.
#[derive(Clone, Debug, Serialize, JsonSchema)]
#[schemars(inline)]
pub(super) struct StackLine(
    #[schemars(with = "Option<Vec<String>>", length(min = 1))] pub(super) Option<Rc<[String]>>,
);

/// An SPTE, decoded.
#[allow(clippy::struct_excessive_bools, reason = "they are its bits")]
#[derive(Clone, Debug, Serialize, JsonSchema)]
struct SpteLine {
    /// The SPTE itself, hexadecimal: readers of JSON lose digits of such numbers. Without the bits of the
    /// host frame, unless addresses were asked for.
    #[schemars(regex(pattern = r"^0x[0-9a-f]+$"))]
    raw: String,
    /// Whether it is neither empty nor frozen nor MMIO.
    present: bool,
    /// Whether it maps memory itself; a page table if not.
    leaf: bool,
    /// Whether it allows writes.
    writable: bool,
    /// Whether its accessed bit is set.
    accessed: bool,
    /// Whether its dirty bit is set.
    dirty: bool,
    /// Host frame that it points to; `None` if it is not present, or if addresses were not asked for.
    pfn: Option<u64>,
}

/// Numbers of regions by how they are mapped.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, JsonSchema)]
#[schemars(inline, deny_unknown_fields)]
struct RegionsLine {
    /// Mapped huge again.
    #[serde(skip_serializing_if = "is_zero")]
    #[schemars(range(min = 1))]
    huge: u32,
    /// Mapped by small leaves that were installed since.
    #[serde(skip_serializing_if = "is_zero")]
    #[schemars(range(min = 1))]
    small: u32,
    /// Mapped by the page table that the split made.
    #[serde(skip_serializing_if = "is_zero")]
    #[schemars(range(min = 1))]
    still_split: u32,
    /// Not mapped.
    #[serde(skip_serializing_if = "is_zero")]
    #[schemars(range(min = 1))]
    zapped: u32,
}

/// A memslot changed.
#[derive(Clone, Debug, Serialize, JsonSchema)]
pub(super) struct SlotLine {
    #[serde(flatten)]
    head: EventHead<SlotKind>,
    /// The slot after the change; before it, if the slot was deleted.
    slot: Slot,
    #[serde(flatten)]
    within: Within,
    /// Whether dirty logging concerns the VM as a whole from now on.
    logging: bool,
}

/// A VM came or went.
#[derive(Clone, Debug, Serialize, JsonSchema)]
pub(super) struct VmMarkLine {
    #[serde(flatten)]
    head: EventHead<VmKind>,
    /// The slot; always `None`.
    slot: Option<Slot>,
    #[serde(flatten)]
    within: Within,
    /// KVM's own gauges: mappings of 4 KiB, 2 MiB and 1 GiB.
    #[serde(skip_serializing_if = "Option::is_none")]
    #[schemars(with = "Pages")]
    pages: Option<Pages>,
}

/// A run of the slot-wide collapse routine ended.
#[derive(Clone, Debug, Serialize, JsonSchema)]
pub(super) struct CollapseLine {
    #[serde(flatten)]
    head: EventHead<CollapseKind>,
    /// The slot.
    slot: Slot,
    #[serde(flatten)]
    within: Within,
    /// When the run began, `CLOCK_MONOTONIC` ns.
    start_ns: u64,
    /// KVM's own gauges when it ended: mappings of 4 KiB, 2 MiB and 1 GiB.
    #[serde(skip_serializing_if = "Option::is_none")]
    #[schemars(with = "Pages")]
    pages: Option<Pages>,
}

/// A finding about a VM began or ended, as was noticed when a batch was read.
#[derive(Clone, Debug, Serialize, JsonSchema)]
pub(super) struct FindingLine {
    /// `CLOCK_MONOTONIC`, ns.
    ts_ns: u64,
    /// The wall clock at that time, UTC.
    time: WallTime,
    /// The kind of event.
    kind: FindingKind,
    /// The VM.
    vm: VmLine,
    /// The finding.
    finding: FindingReport,
}

/// Something happened to a vCPU.
#[derive(Clone, Debug, Serialize, JsonSchema)]
pub(super) struct VcpuLine {
    #[serde(flatten)]
    head: EventHead<VcpuKind>,
    /// The slot; always `None`.
    slot: Option<Slot>,
    #[serde(flatten)]
    within: Within,
    /// Number of the vCPU; `None` if not known.
    vcpu: Option<u32>,
}

/// A guest fault ended that spanned two ticks of the kernel's clock or more.
#[derive(Clone, Debug, Serialize, JsonSchema)]
pub(super) struct LongFaultLine {
    #[serde(flatten)]
    head: EventHead<FaultKind>,
    /// The slot; always `None`.
    slot: Option<Slot>,
    #[serde(flatten)]
    within: Within,
    /// Number of the vCPU; `None` if not known.
    vcpu: Option<u32>,
    /// The address that the guest wanted: guest physical, or virtual with shadow paging.
    address: u64,
    /// How long it took, ns: to a tick, unless it was timed.
    duration_ns: u64,
    /// Cause that it counts under.
    #[schemars(extend("enum" = Cause::ALL.map(Cause::name).to_vec()))]
    cause: &'static str,
}

/// A vCPU has taken guest faults at one page for a while, of which KVM has resolved none. While it lasts, there is a
/// line after each time that is at least twice as long as the one before.
#[derive(Clone, Debug, Serialize, JsonSchema)]
pub(super) struct NoProgressLine {
    #[serde(flatten)]
    head: EventHead<ProgressKind>,
    /// The slot; always `None`.
    slot: Option<Slot>,
    #[serde(flatten)]
    within: Within,
    /// Number of the vCPU; `None` if not known.
    vcpu: Option<u32>,
    /// The address that the guest wants: guest physical, or virtual with shadow paging.
    address: u64,
    /// How long it has lasted at least, ns.
    duration_ns: u64,
    /// Guest faults taken meanwhile.
    faults: u64,
    /// Invalidations of the VM's memory that have begun and not ended (`kvm.mmu_invalidate_in_progress`).
    invalidations_open: u32,
    /// KVM's count of invalidations of the VM's memory (`kvm.mmu_invalidate_seq`).
    invalidate_seq: u64,
}

/// Events were lost since the batch before.
#[derive(Clone, Debug, Serialize, JsonSchema)]
pub(super) struct LostLine {
    /// `CLOCK_MONOTONIC`, ns.
    ts_ns: u64,
    /// The wall clock at that time, UTC.
    time: WallTime,
    #[schemars(extend("const" = "lost"))]
    kind: &'static str,
    /// When the batch before was read, `CLOCK_MONOTONIC` ns; `None` if this is the first.
    since_ns: Option<u64>,
    /// The way in which they were lost.
    way: &'static str,
    /// Number of events lost.
    #[schemars(range(min = 1))]
    count: u64,
}

/// Programs were detached because KVM was unloaded, or attached to one that was loaded again: nothing is
/// seen in between.
#[derive(Clone, Debug, Serialize, JsonSchema)]
pub(super) struct SightLine {
    /// `CLOCK_MONOTONIC`, ns.
    ts_ns: u64,
    /// The wall clock at that time, UTC.
    time: WallTime,
    #[schemars(extend("enum" = ["detached", "attached"]))]
    kind: &'static str,
    /// Why nothing is seen from now on; `None` if programs were attached.
    why: Option<String>,
}

/// The last line.
#[derive(Clone, Copy, Debug, Serialize, JsonSchema)]
pub(super) struct EndLine {
    #[schemars(extend("const" = "end"))]
    kind: &'static str,
    /// Events written.
    pub(super) events: u64,
    /// Events that the filter left out.
    pub(super) filtered: u64,
    /// SPTE changes that sampling left out.
    pub(super) sampled_out: u64,
}

impl HeaderLine {
    pub(super) fn new(clocks: Clocks, host: Host) -> Self {
        let clock = ClockLine { ts_ns: clocks.monotonic, time: WallTime::new(clocks.wall) };
        Self { schema: SCHEMA, version: env!("CARGO_PKG_VERSION"), host, clock }
    }
}

impl WallTime {
    /// `ns` since 1970, which is enough until 2554.
    fn new(ns: u64) -> Self {
        Self(SystemTime::UNIX_EPOCH + Duration::from_nanos(ns))
    }
}

impl Serialize for WallTime {
    fn serialize<S: Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
        serializer.collect_str(&humantime::format_rfc3339_nanos(self.0))
    }
}

#[allow(clippy::trivially_copy_pass_by_ref, reason = "serde passes references")]
fn is_zero(n: &u32) -> bool {
    *n == 0
}

impl LostLine {
    pub(super) fn new(
        clocks: Clocks,
        since_ns: Option<u64>,
        at: u64,
        way: &'static str,
        count: u64,
    ) -> Self {
        let time = WallTime::new(clocks.wall_at(at));
        Self { ts_ns: at, time, kind: "lost", since_ns, way, count }
    }
}

impl SightLine {
    /// `why` is `None` if programs were attached.
    pub(super) fn new(clocks: Clocks, at: u64, why: Option<&str>) -> Self {
        let kind = if why.is_some() { "detached" } else { "attached" };
        let time = WallTime::new(clocks.wall_at(at));
        Self { ts_ns: at, time, kind, why: why.map(str::to_owned) }
    }
}

impl EndLine {
    pub(super) fn new() -> Self {
        Self { kind: "end", events: 0, filtered: 0, sampled_out: 0 }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn wall_clock_times() {
        for (ns, text) in [
            (0, "1970-01-01T00:00:00.000000000Z"),
            (951_782_400_000_000_001, "2000-02-29T00:00:00.000000001Z"),
            (1_767_225_599_999_999_999, "2025-12-31T23:59:59.999999999Z"),
            (u64::MAX, "2554-07-21T23:34:33.709551615Z"),
        ] {
            assert_eq!(serde_json::to_value(WallTime::new(ns)).unwrap(), text);
        }
    }
}
