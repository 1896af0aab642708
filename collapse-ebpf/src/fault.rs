//! Guest faults: how many, what each came to, and how long it kept the vCPU from its guest. Under
//! dirty logging most are resolved by the lockless fast path, which changes no SPTE that
//! [`crate::spte`] could see: without these hooks the dirty-touch phase is invisible. KVM's own counts
//! of them are the matter of [`vcpus`].

use aya_ebpf::{
    EbpfContext,
    helpers::bpf_ktime_get_ns,
    macros::{kprobe, raw_tracepoint},
    programs::{ProbeContext, RawTracePointContext},
};
use collapse_common::{
    Counter, Transition,
    abi::{Cpu, Thread},
    latency::{BUCKETS, OUTCOMES, Outcome, bucket},
};

use crate::{
    hints::{self, Hint},
    kernel::{self, fact},
    maps, runs, threads, vcpus,
    word::{bounded, shared_add},
};

/// `PFERR_RSVD_MASK`: with nested paging only KVM's own MMIO SPTEs have reserved bits set.
const RESERVED: u64 = 1 << 3;

/// `PT_PAGE_SIZE_MASK`, not used by KVM at level 1.
const LARGE: u64 = 1 << 7;

/// `kvm_page_fault(vcpu, addr, error_code)`, 6.1 and later.
#[raw_tracepoint(tracepoint = "kvm_page_fault")]
pub fn page_fault(ctx: RawTracePointContext) -> u32 {
    let vcpu = ctx.arg(0);
    let hint = hints::own();
    let settled = vcpus::is_settled(hint, vcpu);
    if !settled || count_down(hint) {
        begin(&ctx, hint, settled, vcpu, ctx.arg(2));
    }
    0
}

/// The second look at `kvm_page_fault`: the first may have been skipped for a thread that is not known
/// yet, or of which something has changed.
#[raw_tracepoint(tracepoint = "kvm_page_fault")]
pub fn page_fault_again(ctx: RawTracePointContext) -> u32 {
    let Some(cpu) = maps::cpu() else { return 0 };
    let vcpu = ctx.arg(0);
    if !vcpus::is_known(cpu, vcpu) {
        vcpus::enter_fault(&ctx, cpu, vcpu);
    }
    0
}

/// `kvm_mmu_page_fault(vcpu, addr, error_code, …)`: 5.10, whose `kvm_page_fault` tracepoint names no
/// vCPU, and whose KVM does not count all faults.
#[kprobe]
pub fn mmu_page_fault(ctx: ProbeContext) -> u32 {
    let (vcpu, error_code) = (kernel::arg(&ctx, 0), kernel::arg(&ctx, 2));
    let hint = hints::own();
    let settled = vcpus::is_settled(hint, vcpu);
    if !settled || count_down(hint) {
        begin(&ctx, hint, settled, vcpu, error_code);
    }
    if error_code & RESERVED == 0 {
        runs::count_unshared(hint.counters, Counter::Fault as usize);
    }
    0
}

/// Whether a settled vCPU's fault is one to be timed.
#[inline(always)]
fn count_down(hint: &mut Hint) -> bool {
    hint.until_timed = hint.until_timed.wrapping_sub(1);
    hint.until_timed == 0
}

/// Learns whose fault begins, and times one fault in [`fact!`]`(time_faults)`: two time stamps and what
/// goes with them cost more than everything else here.
#[inline(always)]
fn begin<C: EbpfContext>(ctx: &C, hint: &mut Hint, settled: bool, vcpu: u64, error_code: u64) {
    let one_in = u64::from(fact!(time_faults));
    if !settled {
        // Nobody counts down to the first on a CPU.
        if hint.until_timed == 0 || hint.until_timed > one_in {
            hint.until_timed = one_in;
        }
        hint.until_timed = hint.until_timed.wrapping_sub(1);
    }
    let timed = one_in != 0 && hint.until_timed == 0 && maps::UNTIMED.get() == 0;
    let Some(cpu) = maps::cpu() else { return };
    // Where programs can be preempted, there are no hints.
    if fact!(preemptible) != 0 && !timed && vcpus::is_idle(cpu, vcpu) {
        return;
    }
    let Some(thread) = vcpus::enter_fault(ctx, cpu, vcpu) else { return };
    if timed {
        hint.until_timed = one_in;
        time(cpu, thread, error_code);
    }
}

#[inline(always)]
fn time(cpu: &mut Cpu, thread: &mut Thread, error_code: u64) {
    let mmio = error_code & RESERVED != 0;
    thread.outcome = if mmio { Outcome::Mmio } else { Outcome::Nothing } as u32;
    thread.fast_before = kernel::vcpu_fast_faults(thread.vcpu);
    // SAFETY: no arguments.
    let now = unsafe { bpf_ktime_get_ns() };
    vcpus::set_fault_at(thread, now);
    threads::update_hint(cpu, thread);
}

/// Whether a change can decide what a guest fault came to, or be half of a split.
#[inline(always)]
pub fn may_matter(transition: Transition, level: u32) -> bool {
    let half = level > 1 && matches!(transition, Transition::Zap | Transition::Link);
    half || resolves(transition)
}

/// Notes the change of an SPTE by a guest fault of this thread.
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
    // Nearly always; 5 instructions, where finding the thread takes 40.
    if maps::TIMED.get() == 0 {
        return 0;
    }
    let Some(cpu) = maps::cpu() else { return 0 };
    let Some(thread) = threads::current(cpu) else { return 0 };
    if thread.fault_at == 0 {
        return 0;
    }
    // SAFETY: no arguments.
    let took = unsafe { bpf_ktime_get_ns() } - thread.fault_at;
    vcpus::set_fault_at(thread, 0);
    threads::update_hint(cpu, thread);
    count_stall(cpu, thread.row, took);
    if kernel::vcpu_fast_faults(thread.vcpu) != thread.fast_before {
        thread.outcome = Outcome::Fast as u32;
    }
    let outcome = thread.outcome as usize;
    if outcome < OUTCOMES
        && let Some(latencies) = maps::latencies().get_ptr_mut(thread.row)
    {
        // SAFETY: the value lives as long as the program; the mask bounds the index for the verifier.
        shared_add(
            unsafe { &mut (*latencies)[outcome][bounded::<{ BUCKETS - 1 }>(bucket(took))] },
            1,
        );
    }
    0
}

/// Counts the stall of a timed fault, ns, for all the faults that it stands for. This is the only place
/// where time is scaled by the share of faults that are timed: [`Counter::Stall`] is an estimate for all
/// faults, while the histograms of latencies hold the timed ones alone.
#[inline(always)]
fn count_stall(cpu: &Cpu, row: u32, took: u64) {
    runs::add(cpu, row, Counter::Stall as usize, took * u64::from(fact!(time_faults)));
}

/// `fast_page_fault(vcpu, gpa, error_code, sptep, old, ret)`: 5.10, whose KVM does not count them.
#[raw_tracepoint(tracepoint = "fast_page_fault")]
pub fn fast_page_fault_of_6(ctx: RawTracePointContext) -> u32 {
    let Some(cpu) = maps::cpu() else { return 0 };
    fast_fault(cpu, ctx.arg(4), ctx.arg(5));
    0
}

/// `fast_page_fault(vcpu, fault, sptep, old, ret)`
#[raw_tracepoint(tracepoint = "fast_page_fault")]
pub fn fast_page_fault(ctx: RawTracePointContext) -> u32 {
    let Some(cpu) = maps::cpu() else { return 0 };
    fast_fault(cpu, ctx.arg(3), ctx.arg(4));
    0
}

/// Counts what KVM counts as `pf_fast` from 5.19 on: fixed, or found fixed.
#[inline(always)]
fn fast_fault(cpu: &mut Cpu, old: u64, ret: u32) {
    if ret == fact!(ret_pf_invalid) {
        return;
    }
    let Some(thread) = threads::current(cpu) else { return };
    thread.outcome = Outcome::Fast as u32;
    runs::count(cpu, thread.row, Counter::FastFault as usize);
    if old & LARGE != 0 {
        runs::count(cpu, thread.row, Counter::FastFaultHuge as usize);
    }
}

/// `kvm_arch_vcpu_destroy(vcpu)`: the last moment to read KVM's counts.
#[kprobe]
pub fn vcpu_destroyed(ctx: ProbeContext) -> u32 {
    if let Some(cpu) = maps::cpu() {
        vcpus::gone(&ctx, cpu, kernel::arg(&ctx, 0));
    }
    0
}
