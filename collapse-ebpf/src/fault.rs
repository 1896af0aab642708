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
fn begin<C: EbpfContext>(ctx: &C, cpu: &mut Cpu, vcpu: u64, error_code: u64) {
    cpu.faults = cpu.faults.wrapping_add(1);
    let timed = fact!(time_faults) != 0 && cpu.faults & (fact!(time_faults) - 1) == 0;
    // The two time stamps of a timed fault cost more than all else.
    if !timed && let Some(row) = context::settled_vcpu(cpu, vcpu) {
        runs::count(cpu, row, Counter::Fault as usize);
        return;
    }
    let Some(thread) = context::vcpu_thread(ctx, cpu, vcpu) else { return };
    runs::count(cpu, thread.row, Counter::Fault as usize);
    if timed {
        let mmio = error_code & RESERVED != 0;
        thread.outcome = if mmio { Outcome::Mmio } else { Outcome::Nothing } as u32;
        // SAFETY: no arguments.
        thread.fault_at = unsafe { bpf_ktime_get_ns() };
        context::update(cpu, thread);
    }
}

/// Whether a change can tell what a guest fault came to, or be half of a split.
#[inline(always)]
pub fn may_tell(transition: Transition, level: u32) -> bool {
    let half = level > 1 && matches!(transition, Transition::Zap | Transition::Link);
    half || resolves(transition)
}

/// A guest fault changed an SPTE.
#[inline(always)]
pub fn changes(thread: &mut Thread, transition: Transition, level: u32) {
    if resolves(transition) {
        thread.outcome = if level > 1 { Outcome::Huge } else { Outcome::Small } as u32;
    }
}

#[inline(always)]
fn resolves(transition: Transition) -> bool {
    matches!(
        transition,
        Transition::Install
            | Transition::Recover
            | Transition::RecoverReadOnly
            | Transition::MakeWritable
            | Transition::Update
    )
}

/// `kvm_entry(vcpu, …)`: the vCPU goes back to its guest, after a fault or anything else.
#[raw_tracepoint(tracepoint = "kvm_entry")]
pub fn entry(_: RawTracePointContext) -> u32 {
    let Some(cpu) = maps::cpu() else { return 0 };
    if context::is_settled(cpu) {
        return 0;
    }
    let Some(thread) = context::current(cpu) else { return 0 };
    if thread.fault_at == 0 {
        return 0;
    }
    // SAFETY: no arguments.
    let took = unsafe { bpf_ktime_get_ns() } - thread.fault_at;
    thread.fault_at = 0;
    context::update(cpu, thread);
    let stands_for = took * u64::from(fact!(time_faults));
    runs::add(cpu, thread.row, Counter::Stall as usize, stands_for);
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
fn fast_fault(cpu: &mut Cpu, old: u64, ret: u32) {
    let fixed = ret == fact!(ret_pf_fixed);
    let row = if context::is_settled(cpu) {
        cpu.row
    } else {
        let Some(thread) = context::current(cpu) else { return };
        if fixed {
            thread.outcome = Outcome::Fast as u32;
        }
        thread.row
    };
    let counter = if fixed { Counter::FastFault } else { Counter::FastFaultOther };
    runs::count(cpu, row, counter as usize);
    if fixed && old & LARGE != 0 {
        runs::count(cpu, row, Counter::FastFaultHuge as usize);
    }
}
