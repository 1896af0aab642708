//! Counting, and run-length records.

use core::sync::atomic::{Ordering, compiler_fence};

use aya_ebpf::{
    bindings::BPF_RB_NO_WAKEUP,
    helpers::{bpf_get_smp_processor_id, bpf_ktime_get_ns},
};
use collapse_common::abi::{
    BLOCK_RUNS, Cpu, Loss, Mark, RECORD_BLOCK, RECORD_MARK, Run, RunKey, UNKNOWN_ROW,
};

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

/// Records one change: extends the open run if it goes on with the next guest frame, else closes
/// it and opens another.
///
/// A time stamp and a ring-buffer record per change would each cost as much as all the rest of the
/// program (79 and 171 instructions); here both are paid once per run and once per block of 32.
#[inline(always)]
pub fn record(cpu: &mut Cpu, key: RunKey, tid: u32, gfn: u64, step: u64) {
    if cpu.open.key == key && cpu.next_gfn == gfn && cpu.open.tid == tid && cpu.open.count != 0 {
        cpu.open.count += 1;
        cpu.next_gfn = gfn + step;
        return;
    }
    cpu.begun += 1;
    compiler_fence(Ordering::SeqCst);
    close(cpu);
    // SAFETY: no arguments.
    let ts = unsafe { bpf_ktime_get_ns() };
    cpu.open = Run { ts, gfn, key, tid, count: 1 };
    cpu.next_gfn = gfn + step;
    compiler_fence(Ordering::SeqCst);
    cpu.ended += 1;
}

#[inline(always)]
fn close(cpu: &mut Cpu) {
    if cpu.open.count == 0 {
        return;
    }
    let len = cpu.len as usize & (BLOCK_RUNS - 1);
    cpu.block.runs[len] = cpu.open;
    if len + 1 < BLOCK_RUNS {
        cpu.len = len as u32 + 1;
        return;
    }
    cpu.len = 0;
    cpu.block.record = RECORD_BLOCK;
    // SAFETY: no arguments.
    cpu.block.cpu = unsafe { bpf_get_smp_processor_id() };
    if maps::ring()
        .output::<collapse_common::abi::Block>(&cpu.block, BPF_RB_NO_WAKEUP.into())
        .is_err()
    {
        let lost = cpu.block.runs.iter().map(|run| u64::from(run.count)).sum::<u64>();
        lose(cpu, Loss::RecordedChanges, lost);
    }
    cpu.block.number += 1;
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
