//! Signals: the aspects of KVM that can be observed, whichever hooks observe them.

macro_rules! signals {
    ($($(#[$doc:meta])* $variant:ident $name:literal $loses:literal,)*) => {
        /// An aspect of KVM that can be observed. The signals that are seen decide which numbers are
        /// known.
        #[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
        pub enum Signal {
            $($(#[$doc])* $variant,)*
        }

        impl Signal {
            /// Every signal, in the order in which outputs list them.
            pub const ALL: &'static [Self] = &[$(Self::$variant,)*];

            /// Returns the key in every output and in recordings, which is never renamed.
            pub const fn name(self) -> &'static str {
                match self { $(Self::$variant => $name,)* }
            }

            /// Returns what is unknown without the signal, as a noun phrase for display.
            pub const fn loses(self) -> &'static str {
                match self { $(Self::$variant => $loses,)* }
            }
        }
    };
}

signals! {
    /// Creation of VMs.
    VmCreated "vm_created"
        "the creation of VMs, which are listed from when they are first seen",
    /// Destruction of VMs.
    VmDestroyed "vm_destroyed"
        "the destruction of VMs, which stay listed",
    /// Memslot updates: `kvm_set_memslot`.
    Memslots "memslots"
        "which changes are due to memslot updates",
    /// Switching of dirty logging, per memslot.
    DirtyLogging "dirty_logging"
        "when dirty logging is switched on and off",
    /// Splits and write-protection as dirty logging is switched on.
    EagerSplit "eager_split"
        "which splits and write-protection are due to dirty logging being switched on",
    /// Clearing of dirty bits as dirty logging is switched on.
    ClearDirtyBits "clear_dirty_bits"
        "which dirty bits are cleared by dirty logging being switched on (Intel PML)",
    /// Harvests of the dirty log: `KVM_GET_DIRTY_LOG` and `KVM_CLEAR_DIRTY_LOG`.
    DirtyLogHarvest "dirty_log_harvest"
        "which changes are due to KVM_GET_DIRTY_LOG and KVM_CLEAR_DIRTY_LOG",
    /// Runs of the slot-wide collapse routine.
    Collapse "collapse"
        "runs of the slot-wide collapse routine, and which changes it makes",
    /// MMU notifier invalidations.
    Notifier "notifier"
        "which changes are due to MMU notifiers, and the VM of those made by tasks outside its process",
    /// Host operations that invalidate memory: reclaim, NUMA hinting, `MADV_COLLAPSE`.
    NotifierCallers "notifier_callers"
        "which zaps by MMU notifiers are due to NUMA hinting, MADV_COLLAPSE, or reclaim outside kswapd",
    /// Yields of `mmu_lock` to other threads.
    LockYields "lock_yields"
        "how often the collapse routine yields mmu_lock",
    /// Deletion and moving of memslots.
    SlotDeleted "slot_deleted"
        "which zaps are due to memslots being deleted or moved",
    /// Zaps of all SPTEs of a VM.
    ZapAll "zap_all"
        "which zaps are part of zapping all SPTEs of a VM",
    /// Zaps of a range of guest frames: MTRR and APICv changes.
    ZapRange "zap_range"
        "which zaps are due to MTRR and APICv changes",
    /// Zaps by the NX huge-page recovery worker.
    NxRecovery "nx_recovery"
        "which zaps are due to the NX huge-page recovery worker, and their VM where it is a kernel thread",
    /// Guest faults.
    Faults "faults"
        "guest faults, and the VM and cause of the changes made to resolve them",
    /// Guest faults resolved by the lockless fast path.
    FastFaults "fast_faults"
        "which guest faults the lockless fast path resolves",
    /// Time from a guest fault to guest re-entry.
    FaultLatency "fault_latency"
        "how long guest faults keep vCPUs from their guests",
    /// SPTE changes of the TDP MMU.
    TdpChanges "tdp_changes"
        "SPTE changes of the TDP MMU",
    /// SPTE changes of the rmap MMU and of shadow paging.
    RmapChanges "rmap_changes"
        "SPTE changes of the rmap MMU (tdp_mmu=N) and of shadow paging",
    /// Installs of SPTEs by shadow paging, with the guest frame that they map.
    ShadowInstalls "shadow_installs"
        "which regions of a guest are mapped huge again, and splits at faults",
    /// Calls of `drop_spte`.
    DropSpte "drop_spte"
        "calls of drop_spte",
    /// KVM's list of VMs.
    VmList "vm_list"
        "VMs created before collapse was started, until their first event, and their names",
    /// KVM's own gauges of mappings by size.
    Gauges "gauges"
        "KVM's own gauges: mappings by size, and the check that counts add up",
}

impl Signal {
    /// Returns the signal with this name, if this build has it.
    pub fn from_name(name: &str) -> Option<Self> {
        Self::ALL.iter().copied().find(|signal| signal.name() == name)
    }
}
