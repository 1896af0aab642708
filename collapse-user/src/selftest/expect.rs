//! The correct report of the test guest, derived from facts about the kernel and from the guest's own
//! account. Pure.

use std::{collections::BTreeMap, ops::RangeInclusive};

use serde_json::{Value, json};

use super::guest::{Account, FRAMES, REGIONS, SLOT};
use crate::{
    kernel::inspect::Inspected,
    plan::{Coverage, Mmu, Signal, SignalStatus},
};

/// Facts that the expectations depend on.
#[derive(Clone, Debug)]
pub struct Facts {
    /// The MMU that the guest used.
    pub mmu: Mmu,
    /// Whether huge pages are split when dirty logging goes on, where the MMU can.
    pub eager_page_split: bool,
    /// Whether the CPU logs dirty pages, which saves write-protection.
    pub pml: bool,
    /// Whether the collapse routine rebuilds huge pages in place, where the MMU can.
    pub rebuilds: bool,
    /// Signals that are not seen on this kernel, and why.
    pub unseen: BTreeMap<Signal, String>,
    /// Why a VM's file descriptor is unknown on this kernel; `None` if it is known.
    pub no_fd: Option<String>,
    /// Events that are known to be missed, because the kernel skipped programs.
    pub missed: u64,
}

impl Facts {
    /// Facts of a kernel that is watched with this coverage.
    pub fn new(host: &Inspected, coverage: &Coverage, missed: u64) -> Self {
        let reason = |status: &SignalStatus| status.reason.clone().unwrap_or_default();
        let unseen = coverage.missing().map(|status| (status.signal, reason(status))).collect();
        let fields = ["kvm.debugfs_dentry", "dentry.d_name.name"];
        let unknown = fields.into_iter().find(|field| host.offset(field).is_none());
        Self {
            mmu: coverage.mmu,
            eager_page_split: host.kvm.eager_page_split == Ok(true),
            pml: host.kvm.pml == Ok(true),
            rebuilds: coverage.collapse_rebuilds == Some(true),
            unseen,
            no_fd: unknown.map(|field| format!("the offset of {field} is unknown")),
            missed,
        }
    }
}

/// One thing to compare.
#[derive(Clone, Debug)]
pub struct Check {
    /// Key in every output.
    pub name: &'static str,
    /// JSON pointers into the VM's report; the values there are added up.
    pub paths: Vec<&'static str>,
    /// The correct value.
    pub want: Want,
}

/// A correct value.
#[derive(Clone, Debug, PartialEq)]
pub enum Want {
    /// A count in a range.
    Count(RangeInclusive<u64>),
    /// This value.
    Is(Value),
    /// Nothing is expected, for this reason.
    Skip(String),
}

/// Returns all checks, in the order of the output.
pub fn expect(facts: &Facts, account: &Account) -> Vec<Check> {
    let mut table = Table { facts, checks: Vec::new() };
    table.identity(account);
    table.dirty_logging();
    table.leaves(account);
    table.faults(account);
    table.collapse(account);
    table.recoveries();
    table.trust();
    table.checks
}

/// Leaves that dirty logging changes, when it goes on and when the log is read.
struct LoggedLeaves {
    protected_at_start: u64,
    protected_at_harvest: u64,
    cleared_at_start: u64,
    cleared_at_harvest: RangeInclusive<u64>,
}

/// Pages that a CPU logs before it exits for KVM to take them over.
const PML_BUFFER: u64 = 512;

struct Table<'a> {
    facts: &'a Facts,
    checks: Vec<Check>,
}

impl Table<'_> {
    fn identity(&mut self, account: &Account) {
        self.is("vm_created", "/created", &[Signal::VmCreated], true);
        self.is("vm_pid", "/pid", &[Signal::VmList], account.pid);
        self.is("vm_tid", "/tid", &[Signal::VmList], account.tid);
        match &self.facts.no_fd {
            Some(why) => self.skip("vm_fd", why),
            None => self.is("vm_fd", "/fd", &[Signal::VmList], account.fd),
        }
        self.is("vm_name", "/name", &[Signal::VmList], account.name.as_str());
        self.is("vm_destroyed", "/gone", &[Signal::VmDestroyed], true);
    }

    fn dirty_logging(&mut self) {
        let changes = self.facts.mmu.essential_signal();
        self.is("log_on", "/log_on", &[Signal::DirtyLogging], 1);
        self.is("log_off", "/log_off", &[Signal::DirtyLogging], 1);
        let log = self.logged_leaves();
        let all = ["/write_protects/by_level/4k", "/write_protects/by_level/2m"];
        let total = log.protected_at_start + log.protected_at_harvest;
        self.count("write_protects", &all, &[changes], total);
        let start = &[changes, Signal::EagerSplit, Signal::ClearDirtyBits];
        let by_start = &["/write_protects/by_cause/log_protect"];
        self.count("write_protects_by_log_on", by_start, start, log.protected_at_start);
        let harvest = &[changes, Signal::DirtyLogHarvest];
        let by_harvest = &["/write_protects/by_cause/get_dirty_log"];
        self.count("write_protects_by_get_log", by_harvest, harvest, log.protected_at_harvest);
        let all = ["/dirty_clears/by_level/4k", "/dirty_clears/by_level/2m"];
        let total = plus(&log.cleared_at_harvest, log.cleared_at_start);
        self.range("dirty_clears", &all, &[changes], total);
        let by_start = &["/dirty_clears/by_cause/log_protect"];
        self.count("dirty_clears_by_log_on", by_start, start, log.cleared_at_start);
        let by_harvest = &["/dirty_clears/by_cause/get_dirty_log"];
        self.range("dirty_clears_by_get_log", by_harvest, harvest, log.cleared_at_harvest);
    }

    /// What dirty logging does to leaves, all of which were written before it and in each of its rounds.
    fn logged_leaves(&self) -> LoggedLeaves {
        let eager = self.splits_eagerly();
        if !self.facts.pml {
            return LoggedLeaves {
                protected_at_start: if eager { FRAMES } else { REGIONS },
                protected_at_harvest: FRAMES,
                cleared_at_start: 0,
                cleared_at_harvest: 0..=0,
            };
        }
        LoggedLeaves {
            // Huge leaves, to be split by the next write.
            protected_at_start: if eager { 0 } else { REGIONS },
            cleared_at_start: match self.facts.mmu {
                Mmu::Tdp if eager => FRAMES,
                Mmu::Tdp => REGIONS,
                // kvm_mmu_slot_leaf_clear_dirty leaves its huge leaves alone.
                _ => 0,
            },
            protected_at_harvest: 0,
            // On 6.18, the log was seen to lack what was in the CPU's buffer when it was read.
            cleared_at_harvest: FRAMES - PML_BUFFER..=FRAMES,
        }
    }

    /// Huge leaves are installed, split and zapped.
    fn leaves(&mut self, account: &Account) {
        let changes = self.facts.mmu.essential_signal();
        // Where the collapse routine leaves empty page tables behind, the next fault replaces them.
        let mapped = &["/installs/by_level/2m", "/recoveries/in_place"];
        self.count("huge_mapped", mapped, &[changes], 3 * REGIONS);
        self.count("splits", &["/splits/total"], &[changes], REGIONS);
        let (cause, signal) = if self.splits_eagerly() {
            ("/splits/by_cause/eager_split", Signal::EagerSplit)
        } else {
            ("/splits/by_cause/guest_fault_logging", Signal::Faults)
        };
        self.count("splits_by_cause", &[cause], &[changes, signal, Signal::DirtyLogging], REGIONS);
        // Where the kernel does not say that it is madvise, it is the event alone.
        let notifier = &["/zaps/by_cause/notifier_clear", "/zaps/by_cause/notifier_discard"];
        self.count("zaps_by_notifier", notifier, &[changes, Signal::Notifier], REGIONS);
        let last = account.pages().map(|pages| pages.small + pages.huge + pages.gib);
        let teardown = last.map_or(REGIONS..=u64::MAX, |last| last..=last);
        let zaps = FRAMES + REGIONS;
        self.range("zaps", &["/zaps/total"], &[changes], plus(&teardown, zaps));
        let by_teardown = &["/zaps/by_cause/teardown"];
        self.range("zaps_by_teardown", by_teardown, &[changes, Signal::VmDestroyed], teardown);
    }

    fn faults(&mut self, account: &Account) {
        let logged = account.place("log_on").zip(account.place("log_off"));
        let logged = |at| logged.is_some_and(|(on, off)| (on..off).contains(&at));
        let all = |_| true;
        // Where KVM does not count, each region needs a fault when it is touched first and after the
        // loss of the host's memory.
        let least = 2 * REGIONS..=u64::MAX;
        let faults = account.faults("taken", all).map_or(least, |n| n..=n);
        self.range("faults", &["/faults/total"], &[Signal::Faults], faults.clone());
        let while_logging = account.faults("taken", logged).map_or(0..=*faults.end(), |n| n..=n);
        let logging = &["/faults/while_logging"];
        self.range(
            "faults_while_logging",
            logging,
            &[Signal::Faults, Signal::DirtyLogging],
            while_logging,
        );
        if self.facts.pml {
            // The guest writes to each frame in each of two rounds under dirty logging; what the log holds when
            // it leaves for another reason costs no exit.
            let most = 2 * FRAMES / PML_BUFFER;
            let exits = &["/pml_full_exits/total"];
            self.range("pml_full_exits", exits, &[Signal::PmlFull], 1..=most);
        }
        let fast = account.faults("fast", all).map_or(0..=*faults.end(), |n| n..=n);
        self.range("fast_faults", &["/faults/fast"], &[Signal::Faults, Signal::FastFaults], fast);
    }

    fn collapse(&mut self, account: &Account) {
        let changes = self.facts.mmu.essential_signal();
        let collapse: &[_] = &[Signal::Collapse];
        self.is("collapse_runs", "/collapse_runs", collapse, 1);
        self.is("collapse_slot", "/collapse_spans/0/slot/id", collapse, SLOT);
        self.is("collapse_gfn", "/collapse_spans/0/slot/base_gfn", collapse, account.base_gfn);
        self.is("collapse_frames", "/collapse_spans/0/slot/npages", collapse, FRAMES);
        let both: &[_] = &[Signal::Collapse, changes];
        self.count("collapse_zaps", &["/zaps/by_cause/collapse"], both, FRAMES);
        self.count("collapse_run_zaps", &["/collapse_spans/0/zapped_4k"], both, FRAMES);
        let recovered = if self.rebuilds() { REGIONS } else { 0 };
        self.count("collapse_recoveries", &["/collapse_spans/0/recovered"], both, recovered);
        let races = &["/collapse_spans/0/race/installs_4k", "/collapse_spans/0/race/installs_2m"];
        self.count("collapse_races", races, &[Signal::Collapse, changes, Signal::DirtyLogging], 0);
        let log_off = account.place("log_off").map(|at| &account.phases[at].interval);
        let log_off = log_off.and_then(|phase| phase.pages_before.zip(phase.pages_after));
        if let Some((before, after)) = log_off {
            let both: &[_] = &[Signal::Collapse, Signal::Gauges];
            self.is(
                "collapse_gauges_before",
                "/collapse_spans/0/pages_before",
                both,
                json!(before),
            );
            self.is("collapse_gauges_after", "/collapse_spans/0/pages_after", both, json!(after));
        }
    }

    /// Every region loses its huge leaf twice: to dirty logging, and to the host.
    fn recoveries(&mut self) {
        let changes = self.facts.mmu.essential_signal();
        let seen: &[_] = &[changes, Signal::ShadowInstalls];
        self.count("regions_lost", &["/regions/lost"], seen, 2 * REGIONS);
        self.count("recoveries", &["/recoveries/total"], seen, 2 * REGIONS);
        let in_place = match (self.rebuilds(), self.facts.mmu) {
            (true, _) => REGIONS..=REGIONS,
            // Empty page tables that the collapse routine leaves behind are replaced at the next fault;
            // whether it leaves any cannot be seen from outside.
            (false, Mmu::Tdp) => 0..=REGIONS,
            (false, _) => 0..=0,
        };
        self.range("recoveries_in_place", &["/recoveries/in_place"], seen, in_place);
    }

    fn trust(&mut self) {
        let unknown = &[
            "/splits/by_cause/unknown",
            "/zaps/by_cause/unknown",
            "/installs/by_cause/unknown",
            "/write_protects/by_cause/unknown",
            "/dirty_clears/by_cause/unknown",
        ];
        self.count("without_cause", unknown, &[], 0);
        if self.facts.missed > 0 {
            self.skip("residual", "events are known to be missed");
        } else {
            let zero = json!({"4k": 0, "2m": 0, "1g": 0});
            self.is("residual", "/pages/residual", &[Signal::Gauges], zero);
        }
        self.count("lost", &["/lost"], &[], 0);
        if self.facts.missed > 0 {
            let why = format!("the kernel skipped programs {} times, counted", self.facts.missed);
            self.skip("missed", &why);
        }
    }

    fn splits_eagerly(&self) -> bool {
        self.facts.eager_page_split && self.facts.mmu == Mmu::Tdp
    }

    fn rebuilds(&self) -> bool {
        self.facts.rebuilds && self.facts.mmu == Mmu::Tdp
    }

    fn count(&mut self, name: &'static str, paths: &[&'static str], needs: &[Signal], n: u64) {
        self.range(name, paths, needs, n..=n);
    }

    /// A count of events; those that are known to be missed may be missing.
    fn range(
        &mut self,
        name: &'static str,
        paths: &[&'static str],
        needs: &[Signal],
        range: RangeInclusive<u64>,
    ) {
        let least = range.start().saturating_sub(self.facts.missed);
        self.add(name, paths, needs, Want::Count(least..=*range.end()));
    }

    fn is(
        &mut self,
        name: &'static str,
        path: &'static str,
        needs: &[Signal],
        value: impl Into<Value>,
    ) {
        self.add(name, &[path], needs, Want::Is(value.into()));
    }

    fn skip(&mut self, name: &'static str, why: &str) {
        self.add(name, &[], &[], Want::Skip(why.to_owned()));
    }

    fn add(&mut self, name: &'static str, paths: &[&'static str], needs: &[Signal], want: Want) {
        let unseen = needs.iter().find_map(|need| Some((need, self.facts.unseen.get(need)?)));
        let want = match unseen {
            Some((signal, why)) => Want::Skip(format!("{} is not seen: {why}", signal.name())),
            None => want,
        };
        self.checks.push(Check { name, paths: paths.to_vec(), want });
    }
}

fn plus(range: &RangeInclusive<u64>, n: u64) -> RangeInclusive<u64> {
    range.start().saturating_add(n)..=range.end().saturating_add(n)
}
