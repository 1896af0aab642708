//! The operations that a thread is in. Each publishes VM and cause of the changes in it when it
//! begins, and takes them back when it ends. Each is timed.

use aya_ebpf::helpers::bpf_ktime_get_ns;
use collapse_common::{
    Counter,
    abi::{Cpu, DEPTH, Loss, Role, Thread},
    latency::Timed,
};

use crate::{maps, runs, threads, times};

/// Begins an operation on this thread, whose changes are counted in `row` until [`leave`].
#[inline(always)]
pub fn enter(cpu: &mut Cpu, thread: &mut Thread, role: u32, row: u32) {
    // Runs of other threads do not go on across what this operation does, or order would be lost.
    maps::EPOCH.tick();
    runs::count(cpu, row, Counter::Operation as usize);
    if thread.depth >= DEPTH {
        // The outermost rows fall off.
        runs::lose(cpu, Loss::Depth, 1);
    }
    thread.roles = thread.roles << 4 | role;
    thread.stack = thread.stack << 16 | u64::from(thread.row);
    let [first, second, third, _] = thread.began_ns;
    // SAFETY: no arguments.
    thread.began_ns = [unsafe { bpf_ktime_get_ns() }, first, second, third];
    thread.depth += 1;
    thread.row = row;
    threads::update_hint(cpu, thread);
}

/// Ends the function that this thread entered last, and returns its role by number: 0 if none is
/// known.
#[inline(always)]
pub fn leave(cpu: &mut Cpu, thread: &mut Thread) -> u32 {
    let role = thread.roles & 15;
    thread.roles >>= 4;
    if role == Role::Host as u32 {
        thread.host_causes >>= 8;
    } else if thread.depth != 0 {
        maps::EPOCH.tick();
        add_time(thread);
        thread.depth -= 1;
        thread.row = (thread.stack & 0xffff) as u32;
        thread.stack >>= 16;
        threads::update_hint(cpu, thread);
    }
    role
}

/// Adds the time of the innermost operation to the sums of its row.
#[inline(always)]
fn add_time(thread: &mut Thread) {
    let [began, first, second, third] = thread.began_ns;
    thread.began_ns = [first, second, third, 0];
    if began == 0 {
        // It fell off, as others were nested in it.
        return;
    }
    // SAFETY: no arguments.
    times::add(thread.row, Timed::CALLS, unsafe { bpf_ktime_get_ns() } - began);
}

/// Begins work on host memory on this thread, for the [`collapse_common::Cause`] numbered `cause`, which
/// the notifiers that it calls cannot know.
#[inline(always)]
pub fn enter_host(thread: &mut Thread, cause: u32) {
    thread.roles = thread.roles << 4 | Role::Host as u32;
    thread.host_causes = thread.host_causes << 8 | cause;
}
