//! The finding that dirty pages are lost, and whether it can be decided.

use collapse_feed::Mmu;

use super::{Case, Evidence, Sight, Unit};
use crate::{
    Vm,
    at_risk::SETTLED,
    wording::{bytes, duration, leaves},
};
use collapse_common::spte::frames;

pub(super) fn dirty_pages(case: &Case) -> Option<Evidence> {
    if undecided_by_host(case.sight).is_some() {
        return None;
    }
    let found = case.vm.at_risk.certain();
    let first = found.first()?;
    let size = frames(first.level).saturating_mul(4096);
    let count: u64 = found.iter().map(|installed| u64::from(installed.count)).sum();
    let spte = first.sptes.map_or(String::new(), |sptes| format!(" (SPTE {:#x})", sptes.new));
    let others = match count {
        1 => String::new(),
        n => format!(", the first of {n}"),
    };
    Some(
        Evidence::certain(format!(
            "{} at gfn {:#x}{spte}{others} was installed writable in slot {}, whose dirty logging had been on for {}: what \
             the guest writes to these {} is not in the log",
            leaves(1, first.level),
            first.gfn,
            first.slot.1,
            duration(first.at.saturating_sub(first.logged_since)),
            bytes(size),
        ))
        .with("huge_leaves", count, Unit::Sptes)
        .with("first_address", first.gfn.saturating_mul(4096), Unit::Bytes)
        .since(first.at),
    )
}

/// Why it cannot be decided for a VM whether dirty pages are lost, although everything is seen.
pub(super) fn undecided(vm: &Vm, sight: Sight) -> Option<String> {
    let by_host = undecided_by_host(sight).filter(|_| vm.at_risk.could_be());
    if let Some(why) = by_host.or(vm.at_risk.doubt()) {
        return Some(why.to_owned());
    }
    vm.at_risk.is_undecided().then(|| {
        format!("a memslot with new huge leaves was not yet logged for {} more", duration(SETTLED))
    })
}

fn undecided_by_host(sight: Sight) -> Option<&'static str> {
    if !matches!(sight.mmu, Mmu::Tdp | Mmu::Rmap) {
        return Some("it is not judged with shadow paging");
    }
    if !sight.sees(sight.mmu.essential_signal()) {
        return Some("SPTE changes are not seen");
    }
    match sight.pml {
        Some(false) => None,
        Some(true) => Some("it is not judged where the CPU logs dirty pages (PML)"),
        None => Some("it is not known whether the CPU logs dirty pages (PML)"),
    }
}
