//! The operations that a thread is in. Each publishes VM and cause of the changes in it when it
//! begins, and takes them back when it ends.

use aya_ebpf::EbpfContext;
use collapse_common::{
    Cause, Counter,
    abi::{Cpu, DEPTH, Loss, Thread},
};

use crate::{maps, registry, runs, threads};

/// Begins an operation on `kvm` on this thread, to which changes belong until [`leave`].
#[inline(always)]
pub fn enter<C: EbpfContext>(
    ctx: &C,
    cpu: &mut Cpu,
    kvm: u64,
    cause: u32,
) -> Option<&'static mut Thread> {
    let thread = threads::current_or_new(cpu)?;
    let row = registry::row_of(ctx, cpu, kvm, cause);
    push(cpu, thread, row);
    Some(thread)
}

/// Like [`enter`], but inside another operation the cause of that one stays.
#[inline(always)]
pub fn enter_outermost<C: EbpfContext>(ctx: &C, cpu: &mut Cpu, kvm: u64, cause: u32) {
    let Some(thread) = threads::current_or_new(cpu) else { return };
    let row = if thread.depth == 0 { registry::row_of(ctx, cpu, kvm, cause) } else { thread.row };
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
    threads::update_hint(cpu, thread);
}

/// Ends the innermost operation of this thread.
#[inline(always)]
pub fn leave(cpu: &mut Cpu) {
    let Some(thread) = threads::current(cpu) else { return };
    if thread.depth == 0 {
        return;
    }
    maps::EPOCH.tick();
    thread.depth -= 1;
    thread.row = (thread.stack & 0xffff) as u32;
    thread.stack >>= 16;
    threads::update_hint(cpu, thread);
    threads::release_if_idle(thread);
}

/// Begins host work on this thread: it changes host memory for `cause`, which the notifiers that it calls
/// cannot know.
#[inline(always)]
pub fn enter_host(cpu: &mut Cpu, cause: Cause) {
    if let Some(thread) = threads::current_or_new(cpu) {
        thread.host_cause = cause as u32;
    }
}

/// Ends the host work that [`enter_host`] began on this thread.
#[inline(always)]
pub fn leave_host(cpu: &mut Cpu) {
    if let Some(thread) = threads::current(cpu) {
        thread.host_cause = 0;
        threads::release_if_idle(thread);
    }
}
