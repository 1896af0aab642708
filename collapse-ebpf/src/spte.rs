//! SPTE changes of the TDP MMU.

use aya_ebpf::{
    EbpfContext,
    helpers::bpf_get_current_pid_tgid,
    macros::{kprobe, raw_tracepoint},
    programs::{ProbeContext, RawTracePointContext, tracing::StackIdContext},
};
use collapse_common::{
    SpteLayout, Transition,
    abi::{Cpu, Loss, RunKey, Thread, UNKNOWN_ROW, Writer, zapped},
    counter::index,
    spte::{SpteBits, classify},
};

use crate::{
    fault,
    hints::{self, Hint},
    kernel::{self, fact},
    maps, runs, threads, vcpus,
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
    changed(&ctx, &change, transition);
    0
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
    changed(&ctx, &change, transition);
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

/// Counts a change, and records it if it belongs to a mapping's life cycle.
#[inline(always)]
fn changed<C: StackIdContext + EbpfContext>(ctx: &C, change: &Change, mut transition: Transition) {
    let hint = hints::own();
    let id = bpf_get_current_pid_tgid();
    let row = if is_hinted(hint, id, change, transition) {
        runs::count_unshared(hint.counters, index(transition, change.level));
        hint.row
    } else {
        let Some(row) = count(ctx, change, &mut transition) else { return };
        row
    };
    if runs::records(transition)
        && let Some(cpu) = maps::cpu()
    {
        record(ctx, cpu, row, id as u32, change, transition);
    }
}

/// Whether this CPU's hint is enough to go by. Most changes are made by a known thread, in an operation or
/// in place.
#[inline(always)]
fn is_hinted(hint: &Hint, id: u64, change: &Change, transition: Transition) -> bool {
    let in_fault = hint.row == hint.base;
    hint.thread == id
        && !(fault::may_matter(transition, change.level) && in_fault)
        && transition != Transition::Age
}

/// Counts a change in the row of its thread, and returns the row; `None` if that is nobody's. May find that
/// the change completes another.
#[inline(always)]
fn count<C: EbpfContext>(ctx: &C, change: &Change, transition: &mut Transition) -> Option<u32> {
    let cpu = maps::cpu()?;
    let &Change { gfn, level, .. } = change;
    if *transition == Transition::Age {
        // By host memory management, in whatever thread finds the memory old: nobody's, and nothing
        // that this CPU knows of the thread is touched.
        runs::count_shared(cpu, UNKNOWN_ROW, index(*transition, level));
        return None;
    }
    let row = if let Some(thread) = threads::current(cpu) {
        // Most changes do not matter to a fault: those in place, and all outside faults.
        if thread.row == thread.base && fault::may_matter(*transition, level) {
            if level > 1 {
                *transition = split_in_two_steps(thread, *transition, level, gfn);
            }
            fault::changes(thread, *transition, level);
            threads::update_hint(cpu, thread);
        }
        thread.row
    } else {
        vcpus::loaded_row(ctx, cpu)
    };
    runs::count(cpu, row, index(*transition, level));
    if row == UNKNOWN_ROW {
        if runs::records(*transition) {
            runs::lose(cpu, Loss::Context, 1);
        }
        return None;
    }
    Some(row)
}

#[inline(always)]
fn record<C: StackIdContext>(
    ctx: &C,
    cpu: &mut Cpu,
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
    runs::record(ctx, cpu, Writer::Tdp, &change);
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
