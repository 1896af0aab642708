//! Signals: the things that can be seen of KVM, whichever hooks see them.

macro_rules! signals {
    ($($(#[$doc:meta])* $variant:ident $name:literal $loses:literal,)*) => {
        /// Something to be seen of KVM. Which numbers are known follows from which signals are seen.
        #[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
        pub enum Signal {
            $($(#[$doc])* $variant,)*
        }

        impl Signal {
            /// Every signal, in the order in which outputs list them.
            pub const ALL: &'static [Self] = &[$(Self::$variant,)*];

            /// Key in every output and in recordings. Never renamed.
            pub const fn name(self) -> &'static str {
                match self { $(Self::$variant => $name,)* }
            }

            /// What is not known without it, for people.
            pub const fn loses(self) -> &'static str {
                match self { $(Self::$variant => $loses,)* }
            }
        }
    };
}

signals! {
    /// VMs as they are created.
    VmCreated "vm_created"
        "VMs are adopted when first seen, not when created",
    /// VMs as they end.
    VmDestroyed "vm_destroyed"
        "VMs that go away stay listed",
    /// Memslot updates: `kvm_set_memslot`.
    Memslots "memslots"
        "changes by memslot updates have no cause",
    /// Dirty logging being switched on and off, per memslot.
    DirtyLogging "dirty_logging"
        "when dirty logging goes on and off is not known",
    /// Splits and write-protection as dirty logging goes on.
    EagerSplit "eager_split"
        "splits and write-protection by dirty logging have no cause of their own",
    /// Clearing of dirty bits as dirty logging goes on.
    ClearDirtyBits "clear_dirty_bits"
        "clearing of dirty bits by dirty logging has no cause (Intel PML)",
    /// `KVM_GET_DIRTY_LOG` and `KVM_CLEAR_DIRTY_LOG`.
    DirtyLogHarvest "dirty_log_harvest"
        "changes by KVM_GET_DIRTY_LOG and KVM_CLEAR_DIRTY_LOG have no cause",
    /// Runs of the slot-wide collapse routine.
    Collapse "collapse"
        "runs of the slot-wide collapse routine, and the changes it makes as its own",
    /// MMU notifier invalidations.
    Notifier "notifier"
        "changes by MMU notifiers have no cause, and in other tasks no VM",
    /// Host operations that invalidate: reclaim, NUMA hinting, `MADV_COLLAPSE`.
    NotifierCallers "notifier_callers"
        "whose doing zaps by notifiers are: reclaim by other threads than kswapd, NUMA hinting, MADV_COLLAPSE",
    /// `mmu_lock` being given up to others.
    LockYields "lock_yields"
        "how often the collapse routine gives up mmu_lock",
    /// Memslots being deleted or moved.
    SlotDeleted "slot_deleted"
        "zaps by memslot deletion have no cause of their own",
    /// Zaps of all SPTEs of a VM.
    ZapAll "zap_all"
        "zaps of all SPTEs have no cause of their own",
    /// Zaps of a range of guest frames: MTRR and APICv changes.
    ZapRange "zap_range"
        "zaps by MTRR and APICv changes have no cause of their own",
    /// The NX huge-page recovery worker.
    NxRecovery "nx_recovery"
        "zaps by the NX huge-page recovery worker have no cause, and no VM where it is a kernel thread",
    /// Guest faults.
    Faults "faults"
        "guest faults are not counted, and changes in them have neither VM nor cause",
    /// Guest faults resolved by the lockless fast path.
    FastFaults "fast_faults"
        "faults resolved by the lockless fast path are not told apart",
    /// The time from a guest fault to guest re-entry.
    FaultLatency "fault_latency"
        "how long guest faults keep vCPUs from their guests",
    /// SPTE changes of the TDP MMU.
    TdpChanges "tdp_changes"
        "SPTE changes of the TDP MMU",
    /// SPTE changes of the rmap MMU and of shadow paging.
    RmapChanges "rmap_changes"
        "SPTE changes of the rmap MMU (tdp_mmu=N) and of shadow paging",
    /// SPTEs installed by shadow paging, with the guest frame that they map.
    ShadowInstalls "shadow_installs"
        "which regions of a guest are mapped huge again, and splits at faults",
    /// Calls of `drop_spte`.
    DropSpte "drop_spte"
        "calls of drop_spte are not counted",
    /// KVM's list of VMs.
    VmList "vm_list"
        "VMs that were there before are unknown until they do something, and have no name",
    /// KVM's own gauges of mappings by size.
    Gauges "gauges"
        "KVM's own gauges: mappings by size, and the check that counts add up",
}

impl Signal {
    /// The signal called `name`, if this build has it.
    pub fn named(name: &str) -> Option<Self> {
        Self::ALL.iter().copied().find(|signal| signal.name() == name)
    }
}
