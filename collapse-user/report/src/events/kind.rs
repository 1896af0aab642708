//! Kinds of lines: the names that every output has for them.

use collapse_common::Transition;
use collapse_feed::{EventKind, SlotChange};
use collapse_model::findings::Turn;
use schemars::JsonSchema;
use serde::Serialize;

/// Declares enums of kinds, each with its names.
macro_rules! kinds {
    ($(
        $(#[$attribute:meta])*
        enum $Kind:ident { $($variant:ident = $name:literal,)* }
    )*) => {$(
        $(#[$attribute])*
        #[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, JsonSchema)]
        #[schemars(inline)]
        pub(super) enum $Kind { $(#[serde(rename = $name)] $variant,)* }

        impl $Kind {
            pub(super) const NAMES: &[&str] = &[$($name,)*];

            pub(super) const fn name(self) -> &'static str {
                match self { $(Self::$variant => $name,)* }
            }
        }
    )*};
}

kinds! {
    /// A VM came or went.
    enum VmKind {
        Created = "vm_created",
        Seen = "vm_seen",
        Destroyed = "vm_destroyed",
        Flushed = "vm_flushed",
        Freed = "vm_freed",
    }

    /// A memslot changed.
    enum SlotKind {
        Created = "slot_created",
        Deleted = "slot_deleted",
        Moved = "slot_moved",
        Changed = "slot_changed",
        LogOn = "log_on",
        LogOff = "log_off",
    }

    /// A finding began or ended.
    enum FindingKind {
        Began = "finding_began",
        Ended = "finding_ended",
    }

    /// Something happened to a vCPU.
    enum VcpuKind {
        RingFull = "ring_full",
    }

    /// A vCPU gets nowhere.
    enum ProgressKind {
        None = "no_progress",
    }

    /// A long guest fault ended.
    enum FaultKind {
        Long = "long_fault",
    }

    /// A run of the slot-wide collapse routine ended.
    enum CollapseKind {
        Span = "collapse_span",
    }
}

/// SPTEs changed.
#[derive(Clone, Copy, Debug, Serialize, JsonSchema)]
#[schemars(inline)]
pub(super) struct ChangeKind(
    #[schemars(extend("enum" = Transition::ALL.map(Transition::name).to_vec()))] &'static str,
);

impl FindingKind {
    pub(super) const fn of(turn: &Turn) -> Self {
        if turn.found.until.is_none() { Self::Began } else { Self::Ended }
    }
}

impl From<Transition> for ChangeKind {
    fn from(transition: Transition) -> Self {
        Self(transition.name())
    }
}

impl From<SlotChange> for SlotKind {
    fn from(change: SlotChange) -> Self {
        match change {
            SlotChange::Created => Self::Created,
            SlotChange::Deleted => Self::Deleted,
            SlotChange::Moved => Self::Moved,
            SlotChange::LogOn => Self::LogOn,
            SlotChange::LogOff => Self::LogOff,
            SlotChange::Other => Self::Changed,
        }
    }
}

/// The kind of an event in every output.
pub fn kind(event: &EventKind) -> &'static str {
    match event {
        EventKind::Change(change) => change.transition.name(),
        EventKind::VmCreated { .. } => VmKind::Created.name(),
        EventKind::VmSeen => VmKind::Seen.name(),
        EventKind::VmDestroyed { .. } => VmKind::Destroyed.name(),
        EventKind::VmFlushed { .. } => VmKind::Flushed.name(),
        EventKind::VmFreed => VmKind::Freed.name(),
        EventKind::SlotChanged { change, .. } => SlotKind::from(*change).name(),
        EventKind::Collapse(_) => CollapseKind::Span.name(),
        EventKind::RingFull { .. } => VcpuKind::RingFull.name(),
        EventKind::LongFault(_) => FaultKind::Long.name(),
        EventKind::NoProgress(_) => ProgressKind::None.name(),
    }
}

/// Every kind of event. Some changes say nothing about the life of a mapping, and are recorded only where
/// they are asked for.
pub fn kinds() -> impl Iterator<Item = &'static str> {
    let marks = [
        VmKind::NAMES,
        SlotKind::NAMES,
        CollapseKind::NAMES,
        FindingKind::NAMES,
        VcpuKind::NAMES,
        FaultKind::NAMES,
        ProgressKind::NAMES,
    ];
    Transition::ALL.map(Transition::name).into_iter().chain(marks.concat())
}
