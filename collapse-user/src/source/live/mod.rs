//! Batches from the running kernel.

use std::{
    collections::{BTreeMap, BTreeSet, VecDeque},
    mem::offset_of,
    rc::Rc,
    time::Duration,
};

use aya::{
    TestRun as _,
    programs::{Program, RawTracePointRunOptions},
};
use collapse_common::{
    Cause, Counter,
    abi::{
        Block, Cpu, Loss, Mark, PendingFaults, RECORD_BLOCK, RECORD_MARK, RECORD_SINGLE,
        RECORD_STACKED, Row, RowOwner, Single, Stacked, Thread, UNKNOWN_ROW, VcpuFaults, VmGauges,
        VmKey, WRITERS,
    },
    counter::{COUNTERS, transition_at},
    latency::Latencies,
    runs::Cursor,
};

use super::{
    Batch, Event, EventKind, SlotChange, VmReading,
    cost::{Meter, Step},
    decode,
    hugetlb::Hugetlb,
    maps::{Maps, map_error},
    stacks::Stacks,
};
use crate::{
    identity,
    probe::{Probe, ProbeError},
};
use collapse_feed::{Coverage, Signal, VmProcess, clock::monotonic_ns};

/// Times a reading is repeated that changed under us.
const TRIES: usize = 3;

/// The same for the last reading, with [`PAUSE`] in between: a program that was preempted while it
/// changed a run list has to come to its end.
const LAST_TRIES: usize = 200;
const PAUSE: Duration = Duration::from_millis(1);

/// Most VMs read in one walk.
const VMS_WALKED: usize = 1 << 16;

/// The running kernel, seen through attached programs.
pub struct Live {
    probe: Probe,
    maps: Maps,
    rows: Rows,
    stacks: Stacks,
    /// Rows whose changes are recorded, if not all are.
    wanted: Option<RowFilter>,
    /// By run list.
    cursors: Vec<Cursor>,
    /// Events read but not handed out yet.
    pending: Vec<Event>,
    processes: BTreeMap<VmKey, (VmProcess, Option<u32>)>,
    hugetlb: Hugetlb,
    /// Ring-buffer records that this build does not understand.
    unknown_records: u64,
    /// Offset of `kvm.vm_list`.
    vm_list_offset: u32,
    /// Whether KVM counts faults itself, and rows take that over now and then.
    kvm_counts_faults: bool,
    meter: Meter,
}

/// Whether changes of a VM, of this process and file descriptor, by a cause are to be recorded.
pub type RowFilter = Rc<dyn Fn(&VmProcess, Option<u32>, Cause) -> bool>;

/// Which rows are in use. The kernel takes them from a queue that only we fill, so we know the order
/// in which it does.
#[derive(Default)]
struct Rows {
    upcoming: VecDeque<u32>,
    used: BTreeMap<u32, RowOwner>,
    /// Of those, the ones that it was decided on whether their changes are recorded.
    judged: BTreeSet<u32>,
}

type Totals = BTreeMap<u32, Box<Row>>;

impl Live {
    /// Fills the tables of loaded programs, attaches them and starts reading. `vm_list_offset` is
    /// that of `kvm.vm_list`. Rows that are not `wanted` are muted once it is known whose they are, if
    /// the programs look at that. `budget` is the most that they may cost, in percent of one core.
    pub fn new(
        mut probe: Probe,
        vm_list_offset: u32,
        wanted: Option<RowFilter>,
        budget: Option<f64>,
    ) -> Result<Self, ProbeError> {
        let mut maps = Maps::take(&mut probe)?;
        maps.number_cpus();
        let stacks = probe.ebpf.take_map("STACKS").ok_or(ProbeError::NoMap("STACKS"))?;
        let stacks = Stacks::new(stacks.try_into().map_err(map_error("STACKS"))?);
        let mut rows = Rows::default();
        for row in UNKNOWN_ROW + 1..maps.owners.len() as u32 {
            maps.free_rows.push(row, 0).map_err(map_error("FREE_ROWS"))?;
            rows.upcoming.push_back(row);
        }
        for place in 0..maps.threads.len() as u32 {
            maps.free_threads.push(place, 0).map_err(map_error("FREE_THREADS"))?;
        }
        let cursors = vec![Cursor::default(); maps.cpus.len() * WRITERS];
        probe.attach()?;
        let kvm_counts_faults = probe.coverage.kvm_counts_faults;
        Ok(Self {
            probe,
            maps,
            rows,
            stacks,
            wanted,
            cursors,
            pending: Vec::new(),
            processes: BTreeMap::new(),
            hugetlb: Hugetlb::default(),
            unknown_records: 0,
            vm_list_offset,
            kvm_counts_faults,
            meter: Meter::new(budget),
        })
    }

    /// What is seen and what is not.
    pub fn coverage(&self) -> &Coverage {
        &self.probe.coverage
    }

    /// Prepares to name the functions of stacks.
    pub fn learn_functions(&mut self) {
        self.stacks.learn();
    }

    /// Whether a planned hook could not be attached.
    pub fn is_refused(&self) -> bool {
        self.probe.hooks.iter().any(|hook| hook.refused.is_some())
    }

    /// Detaches everything.
    pub fn detach(self) {
        self.probe.detach();
    }

    /// Takes what the ring and the open blocks hold, so that the ring does not fill up. Cheap enough
    /// for ten times a second. Returns whether dirty logging went on or off somewhere: totals read
    /// now still belong to what was before.
    pub fn drain(&mut self) -> bool {
        let before = self.pending.len();
        self.take(TRIES, Duration::ZERO);
        self.keep_to_budget();
        let switch = |event: &Event| match event.kind {
            EventKind::SlotChanged { change, .. } => {
                matches!(change, SlotChange::LogOn | SlotChange::LogOff)
            }
            _ => false,
        };
        self.pending[before..].iter().any(switch)
    }

    /// Returns the time up to which nothing is missing, ns.
    fn take(&mut self, tries: usize, pause: Duration) -> u64 {
        let at = monotonic_ns();
        let lists = self.maps.run_lists(tries, pause);
        // Blocks that left a list before it was read are in the ring by now.
        let sees_yields = self.probe.coverage.sees(Signal::LockYields);
        let (mut runs, mut singles) = (Vec::new(), Vec::new());
        while let Some(record) = self.maps.ring.next() {
            if let Some(block) = read_record::<Block>(&record, RECORD_BLOCK) {
                if let Some(cursor) = self.cursors.get_mut(block.list as usize) {
                    cursor.block(&block, |run| runs.push(run));
                }
            } else if let Some(single) = read_record::<Single>(&record, RECORD_SINGLE) {
                singles.push((single, None));
            } else if let Some(stacked) = read_record::<Stacked>(&record, RECORD_STACKED) {
                singles.push((stacked.single, Some(self.stacks.number(stacked.stack))));
            } else if let Some(mark) = read_record::<Mark>(&record, RECORD_MARK) {
                let event = decode::mark(&mark, sees_yields, identity::process_of_thread);
                self.pending.extend(event);
            } else {
                self.unknown_records += 1;
            }
        }
        for (cursor, list) in self.cursors.iter_mut().zip(&lists) {
            if let Some(list) = list {
                cursor.open(list, at, |run| runs.push(run));
            }
        }
        for (single, stack) in &singles {
            if let Some(owner) = self.owner(single.key.row()) {
                self.pending.extend(decode::single(single, *stack, &owner));
            }
        }
        for run in &runs {
            if let Some(owner) = self.owner(run.key.row()) {
                self.pending.extend(decode::run(run, &owner));
            }
        }
        at
    }

    /// Takes everything and reads totals and gauges. With `last`, nothing is held back for the sake
    /// of order.
    pub fn poll(&mut self, last: bool) -> Batch {
        let complete =
            if last { self.take(LAST_TRIES, PAUSE) } else { self.take(TRIES, Duration::ZERO) };
        let mut before = self.totals();
        let mut gauges = self.walk();
        let mut after = self.totals();
        for _ in 1..TRIES {
            if before == after {
                break;
            }
            before = after;
            gauges = self.walk();
            after = self.totals();
        }
        let at = monotonic_ns();
        let settled = before == after;
        let vms: Vec<_> = gauges.iter().map(|gauges| self.reading(gauges)).collect();
        let hugetlb = self.hugetlb.changes(&vms);
        self.mute();
        let latencies = self.latencies();
        let rows = self.attribute(after);
        self.pending.sort_by_key(|event| event.ts);
        let held = if last {
            Vec::new()
        } else {
            self.pending.split_off(self.pending.partition_point(|event| event.ts <= complete))
        };
        let events = std::mem::replace(&mut self.pending, held);
        let freed = |event: &Event| matches!(event.kind, EventKind::VmFreed);
        let freed = events.iter().filter(|event| freed(event)).map(|event| event.vm).collect();
        self.recycle(freed);
        let losses = self.losses();
        self.keep_to_budget();
        let overhead = self.meter.news();
        let stacks = self.stacks.news();
        Batch { at, settled, vms, hugetlb, rows, latencies, events, stacks, losses, overhead }
    }

    /// Measures what the programs cost if it is time, and sees less or more accordingly.
    fn keep_to_budget(&mut self) {
        let count = || {
            let rows = [UNKNOWN_ROW].into_iter().chain(self.rows.used.keys().copied());
            let changes = |row: Row| {
                let counts = row.into_iter().enumerate();
                counts.filter(|(at, _)| transition_at(*at).is_some()).map(|(_, n)| n).sum::<u64>()
            };
            BTreeMap::from([("spte_changed", rows.map(|row| changes(self.maps.row(row))).sum())])
        };
        let Some(step) = self.meter.tick(&self.probe, count) else { return };
        let left_out = match step {
            Step::Full | Step::NoLatency => 0,
            Step::Sampled => 0xf,
            Step::CountersOnly => 1 << 63,
        };
        let untimed = step != Step::Full;
        self.run("set_detail", [untimed.into(), left_out]);
        if let Err(error) = self.probe.suspend(Signal::FaultLatency, untimed) {
            log::warn!("fault latency: {error}");
        }
    }

    /// Has the kernel record no more of rows that are not wanted, once it is known whose they are.
    fn mute(&mut self) {
        let Some(wanted) = &self.wanted else { return };
        for (row, owner) in &self.rows.used {
            if self.rows.judged.contains(row) {
                continue;
            }
            let Some((process, fd)) = self.processes.get(&owner.vm) else { continue };
            let cause = Cause::from_number(owner.cause as u8).unwrap_or(Cause::Unknown);
            let muted = !wanted(process, *fd, cause);
            self.maps.owners.write(*row as usize, &RowOwner { muted: muted.into(), ..*owner });
            self.rows.judged.insert(*row);
        }
    }

    fn owner(&self, row: u32) -> Option<RowOwner> {
        if let Some(owner) = self.rows.used.get(&row) {
            return Some(*owner);
        }
        let row = row as usize;
        (row < self.maps.owners.len()).then(|| self.maps.owners.read(row))
    }

    /// Totals of every row in use, with what KVM has counted of vCPUs since their rows took it over.
    fn totals(&mut self) -> Totals {
        let mut tries = TRIES;
        loop {
            let vcpus = self.vcpus();
            let mut totals = self.counted();
            let pending: Vec<_> = vcpus.iter().map(|(place, _)| self.pending(*place)).collect();
            tries -= 1;
            // What a row took over meanwhile would be missing, or be there twice.
            let still = |((_, counted), pending): (&(usize, VcpuFaults), &PendingFaults)| {
                *counted == pending.counted
            };
            if tries > 0 && !vcpus.iter().zip(&pending).all(still) {
                continue;
            }
            for PendingFaults { row, pending, .. } in pending {
                if let Some(row) = totals.get_mut(&row) {
                    row[Counter::Fault as usize] += pending.taken;
                    row[Counter::FastFault as usize] += pending.fast;
                }
            }
            return totals;
        }
    }

    /// Places of threads whose vCPU's faults KVM counts, and what of those is in their rows.
    fn vcpus(&self) -> Vec<(usize, VcpuFaults)> {
        if !self.kvm_counts_faults {
            return Vec::new();
        }
        let threads = (0..self.maps.threads.len()).filter_map(|place| {
            let vcpu: u64 = self.maps.threads.read_part(place, offset_of!(Thread, vcpu));
            let counted = self.maps.threads.read_part(place, offset_of!(Thread, counted));
            (vcpu != 0).then_some((place, counted))
        });
        threads.collect()
    }

    /// What a thread's row has not taken over yet.
    fn pending(&self, place: usize) -> PendingFaults {
        if self.run("pending_faults", [place as u64, 0]) {
            self.maps.pending_faults.read(0)
        } else {
            PendingFaults::NONE
        }
    }

    /// What is counted in every row in use, summed over CPUs.
    fn counted(&mut self) -> Totals {
        while let Some(&row) = self.rows.upcoming.front() {
            let owner = self.maps.owners.read(row as usize);
            if owner.vm == VmKey::default() {
                break;
            }
            self.rows.upcoming.pop_front();
            self.rows.used.insert(row, owner);
        }
        let rows = [UNKNOWN_ROW].into_iter().chain(self.rows.used.keys().copied());
        rows.map(|row| (row, Box::new(self.maps.row(row)))).collect()
    }

    /// Latencies of every row in use that has any.
    fn latencies(&self) -> Vec<(VmKey, Cause, Box<Latencies>)> {
        let faults = self.rows.used.iter().filter_map(|(row, owner)| {
            let cause = Cause::from_number(owner.cause as u8)?;
            cause.is_guest_fault().then_some((*row, owner.vm, cause))
        });
        faults
            .map(|(row, vm, cause)| (vm, cause, Box::new(self.maps.latencies.read(row as usize))))
            .filter(|(_, _, latencies)| latencies.iter().flatten().any(|n| *n > 0))
            .collect()
    }

    fn attribute(&self, totals: Totals) -> Vec<(VmKey, Cause, Box<Row>)> {
        // Two CPUs that took a row for the same VM and cause at once both count; add them up.
        let mut sums: BTreeMap<(VmKey, Cause), Box<Row>> = BTreeMap::new();
        for (row, counts) in totals {
            let owner = self.rows.used.get(&row);
            let vm = owner.map_or_else(VmKey::default, |owner| owner.vm);
            let cause = owner.and_then(|owner| Cause::from_number(owner.cause as u8));
            let sum = sums
                .entry((vm, cause.unwrap_or(Cause::Unknown)))
                .or_insert_with(|| Box::new([0; COUNTERS]));
            for (sum, n) in sum.iter_mut().zip(counts.iter()) {
                *sum += n;
            }
        }
        sums.into_iter().map(|((vm, cause), row)| (vm, cause, row)).collect()
    }

    /// Every VM in KVM's own list, with its gauges.
    fn walk(&mut self) -> Vec<VmGauges> {
        let mut vms = Vec::new();
        if !self.coverage().sees(Signal::VmList) {
            return vms;
        }
        let mut node = 0;
        // The list is walked without its lock: bounded, should it ever lead in a circle.
        while vms.len() < VMS_WALKED {
            // A refused run is no reason to stop: the VMs are then known without their gauges.
            if !self.run("walk", [node, 0]) {
                return vms;
            }
            let gauges = self.maps.gauges.read(0);
            if gauges.vm == VmKey::default() {
                return vms;
            }
            node = gauges.vm.kvm + u64::from(self.vm_list_offset);
            vms.push(gauges);
        }
        vms
    }

    fn reading(&mut self, gauges: &VmGauges) -> VmReading {
        let known = self.processes.get(&gauges.vm).cloned().or_else(|| {
            let process = identity::process_of_thread(gauges.tid)?;
            let fd = decode::debugfs_name(gauges)
                .and_then(identity::parse_debugfs_name)
                .map(|(_, fd)| fd);
            self.processes.insert(gauges.vm, (process.clone(), fd));
            Some((process, fd))
        });
        let (process, fd) = known.map_or((None, None), |(process, fd)| (Some(process), fd));
        VmReading { vm: gauges.vm, pages: decode::pages(gauges.pages), process, fd }
    }

    /// Gives back the rows of VMs that are gone, whose last counts are in the batch that tells of
    /// their end, and the places of threads that are gone.
    fn recycle(&mut self, freed: Vec<VmKey>) {
        if freed.is_empty() {
            return;
        }
        for vm in freed {
            self.processes.remove(&vm);
            let mine = self.rows.used.iter().filter(|(_, owner)| owner.vm == vm);
            for row in mine.map(|(row, _)| *row).collect::<Vec<_>>() {
                self.maps.clear_row(row);
                self.rows.used.remove(&row);
                self.rows.judged.remove(&row);
                if self.run("give_back", [row.into(), 0]) {
                    self.rows.upcoming.push_back(row);
                }
            }
        }
        for place in 0..self.maps.threads.len() {
            let id = self.maps.threads.read(place).id;
            if id != 0 && !identity::thread_exists((id >> 32) as u32, id as u32) {
                self.run("give_back", [0, id]);
            }
        }
    }

    /// Runs a program once, here and now; whether the kernel did it.
    fn run(&self, name: &str, args: [u64; 2]) -> bool {
        let Some(Program::RawTracePoint(program)) = self.probe.ebpf.program(name) else {
            return false;
        };
        let mut options = RawTracePointRunOptions::new();
        options.args[..2].copy_from_slice(&args);
        program.test_run(options).inspect_err(|error| log::warn!("{name}: {error}")).is_ok()
    }

    fn losses(&self) -> Vec<(&'static str, u64)> {
        let cpus: Vec<Cpu> = (0..self.maps.cpus.len()).map(|at| self.maps.cpus.read(at)).collect();
        let sum = |loss: Loss| cpus.iter().map(|cpu| cpu.loss[loss as usize]).sum();
        let mut losses: Vec<_> = Loss::ALL.iter().map(|loss| (loss.name(), sum(*loss))).collect();
        let salvaged: u64 = self.cursors.iter().map(Cursor::salvaged).sum();
        losses[Loss::RecordedChanges as usize].1 -= salvaged.min(sum(Loss::RecordedChanges));
        let again: u64 = cpus.iter().flat_map(|cpu| cpu.again).sum();
        losses.push(("program_skipped", self.probe.skipped().saturating_sub(again)));
        losses.push(("stacks_not_taken", self.stacks.not_taken()));
        losses.push(("unknown_records", self.unknown_records));
        losses
    }
}

/// The ring-buffer record as a `T`, if its first word and its size say so.
fn read_record<T: aya::Pod>(bytes: &[u8], kind: u32) -> Option<T> {
    let tag = bytes.first_chunk::<4>().map(|word| u32::from_ne_bytes(*word));
    if tag != Some(kind) || bytes.len() < size_of::<T>() {
        return None;
    }
    // SAFETY: the length was checked, and any bytes are a valid `Pod`.
    Some(unsafe { bytes.as_ptr().cast::<T>().read_unaligned() })
}
