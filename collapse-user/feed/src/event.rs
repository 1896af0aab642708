//! Events: SPTE changes, and marks in the lives of VMs, memslots and runs of the collapse routine.

use collapse_common::{
    Cause, Transition,
    abi::{LOG_DIRTY_PAGES, Pages, VmKey},
};

use crate::VmProcess;

/// An event, in one thread at one time.
#[derive(Clone, Debug)]
pub struct Event {
    /// Time, `CLOCK_MONOTONIC` ns.
    pub ts: u64,
    /// The VM; zero if unknown.
    pub vm: VmKey,
    /// Id of the thread that it happened in.
    pub tid: u32,
    /// Kind of event, with its details.
    pub kind: EventKind,
}

/// A kind of event, with its details.
#[derive(Clone, Debug)]
pub enum EventKind {
    /// SPTEs changed.
    Change(Change),
    /// A VM was created.
    VmCreated {
        /// KVM's gauges, still zero.
        pages: Option<Pages>,
        /// The process that created it.
        process: VmProcess,
    },
    /// A VM that existed before was seen for the first time.
    VmSeen,
    /// A VM is about to be torn down.
    VmDestroyed {
        /// KVM's gauges before teardown.
        pages: Option<Pages>,
    },
    /// The last SPTE of a VM is gone.
    VmFlushed {
        /// KVM's gauges after teardown.
        pages: Option<Pages>,
    },
    /// KVM has freed a VM; nothing more is counted for it.
    VmFreed,
    /// A memslot changed.
    SlotChanged {
        /// The slot after the change; for a deletion, before it.
        slot: Slot,
        /// Kind of change.
        change: SlotChange,
        /// Whether dirty logging covers the VM as a whole after the change, see
        /// [`collapse_common::abi::is_wide`].
        logging: bool,
    },
    /// A run of the slot-wide collapse routine ended.
    Collapse(Collapse),
    /// A vCPU left for its VMM because its dirty ring is full.
    RingFull {
        /// Number of the vCPU, if known.
        vcpu: Option<u32>,
    },
    /// A long guest fault ended: one that spanned two ticks of the kernel's clock or more.
    LongFault(LongFault),
    /// A vCPU has taken guest faults at one page for a while, of which KVM has resolved none.
    NoProgress(NoProgress),
}

/// A guest fault that kept a vCPU from its guest for long.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct LongFault {
    /// Cause that it counts under.
    pub cause: Cause,
    /// Number of the vCPU, if known.
    pub vcpu: Option<u32>,
    /// The address that the guest wanted: guest physical, or virtual with shadow paging.
    pub address: u64,
    /// How long it took, ns: exact if it was timed, else to a tick.
    pub duration: u64,
}

/// A vCPU that takes guest faults at one page of which KVM resolves none. While that lasts it is told again and again,
/// each time after at least twice as long.
#[derive(Clone, Copy, Debug, PartialEq, Eq, serde::Serialize, serde::Deserialize)]
pub struct NoProgress {
    /// Number of the vCPU, if known.
    pub vcpu: Option<u32>,
    /// The address that the guest wants: guest physical, or virtual with shadow paging.
    pub address: u64,
    /// How long it has lasted at least, ns.
    pub duration: u64,
    /// Guest faults taken meanwhile.
    pub faults: u64,
    /// Invalidations of the VM's memory that have begun and not ended (`kvm.mmu_invalidate_in_progress`).
    pub invalidating: u32,
    /// Invalidations of the VM's memory so far, by KVM's count (`kvm.mmu_invalidate_seq`).
    pub sequence: u64,
}

/// Consecutive SPTE changes of one kind by one thread.
#[derive(Clone, Copy, Debug)]
pub struct Change {
    /// Cause.
    pub cause: Cause,
    /// Transition of each SPTE.
    pub transition: Transition,
    /// Level: 1 is 4 KiB, 2 is 2 MiB, 3 is 1 GiB; 4 and 5 hold page tables only.
    pub level: u32,
    /// Address space id; 1 is SMM.
    pub as_id: u32,
    /// First guest frame.
    pub gfn: u64,
    /// Number of SPTEs.
    pub count: u32,
    /// Whether the installed leaf is write-protected.
    pub read_only: bool,
    /// The SPTE before and after; `None` if changes are recorded in runs, or if it was not seen.
    pub sptes: Option<Sptes>,
    /// Number of the kernel stack, see [`Batch::stacks`](crate::Batch::stacks); `None` if none was
    /// taken.
    pub stack: Option<u32>,
}

/// The raw value of an SPTE before and after a change.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Sptes {
    /// Value before.
    pub old: u64,
    /// Value after.
    pub new: u64,
}

/// A memslot.
#[derive(
    Clone, Copy, Debug, PartialEq, Eq, serde::Serialize, serde::Deserialize, schemars::JsonSchema,
)]
pub struct Slot {
    /// Slot id.
    pub id: u16,
    /// Address space id; 1 is SMM.
    pub as_id: u16,
    /// First guest frame.
    pub base_gfn: u64,
    /// Size, guest frames.
    pub npages: u64,
    /// `KVM_MEM_*` flags.
    #[serde(skip)]
    pub flags: u32,
    /// Where its memory begins in the VMM's; `None` if that is not known.
    #[serde(skip)]
    pub userspace_addr: Option<u64>,
}

impl Slot {
    /// Whether its dirty logging is on.
    pub fn is_logging(&self) -> bool {
        self.flags & LOG_DIRTY_PAGES != 0
    }

    /// Returns by how many bytes its guest address is beyond that of its memory in the VMM, modulo `unit`, a power
    /// of two: KVM maps leaves of this size only if it is 0. `None` if it is not known where the memory is.
    pub fn offset(&self, unit: u64) -> Option<u64> {
        let guest = self.base_gfn.wrapping_mul(4096);
        Some(guest.wrapping_sub(self.userspace_addr?) & (unit - 1))
    }
}

/// A kind of change of a memslot.
#[derive(Clone, Copy, Debug, PartialEq, Eq, serde::Serialize, serde::Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum SlotChange {
    /// The slot was created.
    Created,
    /// The slot was deleted.
    Deleted,
    /// The slot was moved to other guest frames.
    Moved,
    /// Dirty logging was switched on.
    LogOn,
    /// Dirty logging was switched off.
    LogOff,
    /// Other flags changed, or none did.
    Other,
}

/// A run of the slot-wide collapse routine (`kvm_mmu_zap_collapsible_sptes` up to 6.12,
/// `kvm_mmu_recover_huge_pages` after).
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Collapse {
    /// The slot that it went through.
    pub slot: Slot,
    /// Start, `CLOCK_MONOTONIC` ns.
    pub start: u64,
    /// KVM's gauges at its start.
    pub pages_before: Option<Pages>,
    /// KVM's gauges at its end.
    pub pages_after: Option<Pages>,
    /// Times that it yielded `mmu_lock`; `None` if that is not seen.
    pub yields: Option<u32>,
}
