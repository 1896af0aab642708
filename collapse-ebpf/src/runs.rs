//! Counting, and run-length records.

use core::mem;

use aya_ebpf::{
    bindings::BPF_RB_NO_WAKEUP, helpers::bpf_ktime_get_ns, programs::tracing::StackIdContext,
};
use collapse_common::{
    Selection, Transition,
    abi::{
        Block, Cpu, LeftOut, Loss, MORE_STACKS, RECORD_SINGLE, RECORD_STACKED, RunKey, RunList,
        Single, Stacked, WRITERS, Writer,
    },
    counter::CPU_COUNTERS,
    selection::is_sampled,
    spte::frames,
};

use crate::{
    kernel::chosen,
    maps,
    word::{bounded, opaque, shared_add},
};

/// Adds one to a counter of `row`.
#[inline(always)]
pub fn count(cpu: &Cpu, row: u32, counter: usize) {
    add(cpu, row, counter, 1);
}

/// Adds `n` to a counter of `row`.
#[inline(always)]
pub fn add(cpu: &Cpu, row: u32, counter: usize, n: u64) {
    if let Some(row) = maps::row(cpu, row) {
        // SAFETY: the row is this CPU's own.
        unsafe { (*row)[bounded::<{ CPU_COUNTERS - 1 }>(counter)] += n };
    }
}

/// Adds one to a counter of `row`, for programs that can be preempted.
#[inline(always)]
pub fn count_shared(cpu: &Cpu, row: u32, counter: usize) {
    if let Some(row) = maps::row(cpu, row) {
        // SAFETY: the row lives as long as the program.
        shared_add(unsafe { &mut (*row)[bounded::<{ CPU_COUNTERS - 1 }>(counter)] }, 1);
    }
}

/// Adds one to a counter of the row at a position in the map of rows.
#[inline(always)]
pub fn count_unshared(counters: u32, counter: usize) {
    if let Some(counters) = maps::counters(counters) {
        // SAFETY: the counters are this CPU's own.
        unsafe { (*counters)[bounded::<{ CPU_COUNTERS - 1 }>(counter)] += 1 };
    }
}

/// Whether changes of this kind are recorded, beside being counted.
#[inline(always)]
pub fn records(transition: Transition) -> bool {
    chosen!(transitions) >> (transition as u32) & 1 != 0
}

/// Returns the transition and level of the change of an SPTE from `old` as they are, but [`opaque`] to the
/// verifier: else it follows what comes after once for each kind of change that leads there, and a program
/// takes ten times as long to load.
#[inline(always)]
pub fn generalize(transition: Transition, level: u32, old: u64) -> (Transition, u32) {
    let change = opaque(u64::from(level) << 8 | transition as u64, old);
    // SAFETY: the number of a transition, as given.
    let transition = unsafe { mem::transmute::<u8, Transition>(change as u8) };
    (transition, (change >> 8) as u32 & 7)
}

/// One change that is worth a record.
pub struct Change {
    pub transition: Transition,
    pub key: RunKey,
    pub tid: u32,
    pub gfn: u64,
    pub level: u32,
    pub old: u64,
    pub new: u64,
}

/// Records one change if the user wants it: in a run, see [`RunList::record`], or on its own.
#[inline(always)]
pub fn record<C: StackIdContext>(ctx: &C, cpu: &mut Cpu, writer: Writer, change: &Change) {
    if !is_wanted(change) {
        return;
    }
    if LeftOut::from_bits(maps::LEFT_OUT.get()).contains(change.gfn) {
        lose(cpu, Loss::LeftOut, 1);
        return;
    }
    if chosen!(each) != 0 {
        return single(ctx, cpu, change);
    }
    let &Change { key, tid, gfn, level, .. } = change;
    let runs = &mut cpu.runs[writer as usize];
    // SAFETY: no arguments.
    let now = || unsafe { bpf_ktime_get_ns() };
    let list = cpu.id * WRITERS as u32 + writer as u32;
    let mut lost = 0;
    runs.record(key, tid, gfn, frames(level), now, |runs| lost = send(list, runs));
    if lost != 0 {
        lose(cpu, Loss::RecordedChanges, lost);
    }
}

/// Whether the region and the row of a change are among those chosen. The verifier removes the checks
/// that the user did not ask for.
#[inline(always)]
fn is_wanted(change: &Change) -> bool {
    let one_in = chosen!(sample);
    if one_in > 1 && !is_sampled(change.gfn, one_in) {
        return false;
    }
    if chosen!(by_row) != 0
        && let Some(owner) = maps::row_owners().get(change.key.row())
    {
        return owner.muted == 0;
    }
    true
}

#[inline(always)]
fn single<C: StackIdContext>(ctx: &C, cpu: &mut Cpu, change: &Change) {
    let with_stack = chosen!(stacks) >> (change.transition as u32) & 1 != 0;
    let single = Single {
        record: if with_stack { RECORD_STACKED } else { RECORD_SINGLE },
        tid: change.tid,
        // SAFETY: no arguments.
        ts: unsafe { bpf_ktime_get_ns() },
        gfn: change.gfn,
        key: change.key,
        old: change.old,
        new: change.new,
    };
    let sent = if with_stack {
        let stack = stack_number(ctx);
        maps::ring().output::<Stacked>(&Stacked { single, stack }, BPF_RB_NO_WAKEUP.into())
    } else {
        maps::ring().output::<Single>(&single, BPF_RB_NO_WAKEUP.into())
    };
    if sent.is_err() {
        lose(cpu, Loss::RecordedChanges, 1);
    }
}

/// Takes the kernel's stack, and returns its number: in the second table if another stack has its place in
/// the first one, and -1 if its place in both is taken.
#[inline(always)]
fn stack_number<C: StackIdContext>(ctx: &C) -> i64 {
    match ctx.get_stackid(maps::stacks(), 0) {
        Ok(number) => number,
        Err(_) => match ctx.get_stackid(maps::more_stacks(), 0) {
            Ok(number) => number | MORE_STACKS,
            Err(_) => -1,
        },
    }
}

/// Sends the full block of a run list. Returns the number of changes that were lost with it.
#[inline(always)]
fn send(list: u32, runs: &mut RunList) -> u64 {
    runs.block.list = list;
    if maps::ring().output::<Block>(&runs.block, BPF_RB_NO_WAKEUP.into()).is_ok() {
        return 0;
    }
    runs.block.runs.iter().map(|run| u64::from(run.count)).sum()
}

/// Counts a loss, for programs that can be preempted.
#[inline(always)]
pub fn lose_shared(cpu: &mut Cpu, loss: Loss, n: u64) {
    shared_add(&mut cpu.loss[loss as usize], n);
}

/// Counts a loss.
#[inline(always)]
pub fn lose(cpu: &mut Cpu, loss: Loss, n: u64) {
    cpu.loss[loss as usize] += n;
}
