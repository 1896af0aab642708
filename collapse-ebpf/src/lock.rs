//! Waits for `mmu_lock`, which serialises whatever changes a VM's page tables: what a vCPU waits for in a fault may be
//! the work of another thread.
//!
//! The tracepoints fire for every lock that is contended (5.19 and later), on the slow path, where a wait costs more
//! than these programs. `mmu_lock` is an `rwlock_t`, which few locks of the kernel are; who waits for one spins with
//! preemption off, except on `PREEMPT_RT`, where the waits are not seen.

use aya_ebpf::{helpers::bpf_ktime_get_ns, macros::raw_tracepoint, programs::RawTracePointContext};
use collapse_common::{Cause, abi::Cpu, latency::Timed};

use crate::{
    kernel::{self, fact},
    maps, registry, threads, times,
};

/// `LCB_F_SPIN | LCB_F_READ` and `LCB_F_SPIN | LCB_F_WRITE`: readers and writers of an `rwlock_t`.
const RWLOCK: [u64; 2] = [3, 5];

/// `contention_begin(lock, flags)`
#[raw_tracepoint(tracepoint = "contention_begin")]
pub fn lock_wait(ctx: RawTracePointContext) -> u32 {
    let flags = kernel::raw_arg(&ctx, 1) & u64::from(u32::MAX);
    if !RWLOCK.contains(&flags) {
        return 0;
    }
    let lock = kernel::raw_arg(&ctx, 0);
    if registry::known(vm_of(lock)).is_none() {
        return 0;
    }
    if let Some(cpu) = maps::cpu() {
        cpu.awaited = lock;
        // SAFETY: no arguments.
        cpu.awaited_since = unsafe { bpf_ktime_get_ns() };
    }
    0
}

/// `contention_end(lock, ret)`
#[raw_tracepoint(tracepoint = "contention_end")]
pub fn lock_taken(ctx: RawTracePointContext) -> u32 {
    let Some(cpu) = maps::cpu() else { return 0 };
    let lock = kernel::raw_arg(&ctx, 0);
    if cpu.awaited != lock {
        return 0;
    }
    cpu.awaited = 0;
    // SAFETY: no arguments.
    let took = unsafe { bpf_ktime_get_ns() } - cpu.awaited_since;
    let row = row(&ctx, cpu, vm_of(lock));
    times::add(row, Timed::LOCK_WAITS, took);
    0
}

/// The VM whose `mmu_lock` a lock is, if it is one.
#[inline(always)]
fn vm_of(lock: u64) -> u64 {
    lock.wrapping_sub(fact!(kvm_mmu_lock).into())
}

/// Returns the row of what the current thread does to a VM.
#[inline(always)]
fn row(ctx: &RawTracePointContext, cpu: &mut Cpu, kvm: u64) -> u32 {
    if let Some(thread) = threads::current(cpu)
        && let Some(owner) = maps::row_owners().get_ptr(thread.row)
        // SAFETY: the value lives as long as the program.
        && unsafe { (*owner).vm.kvm } == kvm
    {
        return thread.row;
    }
    registry::row_of(ctx, cpu, kvm, Cause::Unknown as u32)
}
