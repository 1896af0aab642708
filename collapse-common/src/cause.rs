//! Why a transition happened.

use crate::ids;

/// Number of [`Cause`] values that fit a VM's row table.
pub const CAUSES: usize = 32;

ids! {
    /// Why an SPTE changed: the innermost KVM operation that the change happened in.
    pub enum Cause: u8 {
        /// No enclosing operation was seen.
        Unknown = 0 "unknown" "unknown",
        /// A vCPU's SPTE violation, outside any operation below.
        GuestFault = 1 "guest_fault" "guest fault",
        /// Dirty logging going on: `kvm_mmu_slot_try_split_huge_pages`.
        EagerSplit = 2 "eager_split" "dirty logging on: eager split",
        /// Dirty logging going on: `kvm_mmu_slot_remove_write_access`, `kvm_mmu_slot_leaf_clear_dirty`,
        /// `kvm_mmu_slot_largepage_remove_write_access` (5.10 with PML).
        LogProtect = 3 "log_protect" "dirty logging on: tracking",
        /// `kvm_get_dirty_log_protect`.
        GetDirtyLog = 4 "get_dirty_log" "KVM_GET_DIRTY_LOG",
        /// `kvm_clear_dirty_log_protect`, with the splits and write-protection it does.
        ClearDirtyLog = 5 "clear_dirty_log" "KVM_CLEAR_DIRTY_LOG",
        /// The slot-wide routine: `kvm_mmu_zap_collapsible_sptes`, `kvm_mmu_recover_huge_pages`.
        Collapse = 6 "collapse" "collapse routine",
        /// Notifier: munmap and the like (`MMU_NOTIFY_UNMAP`).
        NotifierUnmap = 7 "notifier_unmap" "notifier: unmap",
        /// Notifier: THP split, copy-on-write, and what is not told apart from them (`MMU_NOTIFY_CLEAR`): on
        /// kernels before 5.15 also madvise.
        NotifierClear = 8 "notifier_clear" "notifier: madvise, THP split or COW",
        /// Notifier: mprotect, fork, NUMA hinting (`MMU_NOTIFY_PROTECTION_*`).
        NotifierProtect = 9 "notifier_protect" "notifier: mprotect, fork or NUMA",
        /// Notifier: page migration (`migrate_pages`, kcompactd, `MMU_NOTIFY_MIGRATE`): compaction, `move_pages`,
        /// memory policies, failing memory. Not by NUMA balancing.
        NotifierMigrate = 10 "notifier_migrate" "notifier: migration",
        /// Notifier: khugepaged putting a huge page together.
        NotifierThp = 11 "notifier_thp_collapse" "notifier: THP collapse",
        /// Notifier: kswapd.
        NotifierReclaim = 12 "notifier_reclaim" "notifier: reclaim",
        /// Notifier: ksmd.
        NotifierKsm = 13 "notifier_ksm" "notifier: KSM",
        /// Notifier: any other event.
        NotifierOther = 14 "notifier_other" "notifier: other",
        /// The NX huge-page recovery worker.
        NxRecovery = 15 "nx_recovery" "NX recovery",
        /// `kvm_set_memslot`, outside the more specific operations.
        SlotChange = 16 "slot_change" "memslot change",
        /// `kvm_arch_flush_shadow_memslot`: a slot is deleted or moved.
        SlotGone = 17 "slot_deleted" "memslot deleted or moved",
        /// `kvm_zap_gfn_range`: MTRR and APICv changes.
        ZapRange = 18 "zap_range" "MTRR or APICv change",
        /// All of a VM's SPTEs at once, outside the operations around (`nx_huge_pages` written, MMIO
        /// generation wrapped): `kvm_mmu_zap_all_fast`.
        ZapAll = 19 "zap_all" "zap of all SPTEs",
        /// `kvm_arch_flush_shadow_all`: the VM is torn down.
        Teardown = 20 "teardown" "VM teardown",
        /// A vCPU's SPTE violation while dirty logging is on for some slot of the VM.
        LoggedFault = 21 "guest_fault_logging" "guest fault under dirty logging",
        /// A vCPU's SPTE violation from the moment that a slot of the VM is published without dirty
        /// logging until the collapse routine has finished with it.
        RacingFault = 22 "guest_fault_collapsing" "guest fault during collapse",
        /// Notifier: NUMA balancing, by its hinting scan (`change_prot_numa`) and by the migration after it.
        NotifierNuma = 23 "notifier_numa" "notifier: NUMA balancing",
        /// Notifier: copy-on-write broken by a guest fault of the same thread.
        NotifierCow = 24 "notifier_cow" "notifier: copy-on-write at a guest fault",
        /// `kvm_dirty_ring_reset`: pages of dirty rings that were read are protected again.
        ResetDirtyRing = 25 "reset_dirty_ring" "KVM_RESET_DIRTY_RINGS",
        /// `kvm_arch_vcpu_pre_fault_memory`: memory is mapped in advance.
        PreFault = 26 "pre_fault" "KVM_PRE_FAULT_MEMORY",
        /// `kvm_arch_pre_set_memory_attributes`: memory becomes private or shared.
        MemoryAttributes = 27 "memory_attributes" "KVM_SET_MEMORY_ATTRIBUTES",
        /// Notifier: memory given back in ranges of 2 MiB or more, by `madvise` or by a hole punched in a file: free
        /// page reporting, discarded memory. 5.15 and later.
        NotifierDiscard = 28 "notifier_discard" "notifier: memory given back",
        /// The same in smaller ranges, which split huge pages: a balloon. 5.15 and later.
        NotifierDiscardSmall = 29 "notifier_discard_small" "notifier: small pages given back",
        /// Notifier: an ioctl of userfaultfd, such as write-protection. 5.15 and later.
        NotifierUserfault = 30 "notifier_userfaultfd" "notifier: userfaultfd",
    }
}

impl Cause {
    /// Whether the change was made by a vCPU for its own guest's sake.
    pub const fn is_guest_fault(self) -> bool {
        matches!(self, Self::GuestFault | Self::LoggedFault | Self::RacingFault)
    }

    /// Whether the host changed memory under the guest, as it told KVM by an MMU notifier.
    pub const fn is_notifier(self) -> bool {
        matches!(
            self,
            Self::NotifierUnmap
                | Self::NotifierClear
                | Self::NotifierProtect
                | Self::NotifierMigrate
                | Self::NotifierThp
                | Self::NotifierReclaim
                | Self::NotifierKsm
                | Self::NotifierOther
                | Self::NotifierNuma
                | Self::NotifierCow
                | Self::NotifierDiscard
                | Self::NotifierDiscardSmall
                | Self::NotifierUserfault
        )
    }
}

const _: () = assert!(Cause::ALL.len() <= CAUSES);
