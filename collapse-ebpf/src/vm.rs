//! Life of VMs, and KVM's own gauges of them.

use aya_ebpf::{
    helpers::{bpf_ktime_get_ns, bpf_probe_read_kernel_str_bytes},
    macros::{kprobe, kretprobe, raw_tracepoint},
    programs::{ProbeContext, RawTracePointContext, RetProbeContext},
};
use collapse_common::{
    Cause,
    abi::{Cpu, MarkKind, Slot, UNKNOWN_PAGES, UNKNOWN_ROW, VmGauges, VmKey},
};

use crate::{
    context,
    kernel::{self, fact},
    maps, runs,
};

/// `kvm_arch_init_vm(kvm, type)`: `kvm->userspace_pid` is not set yet, the current thread is the
/// creator.
#[kprobe]
pub fn vm_created(ctx: ProbeContext) -> u32 {
    if let Some(cpu) = maps::cpu() {
        let kvm = kernel::arg(&ctx, 0);
        // SAFETY: no arguments.
        let born = unsafe { bpf_ktime_get_ns() };
        // Replaces the entry of an earlier VM at this address whose end was missed.
        context::register(cpu, kvm, born, MarkKind::VmCreated, 0);
    }
    0
}

/// `kvm_destroy_vm(kvm)`
#[kprobe]
pub fn vm_destroyed(ctx: ProbeContext) -> u32 {
    begin_teardown(&ctx, Some(MarkKind::VmDestroyed))
}

/// The return of `kvm_destroy_vm`: `kvm` is freed, the address may be reused from now on.
#[kretprobe]
pub fn vm_destroyed_end(_: RetProbeContext) -> u32 {
    let Some(cpu) = maps::cpu() else { return 0 };
    if let Some(thread) = context::current(cpu) {
        let vm = thread.span.vm;
        let _ = maps::vms().remove(vm.kvm);
        maps::GENERATION.tick();
        // SAFETY: no arguments.
        let ts = unsafe { bpf_ktime_get_ns() };
        let mark = context::point(MarkKind::VmFreed, ts, vm, Slot::NONE, UNKNOWN_PAGES);
        runs::mark(cpu, &mark);
    }
    context::leave(cpu);
    0
}

/// `kvm_arch_flush_shadow_all(kvm)`: inside the former, or earlier when the mm dies first.
#[kprobe]
pub fn teardown(ctx: ProbeContext) -> u32 {
    begin_teardown(&ctx, None)
}

/// The return of `kvm_arch_flush_shadow_all`: the gauges are final.
#[kretprobe]
pub fn teardown_end(_: RetProbeContext) -> u32 {
    let Some(cpu) = maps::cpu() else { return 0 };
    if let Some(thread) = context::current(cpu) {
        let (span, yields) = (thread.span, thread.yields);
        context::end_span(cpu, MarkKind::VmFlushed, span, yields);
    }
    context::leave(cpu);
    0
}

#[inline(always)]
fn begin_teardown(ctx: &ProbeContext, mark: Option<MarkKind>) -> u32 {
    let Some(cpu) = maps::cpu() else { return 0 };
    let kvm = kernel::arg(ctx, 0);
    let span = context::span(cpu, kvm, Slot::NONE);
    if let Some(kind) = mark {
        context::end_span(cpu, kind, span, 0);
    }
    if let Some(thread) = context::enter(ctx, cpu, kvm, Cause::Teardown as u32) {
        thread.span = span;
        thread.yields = 0;
    }
    0
}

/// Gives back a row, and the place of a thread that is gone; never attached, run by user space. A
/// system call that changes a map would keep kprobe programs from running meanwhile.
///
/// Arguments: the row, 0 for none; the thread's `bpf_get_current_pid_tgid`, 0 for none.
#[raw_tracepoint(tracepoint = "kvm_page_fault")]
pub fn give_back(ctx: RawTracePointContext) -> u32 {
    let row: u32 = ctx.arg(0);
    if row != UNKNOWN_ROW {
        let _ = maps::free_rows().push(row, 0);
    }
    let thread: u64 = ctx.arg(1);
    if thread != 0
        && let Some(cpu) = maps::cpu()
    {
        context::forget(cpu, thread);
    }
    0
}

/// Sets how much is seen; never attached, run by user space. Arguments: see [`maps::UNTIMED`] and
/// [`maps::LEFT_OUT`].
#[raw_tracepoint(tracepoint = "kvm_page_fault")]
pub fn set_detail(ctx: RawTracePointContext) -> u32 {
    maps::UNTIMED.set(ctx.arg(0));
    maps::LEFT_OUT.set(ctx.arg(1));
    0
}

/// Reads the next VM of KVM's `vm_list` into the gauges map; never attached, run by user space on
/// request. A loop over the list in here would take the verifier of 7.3 a hundred times as long as
/// all other programs together.
///
/// Argument: the list node to go on from, 0 for the head. A key of zero means that there is no
/// next one. The list is not locked: a node that does not point back to where we came from ends the
/// walk, and the next walk sees the list as it is then.
#[raw_tracepoint(tracepoint = "kvm_page_fault")]
pub fn walk(ctx: RawTracePointContext) -> u32 {
    let Some(cpu) = maps::cpu() else { return 0 };
    let Some(gauges) = maps::gauges().get_ptr_mut(0) else { return 0 };
    // SAFETY: only this program writes the map, and user space runs it from one thread.
    let gauges: &mut VmGauges = unsafe { &mut *gauges };
    gauges.vm = VmKey { kvm: 0, born: 0 };
    learn_bases();
    let head = fact!(vm_list);
    let start: u64 = ctx.arg(0);
    let node = if start == 0 { head } else { start };
    if let Some(next) = kernel::read::<u64>(node, 0)
        && next != head
        && kernel::read::<u64>(next, 8) == Some(node)
    {
        gauge(cpu, gauges, next.wrapping_sub(fact!(kvm_vm_list).into()));
    }
    0
}

#[inline(always)]
fn gauge(cpu: &mut Cpu, gauges: &mut VmGauges, kvm: u64) {
    let Some(vm) = context::vm(cpu, kvm) else { return };
    gauges.vm = VmKey { kvm, born: vm.born };
    // SAFETY: no arguments.
    gauges.ts = unsafe { bpf_ktime_get_ns() };
    gauges.pages = kernel::pages(kvm);
    gauges.tid = kernel::read(kvm, fact!(kvm_userspace_pid)).unwrap_or(0);
    gauges.debugfs[0] = 0;
    let name = kernel::read::<u64>(kvm, fact!(kvm_debugfs_dentry))
        .and_then(|dentry| kernel::read::<u64>(dentry, fact!(dentry_name)));
    if let Some(name) = name {
        // SAFETY: the helper checks the address and ends the string inside the buffer.
        let _ = unsafe { bpf_probe_read_kernel_str_bytes(name as *const u8, &mut gauges.debugfs) };
    }
}

/// Reads where the kernel's direct map and page structures begin (`KASLR` moves them), for the
/// rmap hooks.
#[inline(always)]
fn learn_bases() {
    if let Some(base) = kernel::read(fact!(page_offset_base), 0) {
        maps::PAGE_OFFSET.set(base);
    }
    if let Some(base) = kernel::read(fact!(vmemmap_base), 0) {
        maps::VMEMMAP.set(base);
    }
}
