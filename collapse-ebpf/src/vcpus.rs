//! vCPUs: which thread runs one, and the guest faults that KVM has counted of it.
//!
//! KVM counts faults and fast faults of each vCPU itself (`pf_taken`, `pf_fast`, 5.19 and later). A
//! program only has to learn which VM and cause they belong to, and adds KVM's counts to a row
//! whenever that changes ([`settle`]): counting them here and in `fast_page_fault` took 200 instructions a
//! fault, and would miss some where programs are skipped.
//!
//! A vCPU thread outside any operation is handling a guest fault of the VM that it last ran.

use aya_ebpf::EbpfContext;
use collapse_common::{
    Counter,
    abi::{Cpu, Kernel, Loss, PendingFaults, Thread, UNKNOWN_ROW, VcpuFaults},
    latency::Sum,
};

use crate::{
    hints::Hint,
    kernel::{self, fact},
    maps, registry, runs, threads, times,
};

/// Notes that the current thread, at `thread`, runs `vcpu`, and makes the vCPU's VM its base.
#[inline(always)]
pub fn enter<C: EbpfContext>(ctx: &C, cpu: &mut Cpu, thread: &mut Thread, vcpu: u64) {
    let generation = maps::GENERATION.get();
    if thread.vcpu != vcpu || thread.generation != generation {
        if thread.vcpu == vcpu || has_vcpu(thread) {
            settle(cpu, thread);
        }
        if thread.vcpu != vcpu {
            thread.counted = take_vcpu(cpu, thread.position, vcpu);
            thread.stuck.since = 0;
        }
        let kvm = kernel::vcpu_kvm(vcpu);
        let cause = registry::fault_cause(cpu, kvm);
        thread.base = registry::row_of(ctx, cpu, kvm, cause);
        thread.vcpu = vcpu;
        thread.generation = generation;
        if thread.depth == 0 {
            thread.row = thread.base;
        }
    }
    if thread.depth != 0 {
        // A vCPU does not run its guest inside an operation: its return was missed.
        runs::lose(cpu, Loss::Returns, u64::from(thread.depth));
        thread.depth = 0;
        thread.roles = 0;
        thread.row = thread.base;
    }
    thread.zapped = 0;
    thread.fault_at = 0;
    thread.pml_full_at = 0;
    threads::update_hint(cpu, thread);
}

/// Whether `vcpu` on the current thread leaves everything known as it is.
///
/// Does not check that the current thread is the one that ran the vCPU before, which takes 15
/// instructions: if it is not, its first SPTE change finds out.
#[inline(always)]
pub fn is_settled(hint: &Hint, vcpu: u64) -> bool {
    hint.vcpu == vcpu && hint.generation == maps::GENERATION.get()
}

/// Returns the row for a change by the current thread, which is in no known operation: that of the faults
/// of the vCPU that is loaded on this CPU, if there is one.
///
/// A thread that entered its guest before programs were attached comes here, and one whose vCPU makes KVM
/// map memory without running (`KVM_PRE_FAULT_MEMORY`).
#[inline(always)]
pub fn loaded_row<C: EbpfContext>(ctx: &C, cpu: &mut Cpu) -> u32 {
    let kvm = kernel::vcpu_kvm(kernel::loaded_vcpu(cpu.id));
    if kvm == 0 {
        return UNKNOWN_ROW;
    }
    let cause = registry::fault_cause(cpu, kvm);
    registry::row_of(ctx, cpu, kvm, cause)
}

/// Adds the faults that KVM has counted of the thread's vCPU since the last time to the thread's row.
#[inline(always)]
fn settle(cpu: &mut Cpu, thread: &mut Thread) {
    let Some(counted) = counted(thread) else { return };
    let new = counted.since(thread.counted);
    thread.counted = counted;
    runs::add(cpu, thread.base, Counter::Fault as usize, new.taken);
    runs::add(cpu, thread.base, Counter::FastFault as usize, new.fast);
    times::add_to(thread.base, Sum::Retried, new.retried());
}

/// Whether the thread's vCPU still exists: its end may have been missed.
#[inline(always)]
fn has_vcpu(thread: &Thread) -> bool {
    thread.vcpu != 0 && maps::vms().get_ptr(kernel::vcpu_kvm(thread.vcpu)).is_some()
}

/// Returns the faults that KVM has counted of the thread's vCPU; `None` if this KVM does not count,
/// or if there is no vCPU.
#[inline(always)]
fn counted(thread: &Thread) -> Option<VcpuFaults> {
    let vcpu = thread.vcpu;
    if fact!(vcpu_taken) == Kernel::UNKNOWN || vcpu == 0 {
        return None;
    }
    Some(kernel::vcpu_faults(vcpu))
}

/// Returns the faults that KVM has counted of the vCPU of the thread at `position` and that no row
/// has yet; `None` if there is no vCPU.
#[inline(always)]
pub fn pending(position: u32) -> Option<PendingFaults> {
    let thread = threads::place(position)?;
    if !has_vcpu(thread) {
        return None;
    }
    let pending = counted(thread)?.since(thread.counted);
    Some(PendingFaults { row: thread.base, pad: 0, counted: thread.counted, pending })
}

/// Assigns `vcpu` to the thread at `position`, and settles the thread that ran it before. Returns what
/// KVM has counted of it that is in a row already, or happened before we watched.
#[inline(always)]
fn take_vcpu(cpu: &mut Cpu, position: u32, vcpu: u64) -> VcpuFaults {
    let known = leave_vcpu(cpu, vcpu);
    if maps::vcpus().insert(vcpu, position, 0).is_err() {
        runs::lose(cpu, Loss::Threads, 1);
    }
    if known || !registry::is_seen_from_creation(kernel::vcpu_kvm(vcpu)) {
        kernel::vcpu_faults(vcpu)
    } else {
        // Programs may have been skipped for its first faults.
        VcpuFaults::NONE
    }
}

/// Settles a vCPU that KVM is about to free.
#[inline(always)]
pub fn gone<C: EbpfContext>(ctx: &C, cpu: &mut Cpu, vcpu: u64) {
    if leave_vcpu(cpu, vcpu) {
        let _ = maps::vcpus().remove(vcpu);
        return;
    }
    // Programs were skipped for all of its faults, or it had none.
    let kvm = kernel::vcpu_kvm(vcpu);
    let faults = kernel::vcpu_faults(vcpu);
    if faults.taken != 0 && registry::is_seen_from_creation(kvm) {
        let cause = registry::fault_cause(cpu, kvm);
        let row = registry::row_of(ctx, cpu, kvm, cause);
        runs::add(cpu, row, Counter::Fault as usize, faults.taken);
        runs::add(cpu, row, Counter::FastFault as usize, faults.fast);
        times::add_to(row, Sum::Retried, faults.retried());
    }
}

/// Settles the thread that ran `vcpu` last, and parts them. Returns whether any thread was known to have
/// run it.
#[inline(always)]
fn leave_vcpu(cpu: &mut Cpu, vcpu: u64) -> bool {
    // SAFETY: a copy of a value that changes only with the thread that runs the vCPU.
    let Some(position) = (unsafe { maps::vcpus().get(vcpu) }).copied() else { return false };
    let Some(thread) = threads::place(position) else { return true };
    if thread.vcpu == vcpu {
        settle(cpu, thread);
        thread.vcpu = 0;
        thread.fault_at = 0;
        thread.pml_full_at = 0;
        threads::remove_hint(thread);
    }
    true
}

/// Gives back the place of a thread that has ended.
#[inline(always)]
pub fn thread_gone(cpu: &mut Cpu, id: u64) {
    let Some(thread) = threads::of(id) else { return };
    if has_vcpu(thread) {
        settle(cpu, thread);
    }
    thread.fault_at = 0;
    thread.pml_full_at = 0;
    thread.vcpu = 0;
    threads::release(thread);
}
