//! Tracepoints whose programs may be preempted.
//!
//! From 7.x on tracepoints are protected by SRCU instead of disabled preemption. A program that is
//! preempted is skipped for every other thread on that CPU until it goes on (`prog->active` in
//! `__bpf_trace_run`): with more vCPUs than CPUs, thousands of events at a time. So a second program
//! watches each tracepoint there, after the first, and takes what that was skipped for. It costs some
//! 150 instructions an event; without it totals would be off by a percent in such storms. What is
//! skipped by both is counted by the kernel, and reported as lost.

use collapse_common::abi::{Cpu, Watched};

use crate::{context, kernel::fact, maps, runs};

/// Runs the first program of a tracepoint.
#[inline(always)]
pub fn first(tracepoint: Watched, body: impl FnOnce(&mut Cpu)) -> u32 {
    let Some(cpu) = maps::cpu() else { return 0 };
    body(cpu);
    if fact!(preemptible) != 0
        && let Some(thread) = context::current(cpu)
    {
        thread.first[tracepoint as usize] += 1;
    }
    0
}

/// Runs the second program of a tracepoint: only if the first was skipped for this thread's event.
/// `strangers` says whether a thread that is not known was not seen by the first either.
#[inline(always)]
pub fn second(tracepoint: Watched, strangers: bool, body: impl FnOnce(&mut Cpu)) -> u32 {
    let Some(cpu) = maps::cpu() else { return 0 };
    match context::current(cpu) {
        Some(thread) => {
            let first = thread.first[tracepoint as usize];
            if thread.second[tracepoint as usize] != first {
                thread.second[tracepoint as usize] = first;
                return 0;
            }
        }
        None if strangers => {}
        None => return 0,
    }
    runs::own_add(&mut cpu.again[tracepoint as usize], 1);
    body(cpu);
    0
}
