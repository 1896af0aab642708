//! Facts about a kernel that the eBPF programs need: offsets, argument positions, SPTE bits.

use std::collections::BTreeSet;

use collapse_common::{SpteLayout, abi::Kernel};

use super::{Hook, SIGNALS, SlotLayout, TdpLayout, VmFields, every_hook};
use crate::kernel::inspect::{Fact, Inspected, Unknown, Vendor};

/// Variables whose addresses are facts.
pub const VARIABLES: &[&str] =
    &["vm_list", "page_offset_base", "vmemmap_base", "__per_cpu_offset", "kvm_running_vcpu"];

/// Functions whose parameters are looked up.
pub const FUNCTIONS: &[&str] = &["kvm_arch_commit_memory_region", "mmu_spte_clear_track_bits"];

/// Functions whose presence is a fact: helpers of eBPF programs.
pub const HELPERS: &[&str] = &["bpf_task_pt_regs"];

/// Types whose sizes are facts.
pub const SIZES: &[&str] = &[SlotLayout::SLOT, "page"];

/// Enumerators whose values are facts.
pub const CONSTANTS: &[&str] = &["RET_PF_INVALID"];

/// Fields that no signal depends on.
const OPTIONAL_FIELDS: &[&str] = &[
    "kvm.debugfs_dentry",
    "kvm.nr_memslot_pages",
    "kvm_vcpu.mutex",
    "kvm_vcpu.vcpu_id",
    "dentry.d_name.name",
    "task_struct.flags",
];

/// Offsets on kernels without module BTF (5.10), of structs that vmlinux BTF does not describe.
/// Verified by dereferencing on 5.10.223.
const WITHOUT_MODULE_BTF: &[(&str, u32)] = &[
    ("kvm_mmu_page.role", 52),
    ("kvm_mmu_page.gfn", 56),
    // On 5.10 it is called `gfns`, and holds frame numbers alone.
    ("kvm_mmu_page.shadowed_translation", 72),
];

/// Lists every field whose offset is looked up, by path.
pub fn offsets() -> Vec<&'static str> {
    let fields = SIGNALS.iter().flat_map(|signal| signal.fields);
    let fields = fields
        .chain(OPTIONAL_FIELDS)
        .chain(SlotLayout::FIELDS)
        .chain(TdpLayout::FIELDS)
        .chain(VmFields::FIELDS);
    let read = every_hook().filter_map(|hook| match hook {
        Hook::Read { field, .. } => Some(*field),
        _ => None,
    });
    fields.copied().chain(read).collect::<BTreeSet<_>>().into_iter().collect()
}

/// Returns the byte offset of a field, or the reason why it is unknown.
pub fn offset(kernel: &Inspected, path: &str) -> Fact<u32> {
    if let Some(offset) = kernel.offset(path) {
        return Ok(offset);
    }
    let known = WITHOUT_MODULE_BTF.iter().find(|(known, _)| *known == path);
    if let (true, Some((_, offset))) = (is_before_tdp_tracepoints(kernel), known) {
        return Ok(*offset);
    }
    let not_looked_up = || Err(Unknown::Unclear("not looked up".to_owned()));
    kernel.offsets.get(path).cloned().unwrap_or_else(not_looked_up)
}

/// Returns whether the kernel is like 5.10, without `kvm_tdp_mmu_spte_changed`, module BTF and the
/// MMU-present bit, which were all added soon after.
fn is_before_tdp_tracepoints(kernel: &Inspected) -> bool {
    kernel.has_tracepoint("kvmmmu:kvm_tdp_mmu_spte_changed") == Some(false)
}

/// Returns the number of arguments that a raw tracepoint program gets; `None` if it is unknown.
pub fn raw_args(kernel: &Inspected, tracepoint: &str) -> Option<usize> {
    let known = kernel.tracepoints.get(tracepoint)?.raw_args.as_ref();
    match (known, tracepoint) {
        (Ok(args), _) => Some(args.len()),
        (Err(_), "kvmmmu:fast_page_fault") => {
            Some(if is_before_tdp_tracepoints(kernel) { 6 } else { 5 })
        }
        _ => None,
    }
}

/// Collects the facts about a kernel; those that cannot be found stay unknown.
pub fn facts(kernel: &Inspected) -> Kernel {
    let old = is_before_tdp_tracepoints(kernel);
    let at = |path| offset(kernel, path).unwrap_or(Kernel::UNKNOWN);
    let address = |name| kernel.symbol(name).map_or(0, |symbol| symbol.address);
    let parameters = |name: &str| kernel.functions.get(name).and_then(|found| found.as_ref().ok());
    let commit_old_arg = parameters("kvm_arch_commit_memory_region")
        .and_then(|parameters| parameters.iter().position(|parameter| parameter.name == "old"))
        .unwrap_or(if old { 2 } else { 1 });
    let clear_takes_kvm = parameters("mmu_spte_clear_track_bits")
        .map_or(!old, |parameters| parameters.first().is_some_and(|first| first.name == "kvm"));
    // 5.10 describes no enums of KVM; the value is 2 there.
    let ret_pf_invalid = match kernel.constants.get("RET_PF_INVALID") {
        Some(Ok(value)) => *value as u32,
        _ => 2,
    };
    Kernel {
        spte: spte_layout(kernel, old),
        vcpu_kvm: at("kvm_vcpu.kvm"),
        vcpu_taken: at("kvm_vcpu.stat.pf_taken"),
        vcpu_fast: at("kvm_vcpu.stat.pf_fast"),
        vcpu_fixed: at("kvm_vcpu.stat.pf_fixed"),
        vcpu_emulated: at("kvm_vcpu.stat.pf_emulate"),
        vcpu_spurious: at("kvm_vcpu.stat.pf_spurious"),
        vcpu_mutex: at("kvm_vcpu.mutex"),
        vcpu_id: at("kvm_vcpu.vcpu_id"),
        kvm_mmu_notifier: at("kvm.mmu_notifier"),
        kvm_mmu_lock: at("kvm.mmu_lock.raw_lock"),
        kvm_invalidating: at("kvm.mmu_invalidate_in_progress"),
        kvm_invalidate_seq: at("kvm.mmu_invalidate_seq"),
        kvm_vm_list: at("kvm.vm_list"),
        kvm_userspace_pid: at("kvm.userspace_pid"),
        kvm_debugfs_dentry: at("kvm.debugfs_dentry"),
        dentry_name: at("dentry.d_name.name"),
        kvm_nr_memslot_pages: at("kvm.nr_memslot_pages"),
        kvm_pages: at("kvm.stat.pages_4k"),
        slot_base_gfn: at("kvm_memory_slot.base_gfn"),
        slot_npages: at("kvm_memory_slot.npages"),
        slot_flags: at("kvm_memory_slot.flags"),
        slot_id: at("kvm_memory_slot.id"),
        slot_as_id: at("kvm_memory_slot.as_id"),
        slot_userspace_addr: at("kvm_memory_slot.userspace_addr"),
        range_event: at("mmu_notifier_range.event"),
        task_flags: at("task_struct.flags"),
        page_private: at("page.private"),
        sp_translation: at("kvm_mmu_page.shadowed_translation"),
        translation_shift: if old { 0 } else { 12 },
        page_size: match kernel.sizes.get("page") {
            Some(Ok(size)) => *size,
            _ => Kernel::UNKNOWN,
        },
        sp_gfn: at("kvm_mmu_page.gfn"),
        sp_role: at("kvm_mmu_page.role"),
        commit_old_arg: commit_old_arg as u32,
        ret_pf_invalid,
        clear_takes_kvm: clear_takes_kvm.into(),
        ept: uses_ept(kernel).into(),
        task_regs: HELPERS.iter().all(|helper| kernel.symbol(helper).is_some()).into(),
        vm_list: address("vm_list"),
        page_offset_base: address("page_offset_base"),
        vmemmap_base: address("vmemmap_base"),
        per_cpu_offset: address("__per_cpu_offset"),
        running_vcpu: address("kvm_running_vcpu"),
        ..Kernel::NOTHING
    }
}

fn uses_ept(kernel: &Inspected) -> bool {
    kernel.kvm.vendor == Some(Vendor::Intel) && kernel.kvm.nested_paging != Ok(false)
}

/// Returns the layout of SPTEs. `shadow_accessed_mask` and `shadow_dirty_mask` follow the page-table
/// format: that of EPT, or else that of ordinary page tables.
fn spte_layout(kernel: &Inspected, old: bool) -> SpteLayout {
    let layout = if uses_ept(kernel) { SpteLayout::EPT } else { SpteLayout::NPT };
    if old { layout.without_present_bit() } else { layout }
}
