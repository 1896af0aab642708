//! The life of VMs, from creation to teardown.

use aya_ebpf::{
    helpers::bpf_ktime_get_ns,
    macros::{kprobe, kretprobe},
    programs::{ProbeContext, RetProbeContext},
};
use collapse_common::{
    Cause,
    abi::{MarkKind, Slot, UNKNOWN_PAGES},
};

use crate::{kernel, maps, marks, nesting, registry, threads};

/// `kvm_arch_init_vm(kvm, type)`: `kvm->userspace_pid` is not set yet, the current thread is the
/// creator.
#[kprobe]
pub fn vm_created(ctx: ProbeContext) -> u32 {
    if let Some(cpu) = maps::cpu() {
        let kvm = kernel::arg(&ctx, 0);
        // SAFETY: no arguments.
        let born = unsafe { bpf_ktime_get_ns() };
        // Replaces the entry of an earlier VM at this address whose end was missed.
        registry::register(cpu, kvm, born, MarkKind::VmCreated, 0);
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
    if let Some(thread) = threads::current(cpu) {
        let vm = thread.span.vm;
        let _ = maps::vms().remove(vm.kvm);
        maps::GENERATION.tick();
        // SAFETY: no arguments.
        let ts = unsafe { bpf_ktime_get_ns() };
        let mark = marks::point(MarkKind::VmFreed, ts, vm, Slot::NONE, UNKNOWN_PAGES);
        marks::send(cpu, &mark);
    }
    nesting::leave(cpu);
    0
}

/// `kvm_arch_flush_shadow_all(kvm)`: inside `kvm_destroy_vm`, or earlier when the mm dies first.
#[kprobe]
pub fn teardown(ctx: ProbeContext) -> u32 {
    begin_teardown(&ctx, None)
}

/// The return of `kvm_arch_flush_shadow_all`: the gauges are final.
#[kretprobe]
pub fn teardown_end(_: RetProbeContext) -> u32 {
    let Some(cpu) = maps::cpu() else { return 0 };
    if let Some(thread) = threads::current(cpu) {
        let (span, yields) = (thread.span, thread.yields);
        marks::end(cpu, MarkKind::VmFlushed, span, yields);
    }
    nesting::leave(cpu);
    0
}

#[inline(always)]
fn begin_teardown(ctx: &ProbeContext, mark: Option<MarkKind>) -> u32 {
    let Some(cpu) = maps::cpu() else { return 0 };
    let kvm = kernel::arg(ctx, 0);
    let span = marks::begin(registry::key(cpu, kvm), Slot::NONE);
    if let Some(kind) = mark {
        marks::end(cpu, kind, span, 0);
    }
    if let Some(thread) = nesting::enter(ctx, cpu, kvm, Cause::Teardown as u32) {
        thread.span = span;
        thread.yields = 0;
    }
    0
}
