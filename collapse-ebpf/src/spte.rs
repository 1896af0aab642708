//! SPTE changes of the TDP MMU.

use aya_ebpf::{
    macros::{kprobe, raw_tracepoint},
    programs::{ProbeContext, RawTracePointContext},
};
use collapse_common::{
    Transition,
    abi::{Cpu, Loss, RunKey, Thread, UNKNOWN_ROW, Watched, Writer, zapped},
    counter::index,
    spte::classify,
};

use crate::{context, fault, kernel, maps, runs, watch};

/// One change of an SPTE, as a hook saw it.
struct Change {
    as_id: u32,
    gfn: u64,
    level: u32,
    old: u64,
    new: u64,
}

impl Change {
    #[inline(always)]
    fn of(ctx: &RawTracePointContext) -> Self {
        Self {
            as_id: ctx.arg(0),
            gfn: ctx.arg(1),
            level: ctx.arg(2),
            old: ctx.arg(3),
            new: ctx.arg(4),
        }
    }
}

/// `kvm_tdp_mmu_spte_changed(as_id, gfn, level, old, new)`, 6.1 and later. An empty program here
/// costs 109 instructions, a kprobe on the traced function 396.
#[raw_tracepoint(tracepoint = "kvm_tdp_mmu_spte_changed")]
pub fn spte_changed(ctx: RawTracePointContext) -> u32 {
    let change = Change::of(&ctx);
    watch::first(Watched::SpteChanged, |cpu| changed(cpu, Writer::Tdp, &change))
}

/// The second look at it.
#[raw_tracepoint(tracepoint = "kvm_tdp_mmu_spte_changed")]
pub fn spte_changed_again(ctx: RawTracePointContext) -> u32 {
    let change = Change::of(&ctx);
    watch::second(Watched::SpteChanged, false, |cpu| changed(cpu, Writer::TdpAgain, &change))
}

/// `__handle_changed_spte(kvm, as_id, gfn, old, new, level)` of 5.10, which has no tracepoint for
/// it. Only attached there: other kernels order the arguments differently.
#[kprobe]
pub fn handle_changed_spte(ctx: ProbeContext) -> u32 {
    let arg = |n| kernel::arg(&ctx, n);
    let change = Change {
        as_id: arg(1) as u32,
        gfn: arg(2),
        level: arg(5) as u32,
        old: arg(3),
        new: arg(4),
    };
    if let Some(cpu) = maps::cpu() {
        changed(cpu, Writer::Tdp, &change);
    }
    0
}

/// Counts a change where it belongs, and records it if it tells of the life of a mapping.
#[inline(always)]
fn changed(cpu: &mut Cpu, writer: Writer, change: &Change) {
    let &Change { as_id, gfn, level, old, new } = change;
    let layout = kernel::spte_layout();
    let mut transition = classify(layout, level, old, new);
    let Some(context::Row { row, is_base, tid }) = context::row(cpu) else {
        runs::count(cpu, UNKNOWN_ROW, index(transition, level));
        if runs::records(transition) {
            runs::lose(cpu, Loss::Context, 1);
        }
        return;
    };
    // Most changes tell a fault nothing: those in place, and all outside faults.
    if is_base
        && fault::may_tell(transition, level)
        && let Some(thread) = context::current(cpu)
    {
        if level > 1 {
            transition = split_in_two_steps(thread, transition, level, gfn);
        }
        fault::changes(thread, transition, level);
        context::update(cpu, thread);
    }
    let counter = index(transition, level);
    runs::count(cpu, row, counter);
    if runs::records(transition) {
        let read_only = transition == Transition::Install && !layout.is_writable(new);
        let key = RunKey::new(row, counter, as_id, read_only, maps::EPOCH.get() as u32);
        runs::record(cpu, writer, &runs::Change { key, tid, gfn, level, old, new });
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
