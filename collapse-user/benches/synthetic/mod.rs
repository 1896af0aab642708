//! VMs that no kernel runs: batches as a source would hand them out, second by second.

use collapse::{
    identity::name_from,
    kernel::Inspected,
    plan::{FaultLatency, Plan},
};
use collapse_common::{
    Cause, Counter, Transition,
    abi::{Pages, Row, VmKey},
    counter::{COUNTERS, index},
    latency::{BUCKETS, Latencies, OUTCOMES},
};
use collapse_feed::{
    Batch, Change, Collapse, Coverage, Event, EventKind, Slot, SlotChange, VmProcess, VmReading,
};
use collapse_model::Model;

/// One second.
pub const S: u64 = 1_000_000_000;
/// Guest frames of a region.
const REGION: u64 = 512;
/// Runs of changes that a VM without dirty logging has in a second: khugepaged, ballooning, ageing.
const QUIET_RUNS: u64 = 10;
/// Guest faults of a VM in a second: under dirty logging, and without.
const FAULTS: [u64; 2] = [20_000, 100];
/// One VM in so many is under dirty logging at a time.
const MIGRATING: u64 = 100;
/// Causes that a VM has counts of.
const CAUSES: [Cause; 4] =
    [Cause::GuestFault, Cause::LoggedFault, Cause::Collapse, Cause::EagerSplit];

/// The kernel that all is said to happen on, as recorded from a real one.
pub fn host() -> (Inspected, Coverage) {
    let recorded = include_str!("../../tests/fixtures/kernels/6.12.json");
    let host: Inspected = serde_json::from_str(recorded).expect("a recorded kernel");
    let coverage = Plan::new(&host, FaultLatency::default()).coverage();
    (host, coverage)
}

/// VMs of one size.
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
    /// So many VMs with so many regions each, all mapped huge.
    pub fn new(vms: u64, regions: u64) -> Self {
        let guests = (1..=vms).map(|number| Guest::new(number, regions)).collect();
        Self { guests, migrating: true, second: 0 }
    }

    /// The same, none of which will be under dirty logging.
    pub fn calm(vms: u64, regions: u64) -> Self {
        Self { migrating: false, ..Self::new(vms, regions) }
    }

    /// A model that has just begun to watch them: what events tell from before does not count.
    pub fn begin(&mut self) -> Model {
        self.second += 1;
        let mut model = Model::default();
        model.apply(&self.batch(Vec::new()));
        model
    }

    /// A model that has watched them for so many seconds.
    pub fn model(&mut self, seconds: u64) -> Model {
        let mut model = self.begin();
        for _ in 0..seconds {
            model.apply(&self.next());
        }
        model
    }

    /// The next second, in which all VMs do what VMs do.
    pub fn next(&mut self) -> Batch {
        self.second += 1;
        let (at, second) = (self.second * S, self.second);
        let mut events = Vec::new();
        for (number, guest) in self.guests.iter_mut().enumerate() {
            let turn = self.migrating && (number as u64 + second / 30).is_multiple_of(MIGRATING);
            let mut tell = guest.teller(at - S);
            if turn {
                // Half a minute of dirty logging, and all comes back in the next few seconds.
                match second % 30 {
                    0 => tell.log_on(),
                    20 => tell.log_off(),
                    from @ 21..=28 => tell.touch(from - 21, 8),
                    _ => {}
                }
            }
            tell.quiet(second);
            tell.faults(turn);
            events.append(&mut tell.events);
        }
        events.sort_by_key(|event| event.ts);
        self.batch(events)
    }

    /// A second in which so many regions from the first on are split, by one run each.
    pub fn split(&mut self, regions: u64) -> Batch {
        self.second += 1;
        let Some(guest) = self.guests.first_mut() else { return Batch::default() };
        let mut tell = guest.teller((self.second - 1) * S);
        tell.slot(SlotChange::LogOn, 1);
        for region in 0..regions {
            tell.change(Cause::EagerSplit, Transition::Split, 2, region, 1);
        }
        let events = tell.events;
        self.batch(events)
    }

    /// Dirty logging of the first VM from on to off and all that follows, in runs as long as they get.
    pub fn episode(&mut self) -> [Batch; 3] {
        let acts: [fn(&mut Teller); 3] =
            [|tell| tell.log_on(), |tell| tell.log_off(), |tell| tell.touch(0, 1)];
        acts.map(|act| {
            self.second += 1;
            let Some(guest) = self.guests.first_mut() else { return Batch::default() };
            let mut tell = guest.teller((self.second - 1) * S);
            act(&mut tell);
            let events = tell.events;
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
            let row: Box<Latencies> = Box::new([[self.second; BUCKETS]; OUTCOMES]);
            CAUSES[..2].iter().map(move |cause| (key, *cause, row.clone()))
        };
        Batch {
            at: self.second * S,
            settled: true,
            vms: guests.clone().map(reading).collect(),
            hugetlb: Vec::new(),
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

    fn teller(&mut self, at: u64) -> Teller<'_> {
        Teller { guest: self, at, events: Vec::new() }
    }

    fn row(&mut self, cause: Cause) -> Option<&mut Row> {
        self.rows.iter_mut().find(|(other, _)| *other == cause).map(|(_, row)| &mut **row)
    }
}

/// Tells what one VM does.
struct Teller<'a> {
    guest: &'a mut Guest,
    at: u64,
    events: Vec<Event>,
}

impl Teller<'_> {
    fn tell(&mut self, kind: EventKind) {
        self.at += 1_000;
        let (vm, tid) = (self.guest.key, self.guest.process.tid);
        self.events.push(Event { ts: self.at, vm, tid, kind });
    }

    fn whole(&self, flags: u32) -> Slot {
        Slot { id: 1, as_id: 0, base_gfn: 0, npages: self.guest.regions * REGION, flags }
    }

    fn slot(&mut self, change: SlotChange, flags: u32) {
        let slot = self.whole(flags);
        self.tell(EventKind::SlotChanged { slot, change, logging: flags & 1 != 0 });
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
        let change = Change {
            cause,
            transition,
            level,
            as_id: 0,
            gfn,
            count,
            read_only: false,
            sptes: None,
            stack: None,
        };
        self.tell(EventKind::Change(change));
    }

    /// Dirty logging goes on, and all is split.
    fn log_on(&mut self) {
        self.slot(SlotChange::LogOn, 1);
        self.change(Cause::EagerSplit, Transition::Split, 2, 0, self.guest.regions);
    }

    /// It goes off, and the collapse routine zaps what is small.
    fn log_off(&mut self) {
        self.slot(SlotChange::LogOff, 0);
        let (slot, start, before) = (self.whole(0), self.at, self.guest.pages);
        self.change(Cause::Collapse, Transition::Zap, 1, 0, self.guest.regions * REGION);
        self.tell(EventKind::Collapse(Collapse {
            slot,
            start,
            pages_before: Some(before),
            pages_after: Some(self.guest.pages),
            yields: Some(3),
        }));
    }

    /// The guest touches one of so many equal parts and gets it huge.
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
