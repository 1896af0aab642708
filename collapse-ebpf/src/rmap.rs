//! SPTE changes of the rmap MMU (`tdp_mmu=N`, 5.10's default) and of shadow paging, which have no
//! tracepoint. With the TDP MMU these functions run for nested guests only.

use aya_ebpf::{
    helpers::bpf_get_current_pid_tgid,
    macros::{kprobe, raw_tracepoint},
    programs::{ProbeContext, RawTracePointContext, tracing::StackIdContext},
};
use collapse_common::{
    Cause, Counter, Transition,
    abi::{Cpu, Loss, RunKey, Thread, UNKNOWN_ROW, Writer, zapped},
    counter::index,
    spte::{SpteBits as _, classify, frames},
};

use crate::{
    fault,
    kernel::{self, fact},
    maps, registry, runs, threads, vcpus,
};

/// `mmu_spte_clear_track_bits([kvm,] sptep)`: every zap of a leaf passes through it.
#[kprobe]
pub fn clear_track_bits(ctx: ProbeContext) -> u32 {
    let arg = |n| kernel::arg(&ctx, n);
    let args = [arg(0), arg(1)];
    let (kvm, sptep) = if fact!(clear_takes_kvm) == 0 { (0, args[0]) } else { (args[0], args[1]) };
    changed(&ctx, kvm, sptep, 0)
}

/// `mmu_spte_update(sptep, new)`: installs too, whose old SPTE is empty.
#[kprobe]
pub fn spte_update(ctx: ProbeContext) -> u32 {
    let arg = |n| kernel::arg(&ctx, n);
    changed(&ctx, 0, arg(0), arg(1))
}

/// `drop_spte(kvm, sptep)`: the zaps of fault-time replacement and of zapped shadow pages only; the
/// collapse routine and the notifiers pass it by.
#[kprobe]
pub fn drop_spte(_: ProbeContext) -> u32 {
    if let Some(cpu) = maps::cpu() {
        let row = threads::current(cpu).map_or(UNKNOWN_ROW, |thread| thread.row);
        runs::count(cpu, row, Counter::DropSpte as usize);
    }
    0
}

/// `kvm_mmu_set_spte(level, gfn, sptep)`, right after [`spte_update`]: has the guest frame of an
/// install in an indirect shadow page, which is not in the page yet. Only attached in shadow paging.
#[raw_tracepoint(tracepoint = "kvm_mmu_set_spte")]
pub fn set_spte(ctx: RawTracePointContext) -> u32 {
    if let Some(cpu) = maps::cpu()
        && let Some(thread) = threads::current(cpu)
    {
        frame_known(cpu, thread, &ctx);
    }
    0
}

#[inline(always)]
fn frame_known(cpu: &mut Cpu, thread: &mut Thread, ctx: &RawTracePointContext) {
    let sptep: u64 = ctx.arg(2);
    if sptep == 0 || thread.installed != sptep {
        return;
    }
    thread.installed = 0;
    let place = Place { as_id: 0, gfn: ctx.arg(1), level: ctx.arg(0), direct: false };
    let new = kernel::read::<u64>(sptep, 0).unwrap_or(0);
    complete_split(ctx, cpu, Writer::Shadow, thread, &place);
    record(ctx, cpu, Writer::Shadow, Maker::of(thread), Transition::Install, &place, [0, new]);
}

#[inline(always)]
fn changed(ctx: &ProbeContext, kvm: u64, sptep: u64, new: u64) -> u32 {
    let Some(cpu) = maps::cpu() else { return 0 };
    let Some(old) = kernel::read::<u64>(sptep, 0) else { return 0 };
    let Some(mut place) = Place::of(sptep) else { return 0 };
    let transition = classify(&kernel::spte_layout(), place.level, old, new);
    let (transition, level) = runs::generalize(transition, place.level, old);
    place.level = level;
    let maker = match threads::current(cpu) {
        Some(thread) => count(ctx, cpu, thread, transition, &place, sptep),
        None => count_unknown(ctx, cpu, kvm, transition, &place),
    };
    if let Some(maker) = maker {
        record(ctx, cpu, Writer::Rmap, maker, transition, &place, [old, new]);
    }
    0
}

/// Counts a change by a thread, and returns who made it; `None` if its guest frame is not known yet.
#[inline(always)]
fn count(
    ctx: &ProbeContext,
    cpu: &mut Cpu,
    thread: &mut Thread,
    transition: Transition,
    place: &Place,
    sptep: u64,
) -> Option<Maker> {
    runs::count(cpu, thread.row, index(transition, place.level));
    if thread.row == thread.base {
        fault::changes(thread, transition, place.level);
    }
    match transition {
        Transition::Install if !place.direct => {
            // The page still has the frame that the entry mapped before.
            thread.installed = sptep;
            return None;
        }
        Transition::Install => complete_split(ctx, cpu, Writer::Rmap, thread, place),
        Transition::Zap if place.level > 1 && thread.row == thread.base => {
            thread.zapped = zapped(place.level, place.gfn);
            threads::update_hint(cpu, thread);
        }
        _ => {}
    }
    Some(Maker::of(thread))
}

/// Counts a change by a thread that is in no known operation, and returns who made it if that is the thread
/// of a loaded vCPU.
#[inline(always)]
fn count_unknown(
    ctx: &ProbeContext,
    cpu: &mut Cpu,
    kvm: u64,
    transition: Transition,
    place: &Place,
) -> Option<Maker> {
    let loaded = vcpus::loaded_row(ctx, cpu);
    if loaded != UNKNOWN_ROW {
        runs::count(cpu, loaded, index(transition, place.level));
        return Some(Maker { row: loaded, tid: bpf_get_current_pid_tgid() as u32 });
    }
    // Some hooks name the VM.
    let row = registry::row_of(ctx, cpu, kvm, Cause::Unknown as u32);
    runs::count(cpu, row, index(transition, place.level));
    if kvm == 0 && runs::records(transition) {
        runs::lose(cpu, Loss::Context, 1);
    }
    None
}

/// Who made a change.
struct Maker {
    row: u32,
    tid: u32,
}

impl Maker {
    #[inline(always)]
    fn of(thread: &Thread) -> Self {
        Self { row: thread.row, tid: thread.id as u32 }
    }
}

/// Records the split that an install completes, if it does. The rmap MMU splits at a fault in two steps: the
/// huge leaf is zapped, and the first small leaf in its place shows that a page table replaced it.
#[inline(always)]
fn complete_split<C: StackIdContext>(
    ctx: &C,
    cpu: &mut Cpu,
    writer: Writer,
    thread: &mut Thread,
    place: &Place,
) {
    let region = place.gfn & !(frames(2) - 1);
    if place.level == 1 && thread.row == thread.base && thread.zapped == zapped(2, region) {
        thread.zapped = 0;
        runs::count(cpu, thread.row, index(Transition::SplitRelink, 2));
        let split = Place { gfn: region, level: 2, ..*place };
        record(ctx, cpu, writer, Maker::of(thread), Transition::SplitRelink, &split, [0; 2]);
    }
}

#[inline(always)]
fn record<C: StackIdContext>(
    ctx: &C,
    cpu: &mut Cpu,
    writer: Writer,
    Maker { row, tid }: Maker,
    transition: Transition,
    place: &Place,
    [old, new]: [u64; 2],
) {
    if !runs::records(transition) {
        return;
    }
    let read_only = transition == Transition::Install && !kernel::spte_layout().is_writable(new);
    let counter = index(transition, place.level);
    let epoch = maps::EPOCH.get() as u32;
    let key = RunKey::new(row, counter, place.as_id, read_only, epoch);
    let &Place { gfn, level, .. } = place;
    let change = runs::Change { transition, key, tid, gfn, level, old, new };
    runs::record(ctx, cpu, writer, &change);
}

/// The guest memory that an SPTE of a shadow page maps, from the page's own structure.
struct Place {
    as_id: u32,
    gfn: u64,
    level: u32,
    /// Whether the page maps consecutive frames; if not, it shadows a guest page table.
    direct: bool,
}

impl Place {
    /// Mirrors `sptep_to_sp` and `kvm_mmu_page_get_gfn`: indirect pages keep the frame of each entry.
    #[inline(always)]
    fn of(sptep: u64) -> Option<Self> {
        let offset = sptep.checked_sub(maps::PAGE_OFFSET.get())?;
        let page = maps::VMEMMAP.get() + (offset >> 12) * u64::from(fact!(page_size));
        let sp: u64 = kernel::read(page, fact!(page_private))?;
        let role: u32 = kernel::read(sp, fact!(sp_role))?;
        let level = role & 0xf;
        let index = (sptep & 0xfff) / 8;
        let direct = role & DIRECT != 0;
        let gfn = if direct {
            kernel::read::<u64>(sp, fact!(sp_gfn))? + index * frames(level)
        } else {
            let translations: u64 = kernel::read(sp, fact!(sp_translation))?;
            kernel::read::<u64>(translations + index * 8, 0)? >> fact!(translation_shift)
        };
        // `role.smm` is the top byte.
        Some(Self { as_id: u32::from(role >> 24 != 0), gfn, level, direct })
    }
}

/// `kvm_mmu_page_role.direct`
const DIRECT: u32 = 1 << 7;
