//! Counting, and run-length records.

use aya_ebpf::{
    bindings::BPF_RB_NO_WAKEUP,
    helpers::{bpf_get_smp_processor_id, bpf_ktime_get_ns},
};
use collapse_common::abi::{Block, Cpu, Loss, Mark, RECORD_MARK, RunKey, UNKNOWN_ROW};

use crate::maps;

/// Adds one to a counter of `row`.
#[inline(always)]
pub fn count(row: u32, counter: usize) {
    // A row out of bounds cannot be had from the tables; the unknown row absorbs it all the same.
    let row = maps::rows().get_ptr_mut(row).or_else(|| maps::rows().get_ptr_mut(UNKNOWN_ROW));
    if let Some(row) = row {
        // SAFETY: this CPU's own value. The mask bounds the index for the verifier.
        unsafe { (*row)[counter & 63] += 1 };
    }
}

/// Records one change, see [`Cpu::record`].
#[inline(always)]
pub fn record(cpu: &mut Cpu, key: RunKey, tid: u32, gfn: u64, step: u64) {
    // SAFETY: no arguments.
    let now = || unsafe { bpf_ktime_get_ns() };
    cpu.record(key, tid, gfn, step, now, send);
}

#[inline(always)]
fn send(cpu: &mut Cpu) {
    // SAFETY: no arguments.
    cpu.block.cpu = unsafe { bpf_get_smp_processor_id() };
    if maps::ring().output::<Block>(&cpu.block, BPF_RB_NO_WAKEUP.into()).is_err() {
        let lost = cpu.block.runs.iter().map(|run| u64::from(run.count)).sum::<u64>();
        lose(cpu, Loss::RecordedChanges, lost);
    }
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
    cpu.loss[loss as usize] += n;
}
