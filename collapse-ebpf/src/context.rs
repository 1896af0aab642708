//! Which VM and cause the current thread's changes belong to.
//!
//! Operations publish it when they begin and end, in a table with one place per thread; a hot
//! program finds its thread's place through this CPU's hint and never hashes. A vCPU thread
//! outside any operation is handling a guest fault of the VM it last ran.

use aya_ebpf::{
    EbpfContext,
    helpers::{bpf_get_current_comm, bpf_get_current_pid_tgid, bpf_ktime_get_ns},
};
use aya_log_ebpf::{debug, warn};
use collapse_common::{
    Cause, Counter,
    abi::{
        Cpu, DEPTH, Kernel, Loss, Mark, MarkKind, Pages, PendingFaults, RECORD_MARK, RowOwner,
        Slot, Span, Thread, UNKNOWN_ROW, VcpuFaults, Vm, VmKey, WATCHED,
    },
    cause::CAUSES,
};

use crate::{
    kernel::{self, fact},
    maps::{self, Hint},
    runs,
};

/// `BPF_NOEXIST`: fail rather than replace.
const NO_EXIST: u64 = 1;

/// The current thread's place, if it has one.
#[inline(always)]
pub fn current(cpu: &mut Cpu) -> Option<&'static mut Thread> {
    let id = bpf_get_current_pid_tgid();
    match place(cpu.place) {
        Some(thread) if thread.id == id => {
            if fact!(preemptible) == 0 && maps::hint().thread != id {
                learn(cpu, thread);
            }
            Some(thread)
        }
        _ => find(cpu, id),
    }
}

#[inline(always)]
fn find(cpu: &mut Cpu, id: u64) -> Option<&'static mut Thread> {
    // SAFETY: a copy of a map value that only this thread changes.
    let position = unsafe { maps::thread_index().get(id) }.copied()?;
    let thread = place(position)?;
    learn(cpu, thread);
    Some(thread)
}

/// Makes this CPU the one with a hint of the current thread.
#[inline(always)]
fn learn(cpu: &mut Cpu, thread: &mut Thread) {
    cpu.place = thread.position;
    if thread.cpu != cpu.id {
        forgotten_by(thread.cpu, thread.id);
        thread.cpu = cpu.id;
    }
    update(cpu, thread);
}

/// Takes the hint of a thread from a CPU. What that learns at the same time may be lost with it, and
/// then is looked up again.
#[inline(always)]
fn forgotten_by(cpu: u32, id: u64) {
    let hint = maps::hint_of(cpu);
    if hint.thread == id {
        hint.thread = 0;
        hint.vcpu = 0;
    }
}

/// Brings this CPU's hint of the current thread up to date.
#[inline(always)]
pub fn update(cpu: &Cpu, thread: &Thread) {
    if fact!(preemptible) != 0 {
        return;
    }
    let hint = maps::hint();
    hint.thread = thread.id;
    hint.row = thread.row;
    hint.base = thread.base;
    hint.counters = cpu.first_row + thread.row;
    let idle = thread.row == thread.base && thread.fault_at | thread.zapped == 0;
    hint.vcpu = if idle { thread.vcpu } else { 0 };
    hint.generation = thread.generation;
}

/// Whether a fault of `vcpu` on the current thread changes nothing of what is known.
///
/// Does not ask whether the thread is the one that ran the vCPU before, which takes 15 instructions:
/// where it is not, its first SPTE change finds out.
#[inline(always)]
pub fn is_settled_vcpu(hint: &Hint, vcpu: u64) -> bool {
    hint.vcpu == vcpu && hint.generation == maps::GENERATION.get()
}

/// The same where there are no hints.
#[inline(always)]
pub fn is_idle_vcpu(cpu: &mut Cpu, vcpu: u64) -> bool {
    let Some(thread) = current(cpu) else { return false };
    runs_vcpu(thread, vcpu) && thread.row == thread.base && thread.fault_at | thread.zapped == 0
}

/// Whether the current thread is known to run `vcpu`.
#[inline(always)]
pub fn is_known_vcpu(cpu: &mut Cpu, vcpu: u64) -> bool {
    let Some(thread) = current(cpu) else { return false };
    runs_vcpu(thread, vcpu)
}

#[inline(always)]
fn runs_vcpu(thread: &Thread, vcpu: u64) -> bool {
    thread.vcpu == vcpu && thread.generation == maps::GENERATION.get()
}

/// The guest fault of the thread is timed from `now` on; with 0, no more.
#[inline(always)]
pub fn set_fault_at(thread: &mut Thread, now: u64) {
    if (thread.fault_at == 0) != (now == 0) {
        maps::TIMED.add(if now == 0 { u64::MAX } else { 1 });
    }
    thread.fault_at = now;
}

/// Adds to the thread's row what KVM has counted of its vCPU since the last time.
#[inline(always)]
fn settle(cpu: &mut Cpu, thread: &mut Thread) {
    let Some(counted) = counted(thread) else { return };
    let new = counted.since(thread.counted);
    thread.counted = counted;
    runs::add(cpu, thread.base, Counter::Fault as usize, new.taken);
    runs::add(cpu, thread.base, Counter::FastFault as usize, new.fast);
}

/// Whether the thread's vCPU is still there, should its end have been missed.
#[inline(always)]
fn has_vcpu(thread: &Thread) -> bool {
    thread.vcpu != 0 && maps::vms().get_ptr(kernel::vcpu_kvm(thread.vcpu)).is_some()
}

/// What KVM has counted of the thread's vCPU; `None` if it does not, or if there is none.
#[inline(always)]
fn counted(thread: &Thread) -> Option<VcpuFaults> {
    let vcpu = thread.vcpu;
    if fact!(vcpu_taken) == Kernel::UNKNOWN || vcpu == 0 {
        return None;
    }
    Some(kernel::vcpu_faults(vcpu))
}

/// What is counted of the vCPU of the thread at `position`, and is in no row yet.
#[inline(always)]
pub fn pending(position: u32) -> Option<PendingFaults> {
    let thread = place(position)?;
    if !has_vcpu(thread) {
        return None;
    }
    let pending = counted(thread)?.since(thread.counted);
    Some(PendingFaults { row: thread.base, pad: 0, counted: thread.counted, pending })
}

/// The thread at `position` runs `vcpu` from now on: what another thread had to do with it is done.
/// Returns what KVM has counted of it that is in a row, or is not ours to tell.
#[inline(always)]
fn take_vcpu(cpu: &mut Cpu, position: u32, vcpu: u64) -> VcpuFaults {
    let known = leave_vcpu(cpu, vcpu);
    if maps::vcpus().insert(vcpu, position, 0).is_err() {
        runs::lose(cpu, Loss::Threads, 1);
    }
    if known || !is_seen_from_creation(kernel::vcpu_kvm(vcpu)) {
        kernel::vcpu_faults(vcpu)
    } else {
        // Programs may have been skipped for its first faults.
        VcpuFaults { taken: 0, fast: 0 }
    }
}

/// KVM frees a vCPU.
#[inline(always)]
pub fn vcpu_gone<C: EbpfContext>(ctx: &C, cpu: &mut Cpu, vcpu: u64) {
    if leave_vcpu(cpu, vcpu) {
        let _ = maps::vcpus().remove(vcpu);
        return;
    }
    // Programs were skipped for all of its faults, or it had none.
    let kvm = kernel::vcpu_kvm(vcpu);
    let faults = kernel::vcpu_faults(vcpu);
    if faults.taken != 0 && is_seen_from_creation(kvm) {
        let cause = fault_cause(cpu, kvm);
        let row = row_of(ctx, cpu, kvm, cause);
        runs::add(cpu, row, Counter::Fault as usize, faults.taken);
        runs::add(cpu, row, Counter::FastFault as usize, faults.fast);
    }
}

#[inline(always)]
fn is_seen_from_creation(kvm: u64) -> bool {
    // SAFETY: the entry is removed only by the end of the VM.
    maps::vms().get_ptr(kvm).is_some_and(|vm| unsafe { (*vm).created != 0 })
}

/// The thread that ran a vCPU last runs it no more; whether any thread was known to have run it.
#[inline(always)]
fn leave_vcpu(cpu: &mut Cpu, vcpu: u64) -> bool {
    // SAFETY: a copy of a value that changes only with the thread that runs the vCPU.
    let Some(position) = (unsafe { maps::vcpus().get(vcpu) }).copied() else { return false };
    let Some(thread) = place(position) else { return true };
    if thread.vcpu == vcpu {
        settle(cpu, thread);
        thread.vcpu = 0;
        set_fault_at(thread, 0);
        forgotten_by(thread.cpu, thread.id);
    }
    true
}

#[inline(always)]
fn place(position: u32) -> Option<&'static mut Thread> {
    // SAFETY: a place is written by the thread that owns it, and by user space once that is gone.
    maps::threads().get_ptr_mut(position).map(|thread| unsafe { &mut *thread })
}

/// The current thread's place, taking one if it has none.
#[inline(always)]
fn current_or_new(cpu: &mut Cpu) -> Option<&'static mut Thread> {
    if let Some(thread) = current(cpu) {
        return Some(thread);
    }
    let id = bpf_get_current_pid_tgid();
    let Ok(Some(position)) = maps::free_threads().pop() else {
        runs::lose(cpu, Loss::Threads, 1);
        return None;
    };
    if maps::thread_index().insert(id, position, 0).is_err() {
        let _ = maps::free_threads().push(position, 0);
        runs::lose(cpu, Loss::Threads, 1);
        return None;
    }
    let thread = place(position)?;
    *thread = Thread {
        id,
        row: UNKNOWN_ROW,
        base: UNKNOWN_ROW,
        depth: 0,
        position,
        pad: 0,
        generation: 0,
        stack: 0,
        vcpu: 0,
        counted: VcpuFaults { taken: 0, fast: 0 },
        fast_before: 0,
        zapped: 0,
        installed: 0,
        fault_at: 0,
        outcome: 0,
        cpu: cpu.id,
        host_cause: 0,
        slot_kvm: 0,
        yields: 0,
        first: [0; WATCHED],
        second: [0; WATCHED],
        span: Span::NONE,
    };
    learn(cpu, thread);
    Some(thread)
}

/// The current thread, which handles a fault of `vcpu`: makes the vCPU's VM its base.
#[inline(always)]
pub fn vcpu_thread<C: EbpfContext>(
    ctx: &C,
    cpu: &mut Cpu,
    vcpu: u64,
) -> Option<&'static mut Thread> {
    let thread = current_or_new(cpu)?;
    let generation = maps::GENERATION.get();
    if thread.vcpu != vcpu || thread.generation != generation {
        if thread.vcpu == vcpu || has_vcpu(thread) {
            settle(cpu, thread);
        }
        if thread.vcpu != vcpu {
            thread.counted = take_vcpu(cpu, thread.position, vcpu);
        }
        let kvm = kernel::vcpu_kvm(vcpu);
        let cause = fault_cause(cpu, kvm);
        thread.base = row_of(ctx, cpu, kvm, cause);
        thread.vcpu = vcpu;
        thread.generation = generation;
        if thread.depth == 0 {
            thread.row = thread.base;
        }
    }
    if thread.depth != 0 {
        // A vCPU does not exit to a fault from inside an operation: its return was missed.
        runs::lose(cpu, Loss::Returns, u64::from(thread.depth));
        thread.depth = 0;
        thread.row = thread.base;
    }
    thread.zapped = 0;
    set_fault_at(thread, 0);
    update(cpu, thread);
    Some(thread)
}

/// What guest faults of a VM are caused by now.
#[inline(always)]
fn fault_cause(cpu: &mut Cpu, kvm: u64) -> u32 {
    match vm(cpu, kvm) {
        Some(vm) if vm.collapsing != 0 => Cause::RacingFault as u32,
        Some(vm) if vm.logging != 0 => Cause::LoggedFault as u32,
        _ => Cause::GuestFault as u32,
    }
}

/// An operation on `kvm` begins on this thread; changes are its until [`leave`].
#[inline(always)]
pub fn enter<C: EbpfContext>(
    ctx: &C,
    cpu: &mut Cpu,
    kvm: u64,
    cause: u32,
) -> Option<&'static mut Thread> {
    let thread = current_or_new(cpu)?;
    let row = row_of(ctx, cpu, kvm, cause);
    push(cpu, thread, row);
    Some(thread)
}

/// Like [`enter`], but inside another operation that one's cause stays.
#[inline(always)]
pub fn enter_outermost<C: EbpfContext>(ctx: &C, cpu: &mut Cpu, kvm: u64, cause: u32) {
    let Some(thread) = current_or_new(cpu) else { return };
    let row = if thread.depth == 0 { row_of(ctx, cpu, kvm, cause) } else { thread.row };
    push(cpu, thread, row);
}

#[inline(always)]
fn push(cpu: &mut Cpu, thread: &mut Thread, row: u32) {
    // Runs of other threads do not go on across what this operation does, or order would be lost.
    maps::EPOCH.tick();
    runs::count(cpu, row, Counter::Operation as usize);
    if thread.depth >= DEPTH {
        // The outermost rows fall off.
        runs::lose(cpu, Loss::Depth, 1);
    }
    thread.stack = thread.stack << 16 | u64::from(thread.row);
    thread.depth += 1;
    thread.row = row;
    update(cpu, thread);
}

/// The innermost operation of this thread ended.
#[inline(always)]
pub fn leave(cpu: &mut Cpu) {
    let Some(thread) = current(cpu) else { return };
    if thread.depth == 0 {
        return;
    }
    maps::EPOCH.tick();
    thread.depth -= 1;
    thread.row = (thread.stack & 0xffff) as u32;
    thread.stack >>= 16;
    update(cpu, thread);
    free_if_idle(cpu, thread);
}

/// Gives the place of a thread back that is no vCPU and in no operation, so that the table follows
/// concurrency.
#[inline(always)]
fn free_if_idle(cpu: &mut Cpu, thread: &mut Thread) {
    if thread.depth == 0 && thread.vcpu == 0 && thread.host_cause == 0 {
        let id = thread.id;
        thread.id = 0;
        forgotten_by(thread.cpu, id);
        let _ = maps::thread_index().remove(id);
        let _ = maps::free_threads().push(thread.position, 0);
    }
}

/// Gives the place of a thread back that is gone.
#[inline(always)]
pub fn forget(cpu: &mut Cpu, id: u64) {
    // SAFETY: a copy of a map value that nobody changes any more.
    let Some(position) = (unsafe { maps::thread_index().get(id) }).copied() else { return };
    if maps::thread_index().remove(id).is_ok() {
        if let Some(thread) = place(position) {
            if has_vcpu(thread) {
                settle(cpu, thread);
            }
            set_fault_at(thread, 0);
            forgotten_by(thread.cpu, id);
            thread.id = 0;
            thread.vcpu = 0;
        }
        let _ = maps::free_threads().push(position, 0);
    }
}

/// The thread begins to change host memory for a reason that the notifiers it calls do not know.
#[inline(always)]
pub fn enter_host(cpu: &mut Cpu, cause: Cause) {
    if let Some(thread) = current_or_new(cpu) {
        thread.host_cause = cause as u32;
    }
}

/// It is through with it.
#[inline(always)]
pub fn leave_host(cpu: &mut Cpu) {
    if let Some(thread) = current(cpu) {
        thread.host_cause = 0;
        free_if_idle(cpu, thread);
    }
}

/// The row of `kvm` and the [`Cause`] numbered `cause`, taking one if there is none.
#[inline(always)]
pub fn row_of<C: EbpfContext>(ctx: &C, cpu: &mut Cpu, kvm: u64, cause: u32) -> u32 {
    let Some(vm) = vm(cpu, kvm) else { return UNKNOWN_ROW };
    let known = vm.rows[cause as usize & (CAUSES - 1)];
    if known != 0 {
        return known.into();
    }
    let Ok(Some(row)) = maps::free_rows().pop() else {
        runs::lose(cpu, Loss::Rows, 1);
        warn!(ctx, "row table full");
        return UNKNOWN_ROW;
    };
    if let Some(owner) = maps::row_owners().get_ptr_mut(row) {
        let vm = VmKey { kvm, born: vm.born };
        // SAFETY: nobody else has this row.
        unsafe { *owner = RowOwner { vm, cause, muted: 0 } };
    }
    vm.rows[cause as usize & (CAUSES - 1)] = row as u16;
    debug!(ctx, "row {} is cause {} of kvm {:x}", row, cause, kvm);
    row
}

/// The entry of the VM at `kvm`, adopting it if it is seen for the first time.
#[inline(always)]
pub fn vm(cpu: &mut Cpu, kvm: u64) -> Option<&'static mut Vm> {
    if kvm == 0 {
        return None;
    }
    if let Some(vm) = maps::vms().get_ptr_mut(kvm) {
        // SAFETY: the entry is removed only by the end of the VM.
        return Some(unsafe { &mut *vm });
    }
    // SAFETY: no arguments.
    let born = unsafe { bpf_ktime_get_ns() };
    register(cpu, kvm, born, MarkKind::VmSeen, NO_EXIST);
    // SAFETY: as above. If another CPU was quicker, this is its entry.
    maps::vms().get_ptr_mut(kvm).map(|vm| unsafe { &mut *vm })
}

/// Enters a VM in the table and reports it.
#[inline(always)]
pub fn register(cpu: &mut Cpu, kvm: u64, born: u64, kind: MarkKind, flags: u64) {
    let vm = Vm {
        born,
        logged: 0,
        total: 0,
        logging: 0,
        collapsing: 0,
        created: u64::from(matches!(kind, MarkKind::VmCreated)),
        rows: [0; CAUSES],
    };
    match maps::vms().insert(kvm, vm, flags) {
        Ok(()) => {
            let mark = point(kind, born, VmKey { kvm, born }, Slot::NONE, kernel::pages(kvm));
            runs::mark(cpu, &mark);
        }
        // -EEXIST: another CPU was quicker.
        Err(-17) => {}
        Err(_) => runs::lose(cpu, Loss::Vms, 1),
    }
}

/// A mark for a point in time.
#[inline(always)]
pub fn point(kind: MarkKind, ts: u64, vm: VmKey, slot: Slot, pages: Pages) -> Mark {
    Mark {
        record: RECORD_MARK,
        kind: kind as u32,
        ts,
        start: ts,
        vm,
        thread: bpf_get_current_pid_tgid(),
        comm: bpf_get_current_comm().unwrap_or_default(),
        slot,
        pages_before: pages,
        pages,
        old_flags: slot.flags,
        change: 0,
        yields: 0,
        logging: 0,
    }
}

/// The span that begins now on `kvm` and `slot`.
#[inline(always)]
pub fn span(cpu: &mut Cpu, kvm: u64, slot: Slot) -> Span {
    let born = vm(cpu, kvm).map_or(0, |vm| vm.born);
    Span {
        vm: VmKey { kvm, born },
        slot,
        // SAFETY: no arguments.
        start: unsafe { bpf_ktime_get_ns() },
        pages: kernel::pages(kvm),
    }
}

/// Reports that a span ends now in which the thread gave up `mmu_lock` so many times.
#[inline(always)]
pub fn end_span(cpu: &mut Cpu, kind: MarkKind, span: Span, yields: u64) {
    // SAFETY: no arguments.
    let ts = unsafe { bpf_ktime_get_ns() };
    let mut mark = point(kind, ts, span.vm, span.slot, kernel::pages(span.vm.kvm));
    mark.start = span.start;
    mark.pages_before = span.pages;
    mark.yields = yields as u32;
    runs::mark(cpu, &mark);
}
