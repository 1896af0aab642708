//! Operations that enclose SPTE changes and need nothing but their VM and cause. They run once per
//! operation, so their kprobe pairs (some 2,000 instructions) are nearly free.

use aya_ebpf::{
    macros::{kprobe, kretprobe},
    programs::{ProbeContext, RetProbeContext},
};
use collapse_common::Cause;

use crate::{kernel, maps, nesting};

/// The return of any operation.
#[kretprobe]
pub fn leave(_: RetProbeContext) -> u32 {
    if let Some(cpu) = maps::cpu() {
        nesting::leave(cpu);
    }
    0
}

#[inline(always)]
fn enter(ctx: &ProbeContext, cause: Cause) -> u32 {
    if let Some(cpu) = maps::cpu() {
        nesting::enter(ctx, cpu, kernel::arg(ctx, 0), cause as u32);
    }
    0
}

/// `kvm_mmu_slot_try_split_huge_pages(kvm, slot, target_level)`
#[kprobe]
pub fn eager_split(ctx: ProbeContext) -> u32 {
    enter(&ctx, Cause::EagerSplit)
}

/// `kvm_mmu_slot_remove_write_access(kvm, slot, start_level)`,
/// `kvm_mmu_slot_leaf_clear_dirty(kvm, slot)`, and `kvm_mmu_slot_largepage_remove_write_access(kvm, slot)` of
/// 5.10
#[kprobe]
pub fn log_protect(ctx: ProbeContext) -> u32 {
    enter(&ctx, Cause::LogProtect)
}

/// `kvm_get_dirty_log_protect(kvm, log)`
#[kprobe]
pub fn get_dirty_log(ctx: ProbeContext) -> u32 {
    enter(&ctx, Cause::GetDirtyLog)
}

/// `kvm_clear_dirty_log_protect(kvm, log)`
#[kprobe]
pub fn clear_dirty_log(ctx: ProbeContext) -> u32 {
    enter(&ctx, Cause::ClearDirtyLog)
}

/// `kvm_arch_flush_shadow_memslot(kvm, slot)`
#[kprobe]
pub fn slot_gone(ctx: ProbeContext) -> u32 {
    enter(&ctx, Cause::SlotGone)
}

/// `kvm_zap_gfn_range(kvm, start, end)`
#[kprobe]
pub fn zap_range(ctx: ProbeContext) -> u32 {
    enter(&ctx, Cause::ZapRange)
}

/// `kvm_nx_huge_page_recovery_worker(kvm)`, called once per wake-up from 6.12 on; before, where the
/// worker never returns, `kvm_tdp_mmu_zap_sp(kvm, sp)`.
#[kprobe]
pub fn nx_recovery(ctx: ProbeContext) -> u32 {
    enter(&ctx, Cause::NxRecovery)
}

/// `kvm_nx_lpage_recovery_worker(kvm, …)` of 5.10 and 6.1: the body of a thread, which does nothing
/// else until it ends with its VM.
#[kprobe]
pub fn nx_recovery_thread(ctx: ProbeContext) -> u32 {
    enter(&ctx, Cause::NxRecovery)
}

/// `kvm_mmu_zap_all_fast(kvm)`: often part of a memslot deletion, which then is the cause.
#[kprobe]
pub fn zap_all(ctx: ProbeContext) -> u32 {
    if let Some(cpu) = maps::cpu() {
        nesting::enter_outermost(&ctx, cpu, kernel::arg(&ctx, 0), Cause::ZapAll as u32);
    }
    0
}
