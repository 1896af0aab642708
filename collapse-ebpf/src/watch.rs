//! Tracepoints whose programs may be preempted.
//!
//! From 7.x on tracepoints are protected by SRCU instead of disabled preemption. A program that is
//! preempted is skipped for every other thread on that CPU until it goes on (`prog->active` in
//! `__bpf_trace_run`): with more vCPUs than CPUs, thousands of events at a time. So a second program
//! watches each tracepoint there, after the first, and takes the events that the first was skipped for. It costs some
//! 150 instructions an event; without it totals would be off by a percent in such storms. What is
//! skipped by both is counted by the kernel, and reported as lost.

use collapse_common::abi::{Cpu, Thread, Watched};

use crate::{kernel::fact, maps, threads, word::own_add};

/// Runs the first program of a tracepoint, for the current thread if that is known.
#[inline(always)]
pub fn first(tracepoint: Watched, body: impl FnOnce(&mut Cpu, Option<&mut Thread>)) {
    let Some(cpu) = maps::cpu() else { return };
    let mut thread = threads::current(cpu);
    body(cpu, thread.as_deref_mut());
    if fact!(preemptible) != 0
        && let Some(thread) = thread
    {
        thread.first[tracepoint as usize] += 1;
    }
}

/// Runs the second program of a tracepoint: only if the first was skipped for this thread's event.
#[inline(always)]
pub fn second(tracepoint: Watched, body: impl FnOnce(&mut Cpu, &mut Thread)) -> u32 {
    let Some(cpu) = maps::cpu() else { return 0 };
    let Some(thread) = threads::current(cpu) else { return 0 };
    let first = thread.first[tracepoint as usize];
    if thread.second[tracepoint as usize] != first {
        thread.second[tracepoint as usize] = first;
        return 0;
    }
    own_add(&mut cpu.again[tracepoint as usize], 1);
    body(cpu, thread);
    0
}
