//! Rare events: slots, dirty logging, the lives of VMs.

use super::{Pages, VmKey};
use crate::ids;

/// The part of a `struct kvm_memory_slot` that matters here.
#[repr(C)]
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Slot {
    /// First guest frame.
    pub base_gfn: u64,
    /// Guest frames.
    pub npages: u64,
    /// Slot id.
    pub id: u16,
    /// Address space.
    pub as_id: u16,
    /// `KVM_MEM_*` flags.
    pub flags: u32,
}

impl Slot {
    /// No slot.
    pub const NONE: Self = Self { base_gfn: 0, npages: 0, id: 0, as_id: 0, flags: 0 };
}

/// `KVM_MEM_LOG_DIRTY_PAGES`.
pub const LOG_DIRTY_PAGES: u32 = 1;

/// A rare event with its own ring-buffer record.
#[repr(C)]
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Mark {
    /// [`super::RECORD_MARK`].
    pub record: u32,
    /// [`MarkKind`] by number.
    pub kind: u32,
    /// `CLOCK_MONOTONIC` ns.
    pub ts: u64,
    /// When what ended here began; equal to `ts` for a point in time.
    pub start: u64,
    /// The VM.
    pub vm: VmKey,
    /// `bpf_get_current_pid_tgid`.
    pub thread: u64,
    /// The thread's name: a process that ends soon leaves nothing else to name its VM by.
    pub comm: [u8; 16],
    /// The slot as it is now.
    pub slot: Slot,
    /// KVM's gauges at `start`.
    pub pages_before: Pages,
    /// KVM's gauges now.
    pub pages: Pages,
    /// Slot flags before; `u32::MAX` if the slot did not exist.
    pub old_flags: u32,
    /// `enum kvm_mr_change`: 0 create, 1 delete, 2 move, 3 flags only.
    pub change: u32,
    /// Times that what ended here gave up `mmu_lock`, as far as that is seen.
    pub yields: u32,
    /// Whether dirty logging concerns the VM as a whole from now on, see [`super::is_wide`].
    pub logging: u32,
    /// Where the slot's memory begins in the VMM's; 0 if that is not known, or no slot is concerned.
    pub userspace_addr: u64,
}

ids! {
    /// The event that a [`Mark`] reports.
    pub enum MarkKind: u32 {
        /// A VM was created (`kvm_arch_init_vm`); its thread is the creator.
        VmCreated = 1,
        /// A VM that existed before was seen for the first time.
        VmSeen = 2,
        /// A VM is about to be torn down (`kvm_destroy_vm`); its gauges are those before.
        VmDestroyed = 3,
        /// A memslot changed (`kvm_arch_commit_memory_region`).
        SlotChanged = 4,
        /// The collapse routine ended; `start` is when it began.
        CollapseSpan = 5,
        /// The last SPTE of a destroyed VM is gone (`kvm_arch_flush_shadow_all` returned).
        VmFlushed = 6,
        /// A VM's `struct kvm` is freed (`kvm_destroy_vm` returned): nothing more will count for it.
        VmFreed = 7,
    }
}
