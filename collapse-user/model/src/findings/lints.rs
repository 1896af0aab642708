//! The kinds of findings.

use collapse_common::Cause;

use super::{Case, Lint};
use crate::{
    Episode, Phase, Vm,
    metric::LeafChange,
    wording::{bytes, duration, leaves},
};
use collapse_feed::Mmu;

/// Every kind, the gravest first.
pub(super) const LINTS: &[Lint] = &[
    Lint {
        name: "regions_stuck_small",
        title: "regions stay small after dirty logging",
        knob: "check that the memory behind is still huge (AnonHugePages in the VMM's smaps) and that \
               the slot is aligned alike in guest and host; MADV_COLLAPSE in the VMM rebuilds it",
        check: stuck_small,
    },
    Lint {
        name: "dirty_logging_on_for_long",
        title: "dirty logging has been on for long",
        knob: "end the migration or the dirty-rate measurement (QEMU: migrate_cancel); until then \
               memory stays small, and without PML (Intel) every page costs a fault at its first write in each \
               round",
        check: logging_for_long,
    },
    Lint {
        name: "eager_split_off",
        title: "huge pages are split by guest faults",
        knob: "kvm.eager_page_split=Y (5.18 and later) splits them before the guest runs into them",
        check: eager_split_off,
    },
    Lint {
        name: "collapse_raced",
        title: "small pages came back while the collapse routine ran",
        knob: "turn dirty logging off while the guest is idle or paused, slot by slot",
        check: collapse_raced,
    },
    Lint {
        name: "nx_recovery_undone",
        title: "the NX recovery worker and guest faults undo each other",
        knob: "kvm.nx_huge_pages_recovery_period_ms longer, or kvm.nx_huge_pages_recovery_ratio=0, lets \
               pages that are executed stay small; kvm.nx_huge_pages=off ends the splits",
        check: nx_recovery_undone,
    },
    Lint {
        name: "hugetlb_mapped_small",
        title: "hugetlb memory is mapped small",
        knob: "check that memslots begin at the same offset within 2 MiB in guest and host memory, and \
               that the VMM's mappings of them do",
        check: hugetlb_mapped_small,
    },
    Lint {
        name: "recovered_read_only",
        title: "regions came back write-protected",
        knob: "nothing to set: where KVM rebuilds huge pages in place (6.13 and later), those of write-protected \
               pages come back write-protected, and the first write to each costs one more fault",
        check: recovered_read_only,
    },
    Lint {
        name: "split_by_nx",
        title: "huge pages are split for executable pages",
        knob: "kvm.nx_huge_pages=off, if no CPU has the iTLB multihit bug or the guests are trusted",
        check: split_by_nx,
    },
];

fn latest<'a>(case: &Case<'a>) -> Option<&'a Episode> {
    case.vm.episodes.kept().next_back()
}

fn logging_for_long(case: &Case) -> Option<String> {
    let episode = latest(case).filter(|episode| episode.phase == Phase::Logging)?;
    let ns = case.now.saturating_sub(episode.start);
    (ns > case.thresholds.logging_ns).then(|| {
        let lost = episode.regions.lost;
        let more = if episode.began_before { "more than " } else { "" };
        format!("on for {more}{}, {lost} regions split or zapped meanwhile", duration(ns))
    })
}

fn stuck_small(case: &Case) -> Option<String> {
    let episode = latest(case).filter(|episode| !episode.is_losing())?;
    let since = case.now.saturating_sub(episode.log_off?);
    let regions = &episode.regions;
    let small = regions.refaulted_small + regions.still_split;
    (small >= case.thresholds.least && since > case.thresholds.small_ns).then(|| {
        format!(
            "{small} of {} regions are mapped small {} after dirty logging went off: {} refaulted small, \
             {} still split{}",
            regions.lost,
            duration(since),
            regions.refaulted_small,
            regions.still_split,
            why_small(case.vm),
        )
    })
}

/// Names other causes that keep regions small, if any were seen.
fn why_small(vm: &Vm) -> String {
    let zaps = |cause| vm.totals().count_of(LeafChange::Zap, cause);
    let causes = [Cause::NotifierReclaim, Cause::NotifierMigrate, Cause::NotifierKsm];
    let host: u64 = causes.into_iter().map(zaps).sum();
    let executed = vm.regions.lost_by_cause().get(&Cause::GuestFault).copied().unwrap_or_default();
    let mut why = Vec::new();
    if host > 0 {
        why.push(format!("; the host moved, merged or reclaimed {host} of its pages"));
    }
    if executed > 0 {
        why.push(format!("; {executed} regions were split for execution (NX)"));
    }
    if why.is_empty() {
        return "; neither NX nor the host's memory management was seen at them".to_owned();
    }
    why.concat()
}

fn eager_split_off(case: &Case) -> Option<String> {
    // The rmap MMU and shadow paging always split at faults.
    if case.mmu != Mmu::Tdp {
        return None;
    }
    let splits = |cause| case.vm.totals().count_of(LeafChange::Split, cause);
    let (by_faults, eager) = (splits(Cause::LoggedFault), splits(Cause::EagerSplit));
    (by_faults >= case.thresholds.least && by_faults > eager).then(|| {
        format!("{by_faults} splits by guest faults under dirty logging, {eager} when it went on")
    })
}

fn collapse_raced(case: &Case) -> Option<String> {
    let episode = latest(case)?;
    let race = episode.collapse.race?;
    (race.installs_4k >= case.thresholds.raced).then(|| {
        format!(
            "guest faults installed {} and {} while it ran, which took {}",
            leaves(race.installs_4k, 1),
            leaves(race.installs_2m, 2),
            duration(episode.collapse.duration),
        )
    })
}

fn recovered_read_only(case: &Case) -> Option<String> {
    let counts = case.vm.regions.counts();
    let (part, whole) = (counts.recovered_read_only, counts.recovered);
    let share = part as f64 / whole.max(1) as f64;
    (part >= case.thresholds.least && share >= case.thresholds.read_only_share).then(|| {
        format!("{part} of {whole} recovered regions, each of which costs a fault when written to")
    })
}

fn nx_recovery_undone(case: &Case) -> Option<String> {
    let nx = case.vm.regions.nx_recovery();
    (nx.undone() >= case.thresholds.least).then(|| {
        format!(
            "the worker zapped small pages of {} regions; {} were mapped small again by the next execution",
            nx.zapped(),
            nx.undone(),
        )
    })
}

fn hugetlb_mapped_small(case: &Case) -> Option<String> {
    const REGION: u64 = 2 << 20;
    let hugetlb = case.vm.hugetlb.filter(|bytes| *bytes > 0)?;
    let [small, ..] = case.vm.pages()?;
    // Regions that lost their huge leaf while watched are other findings' business.
    let lost = case.vm.regions.counts().outstanding.saturating_mul(REGION);
    let small = small.saturating_mul(4096).saturating_sub(lost);
    let enough = small >= case.thresholds.least.saturating_mul(REGION)
        && small as f64 >= hugetlb as f64 * case.thresholds.hugetlb_share;
    (enough && case.vm.is_logging() != Some(true)).then(|| {
        format!(
            "{} of guest memory are mapped by 4 KiB SPTEs that were not huge while watched, and the \
             VMM has {} from hugetlbfs",
            bytes(small),
            bytes(hugetlb),
        )
    })
}

fn split_by_nx(case: &Case) -> Option<String> {
    let totals = case.vm.totals();
    // Outside dirty logging, a guest fault splits a huge page for its execution only.
    let splits = totals.count_of(LeafChange::Split, Cause::GuestFault);
    let zaps = totals.count_of(LeafChange::Zap, Cause::NxRecovery);
    (splits + zaps >= case.thresholds.least).then(|| {
        format!(
            "{splits} splits by guest faults outside dirty logging, {zaps} zaps by the NX recovery worker"
        )
    })
}
