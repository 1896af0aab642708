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

/// Arguments of a hook on one change of an SPTE. They are read where they are needed: what is kept across
/// calls of helpers is saved on the stack.
trait Change {
    fn as_id(&self) -> u32;

    fn gfn(&self) -> u64;

    /// 1 to 5.
    fn level(&self) -> u32;

    /// The SPTE before.
    fn old(&self) -> u64;

    /// The SPTE after.
    fn new(&self) -> u64;
}

impl Change for RawTracePointContext {
    #[inline(always)]
    fn as_id(&self) -> u32 {
        kernel::raw_arg(self, 0) as u32
    }

    #[inline(always)]
    fn gfn(&self) -> u64 {
        kernel::raw_arg(self, 1)
    }

    #[inline(always)]
    fn level(&self) -> u32 {
        // That the rest of the register is empty saves clearing it three times.
        bounded::<7>(kernel::raw_arg(self, 2) as usize) as u32
    }

    #[inline(always)]
    fn old(&self) -> u64 {
        kernel::raw_arg(self, 3)
    }

    #[inline(always)]
    fn new(&self) -> u64 {
        kernel::raw_arg(self, 4)
    }
}

/// `__handle_changed_spte(kvm, as_id, gfn, old, new, level)` of 5.10.
impl Change for ProbeContext {
    #[inline(always)]
    fn as_id(&self) -> u32 {
        kernel::arg(self, 1) as u32
    }

    #[inline(always)]
    fn gfn(&self) -> u64 {
        kernel::arg(self, 2)
    }

    #[inline(always)]
    fn level(&self) -> u32 {
        bounded::<7>(kernel::arg(self, 5) as usize) as u32
    }

    #[inline(always)]
    fn old(&self) -> u64 {
        kernel::arg(self, 3)
    }

    #[inline(always)]
    fn new(&self) -> u64 {
        kernel::arg(self, 4)
    }
}

/// `kvm_tdp_mmu_spte_changed(as_id, gfn, level, old, new)`, 6.1 and later. An empty program here
/// costs 109 instructions, a kprobe on the traced function 396.
#[raw_tracepoint(tracepoint = "kvm_tdp_mmu_spte_changed")]
pub fn spte_changed(ctx: RawTracePointContext) -> u32 {
    changed(&ctx, &WithPresentBit);
    0
}

/// `__handle_changed_spte(kvm, as_id, gfn, old, new, level)` of 5.10, which has no tracepoint for
/// it. Only attached there: other kernels order the arguments differently.
#[kprobe]
pub fn handle_changed_spte(ctx: ProbeContext) -> u32 {
    changed(&ctx, &kernel::spte_layout());
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
fn changed<C: Change + StackIdContext + EbpfContext>(ctx: &C, layout: &impl SpteBits) {
    let level = ctx.level();
    let mut transition = classify(layout, level, ctx.old(), ctx.new());
    let hint = hints::own();
    let id = bpf_get_current_pid_tgid();
    let row = if hint.thread == id && is_enough(hint, transition, level) {
        runs::count_unshared(hint.counters, index(transition, level));
        hint.row
    } else {
        let Some((row, counted)) = count(ctx, level, transition) else { return };
        transition = counted;
        row
    };
    if runs::records(transition)
        && let Some(cpu) = maps::cpu()
    {
        let (transition, level) = runs::generalize(transition, level, ctx.old());
        record(ctx, cpu, row, level, transition);
    }
}

/// Whether the hint of its thread is all that a change needs. Most changes are made in an operation, or
/// in place.
#[inline(always)]
fn is_enough(hint: &Hint, transition: Transition, level: u32) -> bool {
    let in_fault = hint.row == hint.base;
    transition != Transition::Age && !(in_fault && fault::may_matter(transition, level))
}

/// Counts a change in the row of its thread, and returns the row and what the change turned out to be;
/// `None` if the row is nobody's.
#[inline(always)]
fn count<C: Change + EbpfContext>(
    ctx: &C,
    level: u32,
    transition: Transition,
) -> Option<(u32, Transition)> {
    let cpu = maps::cpu()?;
    if transition == Transition::Age {
        // By host memory management, in whatever thread finds the memory old: nobody's, and nothing
        // that this CPU knows of the thread is touched.
        runs::count_shared(cpu, UNKNOWN_ROW, index(transition, level));
        return None;
    }
    let (mut transition, level) = runs::generalize(transition, level, ctx.old());
    let row = if let Some(thread) = threads::current(cpu) {
        // Most changes do not matter to a fault: those in place, and all outside faults.
        if thread.row == thread.base && fault::may_matter(transition, level) {
            if level > 1 {
                transition = split_in_two_steps(thread, transition, level, ctx.gfn());
            }
            fault::changes(thread, transition, level);
            threads::update_hint(cpu, thread);
        }
        thread.row
    } else {
        vcpus::loaded_row(ctx, cpu)
    };
    runs::count(cpu, row, index(transition, level));
    if row == UNKNOWN_ROW {
        if runs::records(transition) {
            runs::lose(cpu, Loss::Context, 1);
        }
        return None;
    }
    Some((row, transition))
}

#[inline(always)]
fn record<C: Change + StackIdContext>(
    ctx: &C,
    cpu: &mut Cpu,
    row: u32,
    level: u32,
    transition: Transition,
) {
    let (gfn, old, new) = (ctx.gfn(), ctx.old(), ctx.new());
    let read_only = transition == Transition::Install && new & SpteLayout::NPT.writable == 0;
    let counter = index(transition, level);
    let key = RunKey::new(row, counter, ctx.as_id(), read_only, maps::EPOCH.get() as u32);
    let tid = bpf_get_current_pid_tgid() as u32;
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
