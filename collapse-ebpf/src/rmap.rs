//! SPTE changes of the rmap MMU (`tdp_mmu=N`, 5.10's default) and of shadow paging, which have no
//! tracepoint. With the TDP MMU these functions run for nested guests only.

use aya_ebpf::{macros::kprobe, programs::ProbeContext};
use collapse_common::{
    Cause, Counter, Transition,
    abi::{Cpu, RunKey, Thread, UNKNOWN_ROW, zapped},
    counter::index,
    spte::{classify, frames},
};

use crate::{
    context,
    kernel::{self, fact},
    maps, runs,
    spte::{self, Change},
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
        let row = context::current(cpu).map_or(UNKNOWN_ROW, |thread| thread.row);
        runs::count(row, Counter::DropSpte as usize);
    }
    0
}

#[inline(always)]
fn changed(ctx: &ProbeContext, kvm: u64, sptep: u64, new: u64) -> u32 {
    let Some(cpu) = maps::cpu() else { return 0 };
    let Some(old) = kernel::read::<u64>(sptep, 0) else { return 0 };
    let Some(place) = Place::of(sptep) else { return 0 };
    let transition = classify(kernel::spte_layout(), place.level, old, new);
    let thread = context::current(cpu);
    let thread = match thread {
        None if kvm != 0 => {
            // A thread in no known operation, but the hook names the VM.
            let row = context::row(ctx, cpu, kvm, Cause::Unknown as u32);
            runs::count(row, index(transition, place.level));
            return 0;
        }
        thread => thread,
    };
    let mut thread = thread;
    if let Some(thread) = thread.as_deref_mut() {
        split_by_install(cpu, thread, &place, transition);
    }
    let Place { as_id, gfn, level, .. } = place;
    spte::changed(cpu, thread, &Change { as_id, gfn, level, transition });
    0
}

/// The rmap MMU's fault-time split: the huge leaf is zapped, and the first small leaf in its place
/// tells that a page table took it.
#[inline(always)]
fn split_by_install(cpu: &mut Cpu, thread: &mut Thread, place: &Place, transition: Transition) {
    let region = place.gfn & !(frames(2) - 1);
    if transition == Transition::Install
        && place.level == 1
        && thread.row == thread.base
        && thread.zapped == zapped(2, region)
    {
        thread.zapped = 0;
        let counter = index(Transition::SplitRelink, 2);
        runs::count(thread.row, counter);
        let key = RunKey::new(thread.row, counter, place.as_id, maps::EPOCH.get() as u32);
        runs::record(cpu, key, (thread.id & 0xffff_ffff) as u32, region, frames(2));
    }
}

/// What an SPTE of a shadow page maps, from the page's own structure.
struct Place {
    as_id: u32,
    gfn: u64,
    level: u32,
}

impl Place {
    /// As `sptep_to_sp`: `page_private(virt_to_page(sptep))`. Indirect pages (shadow paging) keep a
    /// gfn per entry elsewhere; theirs is the page's, which is right for the region only.
    #[inline(always)]
    fn of(sptep: u64) -> Option<Self> {
        let offset = sptep.checked_sub(maps::PAGE_OFFSET.get())?;
        let page = maps::VMEMMAP.get() + (offset >> 12) * u64::from(fact!(page_size));
        let sp: u64 = kernel::read(page, fact!(page_private))?;
        let gfn: u64 = kernel::read(sp, fact!(sp_gfn))?;
        let role: u32 = kernel::read(sp, fact!(sp_role))?;
        let level = role & 0xf;
        let index = (sptep & 0xfff) / 8;
        // `role.smm` is the top byte.
        Some(Self { as_id: u32::from(role >> 24 != 0), gfn: gfn + index * frames(level), level })
    }
}
