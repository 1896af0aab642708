//! SPTE changes of the TDP MMU.

use aya_ebpf::{
    helpers::bpf_get_current_pid_tgid,
    macros::{kprobe, raw_tracepoint},
    programs::{ProbeContext, RawTracePointContext, tracing::StackIdContext},
};
use collapse_common::{
    SpteLayout, Transition,
    abi::{Cpu, Loss, RunKey, Thread, UNKNOWN_ROW, Watched, Writer, zapped},
    counter::index,
    spte::{SpteBits, classify},
};

use crate::{
    fault, hints,
    kernel::{self, fact},
    maps, runs, threads, watch,
    word::bounded,
};

/// One change of an SPTE, as a hook sees it.
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
            // 1 to 5; that the rest of the register is empty saves clearing it three times.
            level: bounded::<7>(ctx.arg(2)) as u32,
            old: ctx.arg(3),
            new: ctx.arg(4),
        }
    }

    #[inline(always)]
    fn transition(&self, layout: &impl SpteBits) -> Transition {
        classify(layout, self.level, self.old, self.new)
    }
}

/// `kvm_tdp_mmu_spte_changed(as_id, gfn, level, old, new)`, 6.1 and later. An empty program here
/// costs 109 instructions, a kprobe on the traced function 396.
#[raw_tracepoint(tracepoint = "kvm_tdp_mmu_spte_changed")]
pub fn spte_changed(ctx: RawTracePointContext) -> u32 {
    let change = Change::of(&ctx);
    let transition = change.transition(&WithPresentBit);
    if !changed_as_hinted(&ctx, &change, transition) {
        watch::first(Watched::SpteChanged, |cpu, thread| {
            changed(&ctx, cpu, thread, Writer::Tdp, &change, transition);
        });
    }
    0
}

/// The second look at `kvm_tdp_mmu_spte_changed`.
#[raw_tracepoint(tracepoint = "kvm_tdp_mmu_spte_changed")]
pub fn spte_changed_again(ctx: RawTracePointContext) -> u32 {
    let change = Change::of(&ctx);
    let transition = change.transition(&WithPresentBit);
    watch::second(Watched::SpteChanged, |cpu, thread| {
        changed(&ctx, cpu, Some(thread), Writer::TdpAgain, &change, transition);
    })
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
    let transition = change.transition(&kernel::spte_layout());
    if !changed_as_hinted(&ctx, &change, transition)
        && let Some(cpu) = maps::cpu()
    {
        let thread = threads::current(cpu);
        changed(&ctx, cpu, thread, Writer::Tdp, &change, transition);
    }
    0
}

/// The SPTE layout of kernels that have `kvm_tdp_mmu_spte_changed`. Two masks are the same on all of
/// them, and the others are loaded only where they are needed, which saves 12 instructions.
struct WithPresentBit;

impl SpteBits for WithPresentBit {
    #[inline(always)]
    fn present(&self) -> u64 {
        SpteLayout::NPT.present
    }

    #[inline(always)]
    fn writable(&self) -> u64 {
        SpteLayout::NPT.writable
    }

    #[inline(always)]
    fn accessed(&self) -> u64 {
        fact!(spte.accessed)
    }

    #[inline(always)]
    fn dirty(&self) -> u64 {
        fact!(spte.dirty)
    }
}

/// Counts a change by this CPU's hint, and records it if it belongs to a mapping's life cycle. Returns
/// `false` if the hint is not enough to go by. Most changes go this way: they are made by a known
/// thread, in an operation or in place.
#[inline(always)]
fn changed_as_hinted<C: StackIdContext>(ctx: &C, change: &Change, transition: Transition) -> bool {
    let hint = hints::own();
    let id = bpf_get_current_pid_tgid();
    if hint.thread != id || (fault::may_matter(transition, change.level) && hint.row == hint.base) {
        return false;
    }
    let counter = index(transition, change.level);
    runs::count_unshared(hint.counters, counter);
    if runs::records(transition)
        && let Some(cpu) = maps::cpu()
    {
        record(ctx, cpu, Writer::Tdp, hint.row, id as u32, change, transition);
    }
    true
}

/// Counts a change in the row of its thread, and records it if it belongs to a mapping's life cycle.
#[inline(always)]
fn changed<C: StackIdContext>(
    ctx: &C,
    cpu: &mut Cpu,
    thread: Option<&mut Thread>,
    writer: Writer,
    change: &Change,
    mut transition: Transition,
) {
    let &Change { gfn, level, .. } = change;
    let Some(thread) = thread else {
        runs::count(cpu, UNKNOWN_ROW, index(transition, level));
        if runs::records(transition) {
            runs::lose(cpu, Loss::Context, 1);
        }
        return;
    };
    // Most changes do not matter to a fault: those in place, and all outside faults.
    if thread.row == thread.base && fault::may_matter(transition, level) {
        if level > 1 {
            transition = split_in_two_steps(thread, transition, level, gfn);
        }
        fault::changes(thread, transition, level);
        threads::update_hint(cpu, thread);
    }
    runs::count(cpu, thread.row, index(transition, level));
    if runs::records(transition) {
        record(ctx, cpu, writer, thread.row, thread.id as u32, change, transition);
    }
}

#[inline(always)]
fn record<C: StackIdContext>(
    ctx: &C,
    cpu: &mut Cpu,
    writer: Writer,
    row: u32,
    tid: u32,
    change: &Change,
    transition: Transition,
) {
    let &Change { as_id, gfn, level, old, new } = change;
    let read_only = transition == Transition::Install && new & SpteLayout::NPT.writable == 0;
    let counter = index(transition, level);
    let key = RunKey::new(row, counter, as_id, read_only, maps::EPOCH.get() as u32);
    let change = runs::Change { transition, key, tid, gfn, level, old, new };
    runs::record(ctx, cpu, writer, &change);
}

/// A fault that splits a huge page does so in two steps on 5.10 and 6.1: zap, then link of a page
/// table. Returns a transition of its own for the link, so that the pair can be counted as one split.
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
