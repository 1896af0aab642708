//! Counting, and run-length records.

use core::arch::asm;

use aya_ebpf::{
    bindings::BPF_RB_NO_WAKEUP, helpers::bpf_ktime_get_ns, programs::tracing::StackIdContext,
};
use collapse_common::{
    Selection, Transition,
    abi::{
        Block, Cpu, Loss, Mark, RECORD_MARK, RECORD_SINGLE, RECORD_STACKED, RunKey, RunList,
        Single, Stacked, WRITERS, Writer,
    },
    counter::COUNTERS,
    selection::is_sampled,
    spte::frames,
};

use crate::{
    kernel::{chosen, fact},
    maps,
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
        own_add(unsafe { &mut (*row)[bounded::<{ COUNTERS - 1 }>(counter)] }, n);
    }
}

/// Adds one to a counter at a position of counters that no other program can come to meanwhile.
#[inline(always)]
pub fn count_unshared(counters: u32, counter: usize) {
    if let Some(counters) = maps::counters(counters) {
        // SAFETY: the counters are this CPU's own.
        unsafe { (*counters)[bounded::<{ COUNTERS - 1 }>(counter)] += 1 };
    }
}

/// `at & MASK`, where the compiler would leave out a mask that it finds redundant, and the verifier
/// needs it.
#[inline(always)]
pub fn bounded<const MASK: usize>(mut at: usize) -> usize {
    // SAFETY: plain arithmetic.
    unsafe {
        asm!("{0} &= {1}", inout(reg) at, const MASK, options(pure, nomem, nostack));
        core::hint::assert_unchecked(at <= MASK);
    }
    at
}

/// Adds to a word that only this CPU writes: in one instruction where another program may come
/// between loading and storing, else in three that together take a fraction of the time.
#[inline(always)]
pub fn own_add(word: &mut u64, n: u64) {
    if fact!(preemptible) == 0 {
        *word += n;
    } else {
        shared_add(word, n);
    }
}

/// Adds to a word that any CPU may write.
#[inline(always)]
pub fn shared_add(word: &mut u64, n: u64) {
    // SAFETY: BPF_ATOMIC | BPF_ADD on an aligned word of a map value. `core` has no `fetch_add` for a
    // target that cannot compare and exchange.
    unsafe { asm!("lock *(u64 *)({0} + 0) += {1}", in(reg) word, in(reg) n, options(nostack)) };
}

/// Whether such changes are recorded beside being counted.
#[inline(always)]
pub fn records(transition: Transition) -> bool {
    match chosen!(transitions) {
        Selection::LIFE_CYCLE => transition.is_recorded(),
        transitions => transitions >> (transition as u32) & 1 != 0,
    }
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

/// Records one change if it is wanted: in a run, see [`RunList::record`], or on its own.
#[inline(always)]
pub fn record<C: StackIdContext>(ctx: &C, cpu: &mut Cpu, writer: Writer, change: &Change) {
    if !is_wanted(change) {
        return;
    }
    let left_out = maps::LEFT_OUT.get();
    if left_out != 0 && (change.gfn / frames(2) | 1 << 63) & left_out != 0 {
        lose(cpu, Loss::LeftOut, 1);
        return;
    }
    if chosen!(each) != 0 {
        return single(ctx, cpu, change);
    }
    let &Change { key, tid, gfn, level, .. } = change;
    let runs = &mut cpu.runs[writer as usize];
    if fact!(preemptible) != 0 && cpu.writer != writer as u32 {
        // Order is kept within a list only: a run that went on across what another writer recorded
        // would tell all of it before or after that.
        cpu.writer = writer as u32;
        runs.next_gfn = u64::MAX;
    }
    // SAFETY: no arguments.
    let now = || unsafe { bpf_ktime_get_ns() };
    let list = cpu.id * WRITERS as u32 + writer as u32;
    let mut lost = 0;
    runs.record(key, tid, gfn, frames(level), now, |runs| lost = send(list, runs));
    if lost != 0 {
        lose(cpu, Loss::RecordedChanges, lost);
    }
}

/// Whether the region and the row are among those chosen. The verifier leaves out what is not asked.
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
        let stack = ctx.get_stackid(maps::stacks(), 0).unwrap_or(-1);
        maps::ring().output::<Stacked>(&Stacked { single, stack }, BPF_RB_NO_WAKEUP.into())
    } else {
        maps::ring().output::<Single>(&single, BPF_RB_NO_WAKEUP.into())
    };
    if sent.is_err() {
        lose(cpu, Loss::RecordedChanges, 1);
    }
}

/// Sends the full block of a run list; returns how many changes were lost with it.
#[inline(always)]
fn send(list: u32, runs: &mut RunList) -> u64 {
    runs.block.list = list;
    if maps::ring().output::<Block>(&runs.block, BPF_RB_NO_WAKEUP.into()).is_ok() {
        return 0;
    }
    runs.block.runs.iter().map(|run| u64::from(run.count)).sum()
}

/// Sends a mark.
#[inline(always)]
pub fn mark(cpu: &mut Cpu, mark: &Mark) {
    debug_assert!(mark.record == RECORD_MARK);
    if maps::ring().output::<Mark>(mark, BPF_RB_NO_WAKEUP.into()).is_err() {
        lose(cpu, Loss::Marks, 1);
    }
}

/// Counts a loss.
#[inline(always)]
pub fn lose(cpu: &mut Cpu, loss: Loss, n: u64) {
    own_add(&mut cpu.loss[loss as usize], n);
}
