//! Exits for a full log of dirty pages: where the CPU logs the pages that a guest writes to (PML), that is what
//! dirty logging costs the guest, one exit in 512 writes.

use aya_ebpf::{
    helpers::{bpf_get_current_pid_tgid, bpf_ktime_get_ns},
    macros::raw_tracepoint,
    programs::RawTracePointContext,
};
use collapse_common::{
    abi::{Loss, Thread},
    latency::{SUMS, Sum},
};

use crate::{hints, maps, runs, threads, word::shared_add};

/// `kvm_pml_full(vcpu_id)`: a vCPU left its guest for KVM to empty its log, which it did on its way here. Notes
/// when, and leaves the rest to [`end`]. May be preempted from 7.x on: what is skipped then is counted as lost.
///
/// The thread of a vCPU is known since its guest was entered; one whose guest ran when programs were attached is
/// not, and its first exit is lost.
#[raw_tracepoint(tracepoint = "kvm_pml_full")]
pub fn pml_full(_: RawTracePointContext) -> u32 {
    let Some(thread) = threads::of(bpf_get_current_pid_tgid()) else {
        if let Some(cpu) = maps::cpu() {
            runs::lose_shared(cpu, Loss::Context, 1);
        }
        return 0;
    };
    // SAFETY: no arguments.
    thread.pml_full_at = unsafe { bpf_ktime_get_ns() };
    // The vCPU's next entry looks at the thread.
    hints::of(thread.cpu).vcpu = 0;
    0
}

/// Counts the exit for a full log that a thread handles, if it does: its vCPU is about to enter the guest, or to
/// leave to its VMM. May be preempted.
#[inline(always)]
pub fn end(thread: &mut Thread) {
    if thread.pml_full_at == 0 {
        return;
    }
    // SAFETY: no arguments.
    let took = unsafe { bpf_ktime_get_ns() } - thread.pml_full_at;
    thread.pml_full_at = 0;
    if let Some(latencies) = maps::latencies().get_ptr_mut(thread.row) {
        // SAFETY: the value lives as long as the program.
        let sums = unsafe { &mut (*latencies)[SUMS] };
        shared_add(&mut sums[Sum::PmlFull as usize], 1);
        shared_add(&mut sums[Sum::PmlFullNs as usize], took);
    }
}
