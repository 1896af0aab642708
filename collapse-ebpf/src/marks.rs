//! Marks: rare events with a record of their own, and the spans that some of them end.

use aya_ebpf::{
    bindings::BPF_RB_NO_WAKEUP,
    helpers::{bpf_get_current_pid_tgid, bpf_ktime_get_ns, generated::bpf_get_current_comm},
};
use collapse_common::abi::{
    Cpu, Loss, Mark, MarkKind, Pages, RECORD_MARK, RECORD_VCPU_MARK, Slot, Span, VcpuMark,
    VcpuMarkKind, VmKey,
};

use crate::{
    kernel::{self, fact},
    maps,
    word::shared_add,
};

/// Makes a mark for a point in time.
#[inline(always)]
pub fn point(kind: MarkKind, ts: u64, vm: VmKey, slot: Slot, pages: Pages) -> Mark {
    Mark {
        record: RECORD_MARK,
        kind: kind as u32,
        ts,
        start: ts,
        vm,
        thread: bpf_get_current_pid_tgid(),
        comm: comm(),
        slot,
        pages_before: pages,
        pages,
        old_flags: slot.flags,
        change: 0,
        yields: 0,
        logging: 0,
        userspace_addr: 0,
    }
}

/// Returns the current thread's name. aya's function has a result besides, and the stack has no room for that
/// on older kernels: 480 bytes, where something is called.
#[inline(always)]
fn comm() -> [u8; 16] {
    let mut comm = [0; 16];
    // SAFETY: the buffer has the size; the kernel clears it where it fails.
    unsafe { bpf_get_current_comm(comm.as_mut_ptr().cast(), comm.len() as u32) };
    comm
}

/// Returns the span that begins now on a VM and a memslot.
#[inline(always)]
pub fn begin(vm: VmKey, slot: Slot) -> Span {
    Span {
        vm,
        slot,
        // SAFETY: no arguments.
        start: unsafe { bpf_ktime_get_ns() },
        pages: kernel::pages(vm.kvm),
    }
}

/// Reports that a span ends now, in which the thread gave up `mmu_lock` `yields` times.
#[inline(always)]
pub fn end(cpu: &mut Cpu, kind: MarkKind, span: Span, yields: u64) {
    // SAFETY: no arguments.
    let ts = unsafe { bpf_ktime_get_ns() };
    let mut mark = point(kind, ts, span.vm, span.slot, kernel::pages(span.vm.kvm));
    mark.start = span.start;
    mark.pages_before = span.pages;
    mark.yields = yields as u32;
    send(cpu, &mark);
}

/// Sends a mark to user space.
#[inline(always)]
pub fn send(cpu: &mut Cpu, mark: &Mark) {
    debug_assert!(mark.record == RECORD_MARK);
    if maps::ring().output::<Mark>(mark, BPF_RB_NO_WAKEUP.into()).is_err() {
        lose(cpu);
    }
}

/// Reports what happened to a vCPU of the current thread, and is counted in `row`. It ends now.
#[inline(always)]
pub fn vcpu(cpu: &mut Cpu, kind: VcpuMarkKind, row: u32, vcpu: u64, address: u64, duration: u64) {
    send_vcpu(cpu, &of_vcpu(kind, row, vcpu, address, duration));
}

/// Reports that a vCPU has taken `faults` at an address, and that nothing came of them.
#[inline(always)]
pub fn no_progress(cpu: &mut Cpu, row: u32, vcpu: u64, address: u64, duration: u64, faults: u64) {
    let kvm = kernel::vcpu_kvm(vcpu);
    let mut mark = of_vcpu(VcpuMarkKind::NoProgress, row, vcpu, address, duration);
    mark.faults = faults;
    mark.invalidating = kernel::read_or_zero::<u64>(kvm, fact!(kvm_invalidating)) as u32;
    mark.sequence = kernel::read_or_zero(kvm, fact!(kvm_invalidate_seq));
    send_vcpu(cpu, &mark);
}

#[inline(always)]
fn of_vcpu(kind: VcpuMarkKind, row: u32, vcpu: u64, address: u64, duration: u64) -> VcpuMark {
    VcpuMark {
        record: RECORD_VCPU_MARK,
        kind: kind as u32,
        // SAFETY: no arguments.
        ts: unsafe { bpf_ktime_get_ns() },
        duration,
        address,
        row,
        tid: bpf_get_current_pid_tgid() as u32,
        vcpu: kernel::vcpu_id(vcpu),
        invalidating: 0,
        faults: 0,
        sequence: 0,
    }
}

#[inline(always)]
fn send_vcpu(cpu: &mut Cpu, mark: &VcpuMark) {
    if maps::ring().output::<VcpuMark>(mark, BPF_RB_NO_WAKEUP.into()).is_err() {
        lose(cpu);
    }
}

/// Counts a mark that found the ring full. Some programs that send marks can be preempted.
#[inline(always)]
fn lose(cpu: &mut Cpu) {
    shared_add(&mut cpu.loss[Loss::Marks as usize], 1);
}
