//! Findings about execution and the memory behind guests.

use collapse_common::{Cause, spte::frames};

use super::{Case, Evidence, Unit};
use crate::{metric::LeafChange, wording::bytes};

pub(super) fn nx_recovery_undone(case: &Case) -> Option<Evidence> {
    let nx = case.vm.regions.nx_recovery();
    (nx.undone() >= case.thresholds.least).then(|| {
        Evidence::certain(format!(
            "the worker zapped small pages of {} regions; {} were mapped small again by the next execution",
            nx.zapped(),
            nx.undone(),
        ))
        .with("given_back", nx.zapped(), Unit::Regions)
        .with("undone", nx.undone(), Unit::Regions)
    })
}

pub(super) fn slot_misaligned(case: &Case) -> Option<Evidence> {
    let least = case.thresholds.least.saturating_mul(frames(2));
    let slots = case.vm.slots.values().filter(|slot| slot.npages >= least);
    let (slot, offset) = slots
        .filter_map(|slot| Some((slot, slot.offset(frames(2) * 4096).filter(|at| *at > 0)?)))
        .max_by_key(|(slot, _)| slot.npages)?;
    let size = slot.npages.saturating_mul(4096);
    Some(
        Evidence::certain(format!(
            "slot {} ({}): its guest address {:#x} is {} beyond that of its memory, {:#x}, modulo 2 MiB",
            slot.id,
            bytes(size),
            slot.base_gfn.saturating_mul(4096),
            bytes(offset),
            slot.userspace_addr.unwrap_or_default(),
        ))
        .with("size", size, Unit::Bytes)
        .with("offset", offset, Unit::Bytes),
    )
}

pub(super) fn hugetlb_mapped_small(case: &Case) -> Option<Evidence> {
    const REGION: u64 = 2 << 20;
    let hugetlb = case.vm.hugetlb.filter(|bytes| *bytes > 0)?;
    let [small, ..] = case.vm.pages()?;
    // Regions that lost their huge leaf while watched are other findings' business.
    let lost = case.vm.regions.counts().outstanding.saturating_mul(REGION);
    let small = small.saturating_mul(4096).saturating_sub(lost);
    let enough = small >= case.thresholds.least.saturating_mul(REGION)
        && small as f64 >= hugetlb as f64 * case.thresholds.hugetlb_share;
    (enough && case.vm.is_logging() != Some(true)).then(|| {
        Evidence::likely(format!(
            "{} of guest memory are mapped by 4 KiB SPTEs that were not huge while watched, and the \
             VMM has {} from hugetlbfs",
            bytes(small),
            bytes(hugetlb),
        ))
        .with("mapped_small", small, Unit::Bytes)
        .with("hugetlb", hugetlb, Unit::Bytes)
    })
}

pub(super) fn split_by_nx(case: &Case) -> Option<Evidence> {
    let totals = case.vm.totals();
    // Outside dirty logging, a guest fault splits a huge page for its execution only.
    let splits = totals.count_of(LeafChange::Split, Cause::GuestFault);
    let zaps = totals.count_of(LeafChange::Zap, Cause::NxRecovery);
    (splits + zaps >= case.thresholds.least).then(|| {
        Evidence::certain(format!(
            "{splits} splits by guest faults outside dirty logging, {zaps} zaps by the NX recovery worker"
        ))
        .with("splits", splits, Unit::Sptes)
        .with("zaps_by_worker", zaps, Unit::Sptes)
    })
}
