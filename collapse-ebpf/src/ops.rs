//! The functions that share two programs: operations, which say whose the SPTE changes in them are and
//! why, and others that are called as rarely.
//!
//! One program for each would cost the verifier that much again, and the kernel a link for each.
//! [`FUNCTIONS`] has what distinguishes them, by address: the verifier knows nothing of a value from a
//! map, and so goes once through what it would go through for each constant.
//!
//! Probes at entry and return take some 2,000 instructions, which is little once per operation.
//!
//! [`FUNCTIONS`]: collapse_common::abi::map::FUNCTIONS

use aya_ebpf::{
    helpers::bpf_ktime_get_ns,
    macros::{kprobe, kretprobe},
    programs::{ProbeContext, RetProbeContext},
};
use collapse_common::abi::{
    Cpu, Function, MarkKind, Role, Slot, Span, Thread, UNKNOWN_PAGES, UNKNOWN_ROW,
};

use crate::{
    kernel::{self, fact},
    maps, marks, nesting, notifier, registry, slots, threads,
    word::{opaque, shared_add},
};

/// The entry of any function.
#[kprobe]
pub fn enter(ctx: ProbeContext) -> u32 {
    let Some(cpu) = maps::cpu() else { return 0 };
    let Some(function) = maps::functions().get_ptr_mut(Function::key(kernel::ip(&ctx))) else {
        // Its changes are counted as of an unknown VM, which every output shows.
        if let Some(thread) = threads::current_or_new(cpu) {
            nesting::enter(cpu, thread, Role::Operation as u32, UNKNOWN_ROW);
        }
        return 0;
    };
    // SAFETY: an entry stays as it is but for its hits, which are added to atomically.
    let Function { cause, role, hits } = unsafe { &mut *function };
    shared_add(hits, 1);
    let kvm = kernel::arg(&ctx, 0);
    match *role {
        CREATION => create(cpu, kvm),
        COMMIT => slots::commit(&ctx, cpu, kvm),
        YIELD => slots::yielded(cpu),
        role => begin(&ctx, cpu, kvm, role, *cause),
    }
    0
}

const CREATION: u32 = Role::Creation as u32;
const COMMIT: u32 = Role::Commit as u32;
const YIELD: u32 = Role::Yield as u32;

/// Enters a VM in the table. `kvm->userspace_pid` is not set yet, the current thread is the creator.
#[inline(always)]
fn create(cpu: &mut Cpu, kvm: u64) {
    // SAFETY: no arguments.
    let born = unsafe { bpf_ktime_get_ns() };
    // Replaces the entry of an earlier VM at this address whose end was missed.
    registry::register(cpu, kvm, born, MarkKind::VmCreated, 0);
}

#[inline(always)]
fn begin(ctx: &ProbeContext, cpu: &mut Cpu, mut kvm: u64, role: u32, mut cause: u32) {
    let Some(thread) = threads::current_or_new(cpu) else { return };
    if role == Role::Host as u32 {
        nesting::enter_host(thread, cause);
        return;
    }
    if role == Role::Migration as u32 {
        cause = opaque(notifier::of_migration(kernel::arg(ctx, 5)).into(), thread.id) as u32;
        nesting::enter_host(thread, cause);
        return;
    }
    if role == Role::Invalidation as u32 {
        kvm = kvm.wrapping_sub(fact!(kvm_mmu_notifier).into());
        let event: u32 = kernel::read(kernel::arg(ctx, 1), fact!(range_event)).unwrap_or(u32::MAX);
        cause = opaque(notifier::cause(thread, event).into(), thread.id) as u32;
    }
    if role == Role::OfVcpu as u32 {
        kvm = kernel::vcpu_kvm(kvm);
    }
    let row = if role == Role::Outermost as u32 && thread.depth != 0 {
        thread.row
    } else {
        registry::row_of(ctx, cpu, kvm, cause)
    };
    if role == Role::SlotChange as u32 {
        thread.slot_kvm = kvm;
    } else if has_span(role) {
        let slot = kernel::arg(ctx, 1);
        begin_span(cpu, thread, role, kvm, slot);
    }
    nesting::enter(cpu, thread, role, row);
}

/// Whether the end of an operation is reported, with what was at its begin.
#[inline(always)]
fn has_span(role: u32) -> bool {
    role >= Role::Collapse as u32 && role <= Role::Destruction as u32
}

#[inline(always)]
fn begin_span(cpu: &mut Cpu, thread: &mut Thread, role: u32, kvm: u64, slot: u64) {
    let slot = if role == Role::Collapse as u32 { kernel::slot(slot) } else { Slot::NONE };
    thread.span = marks::begin(registry::key(kvm), slot);
    thread.yields = 0;
    if role == Role::Destruction as u32 {
        marks::end(cpu, MarkKind::VmDestroyed, thread.span, 0);
    }
}

/// The return of any function that a thread is in.
#[kretprobe]
pub fn leave(_: RetProbeContext) -> u32 {
    let Some(cpu) = maps::cpu() else { return 0 };
    let Some(thread) = threads::current(cpu) else { return 0 };
    let role = nesting::leave(cpu, thread);
    if has_span(role) {
        end_span(cpu, thread, role);
    } else if role == Role::SlotChange as u32 {
        slot_changed(thread);
    }
    threads::release_if_idle(thread);
    0
}

/// Reports the end of the collapse routine, of a teardown, after which KVM's gauges are final, or of a
/// VM, whose address may be reused from now on.
#[inline(always)]
fn end_span(cpu: &mut Cpu, thread: &Thread, role: u32) {
    let Span { vm, slot, start, pages } = thread.span;
    // SAFETY: no arguments.
    let ts = unsafe { bpf_ktime_get_ns() };
    let freed = role == Role::Destruction as u32;
    let mut mark = marks::point(MarkKind::VmFreed, ts, vm, slot, UNKNOWN_PAGES);
    mark.kind = role;
    if freed {
        let _ = maps::vms().remove(vm.kvm);
        maps::GENERATION.tick();
    } else {
        mark.start = start;
        mark.pages_before = pages;
        mark.pages = kernel::pages(vm.kvm);
        mark.yields = thread.yields as u32;
    }
    marks::send(cpu, &mark);
}

/// Ends the change of a memslot: the collapse routine, if it ran, ran inside.
#[inline(always)]
fn slot_changed(thread: &mut Thread) {
    let kvm = thread.slot_kvm;
    thread.slot_kvm = 0;
    if let Some(vm) = registry::known(kvm)
        && vm.collapsing != 0
    {
        vm.collapsing = 0;
        maps::GENERATION.tick();
    }
}
