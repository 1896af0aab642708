//! Models made of batches, as a source would deliver them.

use collapse_common::{
    Cause, Counter, Transition,
    abi::{Pages, Row, VmKey},
    counter::{COUNTERS, index},
    latency::{NO_LATENCIES, Outcome, bucket},
};

use crate::identity::name_from;
use collapse_feed::fixtures::{self, full_coverage};
use collapse_feed::{
    Batch, Change, Collapse, Coverage, Event, EventKind, Mmu, Signal, Slot, SlotChange, VmProcess,
    VmReading,
};
use collapse_model::Model;

/// One second.
pub const S: u64 = 1_000_000_000;

/// Guest frames of a region.
const REGION: u64 = 512;

/// Coverage of every signal but those named.
pub fn coverage(missing: &[Signal]) -> Coverage {
    let mut coverage = full_coverage(Mmu::Tdp);
    for signal in missing {
        coverage.leave_out(*signal, "no function of that name");
    }
    coverage
}

/// A VM that is driven by hand.
pub struct Guest {
    key: VmKey,
    process: VmProcess,
    slot: Slot,
    pages: Pages,
    rows: Vec<(Cause, Box<Row>)>,
    latencies: Vec<(Cause, u64)>,
    events: Vec<Event>,
    at: u64,
}

impl Guest {
    /// Creates a guest with `regions` regions, all mapped huge.
    pub fn new(number: u64, name: &str, regions: u64) -> Self {
        let pid = 100 + number as u32 * 77;
        let process = VmProcess {
            pid,
            tid: pid,
            comm: name.to_owned(),
            name: name_from(pid, &[], "", name.as_bytes()),
        };
        let slot = Slot {
            id: 1,
            as_id: 0,
            base_gfn: 0x4_0000,
            npages: regions * REGION,
            flags: 0,
            userspace_addr: None,
        };
        let mut guest = Self {
            key: VmKey { kvm: 0x1000 * number, born: number },
            process,
            slot,
            pages: [5, regions, 0],
            rows: Vec::new(),
            latencies: Vec::new(),
            events: Vec::new(),
            at: 0,
        };
        guest.slot(SlotChange::Created);
        guest
    }

    fn record(&mut self, kind: EventKind) {
        self.at += 1_000;
        self.events.push(Event { ts: self.at, vm: self.key, tid: self.process.tid, kind });
    }

    fn slot(&mut self, change: SlotChange) {
        let logging = self.slot.flags & 1 != 0;
        self.record(EventKind::SlotChanged { slot: self.slot, change, logging });
    }

    fn row(&mut self, cause: Cause) -> &mut Row {
        let place = self.rows.iter().position(|(other, _)| *other == cause);
        let place = place.unwrap_or_else(|| {
            self.rows.push((cause, Box::new([0; COUNTERS])));
            self.rows.len() - 1
        });
        &mut self.rows[place].1
    }

    /// Changes `count` SPTEs from a region on.
    pub fn change(
        &mut self,
        cause: Cause,
        transition: Transition,
        level: u32,
        region: u64,
        count: u32,
    ) {
        self.row(cause)[index(transition, level)] += u64::from(count);
        let place = level as usize - 1;
        let moved = i64::from(count) * transition.gauge();
        self.pages[place] = self.pages[place].saturating_add_signed(moved);
        if transition == Transition::Split {
            self.pages[place - 1] += 512 * u64::from(count);
        }
        let gfn = self.slot.base_gfn + region * REGION;
        let change = Change { level, gfn, count, ..fixtures::change(cause, transition) };
        self.record(EventKind::Change(change));
    }

    /// Adds `count` guest faults that take about `ns` each.
    pub fn faults(&mut self, cause: Cause, count: u64, ns: u64) {
        let row = self.row(cause);
        row[Counter::Fault as usize] += count;
        row[Counter::FastFault as usize] += count * 9 / 10;
        row[Counter::Stall as usize] += count * ns;
        self.latencies.extend((0..count.min(50)).map(|n| (cause, ns + n * ns / 20)));
    }

    /// Switches dirty logging on and splits everything.
    pub fn log_on(&mut self) {
        self.slot.flags = 1;
        self.slot(SlotChange::LogOn);
        let regions = (self.slot.npages / REGION) as u32;
        self.change(Cause::EagerSplit, Transition::Split, 2, 0, regions);
    }

    /// Switches dirty logging off and has the collapse routine zap what is small.
    pub fn log_off(&mut self) {
        self.slot.flags = 0;
        self.slot(SlotChange::LogOff);
        let start = self.at;
        let (regions, before) = ((self.slot.npages / REGION) as u32, self.pages);
        self.change(Cause::Collapse, Transition::Zap, 1, 0, regions * 512);
        self.at += 23_800_000;
        let collapse = Collapse {
            slot: self.slot,
            start,
            pages_before: Some(before),
            pages_after: Some(self.pages),
            yields: Some(3),
        };
        self.record(EventKind::Collapse(collapse));
    }

    /// Touches regions, which KVM maps huge.
    pub fn touch(&mut self, region: u64, count: u32) {
        self.change(Cause::GuestFault, Transition::Install, 2, region, count);
        self.faults(Cause::GuestFault, count.into(), 5_000);
    }

    /// Touches regions, which KVM maps small.
    pub fn touch_small(&mut self, region: u64, count: u32) {
        self.change(Cause::GuestFault, Transition::Install, 1, region, count * 512);
    }
}

/// Applies a reading of all guests at a time.
pub fn read(model: &mut Model, guests: &mut [Guest], at: u64) {
    let mut batch = Batch { at, settled: true, ..Batch::default() };
    for guest in guests {
        batch.vms.push(VmReading {
            vm: guest.key,
            pages: Some(guest.pages),
            process: Some(guest.process.clone()),
            fd: Some(12),
        });
        batch.rows.extend(guest.rows.iter().map(|(cause, row)| (guest.key, *cause, row.clone())));
        for cause in [Cause::GuestFault, Cause::LoggedFault] {
            let mut row = Box::new(NO_LATENCIES);
            for (_, ns) in guest.latencies.iter().filter(|(other, _)| *other == cause) {
                row[Outcome::Fast as usize][bucket(*ns)] += 1;
            }
            batch.latencies.push((guest.key, cause, row));
        }
        batch.events.append(&mut guest.events);
        guest.at = at;
    }
    batch.events.sort_by_key(|event| event.ts);
    batch.losses = vec![("ring_full_changes", 0), ("program_skipped", 0)];
    model.apply(&batch);
}

/// Four VMs: one whose migration failed and that recovers, one under dirty logging, one with regions
/// that stay small, one with a wide name that does nothing.
pub fn busy() -> Model {
    let mut model = Model::default();
    let mut guests = [
        Guest::new(1, "web-frontend", 256),
        Guest::new(2, "database", 512),
        Guest::new(3, "build-runner", 64),
        Guest::new(4, "漢字の仮想機械", 32),
    ];
    read(&mut model, &mut guests, S);
    for second in 2..90 {
        let [web, database, build, _] = &mut guests;
        match second {
            10 | 35 => web.log_on(),
            20 | 62 => web.log_off(),
            60 => database.log_on(),
            30 => build.log_on(),
            40 => build.log_off(),
            _ => {}
        }
        match second {
            11..=19 | 36..=61 => web.faults(Cause::LoggedFault, 900 + second * 17 % 400, 1_400),
            21..=28 => web.touch((second - 21) * 32, 32),
            63..=79 => web.touch((second - 63) * 12, 12),
            _ => {}
        }
        if second > 60 {
            database.faults(Cause::LoggedFault, 4_000 + second * 131 % 900, 1_900);
        }
        match second {
            41 => build.touch(0, 40),
            42 => build.touch_small(40, 16),
            _ => {}
        }
        read(&mut model, &mut guests, second * S);
    }
    model
}
