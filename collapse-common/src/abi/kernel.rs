//! Facts about the running kernel.

/// Facts about the running kernel, resolved by user space before load. An offset of
/// [`Kernel::UNKNOWN`] means that the field could not be found; what needs it is left out.
#[repr(C)]
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Kernel {
    /// SPTE bits.
    pub spte: crate::SpteLayout,
    /// `kvm_vcpu.kvm`.
    pub vcpu_kvm: u32,
    /// `kvm_vcpu.stat.pf_taken`, 5.19 and later.
    pub vcpu_taken: u32,
    /// `kvm_vcpu.stat.pf_fast`, 5.19 and later.
    pub vcpu_fast: u32,
    /// `kvm_vcpu.stat.pf_fixed`.
    pub vcpu_fixed: u32,
    /// `kvm_vcpu.stat.pf_emulate`, 5.19 and later.
    pub vcpu_emulated: u32,
    /// `kvm_vcpu.stat.pf_spurious`, 5.19 and later.
    pub vcpu_spurious: u32,
    /// `kvm_vcpu.mutex`, whose first field is the owner.
    pub vcpu_mutex: u32,
    /// `kvm_vcpu.vcpu_id`.
    pub vcpu_id: u32,
    /// `kvm.mmu_notifier`.
    pub kvm_mmu_notifier: u32,
    /// `kvm.mmu_lock`, where threads spin on it.
    pub kvm_mmu_lock: u32,
    /// `kvm.mmu_invalidate_in_progress`, 6.1 and later.
    pub kvm_invalidating: u32,
    /// `kvm.mmu_invalidate_seq`, 6.1 and later.
    pub kvm_invalidate_seq: u32,
    /// `kvm.vm_list`.
    pub kvm_vm_list: u32,
    /// `kvm.userspace_pid`.
    pub kvm_userspace_pid: u32,
    /// `kvm.debugfs_dentry`.
    pub kvm_debugfs_dentry: u32,
    /// `dentry.d_name.name`.
    pub dentry_name: u32,
    /// `kvm.nr_memslot_pages`, 5.16 and later.
    pub kvm_nr_memslot_pages: u32,
    /// `kvm.stat.pages_4k`; the other two sizes follow it.
    pub kvm_pages: u32,
    /// `kvm_memory_slot.base_gfn`.
    pub slot_base_gfn: u32,
    /// `kvm_memory_slot.npages`.
    pub slot_npages: u32,
    /// `kvm_memory_slot.flags`.
    pub slot_flags: u32,
    /// `kvm_memory_slot.id`.
    pub slot_id: u32,
    /// `kvm_memory_slot.as_id`.
    pub slot_as_id: u32,
    /// `kvm_memory_slot.userspace_addr`.
    pub slot_userspace_addr: u32,
    /// `mmu_notifier_range.event`.
    pub range_event: u32,
    /// `task_struct.flags`.
    pub task_flags: u32,
    /// `page.private`.
    pub page_private: u32,
    /// `kvm_mmu_page.gfn`.
    pub sp_gfn: u32,
    /// `kvm_mmu_page.role`.
    pub sp_role: u32,
    /// `kvm_mmu_page.shadowed_translation`, or `kvm_mmu_page.gfns` on 5.10.
    pub sp_translation: u32,
    /// Bits of a translation below the guest frame number: 12, or 0 on 5.10.
    pub translation_shift: u32,
    /// `sizeof(struct page)`.
    pub page_size: u32,
    /// Position of `old` and `new` in the arguments of `kvm_arch_commit_memory_region`: (2, 3) on
    /// 5.10, (1, 2) from 6.1 on; `change` follows.
    pub commit_old_arg: u32,
    /// Value of `RET_PF_INVALID`.
    pub ret_pf_invalid: u32,
    /// Whether `mmu_spte_clear_track_bits` takes the VM as its first argument (6.1 and later).
    pub clear_takes_kvm: u32,
    /// Whether nested paging of Intel is in use.
    pub ept: u32,
    /// One in how many guest faults is timed, a power of two; 0 for none.
    pub time_faults: u32,
    /// Length of a tick of the kernel's clock, ns.
    pub tick_ns: u32,
    /// Whether there is the helper `bpf_task_pt_regs` (5.15 and later).
    pub task_regs: u32,
    /// Padding.
    pub pad: u32,
    /// Address of the `vm_list` variable, 0 if hidden.
    pub vm_list: u64,
    /// Address of the `page_offset_base` variable, 0 if hidden.
    pub page_offset_base: u64,
    /// Address of the `vmemmap_base` variable, 0 if hidden.
    pub vmemmap_base: u64,
    /// Address of the `__per_cpu_offset` array, 0 if hidden.
    pub per_cpu_offset: u64,
    /// Address of `kvm_running_vcpu` before a CPU's offset is added, 0 if hidden.
    pub running_vcpu: u64,
}

impl Kernel {
    /// Offset of a field that this kernel does not have or does not describe.
    pub const UNKNOWN: u32 = u32::MAX;

    /// Nothing known.
    pub const NOTHING: Self = Self {
        spte: crate::SpteLayout::NPT,
        vcpu_kvm: Self::UNKNOWN,
        vcpu_taken: Self::UNKNOWN,
        vcpu_fast: Self::UNKNOWN,
        vcpu_fixed: Self::UNKNOWN,
        vcpu_emulated: Self::UNKNOWN,
        vcpu_spurious: Self::UNKNOWN,
        vcpu_mutex: Self::UNKNOWN,
        vcpu_id: Self::UNKNOWN,
        kvm_mmu_notifier: Self::UNKNOWN,
        kvm_mmu_lock: Self::UNKNOWN,
        kvm_invalidating: Self::UNKNOWN,
        kvm_invalidate_seq: Self::UNKNOWN,
        kvm_vm_list: Self::UNKNOWN,
        kvm_userspace_pid: Self::UNKNOWN,
        kvm_debugfs_dentry: Self::UNKNOWN,
        dentry_name: Self::UNKNOWN,
        kvm_nr_memslot_pages: Self::UNKNOWN,
        kvm_pages: Self::UNKNOWN,
        slot_base_gfn: Self::UNKNOWN,
        slot_npages: Self::UNKNOWN,
        slot_flags: Self::UNKNOWN,
        slot_id: Self::UNKNOWN,
        slot_as_id: Self::UNKNOWN,
        slot_userspace_addr: Self::UNKNOWN,
        range_event: Self::UNKNOWN,
        task_flags: Self::UNKNOWN,
        page_private: Self::UNKNOWN,
        sp_translation: Self::UNKNOWN,
        translation_shift: 12,
        page_size: Self::UNKNOWN,
        sp_gfn: Self::UNKNOWN,
        sp_role: Self::UNKNOWN,
        commit_old_arg: 1,
        ret_pf_invalid: 3,
        clear_takes_kvm: 1,
        ept: 0,
        tick_ns: 0,
        task_regs: 0,
        pad: 0,
        time_faults: 0,
        vm_list: 0,
        page_offset_base: 0,
        vmemmap_base: 0,
        per_cpu_offset: 0,
        running_vcpu: 0,
    };
}
