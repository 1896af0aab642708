//! Findings about dirty logging and what follows it.

use collapse_common::{Cause, Counter, spte::frames};
use collapse_feed::{Mmu, Signal};

use super::{Case, Evidence, Unit};
use crate::{
    Episode, Phase,
    metric::LeafChange,
    wording::{bytes, duration, leaves},
};

fn latest<'a>(case: &Case<'a>) -> Option<&'a Episode> {
    case.vm.episodes.kept().next_back()
}

pub(super) fn for_long(case: &Case) -> Option<Evidence> {
    let episode = latest(case).filter(|episode| episode.phase == Phase::Logging)?;
    let ns = case.now.saturating_sub(episode.start);
    (ns > case.thresholds.logging_ns).then(|| {
        let lost = episode.regions.lost;
        let more = if episode.began_before { "more than " } else { "" };
        let small = case.vm.pages().map(|[small, ..]| small);
        let meanwhile = match (lost, small) {
            // Nothing was huge, so that nothing was lost: this is not to read as harmless.
            (0, Some(small)) if small > 0 => format!(
                "no region was huge meanwhile, {} are mapped: KVM maps what it logs by 4 KiB pages",
                leaves(small, 1)
            ),
            _ => format!("{lost} regions split or zapped meanwhile"),
        };
        Evidence::certain(format!("on for {more}{}, {meanwhile}", duration(ns)))
            .with("on_for", ns, Unit::Ns)
            .with("lost", lost, Unit::Regions)
            .since(episode.start)
            .costing(case.stall_of(Cause::LoggedFault))
    })
}

pub(super) fn slow_dirty_log(case: &Case) -> Option<Evidence> {
    const CALLS: [Cause; 3] = [Cause::GetDirtyLog, Cause::ClearDirtyLog, Cause::ResetDirtyRing];
    let calls = case.vm.operations().filter(|(cause, _)| CALLS.contains(cause));
    let longest = calls.filter_map(|(cause, time)| Some((cause, time, time.longest_ns?)));
    let (call, time, longest) = longest.max_by_key(|(.., longest)| *longest)?;
    (longest >= case.thresholds.dirty_log_ns).then(|| {
        let (call, all) = (call.label(), duration(time.total_ns));
        Evidence::certain(match time.count {
            1 => format!("a call of {call} took {}", duration(longest)),
            calls => {
                format!(
                    "the longest of {calls} calls of {call} took {}, all {all}",
                    duration(longest)
                )
            }
        })
        .with("longest", longest, Unit::Ns)
        .with("calls", time.count, Unit::Count)
        .with("all", time.total_ns, Unit::Ns)
        .costing_at_most_all_faults(case)
    })
}

pub(super) fn periodically(case: &Case) -> Option<Evidence> {
    let (count, episodes) = (case.vm.episodes.count(), &case.vm.episodes);
    let logged: u64 = episodes.kept().filter_map(Episode::logging_duration).sum();
    let lost: u64 = episodes.kept().map(|episode| episode.regions.lost).sum();
    let (first, latest) = (episodes.kept().next()?, latest(case)?);
    (count >= case.thresholds.periodic).then(|| {
        let gaps = (episodes.kept().len() as u64).saturating_sub(1).max(1);
        let every = latest.start.saturating_sub(first.start) / gaps;
        Evidence::certain(format!(
            "on {count} times, every {} on average and for {} altogether, {lost} regions split or zapped",
            duration(every),
            duration(logged),
        ))
        .with("times", count, Unit::Count)
        .with("every", every, Unit::Ns)
        .with("logged_for", logged, Unit::Ns)
        .with("lost", lost, Unit::Regions)
        .since(first.start)
        .costing(case.stall_of(Cause::LoggedFault))
    })
}

pub(super) fn since_before(case: &Case) -> Option<Evidence> {
    let latest = latest(case).filter(|episode| episode.phase == Phase::Logging)?;
    let [small, huge, giant] = case.vm.pages()?;
    let large = huge.saturating_add(giant.saturating_mul(frames(2))).saturating_mul(frames(2));
    let enough = small >= case.thresholds.least.saturating_mul(frames(2)) && small > large;
    let logged = latest.slots.values().sum::<u64>().saturating_mul(4096);
    (latest.began_before && enough).then(|| {
        Evidence::certain(format!(
            "{} in {} logged since before the start; mapped are {} and {}",
            bytes(logged),
            match latest.slots.len() {
                1 => "1 slot are".to_owned(),
                n => format!("{n} slots are"),
            },
            leaves(small, 1),
            leaves(huge, 2),
        ))
        .with("logged", logged, Unit::Bytes)
        .with("mapped_small", small.saturating_mul(4096), Unit::Bytes)
        .since(latest.start)
    })
}

pub(super) fn stuck_small(case: &Case) -> Option<Evidence> {
    let episode = latest(case).filter(|episode| !episode.is_losing())?;
    let log_off = episode.log_off?;
    let since = case.now.saturating_sub(log_off);
    let regions = &episode.regions;
    let small = regions.refaulted_small + regions.still_split;
    (small >= case.thresholds.least && since > case.thresholds.small_ns).then(|| {
        Evidence::certain(format!(
            "{small} of {} regions are mapped small {} after dirty logging went off: {} refaulted small, \
             {} still split{}",
            regions.lost,
            duration(since),
            regions.refaulted_small,
            regions.still_split,
            why_small(case),
        ))
        .with("small", small, Unit::Regions)
        .with("lost", regions.lost, Unit::Regions)
        .with("refaulted_small", regions.refaulted_small, Unit::Regions)
        .with("still_split", regions.still_split, Unit::Regions)
        .with("small_for", since, Unit::Ns)
        .since(log_off)
    })
}

/// Names what else was seen that keeps regions small, or what was not; says nothing of what is not known.
fn why_small(case: &Case) -> String {
    let totals = case.vm.totals();
    let host = by_notifier(|cause| totals.count_of(LeafChange::Zap, cause));
    let executed = case.vm.regions.lost_by_cause().get(&Cause::GuestFault).copied();
    let executed = executed.unwrap_or_default();
    let mut why = Vec::new();
    if !host.is_empty() {
        let all: u64 = host.iter().map(|(zaps, _)| zaps).sum();
        why.push(format!("; the host invalidated {all} of the VM's SPTEs ({})", listed(&host)));
    }
    if executed > 0 {
        why.push(format!("; {executed} regions were split for execution (NX)"));
    }
    if why.is_empty() && case.sight.sees(Signal::Notifier) && case.sight.sees(Signal::Faults) {
        why.push("; neither NX nor the host took any SPTE away".to_owned());
        // A VMM unmaps memory of its own all the time.
        let calls = by_notifier(|by| match by {
            Cause::NotifierUnmap => 0,
            _ => totals.counter_of(by, Counter::Operation),
        });
        why.push(match calls.as_slice() {
            [] => ", but what the host does to memory while it is not mapped for the guest is not seen".to_owned(),
            calls => format!(
                ", but it invalidated memory of the VMM that was not mapped for the guest ({}): whether it was guest memory is \
                 not seen",
                listed(calls)
            ),
        });
    }
    why.concat()
}

/// What the host did, by notifier, the most first, with what it is called.
fn by_notifier(count: impl Fn(Cause) -> u64) -> Vec<(u64, &'static str)> {
    let all = Cause::ALL.into_iter().filter(|cause| cause.is_notifier());
    let all = all.map(|cause| (count(cause), cause.label().trim_start_matches("notifier: ")));
    let mut all: Vec<_> = all.filter(|(n, _)| *n > 0).collect();
    all.sort_by_key(|(n, _)| std::cmp::Reverse(*n));
    all
}

fn listed(counts: &[(u64, &str)]) -> String {
    let parts: Vec<_> = counts.iter().map(|(n, label)| format!("{label} {n}")).collect();
    parts.join(", ")
}

pub(super) fn eager_split_off(case: &Case) -> Option<Evidence> {
    // The rmap MMU and shadow paging always split at faults.
    if case.sight.mmu != Mmu::Tdp {
        return None;
    }
    let splits = |cause| case.vm.totals().count_of(LeafChange::Split, cause);
    let (by_faults, eager) = (splits(Cause::LoggedFault), splits(Cause::EagerSplit));
    (by_faults >= case.thresholds.least && by_faults > eager).then(|| {
        Evidence::certain(format!(
            "{by_faults} splits by guest faults under dirty logging, {eager} when it went on"
        ))
        .with("splits_by_faults", by_faults, Unit::Sptes)
        .with("splits_at_log_on", eager, Unit::Sptes)
    })
}

pub(super) fn collapse_raced(case: &Case) -> Option<Evidence> {
    let episode = latest(case)?;
    let race = episode.collapse.race?;
    (race.installs_4k >= case.thresholds.raced).then(|| {
        Evidence::certain(format!(
            "guest faults installed {} and {} while it ran, which took {}",
            leaves(race.installs_4k, 1),
            leaves(race.installs_2m, 2),
            duration(episode.collapse.duration),
        ))
        .with("installed_4k", race.installs_4k, Unit::Sptes)
        .with("installed_2m", race.installs_2m, Unit::Sptes)
        .with("ran_for", episode.collapse.duration, Unit::Ns)
        .costing(case.stall_of(Cause::RacingFault))
    })
}

pub(super) fn recovered_read_only(case: &Case) -> Option<Evidence> {
    let counts = case.vm.regions.counts();
    let (part, whole) = (counts.recovered_read_only, counts.recovered);
    let share = part as f64 / whole.max(1) as f64;
    (part >= case.thresholds.least && share >= case.thresholds.read_only_share).then(|| {
        Evidence::certain(format!(
            "{part} of {whole} recovered regions, each of which costs a fault when written to"
        ))
        .with("read_only", part, Unit::Regions)
        .with("recovered", whole, Unit::Regions)
    })
}
