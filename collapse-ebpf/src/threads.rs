//! The table of threads known to KVM. A thread publishes here which VM and cause its changes belong
//! to; a hot program finds the place of its thread through this CPU's hint and never hashes.

use aya_ebpf::helpers::bpf_get_current_pid_tgid;
use collapse_common::abi::{Cpu, DEPTH, Loss, Span, Stuck, Thread, UNKNOWN_ROW, VcpuFaults};

use crate::{hints, maps, runs};

/// Returns the place of the current thread, if it has one. Not for programs that can be preempted: it
/// writes this CPU's hint.
#[inline(always)]
pub fn current(cpu: &mut Cpu) -> Option<&'static mut Thread> {
    let id = bpf_get_current_pid_tgid();
    match place(cpu.place) {
        Some(thread) if thread.id == id => {
            if hints::own().thread != id {
                learn(cpu, thread);
            }
            Some(thread)
        }
        _ => find(cpu, id),
    }
}

#[inline(always)]
fn find(cpu: &mut Cpu, id: u64) -> Option<&'static mut Thread> {
    let thread = of(id)?;
    learn(cpu, thread);
    Some(thread)
}

/// Returns the place of the thread whose `bpf_get_current_pid_tgid` is `id`, if it has one.
#[inline(always)]
pub fn of(id: u64) -> Option<&'static mut Thread> {
    // SAFETY: a copy of a map value that only its thread changes, and user space once that is gone.
    place(unsafe { maps::thread_index().get(id) }.copied()?)
}

/// Returns the place at a position in the table.
#[inline(always)]
pub fn place(position: u32) -> Option<&'static mut Thread> {
    // SAFETY: a place is written by the thread that owns it, and by user space once that is gone.
    maps::threads().get_ptr_mut(position).map(|thread| unsafe { &mut *thread })
}

/// Returns the place of the current thread, which is taken from the free places if it has none yet.
/// `None` if there is none left.
#[inline(always)]
pub fn current_or_new(cpu: &mut Cpu) -> Option<&'static mut Thread> {
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
        roles: 0,
        generation: 0,
        stack: 0,
        vcpu: 0,
        counted: VcpuFaults::NONE,
        fast_before: 0,
        zapped: 0,
        installed: 0,
        fault_at: 0,
        pml_full_at: 0,
        began: hints::NOT_BEGUN,
        address: 0,
        outcome: 0,
        cpu: cpu.id,
        host_causes: 0,
        slot_kvm: 0,
        yields: 0,
        stuck: Stuck::NOT,
        span: Span::NONE,
        began_ns: [0; DEPTH as usize],
        pad: [0; 2],
    };
    learn(cpu, thread);
    Some(thread)
}

/// Makes this CPU the one that has a hint of the thread. When a fault began that a thread handles goes along:
/// from the hint of the CPU that it ran on, and to the place of the one that ran here.
#[inline(always)]
fn learn(cpu: &mut Cpu, thread: &mut Thread) {
    let hint = hints::own();
    if hint.thread != thread.id {
        if let Some(other) = place(cpu.place)
            && other.id == hint.thread
        {
            (other.began, other.address) = (hint.began, hint.address);
        }
        hint.began = hints::NOT_BEGUN;
    }
    cpu.place = thread.position;
    if thread.cpu != cpu.id {
        remove_hint(thread);
        thread.cpu = cpu.id;
    }
    if thread.began != hints::NOT_BEGUN {
        (hint.began, hint.address) = (thread.began, thread.address);
        thread.began = hints::NOT_BEGUN;
    }
    update_hint(cpu, thread);
}

/// Brings the hint that this CPU has of the current thread up to date.
#[inline(always)]
pub fn update_hint(cpu: &Cpu, thread: &Thread) {
    let hint = hints::own();
    hint.thread = thread.id;
    hint.row = thread.row;
    hint.base = thread.base;
    hint.counters = cpu.first_row + thread.row;
    let idle =
        thread.row == thread.base && thread.fault_at | thread.pml_full_at | thread.zapped == 0;
    hint.vcpu = if idle { thread.vcpu } else { 0 };
    hint.generation = thread.generation;
}

/// Takes the hint of a thread from the CPU that has it. If that CPU learns of another thread at the
/// same time, that hint may be lost too; the thread is then looked up again.
#[inline(always)]
pub fn remove_hint(thread: &mut Thread) {
    let hint = hints::of(thread.cpu);
    if hint.thread == thread.id {
        (thread.began, thread.address) = (hint.began, hint.address);
        hint.thread = 0;
        hint.vcpu = 0;
    }
}

/// Gives back the place of a thread that runs no vCPU and is in no operation, so that the table
/// grows with concurrency, not with the number of threads ever seen.
#[inline(always)]
pub fn release_if_idle(thread: &mut Thread) {
    if thread.depth == 0 && thread.vcpu == 0 && thread.host_causes == 0 {
        release(thread);
    }
}

/// Gives back the place of a thread.
#[inline(always)]
pub fn release(thread: &mut Thread) {
    remove_hint(thread);
    if maps::thread_index().remove(thread.id).is_ok() {
        thread.id = 0;
        let _ = maps::free_threads().push(thread.position, 0);
    }
}
