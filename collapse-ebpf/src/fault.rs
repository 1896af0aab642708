//! Guest faults: how many, what each came to, and how long it kept the vCPU from its guest. Under
//! dirty logging most are resolved by the lockless fast path, which changes no SPTE that
//! [`crate::spte`] could see: without these hooks the dirty-touch phase is invisible. KVM's own counts
//! of them are the matter of [`vcpus`].

use aya_ebpf::{
    EbpfContext,
    helpers::{bpf_get_current_pid_tgid, bpf_get_prandom_u32, bpf_ktime_get_ns},
    macros::{kprobe, raw_tracepoint},
    programs::{ProbeContext, RawTracePointContext},
};
use collapse_common::{
    Counter, Transition,
    abi::{Kernel, Thread, VcpuMarkKind},
    latency::{BUCKETS, Latencies, OUTCOMES, Outcome, SQUARE_UNIT, SUMS, Sum, bucket},
};

use crate::{
    hints::{self, Hint},
    kernel::{self, fact},
    maps, marks, pml, progress, registry, runs, threads, vcpus,
    word::{bounded, shared_add},
};

/// `PFERR_RSVD_MASK`: with nested paging of AMD, and in shadow paging, only KVM's own MMIO SPTEs have reserved
/// bits set.
const RESERVED: u64 = 1 << 3;

/// Ticks in a fault from which on it is long: with two, it took a tick at least.
const LONG: i64 = 2;

/// `PT_PAGE_SIZE_MASK`, not used by KVM at level 1.
const LARGE: u64 = 1 << 7;

/// `kvm_page_fault(vcpu, addr, error_code)`, 6.1 and later: times one fault in
/// [`fact!`]`(time_faults)`, and learns nothing. From 7.x on it may be preempted, and is then skipped for
/// other threads on its CPU, which costs a sample.
#[raw_tracepoint(tracepoint = "kvm_page_fault")]
pub fn page_fault(ctx: RawTracePointContext) -> u32 {
    let ticks = hints::ticks();
    let hint = hints::own();
    if hint.vcpu != ctx.arg(0) {
        page_fault_elsewhere(&ctx, ticks);
        return 0;
    }
    hint.began = ticks;
    hint.address = ctx.arg(1);
    if count_down(hint) {
        time_page_fault(&ctx);
    }
    0
}

/// What [`page_fault`] does where this CPU has no hint of the vCPU.
#[cold]
#[inline(never)]
fn page_fault_elsewhere(ctx: &RawTracePointContext, ticks: i64) {
    begin_elsewhere(ticks, ctx.arg(1));
    if count_down(hints::own()) {
        time_page_fault(ctx);
    }
}

/// Begins to time a fault, if it is its turn.
#[cold]
#[inline(never)]
fn time_page_fault(ctx: &RawTracePointContext) {
    time(hints::own(), ctx.arg(0), is_of_device(ctx.arg(2)));
}

/// `kvm_mmu_page_fault(vcpu, addr, error_code, …)`: 5.10, whose `kvm_page_fault` tracepoint names no
/// vCPU, and whose KVM does not count all faults. Counts those that KVM does not, and times one in
/// [`fact!`]`(time_faults)`.
#[kprobe]
pub fn mmu_page_fault(ctx: ProbeContext) -> u32 {
    let vcpu = kernel::arg(&ctx, 0);
    // Of EPT's exits, too, the code is made to be as others are.
    let device = kernel::arg(&ctx, 2) & RESERVED != 0;
    let hint = hints::own();
    if !vcpus::is_settled(hint, vcpu) {
        enter(&ctx, vcpu);
    }
    let (ticks, address) = (hints::ticks(), kernel::arg(&ctx, 1));
    if hint.vcpu == vcpu {
        (hint.began, hint.address) = (ticks, address);
    } else {
        begin_elsewhere(ticks, address);
    }
    if count_down(hint) {
        time(hint, vcpu, device);
    }
    if fact!(vcpu_taken) == Kernel::UNKNOWN && !device {
        runs::count_unshared(hint.counters, Counter::Fault as usize);
    }
    0
}

/// Whether a fault is on emulated device memory. With EPT such accesses are no faults, and the bit of
/// `kvm_page_fault`'s code, which is the exit qualification, has another meaning.
#[inline(always)]
fn is_of_device(error_code: u64) -> bool {
    error_code & RESERVED != 0 && fact!(ept) == 0
}

/// Notes the tick at which a fault on an address begins, of a thread of which this CPU has no hint.
///
/// With a hint, it is in there: a long fault is known for what it is when its vCPU enters the guest again. An access
/// to an emulated device ends where its vCPU leaves to the VMM, and takes KVM itself no tick: asking here what kind
/// of fault it is would cost each one 3 instructions.
#[inline(always)]
fn begin_elsewhere(ticks: i64, address: u64) {
    if let Some(thread) = threads::of(bpf_get_current_pid_tgid()) {
        (thread.began, thread.address) = (ticks, address);
    }
}

/// Whether a fault that began at a tick is long by now; never one that has not begun.
#[inline(always)]
fn is_long(began: i64, ticks: i64) -> bool {
    ticks.wrapping_sub(began) >= LONG
}

/// Whether a fault is one to be timed, or the first on this CPU.
#[inline(always)]
fn count_down(hint: &mut Hint) -> bool {
    hint.until_timed -= 1;
    hint.until_timed <= 0
}

/// Begins to time a fault: two time stamps and what goes with them cost more than everything else here.
#[inline(always)]
fn time(hint: &mut Hint, vcpu: u64, device: bool) {
    let one_in = i64::from(fact!(time_faults));
    if one_in == 0 {
        hint.until_timed = i64::MAX;
        return;
    }
    if maps::UNTIMED.get() != 0 {
        // Until there is room in the budget again.
        hint.until_timed = one_in;
        return;
    }
    // The first on a CPU is chosen by chance, so that each fault is as likely to be timed as another.
    let is_turn = hint.until_timed == 0;
    // SAFETY: no arguments.
    let later =
        if is_turn { 0 } else { i64::from(unsafe { bpf_get_prandom_u32() }) & (one_in - 1) };
    hint.until_timed = if later == 0 { one_in } else { later };
    if later != 0 {
        return;
    }
    let Some(thread) = threads::of(bpf_get_current_pid_tgid()) else { return };
    thread.outcome = if device { Outcome::Mmio } else { Outcome::Nothing } as u32;
    thread.fast_before = kernel::vcpu_fast_faults(vcpu);
    // SAFETY: no arguments.
    thread.fault_at = unsafe { bpf_ktime_get_ns() };
    // The vCPU's next entry looks at the thread.
    hints::of(thread.cpu).vcpu = 0;
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

/// `kvm_entry(vcpu, …)`: the vCPU goes to its guest, after a fault or anything else. Interrupts are off,
/// so this is where a vCPU's thread is recognised: every fault of a guest comes after an entry.
#[raw_tracepoint(tracepoint = "kvm_entry")]
pub fn entry(ctx: RawTracePointContext) -> u32 {
    let ticks = hints::ticks();
    let hint = hints::own();
    if vcpus::is_settled(hint, ctx.arg(0)) && !is_long(hint.began, ticks) {
        hint.began = hints::NOT_BEGUN;
    } else {
        enter_unsettled(&ctx);
    }
    0
}

/// What [`entry`] does where there is something to do.
#[cold]
#[inline(never)]
fn enter_unsettled(ctx: &RawTracePointContext) {
    enter(ctx, ctx.arg(0));
}

/// `kvm_userspace_exit(reason, errno)`: the vCPU leaves KVM for its VMM, which may hold it for as long as
/// it likes: a fault or an exit for a full log is over then. May be preempted from 7.x on, which costs a sample at most.
#[raw_tracepoint(tracepoint = "kvm_userspace_exit")]
pub fn userspace_exit(_: RawTracePointContext) -> u32 {
    let hint = hints::own();
    let id = bpf_get_current_pid_tgid();
    if hint.thread == id {
        hint.began = hints::NOT_BEGUN;
        // So that its fault is not timed.
        if hint.vcpu != 0 {
            return 0;
        }
    }
    if let Some(thread) = threads::of(id) {
        thread.began = hints::NOT_BEGUN;
        thread.fault_at = 0;
        pml::end(thread);
    }
    0
}

/// `kvm_dirty_ring_exit(vcpu)`: the vCPU leaves for its VMM to empty its dirty ring. May be preempted from 7.x on.
#[raw_tracepoint(tracepoint = "kvm_dirty_ring_exit")]
pub fn ring_full(ctx: RawTracePointContext) -> u32 {
    let Some(cpu) = maps::cpu() else { return 0 };
    let vcpu = ctx.arg(0);
    let kvm = kernel::vcpu_kvm(vcpu);
    let cause = registry::fault_cause(cpu, kvm);
    let row = registry::row_of(&ctx, cpu, kvm, cause);
    runs::count_shared(cpu, row, Counter::RingFull as usize);
    marks::vcpu(cpu, VcpuMarkKind::RingFull, row, vcpu, 0, 0);
    0
}

/// Ends the fault of the current thread if it was timed or is long, and learns which vCPU it runs.
#[inline(always)]
fn enter<C: EbpfContext>(ctx: &C, vcpu: u64) {
    let Some(cpu) = maps::cpu() else { return };
    let Some(thread) = threads::current_or_new(cpu) else { return };
    let hint = hints::own();
    let ticks = if hint.began > 0 { hints::ticks().wrapping_sub(hint.began) } else { 0 };
    hint.began = hints::NOT_BEGUN;
    if thread.fault_at != 0 || ticks >= LONG {
        let long = end(thread, ticks);
        // Not what the fast path resolved, as is known now.
        if thread.fault_at != 0 && thread.outcome == Outcome::Nothing as u32 {
            progress::none(cpu, thread, vcpu, hint.address);
        }
        if long != 0 {
            marks::vcpu(cpu, VcpuMarkKind::LongFault, thread.row, vcpu, hint.address, long);
        }
    }
    pml::end(thread);
    vcpus::enter(ctx, cpu, thread, vcpu);
}

/// Ends a fault that was timed, or that took `ticks`. Returns how long it took, ns, if it is long; else 0.
#[inline(always)]
fn end(thread: &mut Thread, ticks: i64) -> u64 {
    let Some(latencies) = maps::latencies().get_ptr_mut(thread.row) else { return 0 };
    // SAFETY: the value lives as long as the program.
    let latencies = unsafe { &mut *latencies };
    if thread.fault_at == 0 {
        let took = ticks as u64 * u64::from(fact!(tick_ns));
        add_long(latencies, took);
        return took;
    }
    // SAFETY: no arguments.
    let took = unsafe { bpf_ktime_get_ns() } - thread.fault_at;
    if kernel::vcpu_fast_faults(thread.vcpu) != thread.fast_before {
        thread.outcome = Outcome::Fast as u32;
    }
    let outcome = thread.outcome as usize;
    if outcome >= OUTCOMES {
        return 0;
    }
    // The mask bounds the index for the verifier.
    shared_add(&mut latencies[outcome][bounded::<{ BUCKETS - 1 }>(bucket(took))], 1);
    if outcome == Outcome::Mmio as usize {
        return 0;
    }
    if ticks >= LONG {
        add_long(latencies, took);
        took
    } else {
        let sums = &mut latencies[SUMS];
        shared_add(&mut sums[Sum::Timed as usize], 1);
        shared_add(&mut sums[Sum::TimedNs as usize], took);
        let unit = took / SQUARE_UNIT;
        shared_add(&mut sums[Sum::TimedSquares as usize], unit * unit);
        0
    }
}

#[inline(always)]
fn add_long(latencies: &mut Latencies, took: u64) {
    let sums = &mut latencies[SUMS];
    shared_add(&mut sums[Sum::Long as usize], 1);
    shared_add(&mut sums[Sum::LongNs as usize], took);
}

/// `fast_page_fault(vcpu, gpa, error_code, sptep, old, ret)`: 5.10, whose KVM does not count them.
#[raw_tracepoint(tracepoint = "fast_page_fault")]
pub fn fast_page_fault_of_6(ctx: RawTracePointContext) -> u32 {
    fast_fault(ctx.arg(4), ctx.arg(5));
    0
}

/// `fast_page_fault(vcpu, fault, sptep, old, ret)`
#[raw_tracepoint(tracepoint = "fast_page_fault")]
pub fn fast_page_fault(ctx: RawTracePointContext) -> u32 {
    fast_fault(ctx.arg(3), ctx.arg(4));
    0
}

/// Counts what KVM counts as `pf_fast` from 5.19 on: fixed, or found fixed. May be preempted from 7.x on.
#[inline(always)]
fn fast_fault(old: u64, ret: u32) {
    if ret == fact!(ret_pf_invalid) {
        return;
    }
    let Some(cpu) = maps::cpu() else { return };
    let Some(thread) = threads::of(bpf_get_current_pid_tgid()) else { return };
    thread.outcome = Outcome::Fast as u32;
    runs::count_shared(cpu, thread.row, Counter::FastFault as usize);
    if old & LARGE != 0 {
        runs::count_shared(cpu, thread.row, Counter::FastFaultHuge as usize);
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
