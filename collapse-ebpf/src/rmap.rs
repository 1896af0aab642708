//! SPTE changes of the rmap MMU (`tdp_mmu=N`, 5.10's default) and of shadow paging, which have no
//! tracepoint. With the TDP MMU these functions run for nested guests only.

use aya_ebpf::{
    EbpfContext,
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
    installed(ctx, cpu, Writer::Shadow, thread, &place, new);
}

#[inline(always)]
fn changed(ctx: &ProbeContext, kvm: u64, sptep: u64, new: u64) -> u32 {
    let Some(cpu) = maps::cpu() else { return 0 };
    let Some(old) = kernel::read::<u64>(sptep, 0) else { return 0 };
    let Some(place) = Place::of(sptep) else { return 0 };
    let transition = classify(&kernel::spte_layout(), place.level, old, new);
    let Some(thread) = threads::current(cpu) else {
        changed_by_unknown(ctx, cpu, kvm, transition, &place, [old, new]);
        return 0;
    };
    runs::count(cpu, thread.row, index(transition, place.level));
    if thread.row == thread.base {
        fault::changes(thread, transition, place.level);
    }
    match transition {
        // The page still has the frame that the entry mapped before.
        Transition::Install if !place.direct => thread.installed = sptep,
        Transition::Install => installed(ctx, cpu, Writer::Rmap, thread, &place, new),
        Transition::Zap => {
            if place.level > 1 && thread.row == thread.base {
                thread.zapped = zapped(place.level, place.gfn);
                threads::update_hint(cpu, thread);
            }
            record(ctx, cpu, Writer::Rmap, by(thread), Transition::Zap, &place, [old, new]);
        }
        // Only where such changes were asked for.
        _ => record(ctx, cpu, Writer::Rmap, by(thread), transition, &place, [old, new]),
    }
    0
}

/// Counts a change by a thread that is in no known operation, and records it if it is one of a loaded vCPU.
#[inline(always)]
fn changed_by_unknown<C: StackIdContext + EbpfContext>(
    ctx: &C,
    cpu: &mut Cpu,
    kvm: u64,
    transition: Transition,
    place: &Place,
    sptes: [u64; 2],
) {
    let row = vcpus::loaded_row(ctx, cpu);
    if row != UNKNOWN_ROW {
        runs::count(cpu, row, index(transition, place.level));
        let tid = bpf_get_current_pid_tgid() as u32;
        record(ctx, cpu, Writer::Rmap, [row, tid], transition, place, sptes);
        return;
    }
    // Some hooks name the VM.
    let row = registry::row_of(ctx, cpu, kvm, Cause::Unknown as u32);
    runs::count(cpu, row, index(transition, place.level));
    if kvm == 0 && runs::records(transition) {
        runs::lose(cpu, Loss::Context, 1);
    }
}

/// Records an install. The rmap MMU splits at a fault in two steps: the huge leaf is zapped, and the
/// first small leaf in its place shows that a page table replaced it.
#[inline(always)]
fn installed<C: StackIdContext>(
    ctx: &C,
    cpu: &mut Cpu,
    writer: Writer,
    thread: &mut Thread,
    place: &Place,
    new: u64,
) {
    let region = place.gfn & !(frames(2) - 1);
    if place.level == 1 && thread.row == thread.base && thread.zapped == zapped(2, region) {
        thread.zapped = 0;
        runs::count(cpu, thread.row, index(Transition::SplitRelink, 2));
        let split = Place { gfn: region, level: 2, ..*place };
        record(ctx, cpu, writer, by(thread), Transition::SplitRelink, &split, [0; 2]);
    }
    record(ctx, cpu, writer, by(thread), Transition::Install, place, [0, new]);
}

/// Returns the row and the number of a thread.
#[inline(always)]
fn by(thread: &Thread) -> [u32; 2] {
    [thread.row, thread.id as u32]
}

#[inline(always)]
fn record<C: StackIdContext>(
    ctx: &C,
    cpu: &mut Cpu,
    writer: Writer,
    [row, tid]: [u32; 2],
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
