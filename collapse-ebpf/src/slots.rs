//! Memslots and dirty logging, and the times that operations give up `mmu_lock`.

use aya_ebpf::{helpers::bpf_ktime_get_ns, programs::ProbeContext};
use collapse_common::{
    Counter,
    abi::{Cpu, LOG_DIRTY_PAGES, MarkKind, VmKey, is_wide},
};

use crate::{
    kernel::{self, fact},
    maps, marks, registry, runs, threads,
};

/// `enum kvm_mr_change`
const KVM_MR_CREATE: u32 = 0;
/// 5.10 passes a zeroed new slot with it, not a null one.
const KVM_MR_DELETE: u32 = 1;

/// `kvm_arch_commit_memory_region(kvm, [mem,] old, new, change)`: the new slot is published. With
/// DELETE `new` is null, with CREATE `old` is (6.1 and later).
#[inline(always)]
pub fn commit(ctx: &ProbeContext, cpu: &mut Cpu, kvm: u64) {
    let arg = |n| kernel::arg(ctx, n);
    let args = [arg(1), arg(2), arg(3), arg(4)];
    let [old, new, change] = if fact!(commit_old_arg) == 2 {
        [args[1], args[2], args[3]]
    } else {
        [args[0], args[1], args[2]]
    };
    maps::EPOCH.tick();
    let Some(vm) = registry::entry(cpu, kvm) else { return };
    let deleted = new == 0 || change as u32 == KVM_MR_DELETE;
    let place = if deleted { old } else { new };
    let slot = kernel::slot(place);
    let userspace_addr = kernel::read_or_zero(place, fact!(slot_userspace_addr));
    let old_flags: u32 = kernel::read(old, fact!(slot_flags)).unwrap_or(u32::MAX);
    let logged = if old_flags == u32::MAX { 0 } else { old_flags & LOG_DIRTY_PAGES };
    let logs = if deleted { 0 } else { slot.flags & LOG_DIRTY_PAGES };
    // The VM's `slots_lock` is held.
    vm.commits += 1;
    vm.total = match change as u32 {
        KVM_MR_CREATE => vm.total + slot.npages,
        KVM_MR_DELETE => vm.total.saturating_sub(slot.npages),
        _ => vm.total,
    };
    vm.total = kernel::read(kvm, fact!(kvm_nr_memslot_pages)).unwrap_or(vm.total);
    if logged != logs {
        vm.logged =
            if logs != 0 { vm.logged + slot.npages } else { vm.logged.saturating_sub(slot.npages) };
        vm.collapsing = u32::from(logs == 0 && !deleted);
    }
    // Makes vCPU threads look up the cause of their faults again.
    vm.logging = is_wide(vm.logged, vm.total).into();
    maps::GENERATION.tick();
    let logging = vm.logging;
    let vm = VmKey { kvm, born: vm.born };
    // SAFETY: no arguments.
    let ts = unsafe { bpf_ktime_get_ns() };
    let mut mark = marks::point(MarkKind::SlotChanged, ts, vm, slot, kernel::pages(kvm));
    mark.old_flags = old_flags;
    mark.change = change as u32;
    mark.logging = logging;
    mark.userspace_addr = userspace_addr;
    marks::send(cpu, &mark);
}

/// `__cond_resched_rwlock_read(lock)`, `__cond_resched_rwlock_write(lock)`: KVM calls them only when
/// others wait for `mmu_lock` or for the CPU, and hardly anyone else calls them at all.
#[inline(always)]
pub fn yielded(cpu: &mut Cpu) {
    if let Some(thread) = threads::current(cpu)
        && thread.depth != 0
    {
        thread.yields += 1;
        runs::count(cpu, thread.row, Counter::Yield as usize);
    }
}
