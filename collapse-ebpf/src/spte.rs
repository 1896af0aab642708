//! SPTE changes of the TDP MMU.

use aya_ebpf::{
    macros::{kprobe, raw_tracepoint},
    programs::{ProbeContext, RawTracePointContext},
};
use collapse_common::{
    Transition,
    abi::{Cpu, Loss, RunKey, Thread, UNKNOWN_ROW, zapped},
    counter::index,
    spte::{classify, frames},
};

use crate::{context, kernel, maps, runs};

/// One change of an SPTE, as a hook saw it.
pub struct Change {
    pub as_id: u32,
    pub gfn: u64,
    pub level: u32,
    pub transition: Transition,
}

/// `kvm_tdp_mmu_spte_changed(as_id, gfn, level, old, new)`, 6.1 and later. An empty program here
/// costs 109 instructions, a kprobe on the traced function 396.
#[raw_tracepoint(tracepoint = "kvm_tdp_mmu_spte_changed")]
pub fn spte_changed(ctx: RawTracePointContext) -> u32 {
    let level: u32 = ctx.arg(2);
    let transition = classify(kernel::spte_layout(), level, ctx.arg(3), ctx.arg(4));
    if let Some(cpu) = maps::cpu() {
        let thread = context::current(cpu);
        changed(cpu, thread, &Change { as_id: ctx.arg(0), gfn: ctx.arg(1), level, transition });
    }
    0
}

/// `__handle_changed_spte(kvm, as_id, gfn, old, new, level)` of 5.10, which has no tracepoint for
/// it. Only attached there: other kernels order the arguments differently.
#[kprobe]
pub fn handle_changed_spte(ctx: ProbeContext) -> u32 {
    let arg = |n| kernel::arg(&ctx, n);
    let level = arg(5) as u32;
    let transition = classify(kernel::spte_layout(), level, arg(3), arg(4));
    if let Some(cpu) = maps::cpu() {
        let thread = context::current(cpu);
        changed(cpu, thread, &Change { as_id: arg(1) as u32, gfn: arg(2), level, transition });
    }
    0
}

/// Counts a change where it belongs, and records it if it tells of the life of a mapping.
#[inline(always)]
pub fn changed(cpu: &mut Cpu, thread: Option<&'static mut Thread>, change: &Change) {
    let &Change { as_id, gfn, level, mut transition } = change;
    let Some(thread) = thread else {
        runs::count(UNKNOWN_ROW, index(transition, level));
        if transition.is_recorded() {
            runs::lose(cpu, Loss::Context, 1);
        }
        return;
    };
    if level > 1 && thread.row == thread.base {
        transition = split_in_two_steps(thread, transition, level, gfn);
    }
    let counter = index(transition, level);
    runs::count(thread.row, counter);
    if transition.is_recorded() {
        let key = RunKey::new(thread.row, counter, as_id, false, maps::EPOCH.get() as u32);
        runs::record(cpu, key, (thread.id & 0xffff_ffff) as u32, gfn, frames(level));
    }
}

/// A fault that splits a huge page does so in two steps on 5.10 and 6.1: zap, then link of a page
/// table. Tells the link half apart, so that the pair can be counted as one split.
#[inline(always)]
fn split_in_two_steps(
    thread: &mut Thread,
    transition: Transition,
    level: u32,
    gfn: u64,
) -> Transition {
    match transition {
        Transition::Zap => thread.zapped = zapped(level, gfn),
        Transition::Link if thread.zapped == zapped(level, gfn) => {
            thread.zapped = 0;
            return Transition::SplitRelink;
        }
        _ => {}
    }
    transition
}
