//! Signals: the aspects of KVM that can be observed, whichever hooks observe them.

use collapse_common::ids;

ids! {
    /// An aspect of KVM that can be observed. The signals that are seen decide which numbers are
    /// known. Outputs list signals in this order, and recordings store their names.
    pub enum Signal: u8 {
        /// Creation of VMs.
        VmCreated = 0 "vm_created",
        /// Destruction of VMs.
        VmDestroyed = 1 "vm_destroyed",
        /// Memslot updates: `kvm_set_memslot`.
        Memslots = 2 "memslots",
        /// Switching of dirty logging, per memslot.
        DirtyLogging = 3 "dirty_logging",
        /// Splits and write-protection as dirty logging is switched on.
        EagerSplit = 4 "eager_split",
        /// Clearing of dirty bits as dirty logging is switched on.
        ClearDirtyBits = 5 "clear_dirty_bits",
        /// Harvests of the dirty log: `KVM_GET_DIRTY_LOG`, `KVM_CLEAR_DIRTY_LOG` and
        /// `KVM_RESET_DIRTY_RINGS`, and exits of vCPUs because a dirty ring is full.
        DirtyLogHarvest = 6 "dirty_log_harvest",
        /// Runs of the slot-wide collapse routine.
        Collapse = 7 "collapse",
        /// MMU notifier invalidations.
        Notifier = 8 "notifier",
        /// Host operations that invalidate memory: reclaim, migration, NUMA hinting, `MADV_COLLAPSE`.
        NotifierCallers = 9 "notifier_callers",
        /// Yields of `mmu_lock` to other threads.
        LockYields = 10 "lock_yields",
        /// Deletion and moving of memslots.
        SlotDeleted = 11 "slot_deleted",
        /// Zaps of all SPTEs of a VM.
        ZapAll = 12 "zap_all",
        /// Zaps of a range of guest frames: MTRR and APICv changes, memory attributes.
        ZapRange = 13 "zap_range",
        /// Zaps by the NX huge-page recovery worker.
        NxRecovery = 14 "nx_recovery",
        /// Guest faults.
        Faults = 15 "faults",
        /// Guest faults resolved by the lockless fast path.
        FastFaults = 16 "fast_faults",
        /// Time from a guest fault to guest re-entry.
        FaultLatency = 17 "fault_latency",
        /// SPTE changes of the TDP MMU.
        TdpChanges = 18 "tdp_changes",
        /// SPTE changes of the rmap MMU and of shadow paging.
        RmapChanges = 19 "rmap_changes",
        /// Installs of SPTEs by shadow paging, with the guest frame that they map.
        ShadowInstalls = 20 "shadow_installs",
        /// Calls of `drop_spte`.
        DropSpte = 21 "drop_spte",
        /// KVM's list of VMs.
        VmList = 22 "vm_list",
        /// KVM's own gauges of mappings by size.
        Gauges = 23 "gauges",
        /// Exits for a full log of dirty pages, where the CPU logs them (PML).
        PmlFull = 24 "pml_full",
        /// vCPUs that take guest faults of which KVM resolves none.
        Progress = 25 "progress",
        /// Waits for `mmu_lock`.
        LockWaits = 26 "lock_waits",
        /// Guest faults of which nothing came, so that the guest takes them again.
        RetriedFaults = 27 "retried_faults",
    }
}

impl Signal {
    /// Returns what is unknown without the signal, as a noun phrase for display.
    pub const fn loses(self) -> &'static str {
        match self {
            Self::VmCreated => {
                "the creation of VMs, which are listed from when they are first seen"
            }
            Self::VmDestroyed => "the destruction of VMs, which stay listed",
            Self::Memslots => "which changes are due to memslot updates",
            Self::DirtyLogging => "when dirty logging is switched on and off",
            Self::EagerSplit => {
                "which splits and write-protection are due to dirty logging being switched on"
            }
            Self::ClearDirtyBits => {
                "which dirty bits are cleared by dirty logging being switched on (Intel PML)"
            }
            Self::DirtyLogHarvest => {
                "which changes are due to KVM_GET_DIRTY_LOG, KVM_CLEAR_DIRTY_LOG and KVM_RESET_DIRTY_RINGS, and exits of vCPUs because a dirty ring is full"
            }
            Self::Collapse => "runs of the slot-wide collapse routine, and which changes it makes",
            Self::Notifier => {
                "which changes are due to MMU notifiers, and the VM of those made by tasks outside its process"
            }
            Self::NotifierCallers => {
                "which zaps by MMU notifiers are due to migration, NUMA balancing, MADV_COLLAPSE, or reclaim outside kswapd"
            }
            Self::LockYields => "how often the collapse routine yields mmu_lock",
            Self::SlotDeleted => "which zaps are due to memslots being deleted or moved",
            Self::ZapAll => "which zaps are part of zapping all SPTEs of a VM",
            Self::ZapRange => {
                "which zaps are due to MTRR and APICv changes, and to memory attributes"
            }
            Self::NxRecovery => {
                "which zaps are due to the NX huge-page recovery worker, and their VM where it is a kernel thread"
            }
            Self::Faults => {
                "guest faults, and the VM and cause of the changes made to resolve them"
            }
            Self::FastFaults => "which guest faults the lockless fast path resolves",
            Self::FaultLatency => "how long guest faults keep vCPUs from their guests",
            Self::TdpChanges => "SPTE changes of the TDP MMU",
            Self::RmapChanges => "SPTE changes of the rmap MMU (tdp_mmu=N) and of shadow paging",
            Self::ShadowInstalls => {
                "which regions of a guest are mapped huge again, and splits at faults"
            }
            Self::DropSpte => "calls of drop_spte",
            Self::VmList => {
                "VMs created before collapse was started, until their first event, and their names"
            }
            Self::PmlFull => {
                "exits for a full log of dirty pages (PML), and how long they keep vCPUs from their guests"
            }
            Self::Progress => "vCPUs that take the same fault again and again, and get nowhere",
            Self::LockWaits => "how long KVM's operations and guest faults wait for mmu_lock",
            Self::RetriedFaults => {
                "of how many guest faults nothing came, as an invalidation was open or an SPTE was being changed"
            }
            Self::Gauges => "KVM's own gauges: mappings by size, and the check that counts add up",
        }
    }
}
