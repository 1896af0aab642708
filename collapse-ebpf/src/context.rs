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
        Cpu, DEPTH, Loss, Mark, MarkKind, Pages, RECORD_MARK, RowOwner, Slot, Span, Thread,
        UNKNOWN_ROW, Vm, VmKey, WATCHED,
    },
    cause::CAUSES,
};

use crate::{
    kernel::{self, fact},
    maps, runs,
};

/// `BPF_NOEXIST`: fail rather than replace.
const NO_EXIST: u64 = 1;

/// Where changes by the current thread count now.
pub struct Row {
    /// The row.
    pub row: u32,
    /// Whether the thread is in no operation.
    pub is_base: bool,
    /// Thread id.
    pub tid: u32,
}

/// Where changes by the current thread count now; `None` if it is not known.
#[inline(always)]
pub fn row(cpu: &mut Cpu) -> Option<Row> {
    let id = bpf_get_current_pid_tgid();
    let tid = id as u32;
    // A program that is preempted while it learns a thread leaves halves of two.
    if fact!(preemptible) == 0 && cpu.thread == id {
        return Some(Row { row: cpu.row, is_base: cpu.row == cpu.base, tid });
    }
    let thread = current(cpu)?;
    Some(Row { row: thread.row, is_base: thread.row == thread.base, tid })
}

/// The current thread's place, if it has one.
#[inline(always)]
pub fn current(cpu: &mut Cpu) -> Option<&'static mut Thread> {
    let id = bpf_get_current_pid_tgid();
    match place(cpu.place) {
        Some(thread) if thread.id == id => {
            if cpu.thread != id {
                learn(cpu, thread, cpu.place);
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
    learn(cpu, thread, position);
    Some(thread)
}

/// Makes this CPU the one that knows the current thread.
#[inline(always)]
fn learn(cpu: &mut Cpu, thread: &mut Thread, position: u32) {
    if thread.cpu != cpu.id {
        forgotten_by(thread.cpu, thread.id);
        thread.cpu = cpu.id;
    }
    cpu.place = position;
    update(cpu, thread);
    cpu.thread = thread.id;
}

/// Makes a CPU know a thread no more. What it learns at the same time may be forgotten with it, and
/// then is looked up again.
#[inline(always)]
fn forgotten_by(cpu: u32, id: u64) {
    if let Some(cpu) = maps::cpu_of(cpu)
        && cpu.thread == id
    {
        cpu.thread = 0;
    }
}

/// Tells this CPU what changed of the current thread.
#[inline(always)]
pub fn update(cpu: &mut Cpu, thread: &Thread) {
    cpu.row = thread.row;
    cpu.base = thread.base;
    cpu.vcpu = thread.vcpu;
    cpu.generation = thread.generation;
    cpu.unsettled = u32::from(thread.fault_at | thread.zapped != 0);
}

/// Whether the current thread is known to this CPU, and there is nothing to tell of it.
#[inline(always)]
pub fn is_settled(cpu: &Cpu) -> bool {
    // A program that is preempted while it learns a thread leaves halves of two.
    fact!(preemptible) == 0 && cpu.unsettled == 0 && cpu.thread == bpf_get_current_pid_tgid()
}

/// The row of the current thread if it is settled, in no operation, and runs `vcpu` as before.
#[inline(always)]
pub fn settled_vcpu(cpu: &Cpu, vcpu: u64) -> Option<u32> {
    let same = cpu.vcpu == vcpu && cpu.generation == maps::GENERATION.get() as u32;
    (same && cpu.row == cpu.base && is_settled(cpu)).then_some(cpu.row)
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
        generation: 0,
        stack: 0,
        vcpu: 0,
        zapped: 0,
        installed: 0,
        fault_at: 0,
        outcome: 0,
        cpu: cpu.id,
        host_cause: 0,
        pad: 0,
        slot_kvm: 0,
        yields: 0,
        first: [0; WATCHED],
        second: [0; WATCHED],
        span: Span::NONE,
    };
    learn(cpu, thread, position);
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
    let generation = maps::GENERATION.get() as u32;
    if thread.vcpu != vcpu || thread.generation != generation {
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
    thread.fault_at = 0;
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
        cpu.thread = 0;
        let position = cpu.place;
        let _ = maps::thread_index().remove(id);
        let _ = maps::free_threads().push(position, 0);
    }
}

/// Gives the place of a thread back that is gone.
#[inline(always)]
pub fn forget(id: u64) {
    // SAFETY: a copy of a map value that nobody changes any more.
    let Some(position) = (unsafe { maps::thread_index().get(id) }).copied() else { return };
    if maps::thread_index().remove(id).is_ok() {
        if let Some(thread) = place(position) {
            forgotten_by(thread.cpu, id);
            thread.id = 0;
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
    let vm = Vm { born, logged: 0, total: 0, logging: 0, collapsing: 0, rows: [0; CAUSES] };
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
