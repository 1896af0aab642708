//! Findings about what the host and the VMM do to a guest's memory outside dirty logging.

use collapse_common::Cause;
use collapse_feed::NoProgress;

use super::{Case, Evidence, Unit};
use crate::{
    Thrashed,
    metric::LeafChange,
    wording::{self, duration},
};

/// What did not happen for so long is over, ns.
const OVER: u64 = 60_000_000_000;

pub(super) fn numa_balancing(case: &Case) -> Option<Evidence> {
    thrashed_by(case, |cause| cause == Cause::NotifierNuma)
}

pub(super) fn thrashes(case: &Case) -> Option<Evidence> {
    thrashed_by(case, |cause| cause != Cause::NotifierNuma)
}

fn thrashed_by(case: &Case, pick: impl Fn(Cause) -> bool) -> Option<Evidence> {
    let thrash = case.vm.regions.thrash().by_cause().iter();
    let mut causes: Vec<_> = thrash.filter(|(cause, _)| pick(**cause)).collect();
    causes.sort_by_key(|(_, thrashed)| std::cmp::Reverse(thrashed.rounds));
    let all = causes.iter().map(|(_, thrashed)| **thrashed).reduce(together)?;
    let goes_on = case.now.saturating_sub(all.last) < OVER;
    (all.rounds >= case.thresholds.thrash && goes_on).then(|| {
        let parts = causes.iter().map(|(cause, thrashed)| {
            format!("{} {}", cause.label().trim_start_matches("notifier: "), thrashed.rounds)
        });
        let parts: Vec<_> = parts.collect();
        let time = all.last.saturating_sub(all.first);
        Evidence::certain(format!(
            "{} regions were taken and faulted back three times or more, {} times in {} ({})",
            all.regions,
            all.rounds,
            duration(time),
            parts.join(", "),
        ))
        .with("regions", all.regions, Unit::Regions)
        .with("rounds", all.rounds, Unit::Count)
        .with("in", time, Unit::Ns)
        .since(all.first)
        .costing_at_most_all_faults(case)
    })
}

pub(super) fn no_progress(case: &Case) -> Option<Evidence> {
    let stuck = &case.vm.stuck;
    let longest = stuck.longest.filter(|stuck| stuck.told.duration >= case.thresholds.stuck_ns)?;
    let NoProgress { vcpu, address, duration: lasted, faults, invalidating, sequence } =
        longest.told;
    // While it lasts it is told each time that it has lasted twice as long.
    let until = longest.at.saturating_add(OVER.max(lasted.saturating_mul(2)));
    (case.now < until).then(|| {
        let open = match invalidating {
            0 => "no invalidation of its memory was open then".to_owned(),
            1 => "an invalidation of its memory was open then".to_owned(),
            open => format!("{open} invalidations of its memory were open then"),
        };
        Evidence::certain(format!(
            "{} took {faults} faults at {address:#x} in {} or more, none of which KVM resolved; {open}, {sequence} had ended",
            wording::vcpu(vcpu),
            duration(lasted),
        ))
        .with("faults", faults, Unit::Count)
        .with("lasted", lasted, Unit::Ns)
        .with("invalidations_open", invalidating.into(), Unit::Count)
        .with("times", stuck.count, Unit::Count)
        .since(longest.since())
        .costing(Some(lasted))
    })
}

fn together(a: Thrashed, b: Thrashed) -> Thrashed {
    Thrashed {
        regions: a.regions + b.regions,
        rounds: a.rounds + b.rounds,
        first: a.first.min(b.first),
        last: a.last.max(b.last),
    }
}

pub(super) fn ksm_merges(case: &Case) -> Option<Evidence> {
    let what = "a region lost its huge page to ksmd";
    let merged = lost_to(case, Cause::NotifierKsm, case.thresholds.least, what)?;
    // Of a write to a merged page, KVM is told as of any other copy-on-write.
    let copies = case.vm.totals().count_of(LeafChange::Zap, Cause::NotifierCow);
    Some(
        match copies {
            0 => merged,
            copies => merged.and(&format!(
                "{copies} SPTEs went as the guest wrote to such pages, or to others that are shared"
            )),
        }
        .with("copied_on_write", copies, Unit::Sptes),
    )
}

pub(super) fn given_back_small(case: &Case) -> Option<Evidence> {
    let what = "a region lost its huge page as less than 2 MiB of it was given back (madvise, or a hole in a file)";
    lost_to(case, Cause::NotifierDiscardSmall, case.thresholds.least, what)
}

pub(super) fn reclaims(case: &Case) -> Option<Evidence> {
    let what = "a region lost its huge page to reclaim";
    lost_to(case, Cause::NotifierReclaim, case.thresholds.taken, what)
}

pub(super) fn migrates(case: &Case) -> Option<Evidence> {
    let what = "a region lost its huge page as the memory behind was moved";
    lost_to(case, Cause::NotifierMigrate, case.thresholds.taken, what)
}

pub(super) fn userfaultfd(case: &Case) -> Option<Evidence> {
    let what = "a region lost its huge page to userfaultfd";
    lost_to(case, Cause::NotifierUserfault, case.thresholds.least, what)
}

/// Regions that lost their huge leaf to a cause, `least` or more.
fn lost_to(case: &Case, by: Cause, least: u64, what: &str) -> Option<Evidence> {
    let lost = case.vm.regions.lost_by_cause().get(&by).copied().unwrap_or(0);
    let zaps = case.vm.totals().count_of(LeafChange::Zap, by);
    (lost >= least).then(|| {
        Evidence::certain(format!("{lost} times {what}, {zaps} SPTEs went"))
            .with("lost", lost, Unit::Regions)
            .with("zaps", zaps, Unit::Sptes)
    })
}

pub(super) fn memslot_churn(case: &Case) -> Option<Evidence> {
    let gone = case.vm.slots_gone?;
    let lost = case.vm.regions.lost_by_cause().get(&Cause::SlotGone).copied().unwrap_or(0);
    let enough = gone.count >= case.thresholds.churn && lost >= case.thresholds.least;
    (enough && case.now.saturating_sub(gone.last) < OVER).then(|| {
        let (count, time) = (gone.count, gone.last.saturating_sub(gone.first));
        Evidence::certain(format!(
            "{count} memslots were deleted or moved in {}, and {lost} times a region of another slot lost its huge \
             page",
            duration(time),
        ))
        .with("slots", count, Unit::Count)
        .with("lost", lost, Unit::Regions)
        .with("in", time, Unit::Ns)
        .since(gone.first)
    })
}
