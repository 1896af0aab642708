//! Guest faults: how many, what each came to, and how long it kept the vCPU from its guest. Under
//! dirty logging most are resolved by the lockless fast path, which changes no SPTE that
//! [`crate::spte`] could see: without these hooks the dirty-touch phase is invisible.

use aya_ebpf::{
    EbpfContext,
    helpers::bpf_ktime_get_ns,
    macros::{kprobe, raw_tracepoint},
    programs::{ProbeContext, RawTracePointContext},
};
use collapse_common::{
    Counter, Transition,
    abi::{Cpu, Thread, Watched},
    latency::{BUCKETS, OUTCOMES, Outcome, bucket},
};

use crate::{
    context,
    kernel::{self, fact},
    maps, runs, watch,
};

/// `PFERR_RSVD_MASK`: with nested paging only KVM's own MMIO SPTEs have reserved bits set.
const RESERVED: u64 = 1 << 3;

/// `PT_PAGE_SIZE_MASK`, not used by KVM at level 1.
const LARGE: u64 = 1 << 7;

/// `kvm_page_fault(vcpu, addr, error_code)`, 6.1 and later.
#[raw_tracepoint(tracepoint = "kvm_page_fault")]
pub fn page_fault(ctx: RawTracePointContext) -> u32 {
    watch::first(Watched::PageFault, |cpu| begin(&ctx, cpu, ctx.arg(0), ctx.arg(2)))
}

/// The second look at it.
#[raw_tracepoint(tracepoint = "kvm_page_fault")]
pub fn page_fault_again(ctx: RawTracePointContext) -> u32 {
    watch::second(Watched::PageFault, true, |cpu| begin(&ctx, cpu, ctx.arg(0), ctx.arg(2)))
}

/// `kvm_mmu_page_fault(vcpu, addr, error_code, …)`: 5.10, whose `kvm_page_fault` tracepoint names no
/// vCPU.
#[kprobe]
pub fn mmu_page_fault(ctx: ProbeContext) -> u32 {
    if let Some(cpu) = maps::cpu() {
        begin(&ctx, cpu, kernel::arg(&ctx, 0), kernel::arg(&ctx, 2));
    }
    0
}

#[inline(always)]
fn begin<C: EbpfContext>(
    ctx: &C,
    cpu: &mut Cpu,
    vcpu: u64,
    error_code: u64,
) -> Option<&'static mut Thread> {
    let thread = context::vcpu_thread(ctx, cpu, vcpu)?;
    runs::count(thread.row, Counter::Fault as usize);
    let mmio = error_code & RESERVED != 0;
    thread.outcome = if mmio { Outcome::Mmio } else { Outcome::Nothing } as u32;
    if fact!(time_faults) != 0 {
        // SAFETY: no arguments.
        thread.fault_at = unsafe { bpf_ktime_get_ns() };
    }
    Some(thread)
}

/// A guest fault changed an SPTE.
#[inline(always)]
pub fn changes(thread: &mut Thread, transition: Transition, level: u32) {
    if !matches!(
        transition,
        Transition::Install
            | Transition::Recover
            | Transition::RecoverReadOnly
            | Transition::MakeWritable
            | Transition::Update
    ) {
        return;
    }
    thread.outcome = if level > 1 { Outcome::Huge } else { Outcome::Small } as u32;
}

/// `kvm_entry(vcpu, …)`: the vCPU goes back to its guest, after a fault or anything else.
#[raw_tracepoint(tracepoint = "kvm_entry")]
pub fn entry(_: RawTracePointContext) -> u32 {
    let Some(cpu) = maps::cpu() else { return 0 };
    let Some(thread) = context::current(cpu) else { return 0 };
    if thread.fault_at == 0 {
        return 0;
    }
    // SAFETY: no arguments.
    let took = unsafe { bpf_ktime_get_ns() } - thread.fault_at;
    thread.fault_at = 0;
    runs::add(thread.row, Counter::Stall as usize, took);
    let outcome = thread.outcome as usize;
    if outcome < OUTCOMES
        && let Some(latencies) = maps::latencies().get_ptr_mut(thread.row)
    {
        // SAFETY: the value lives as long as the program; the mask bounds the index for the verifier.
        runs::shared_add(
            unsafe { &mut (*latencies)[outcome][runs::bounded::<{ BUCKETS - 1 }>(bucket(took))] },
            1,
        );
    }
    0
}

/// `fast_page_fault(vcpu, fault, sptep, old, ret)`, 6.1 and later.
#[raw_tracepoint(tracepoint = "fast_page_fault")]
pub fn fast_page_fault(ctx: RawTracePointContext) -> u32 {
    watch::first(Watched::FastPageFault, |cpu| fast_fault(cpu, ctx.arg(3), ctx.arg(4)))
}

/// The second look at it.
#[raw_tracepoint(tracepoint = "fast_page_fault")]
pub fn fast_page_fault_again(ctx: RawTracePointContext) -> u32 {
    watch::second(Watched::FastPageFault, false, |cpu| fast_fault(cpu, ctx.arg(3), ctx.arg(4)))
}

/// `fast_page_fault(vcpu, gpa, error_code, sptep, old, ret)`, 5.10.
#[raw_tracepoint(tracepoint = "fast_page_fault")]
pub fn fast_page_fault_of_6(ctx: RawTracePointContext) -> u32 {
    watch::first(Watched::FastPageFault, |cpu| fast_fault(cpu, ctx.arg(4), ctx.arg(5)))
}

#[inline(always)]
fn fast_fault(cpu: &mut Cpu, old: u64, ret: u32) -> Option<&'static mut Thread> {
    let thread = context::current(cpu)?;
    if ret != fact!(ret_pf_fixed) {
        runs::count(thread.row, Counter::FastFaultOther as usize);
        return Some(thread);
    }
    thread.outcome = Outcome::Fast as u32;
    runs::count(thread.row, Counter::FastFault as usize);
    if old & LARGE != 0 {
        runs::count(thread.row, Counter::FastFaultHuge as usize);
    }
    Some(thread)
}
