//! The kinds of findings.

use collapse_feed::Signal;

use super::{
    Lint, host,
    knobs::{any, cloud_hypervisor, firecracker, kubevirt, qemu},
    logging, memory, risk, waits,
};

/// The only kind that some hosts leave undecided.
pub(super) const DIRTY_PAGES_AT_RISK: &str = "dirty_pages_at_risk";

/// Every kind, the gravest first.
pub(super) const LINTS: &[Lint] = &[
    Lint {
        name: DIRTY_PAGES_AT_RISK,
        title: "dirty pages are lost: logged memory is mapped huge and writable",
        knobs: &[any(
            "do not trust the copy: give up the migration or snapshot and start it again, or copy all memory with the \
             guest paused. It is a bug of KVM: see `collapse doctor`, and report it with a recording (`collapse record --each`)",
        )],
        needs: &[Signal::Memslots, Signal::DirtyLogging],
        check: risk::dirty_pages,
    },
    Lint {
        name: "vcpu_without_progress",
        title: "a vCPU takes the same fault again and again, and gets nowhere",
        knobs: &[any(
            "KVM maps nothing while an invalidation of that memory is open: find out what gives it back or moves it (a \
             balloon, discarded memory, KSM, NUMA balancing, migration), and do that in smaller ranges. If it never ends, it \
             may be a bug of KVM: see `collapse doctor`, and /proc/PID/task/*/stack of the VMM",
        )],
        needs: &[Signal::Progress],
        check: host::no_progress,
    },
    Lint {
        name: "regions_stuck_small",
        title: "regions stay small after dirty logging",
        knobs: &[any(
            "check that the memory behind is still huge (AnonHugePages in the VMM's smaps) and that \
             the slot is aligned alike in guest and host; MADV_COLLAPSE in the VMM rebuilds it",
        )],
        needs: &[Signal::DirtyLogging],
        check: logging::stuck_small,
    },
    Lint {
        name: "logged_since_before",
        title: "dirty logging has been on since before",
        knobs: &[
            any("end what asked for it: until then nothing is mapped huge"),
            qemu("migrate_cancel, virsh domjobabort"),
            firecracker(
                "track_dirty_pages=false in the machine configuration, if no snapshots of \
                         differences are taken",
            ),
        ],
        needs: &[Signal::DirtyLogging],
        check: logging::since_before,
    },
    Lint {
        name: "slot_misaligned",
        title: "a memslot is at other offsets in guest and host memory",
        knobs: &[
            any(
                "have the VMM map the slot's memory so that guest and host addresses are equal modulo 2 MiB: \
                 until then KVM maps none of it huge",
            ),
            // Its memory-backend-file has align, its memory-backend-memfd has not.
            qemu(
                "hugetlb=on of a memory-backend-memfd, which is mapped at any 4 KiB otherwise; align=2M of a \
                 memory-backend-file",
            ),
        ],
        needs: &[],
        check: memory::slot_misaligned,
    },
    Lint {
        name: "pages_1g_lost",
        title: "1 GiB pages are mapped by smaller ones, and do not come back",
        knobs: &[any(
            "dirty logging going on and off on Linux 6.13 or later rebuilds them in place, if the memory behind is still \
             of 1 GiB pages; otherwise delete the memslot and add it again. To keep them: kvm.nx_huge_pages=off, and no \
             dirty logging",
        )],
        needs: &[],
        check: memory::pages_1g_lost,
    },
    Lint {
        name: "dirty_logging_on_for_long",
        title: "dirty logging has been on for long",
        knobs: &[
            any(
                "end what asked for it, a migration, a snapshot or a dirty-rate measurement: until \
                 then memory is mapped small, and without PML (Intel) every page costs a fault at \
                 its first write in each round",
            ),
            qemu("migrate_cancel, virsh domjobabort"),
            firecracker(
                "track_dirty_pages=false in the machine configuration, if no snapshots of \
                         differences are taken",
            ),
            cloud_hypervisor("let send-migration end"),
            kubevirt("virtctl migrate-cancel"),
        ],
        needs: &[Signal::DirtyLogging],
        check: logging::for_long,
    },
    Lint {
        name: "numa_balancing",
        title: "NUMA balancing takes memory from the guest again and again",
        knobs: &[
            any(
                "kernel.numa_balancing=0, or a memory policy for the VM's memory, which the scanner skips; if \
                 a device is assigned, its memory is pinned and cannot move anyway",
            ),
            qemu("host-nodes= and policy=bind at the memory backend, virsh numatune"),
            cloud_hypervisor("host_numa_node= at --memory-zone"),
            kubevirt("spec.domain.cpu.numa.guestMappingPassthrough"),
        ],
        needs: &[Signal::Notifier, Signal::NotifierCallers],
        check: host::numa_balancing,
    },
    Lint {
        name: "host_thrashes",
        title: "the host takes memory from the guest again and again",
        knobs: &[any(
            "find out who does it: `collapse events --kind zap --stacks`. If it is reclaim, the VM's cgroup or the \
             host has too little memory; if it is the VMM's madvise, it gives back what the guest needs soon",
        )],
        needs: &[Signal::Notifier],
        check: host::thrashes,
    },
    Lint {
        name: "ksm_merges",
        title: "KSM takes huge pages apart",
        knobs: &[
            any(
                "KSM saves memory for huge pages: switch it off (/sys/kernel/mm/ksm/run) or leave this VM out",
            ),
            qemu("-machine mem-merge=off, <nosharepages/> in <memoryBacking>"),
            cloud_hypervisor("mergeable=off at --memory"),
            kubevirt("ksmConfiguration in the KubeVirt resource"),
        ],
        needs: &[Signal::Notifier],
        check: host::ksm_merges,
    },
    Lint {
        name: "given_back_small",
        title: "memory is given back in small pages, which takes huge pages apart",
        knobs: &[
            any(
                "a balloon gives back 4 KiB at a time: give back whole huge pages instead, by free page reporting or by \
                 memory hot-unplug (virtio-mem)",
            ),
            qemu("virtio-balloon with free-page-reporting=on, or virtio-mem with block-size=2M"),
            firecracker("free_page_reporting of the balloon device"),
            cloud_hypervisor("--balloon free_page_reporting=on"),
            kubevirt("autoattachMemBalloon: false"),
        ],
        needs: &[Signal::Notifier],
        check: host::given_back_small,
    },
    Lint {
        name: "host_reclaims",
        title: "the host reclaims the guest's memory",
        knobs: &[
            any(
                "the host, or the VM's memory cgroup, has too little memory: give it more (memory.max, memory.high), or keep \
                 the guest's in place; reclaim splits huge pages, and what comes back from swap is small",
            ),
            qemu("-overcommit mem-lock=on; <memoryBacking><locked/> in libvirt"),
            cloud_hypervisor("hugepages=on at --memory"),
            kubevirt("a memory limit above the guest's memory, or hugepages"),
        ],
        needs: &[Signal::Notifier, Signal::NotifierCallers],
        check: host::reclaims,
    },
    Lint {
        name: "host_migrates",
        title: "the host moves the guest's memory",
        knobs: &[any(
            "compaction (vm.compaction_proactiveness=0 ends the proactive one), move_pages, migrate_pages, a changed cpuset, or \
             memory that fails: `collapse events --kind zap --stacks` shows which. Memory from hugetlbfs is not compacted",
        )],
        needs: &[Signal::Notifier, Signal::NotifierCallers],
        check: host::migrates,
    },
    Lint {
        name: "userfaultfd",
        title: "userfaultfd takes huge pages from the guest",
        knobs: &[any(
            "memory that is registered with userfaultfd is protected and filled by 4 KiB: a background snapshot or post-copy. \
             After its end khugepaged, or MADV_COLLAPSE in the VMM, makes it huge again",
        )],
        needs: &[Signal::Notifier],
        check: host::userfaultfd,
    },
    Lint {
        name: "memslot_churn",
        title: "memslots come and go, and each time the whole VM is zapped",
        knobs: &[any(
            "KVM drops all SPTEs of the VM when any slot is deleted or moved (firmware, BARs, ROMs, memory hotplug): \
             change them seldom and at once; where the VMM disables KVM_X86_QUIRK_SLOT_ZAP_ALL (6.12 and later), only \
             the slot's own go",
        )],
        needs: &[Signal::Memslots, Signal::SlotDeleted],
        check: host::memslot_churn,
    },
    Lint {
        name: "lock_contended",
        title: "guest faults wait long for mmu_lock",
        knobs: &[any(
            "KVM takes mmu_lock for whatever changes the VM's page tables: find the operation that holds it (`operations` \
             in the report, `collapse events --kind zap --stacks`), and have it done seldom, in smaller ranges, or while \
             the guest is paused; KSM and NUMA balancing off for the VM are the first to try",
        )],
        needs: &[Signal::LockWaits, Signal::Faults],
        check: waits::lock_contended,
    },
    Lint {
        name: "faults_retried",
        title: "guest faults come to nothing and are taken again",
        knobs: &[any(
            "find out what takes the memory away meanwhile: `zaps` by cause in the report, and \
             `collapse events --kind zap --stacks`; faults on memory that the host has swapped out are among them",
        )],
        needs: &[Signal::RetriedFaults, Signal::Faults],
        check: waits::faults_retried,
    },
    Lint {
        name: "slow_dirty_log",
        title: "calls for the log of dirty pages take long",
        knobs: &[
            any(
                "a call holds mmu_lock while it protects pages again, and vCPUs that fault wait for it: read and clear the log \
                 in smaller parts (KVM_CAP_MANUAL_DIRTY_LOG_PROTECT2, KVM_CLEAR_DIRTY_LOG), or use dirty rings",
            ),
            qemu("dirty-ring-size= at -accel kvm"),
        ],
        needs: &[Signal::DirtyLogHarvest],
        check: logging::slow_dirty_log,
    },
    Lint {
        name: "eager_split_off",
        title: "huge pages are split by guest faults",
        knobs: &[any(
            "kvm.eager_page_split=Y (5.18 and later) splits them before the guest runs into them",
        )],
        needs: &[Signal::DirtyLogging, Signal::Faults],
        check: logging::eager_split_off,
    },
    Lint {
        name: "collapse_raced",
        title: "small pages came back while the collapse routine ran",
        knobs: &[any("turn dirty logging off while the guest is idle or paused, slot by slot")],
        needs: &[Signal::DirtyLogging, Signal::Collapse, Signal::Faults],
        check: logging::collapse_raced,
    },
    Lint {
        name: "logged_periodically",
        title: "dirty logging goes on and off again and again",
        knobs: &[
            any(
                "find out who asks for it: snapshots, backups and dirty-rate measurements that run by the clock split \
                 all huge pages each time",
            ),
            qemu(
                "calc-dirty-rate and virsh domdirtyrate-calc in mode page-sampling do without dirty logging",
            ),
            firecracker("snapshots of differences need it: take full ones, or fewer"),
        ],
        needs: &[Signal::DirtyLogging],
        check: logging::periodically,
    },
    Lint {
        name: "nx_recovery_undone",
        title: "the NX recovery worker and guest faults undo each other",
        knobs: &[any(
            "kvm.nx_huge_pages_recovery_period_ms longer, or kvm.nx_huge_pages_recovery_ratio=0, lets \
             pages that are executed stay small; kvm.nx_huge_pages=off ends the splits",
        )],
        needs: &[Signal::NxRecovery, Signal::Faults],
        check: memory::nx_recovery_undone,
    },
    Lint {
        name: "hugetlb_mapped_small",
        title: "hugetlb memory is mapped small",
        knobs: &[
            any(
                "check that memslots begin at the same offset within 2 MiB in guest and host memory, \
                 and that the VMM's mappings of them do",
            ),
            qemu("align=2M at the memory backend"),
        ],
        needs: &[Signal::Gauges],
        check: memory::hugetlb_mapped_small,
    },
    Lint {
        name: "never_huge",
        title: "memory is mapped small, and was not huge while watched",
        knobs: &[
            any(
                "`collapse explain` names the reason by memslot: settings of transparent huge pages, shared memory, \
                 userfaultfd, device memory",
            ),
            qemu("hugetlb=on of a memory-backend-memfd, <hugepages/> in <memoryBacking>"),
            firecracker("huge_pages: 2M in the machine configuration"),
            cloud_hypervisor("hugepages=on at --memory"),
            kubevirt("spec.domain.memory.hugepages.pageSize: 2Mi"),
        ],
        needs: &[Signal::Gauges],
        check: memory::never_huge,
    },
    Lint {
        name: "recovered_read_only",
        title: "regions came back write-protected",
        knobs: &[any(
            "nothing to set: where KVM rebuilds huge pages in place (6.13 and later), those of \
             write-protected pages come back write-protected, and the first write to each costs one \
             more fault",
        )],
        needs: &[Signal::DirtyLogging],
        check: logging::recovered_read_only,
    },
    Lint {
        name: "split_by_nx",
        title: "huge pages are split for executable pages",
        knobs: &[any("kvm.nx_huge_pages=off, if no CPU has the iTLB multihit bug \
             (/sys/devices/system/cpu/vulnerabilities/itlb_multihit) or the guests are trusted")],
        needs: &[Signal::Faults],
        check: memory::split_by_nx,
    },
];
