//! Synthetic VMs: batches as a source would deliver them, one per second.

use collapse::{
    identity::name_from,
    kernel::Inspected,
    plan::{FaultLatency, Plan},
};
use collapse_common::{
    Cause, Counter, Transition,
    abi::{Pages, Row, VmKey},
    counter::{COUNTERS, index},
    latency::{BUCKETS, Latencies, NO_LATENCIES},
};
use collapse_feed::{
    Batch, Change, Collapse, Coverage, Event, EventKind, Slot, SlotChange, VmProcess, VmReading,
    fixtures::change,
};
use collapse_model::Model;

/// A second, ns.
pub const S: u64 = 1_000_000_000;
/// Size of a region, guest frames.
const REGION: u64 = 512;
/// Runs of changes per second of a VM without dirty logging: khugepaged, ballooning, ageing.
const QUIET_RUNS: u64 = 10;
/// Guest faults of a VM per second: under dirty logging, and without.
const FAULTS: [u64; 2] = [20_000, 100];
/// Number of VMs of which one is under dirty logging at a time.
const MIGRATING: u64 = 100;
/// Causes for which a VM has counts.
const CAUSES: [Cause; 4] =
    [Cause::GuestFault, Cause::LoggedFault, Cause::Collapse, Cause::EagerSplit];

/// Reads a recorded host, and computes its coverage.
pub fn host() -> (Inspected, Coverage) {
    let recorded = include_str!("../../tests/fixtures/kernels/6.12.json");
    let host: Inspected = serde_json::from_str(recorded).expect("a recorded kernel");
    let coverage = Plan::new(&host, FaultLatency::default()).coverage();
    (host, coverage)
}

/// A fleet of VMs of one size.
pub struct Fleet {
    guests: Vec<Guest>,
    /// Whether some of them are under dirty logging.
    migrating: bool,
    second: u64,
}

struct Guest {
    key: VmKey,
    process: VmProcess,
    regions: u64,
    rows: Vec<(Cause, Box<Row>)>,
    pages: Pages,
}

impl Fleet {
    /// Makes `vms` VMs of `regions` regions each, all mapped huge.
    pub fn new(vms: u64, regions: u64) -> Self {
        let guests = (1..=vms).map(|number| Guest::new(number, regions)).collect();
        Self { guests, migrating: true, second: 0 }
    }

    /// Makes a fleet as [`Self::new`] does, of which no VM is ever under dirty logging.
    pub fn calm(vms: u64, regions: u64) -> Self {
        Self { migrating: false, ..Self::new(vms, regions) }
    }

    /// Makes a model that has just started to observe the fleet; it ignores earlier events.
    pub fn begin(&mut self) -> Model {
        self.second += 1;
        let mut model = Model::default();
        model.apply(&self.batch(Vec::new()));
        model
    }

    /// Makes a model that has observed the fleet for `seconds` seconds.
    pub fn model(&mut self, seconds: u64) -> Model {
        let mut model = self.begin();
        for _ in 0..seconds {
            model.apply(&self.next());
        }
        model
    }

    /// Returns the batch of the next second of ordinary operation.
    pub fn next(&mut self) -> Batch {
        self.second += 1;
        let (at, second) = (self.second * S, self.second);
        let mut events = Vec::new();
        for (number, guest) in self.guests.iter_mut().enumerate() {
            let turn = self.migrating && (number as u64 + second / 30).is_multiple_of(MIGRATING);
            let mut history = guest.history(at - S);
            if turn {
                // 20 s of dirty logging, after which all regions recover within a few seconds.
                match second % 30 {
                    0 => history.log_on(),
                    20 => history.log_off(),
                    from @ 21..=28 => history.touch(from - 21, 8),
                    _ => {}
                }
            }
            history.quiet(second);
            history.faults(turn);
            events.append(&mut history.events);
        }
        events.sort_by_key(|event| event.ts);
        self.batch(events)
    }

    /// Returns the batch of a second in which the first `regions` regions are split, by one run each.
    pub fn split(&mut self, regions: u64) -> Batch {
        self.second += 1;
        let Some(guest) = self.guests.first_mut() else { return Batch::default() };
        let mut history = guest.history((self.second - 1) * S);
        history.slot(SlotChange::LogOn, 1);
        for region in 0..regions {
            history.change(Cause::EagerSplit, Transition::Split, 2, region, 1);
        }
        let events = history.events;
        self.batch(events)
    }

    /// Returns the batches of an episode of the first VM: dirty logging on, off, and recovery, in the
    /// longest possible runs.
    pub fn episode(&mut self) -> [Batch; 3] {
        let acts: [fn(&mut VmHistory); 3] =
            [|vm| vm.log_on(), |vm| vm.log_off(), |vm| vm.touch(0, 1)];
        acts.map(|act| {
            self.second += 1;
            let Some(guest) = self.guests.first_mut() else { return Batch::default() };
            let mut history = guest.history((self.second - 1) * S);
            act(&mut history);
            let events = history.events;
            self.batch(events)
        })
    }

    fn batch(&self, events: Vec<Event>) -> Batch {
        let guests = self.guests.iter();
        let reading = |guest: &Guest| VmReading {
            vm: guest.key,
            pages: Some(guest.pages),
            process: Some(guest.process.clone()),
            fd: Some(12),
        };
        let rows = |guest: &Guest| {
            let key = guest.key;
            guest.rows.clone().into_iter().map(move |(cause, row)| (key, cause, row))
        };
        let latencies = |guest: &Guest| {
            let key = guest.key;
            let row: Box<Latencies> = Box::new([[self.second; BUCKETS]; NO_LATENCIES.len()]);
            CAUSES[..2].iter().map(move |cause| (key, *cause, row.clone()))
        };
        Batch {
            at: self.second * S,
            settled: true,
            vms: guests.clone().map(reading).collect(),
            hugetlb: Vec::new(),
            uuids: Vec::new(),
            slots: Vec::new(),
            stacks: Vec::new(),
            rows: guests.clone().flat_map(rows).collect(),
            latencies: guests.flat_map(latencies).collect(),
            events,
            losses: vec![("ring_full_changes", 0), ("program_skipped", 0)],
            overhead: None,
        }
    }
}

impl Guest {
    fn new(number: u64, regions: u64) -> Self {
        let pid = 1000 + number as u32;
        let name = format!("guest-{number}");
        let process = VmProcess {
            pid,
            tid: pid,
            comm: "qemu-system-x86".to_owned(),
            name: name_from(pid, &[], "", name.as_bytes()),
        };
        Self {
            key: VmKey { kvm: 0x1000 * number, born: number },
            process,
            regions,
            rows: CAUSES.map(|cause| (cause, Box::new([0; COUNTERS]))).into(),
            pages: [0, regions, 0],
        }
    }

    fn history(&mut self, at: u64) -> VmHistory<'_> {
        VmHistory { guest: self, at, events: Vec::new() }
    }

    fn row(&mut self, cause: Cause) -> Option<&mut Row> {
        self.rows.iter_mut().find(|(other, _)| *other == cause).map(|(_, row)| &mut **row)
    }
}

/// The events of one VM, each a microsecond after the one before.
struct VmHistory<'a> {
    guest: &'a mut Guest,
    at: u64,
    events: Vec<Event>,
}

impl VmHistory<'_> {
    fn push(&mut self, kind: EventKind) {
        self.at += 1_000;
        let (vm, tid) = (self.guest.key, self.guest.process.tid);
        self.events.push(Event { ts: self.at, vm, tid, kind });
    }

    fn whole(&self, flags: u32) -> Slot {
        Slot {
            id: 1,
            as_id: 0,
            base_gfn: 0,
            npages: self.guest.regions * REGION,
            flags,
            userspace_addr: None,
        }
    }

    fn slot(&mut self, change: SlotChange, flags: u32) {
        let slot = self.whole(flags);
        self.push(EventKind::SlotChanged { slot, change, logging: flags & 1 != 0 });
    }

    fn change(
        &mut self,
        cause: Cause,
        transition: Transition,
        level: u32,
        region: u64,
        count: u64,
    ) {
        if let Some(row) = self.guest.row(cause) {
            row[index(transition, level)] += count;
        }
        let moved = count as i64 * transition.gauge();
        let pages = &mut self.guest.pages[level as usize - 1];
        *pages = pages.saturating_add_signed(moved);
        if transition == Transition::Split {
            self.guest.pages[level as usize - 2] += 512 * count;
        }
        let (gfn, count) = (region * REGION, count as u32);
        let change = Change { level, gfn, count, ..change(cause, transition) };
        self.push(EventKind::Change(change));
    }

    /// Switches dirty logging on, which splits all regions.
    fn log_on(&mut self) {
        self.slot(SlotChange::LogOn, 1);
        self.change(Cause::EagerSplit, Transition::Split, 2, 0, self.guest.regions);
    }

    /// Switches dirty logging off, after which the collapse routine zaps all small SPTEs.
    fn log_off(&mut self) {
        self.slot(SlotChange::LogOff, 0);
        let (slot, start, before) = (self.whole(0), self.at, self.guest.pages);
        self.change(Cause::Collapse, Transition::Zap, 1, 0, self.guest.regions * REGION);
        self.push(EventKind::Collapse(Collapse {
            slot,
            start,
            pages_before: Some(before),
            pages_after: Some(self.guest.pages),
            yields: Some(3),
        }));
    }

    /// Lets the guest touch one of `parts` equal parts, which is mapped huge.
    fn touch(&mut self, part: u64, parts: u64) {
        let regions = self.guest.regions / parts;
        self.change(Cause::GuestFault, Transition::Install, 2, part * regions, regions);
    }

    fn quiet(&mut self, second: u64) {
        for run in 0..QUIET_RUNS {
            let region = (second * 31 + run * 977) % self.guest.regions;
            let transition =
                if second.is_multiple_of(2) { Transition::Zap } else { Transition::Install };
            self.change(Cause::GuestFault, transition, 1, region, 8);
        }
    }

    fn faults(&mut self, logging: bool) {
        let (cause, count) =
            if logging { (Cause::LoggedFault, FAULTS[0]) } else { (Cause::GuestFault, FAULTS[1]) };
        if let Some(row) = self.guest.row(cause) {
            row[Counter::Fault as usize] += count;
            row[Counter::Stall as usize] += count * 2_000;
        }
    }
}
