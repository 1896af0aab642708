//! Guest faults. Under dirty logging most are resolved by the lockless fast path, which changes no
//! SPTE that [`crate::spte`] could see: without these hooks the dirty-touch phase is invisible.

use aya_ebpf::{
    macros::{kprobe, raw_tracepoint},
    programs::{ProbeContext, RawTracePointContext},
};
use collapse_common::Counter;

use crate::{
    context,
    kernel::{self, fact},
    maps, runs,
};

/// `kvm_page_fault(vcpu, addr, error_code)`, 6.1 and later.
#[raw_tracepoint(tracepoint = "kvm_page_fault")]
pub fn page_fault(ctx: RawTracePointContext) -> u32 {
    if let Some(cpu) = maps::cpu()
        && let Some(thread) = context::vcpu_thread(&ctx, cpu, ctx.arg(0))
    {
        runs::count(thread.row, Counter::Fault as usize);
    }
    0
}

/// `kvm_mmu_page_fault(vcpu, …)`: 5.10, whose `kvm_page_fault` tracepoint names no vCPU.
#[kprobe]
pub fn mmu_page_fault(ctx: ProbeContext) -> u32 {
    if let Some(cpu) = maps::cpu()
        && let Some(thread) = context::vcpu_thread(&ctx, cpu, kernel::arg(&ctx, 0))
    {
        runs::count(thread.row, Counter::Fault as usize);
    }
    0
}

/// `fast_page_fault(vcpu, fault, sptep, old, ret)`, 6.1 and later.
#[raw_tracepoint(tracepoint = "fast_page_fault")]
pub fn fast_page_fault(ctx: RawTracePointContext) -> u32 {
    fast_fault(ctx.arg(4))
}

/// `fast_page_fault(vcpu, gpa, error_code, sptep, old, ret)`, 5.10.
#[raw_tracepoint(tracepoint = "fast_page_fault")]
pub fn fast_page_fault_of_6(ctx: RawTracePointContext) -> u32 {
    fast_fault(ctx.arg(5))
}

#[inline(always)]
fn fast_fault(ret: u32) -> u32 {
    if let Some(cpu) = maps::cpu()
        && let Some(thread) = context::current(cpu)
    {
        let fixed = ret == fact!(ret_pf_fixed);
        let counter = if fixed { Counter::FastFault } else { Counter::FastFaultOther };
        runs::count(thread.row, counter as usize);
    }
    0
}
