//! Findings about execution and the memory behind guests.

use collapse_common::{Cause, spte::frames};
use collapse_feed::Slot;

use super::{Case, Evidence, Unit};
use crate::{
    fit::Fit,
    metric::LeafChange,
    wording::{bytes, duration},
};

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

/// Bytes of a region.
const REGION: u64 = 2 << 20;

/// An offset of whole pages, not rounded.
fn exactly(bytes: u64) -> String {
    if bytes.is_multiple_of(1 << 20) {
        format!("{} MiB", bytes >> 20)
    } else {
        format!("{} KiB", bytes >> 10)
    }
}

/// Slots that are large enough to matter and misaligned, with by how much.
fn misaligned<'a>(case: &Case<'a>) -> impl Iterator<Item = (&'a Slot, u64)> {
    let least = case.thresholds.least.saturating_mul(frames(2));
    let slots = case.vm.slots.values().filter(move |slot| slot.npages >= least);
    slots.filter_map(|slot| Some((slot, slot.offset(REGION).filter(|at| *at > 0)?)))
}

pub(super) fn slot_misaligned(case: &Case) -> Option<Evidence> {
    let (slot, offset) = misaligned(case).max_by_key(|(slot, _)| slot.npages)?;
    let size = slot.npages.saturating_mul(4096);
    Some(
        Evidence::certain(format!(
            "slot {} ({}): its guest address {:#x} is {} beyond that of its memory, modulo 2 MiB",
            slot.id,
            bytes(size),
            slot.base_gfn.saturating_mul(4096),
            exactly(offset),
        ))
        .with("size", size, Unit::Bytes)
        .with("offset", offset, Unit::Bytes),
    )
}

pub(super) fn pages_1g_lost(case: &Case) -> Option<Evidence> {
    let giants = case.vm.regions.giants();
    let (lost_at, why) = giants.latest_loss().filter(|_| !case.vm.has_to_map_small())?;
    let log_off = case.vm.episodes.kept().next_back().and_then(|episode| episode.log_off);
    let since = log_off.map_or(lost_at, |log_off| log_off.max(lost_at));
    let small_for = case.now.saturating_sub(since);
    let counts = giants.counts();
    (small_for > case.thresholds.small_ns).then(|| {
        Evidence::certain(format!(
            "{} of {} ranges of 1 GiB that lost their leaf of this size are mapped by smaller ones for {}, the latest by {}",
            counts.mapped_smaller,
            counts.lost,
            duration(small_for),
            why.label(),
        ))
        .with("mapped_smaller", counts.mapped_smaller, Unit::Count)
        .with("lost", counts.lost, Unit::Count)
        .with("recovered", counts.recovered, Unit::Count)
        .with("small_for", small_for, Unit::Ns)
        .since(since)
    })
}

pub(super) fn hugetlb_mapped_small(case: &Case) -> Option<Evidence> {
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

pub(super) fn never_huge(case: &Case) -> Option<Evidence> {
    let [small, huge, giant] = case.vm.pages()?;
    let pages = |level, n: u64| n.saturating_mul(frames(level)).saturating_mul(4096);
    let small = pages(1, small);
    let mapped = small.saturating_add(pages(2, huge)).saturating_add(pages(3, giant));
    // Other findings' business: what was huge while watched, and misaligned slots.
    let totals = case.vm.totals();
    let were_huge = [2, 3].map(|level| pages(level, totals.leaves_gone(level)));
    let misaligned = misaligned(case).filter(|(slot, _)| slot.as_id == 0);
    let misaligned = misaligned.map(|(slot, _)| pages(1, slot.npages));
    let others = were_huge.into_iter().chain(misaligned).fold(0, u64::saturating_add);
    let never = small.saturating_sub(others);
    let enough = never >= case.thresholds.least.saturating_mul(REGION)
        && never as f64 >= mapped as f64 * case.thresholds.never_huge_share;
    (enough && !is_logged(case) && hugetlb_mapped_small(case).is_none()).then(|| {
        Evidence::likely(format!(
            "of {} that are mapped, {} are mapped by 4 KiB SPTEs that were not huge while watched{}",
            bytes(mapped),
            bytes(never),
            largest_slot(case),
        ))
        .with("never_huge", never, Unit::Bytes)
        .with("mapped_small", small, Unit::Bytes)
        .with("mapped", mapped, Unit::Bytes)
    })
}

/// Whether dirty logging keeps a VM small, or did until a moment ago.
fn is_logged(case: &Case) -> bool {
    let log_off = case.vm.episodes.kept().next_back().map(|episode| episode.log_off);
    let a_moment_ago = |at: Option<u64>| {
        at.is_none_or(|at| case.now.saturating_sub(at) <= case.thresholds.small_ns)
    };
    case.vm.has_to_map_small() || log_off.is_some_and(a_moment_ago)
}

/// What a VM's largest memslot says about why it is small.
fn largest_slot(case: &Case) -> String {
    let slots = case.vm.slots.values().filter(|slot| slot.as_id == 0);
    let Some(slot) = slots.max_by_key(|slot| slot.npages) else { return String::new() };
    let why = match Fit::of(slot) {
        Fit::Logged => "dirty logging is on for it",
        Fit::GuestMemfd => "its memory is a guest_memfd",
        Fit::TooSmall => "it holds no aligned 2 MiB",
        Fit::UpTo(_) => "KVM may map it huge where the memory behind it is",
        Fit::Misaligned(_) | Fit::Unknown => return String::new(),
    };
    format!(
        "; the largest slot, {}, has {}: {why}",
        slot.id,
        bytes(slot.npages.saturating_mul(4096))
    )
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
