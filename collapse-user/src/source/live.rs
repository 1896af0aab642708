//! Batches from the running kernel.

use std::collections::{BTreeMap, VecDeque};

use aya::{
    TestRun as _,
    maps::{Array, HashMap, MapData, MapError, PerCpuArray, PerCpuValues, Queue, RingBuf},
    programs::{Program, RawTracePoint, RawTracePointRunOptions},
};
use collapse_common::{
    Cause,
    abi::{
        Block, Cpu, Loss, Mark, RECORD_BLOCK, RECORD_MARK, Row, RowOwner, Thread, UNKNOWN_ROW,
        Vm as VmEntry, VmGauges, VmKey,
    },
    counter::COUNTERS,
    runs::Cursor,
};

use super::{Batch, Event, EventKind, VmReading, decode};
use crate::{
    clock::monotonic_ns,
    identity::{self, VmProcess},
    plan::Coverage,
    probe::{Probe, ProbeError},
};

/// Times a reading is repeated that changed under us.
const TRIES: usize = 3;

/// Most VMs read in one walk.
const VMS_WALKED: usize = 1 << 16;

/// The running kernel, seen through attached programs.
pub struct Live {
    probe: Probe,
    maps: Maps,
    rows: Rows,
    cursors: Vec<Cursor>,
    /// Events read but not handed out yet.
    pending: Vec<Event>,
    processes: BTreeMap<VmKey, (VmProcess, Option<u32>)>,
    /// VMs whose end was handed out: their rows can be given back.
    ended: Vec<VmKey>,
    /// Ring-buffer records that this build does not understand.
    unknown_records: u64,
    /// Offset of `kvm.vm_list`.
    vm_list_offset: u32,
}

struct Maps {
    cpu: PerCpuArray<MapData, Cpu>,
    rows: PerCpuArray<MapData, Row>,
    owners: Array<MapData, RowOwner>,
    free_rows: Queue<MapData, u32>,
    vms: HashMap<MapData, u64, VmEntry>,
    threads: Array<MapData, Thread>,
    thread_index: HashMap<MapData, u64, u32>,
    free_threads: Queue<MapData, u32>,
    gauges: Array<MapData, VmGauges>,
    ring: RingBuf<MapData>,
}

/// Which rows are in use. The kernel takes them from a queue that only we fill, so we know the order
/// in which it does.
#[derive(Default)]
struct Rows {
    upcoming: VecDeque<u32>,
    used: BTreeMap<u32, RowOwner>,
}

type Totals = BTreeMap<u32, Box<Row>>;

impl Live {
    /// Fills the tables of loaded programs, attaches them and starts reading. `vm_list_offset` is
    /// that of `kvm.vm_list`.
    pub fn new(mut probe: Probe, vm_list_offset: u32) -> Result<Self, ProbeError> {
        let mut maps = Maps::take(&mut probe)?;
        let mut rows = Rows::default();
        for row in UNKNOWN_ROW + 1..maps.owners.len() {
            maps.free_rows.push(row, 0).map_err(map_error("FREE_ROWS"))?;
            rows.upcoming.push_back(row);
        }
        for place in 0..maps.threads.len() {
            maps.free_threads.push(place, 0).map_err(map_error("FREE_THREADS"))?;
        }
        let cpus = maps.cpu.get(&0, 0).map_err(map_error("CPU"))?.len();
        probe.attach()?;
        Ok(Self {
            probe,
            maps,
            rows,
            cursors: vec![Cursor::default(); cpus],
            pending: Vec::new(),
            processes: BTreeMap::new(),
            ended: Vec::new(),
            unknown_records: 0,
            vm_list_offset,
        })
    }

    /// What is seen and what is not.
    pub fn coverage(&self) -> &Coverage {
        &self.probe.coverage
    }

    /// Takes what the ring and the open blocks hold, so that the ring does not fill up. Cheap enough
    /// for ten times a second. Returns the time up to which nothing is missing, ns.
    pub fn drain(&mut self) -> Result<u64, ProbeError> {
        let at = monotonic_ns();
        let cpus = self.maps.cpu_states()?;
        // Blocks that left a CPU before its state was read are in the ring by now.
        let mut runs = Vec::new();
        while let Some(record) = self.maps.ring.next() {
            if let Some(block) = read_record::<Block>(&record, RECORD_BLOCK) {
                if let Some(cursor) = self.cursors.get_mut(block.cpu as usize) {
                    cursor.block(&block, |run| runs.push(run));
                }
            } else if let Some(mark) = read_record::<Mark>(&record, RECORD_MARK) {
                self.pending.extend(decode::mark(&mark, identity::process_of_thread));
            } else {
                self.unknown_records += 1;
            }
        }
        for (cursor, cpu) in self.cursors.iter_mut().zip(&cpus) {
            if let Some(cpu) = cpu {
                cursor.open(cpu, at, |run| runs.push(run));
            }
        }
        for run in &runs {
            if let Some(owner) = self.owner(run.key.row())? {
                self.pending.extend(decode::run(run, &owner));
            }
        }
        Ok(at)
    }

    /// Takes everything and reads totals and gauges. With `last`, nothing is held back for the sake
    /// of order.
    pub fn poll(&mut self, last: bool) -> Result<Batch, ProbeError> {
        let complete = self.drain()?;
        let mut before = self.totals()?;
        let mut gauges = self.walk()?;
        let mut after = self.totals()?;
        for _ in 1..TRIES {
            if before == after {
                break;
            }
            before = after;
            gauges = self.walk()?;
            after = self.totals()?;
        }
        let at = monotonic_ns();
        let settled = before == after;
        let vms = gauges.iter().map(|gauges| self.reading(gauges)).collect();
        let rows = self.attribute(after);
        self.pending.sort_by_key(|event| event.ts);
        let held = if last {
            Vec::new()
        } else {
            self.pending.split_off(self.pending.partition_point(|event| event.ts <= complete))
        };
        let events = std::mem::replace(&mut self.pending, held);
        self.recycle()?;
        let ended = |event: &Event| matches!(event.kind, EventKind::VmDestroyed { .. });
        self.ended.extend(events.iter().filter(|event| ended(event)).map(|event| event.vm));
        let latencies = Vec::new();
        Ok(Batch { at, settled, vms, rows, latencies, events, losses: self.losses()? })
    }

    fn owner(&self, row: u32) -> Result<Option<RowOwner>, ProbeError> {
        if let Some(owner) = self.rows.used.get(&row) {
            return Ok(Some(*owner));
        }
        match self.maps.owners.get(&row, 0) {
            Ok(owner) => Ok(Some(owner)),
            Err(MapError::OutOfBounds { .. }) => Ok(None),
            Err(source) => Err(ProbeError::Map { name: "ROW_OWNERS", source }),
        }
    }

    /// Totals of every row in use, summed over CPUs.
    fn totals(&mut self) -> Result<Totals, ProbeError> {
        while let Some(&row) = self.rows.upcoming.front() {
            let owner = self.maps.owners.get(&row, 0).map_err(map_error("ROW_OWNERS"))?;
            if owner.vm == VmKey::default() {
                break;
            }
            self.rows.upcoming.pop_front();
            self.rows.used.insert(row, owner);
        }
        let mut totals = Totals::new();
        for row in [UNKNOWN_ROW].into_iter().chain(self.rows.used.keys().copied()) {
            let cpus = self.maps.rows.get(&row, 0).map_err(map_error("ROWS"))?;
            totals.insert(row, Box::new(sum(&cpus)));
        }
        Ok(totals)
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
    fn walk(&mut self) -> Result<Vec<VmGauges>, ProbeError> {
        let mut vms = Vec::new();
        if !self.coverage().sees("vm_list") {
            return Ok(vms);
        }
        let mut node = 0;
        // The list is walked without its lock: bounded, should it ever lead in a circle.
        while vms.len() < VMS_WALKED {
            let Some(Program::RawTracePoint(walk)) = self.probe.ebpf.program("walk") else {
                return Ok(vms);
            };
            let walk: &RawTracePoint = walk;
            let mut options = RawTracePointRunOptions::new();
            options.args[0] = node;
            // A refused run is no reason to stop: the VMs are then known without their gauges.
            if let Err(error) = walk.test_run(options) {
                log::warn!("the walk over KVM's list of VMs was refused: {error}");
                return Ok(vms);
            }
            let gauges = self.maps.gauges.get(&0, 0).map_err(map_error("GAUGES"))?;
            if gauges.vm == VmKey::default() {
                return Ok(vms);
            }
            node = gauges.vm.kvm + u64::from(self.vm_list_offset);
            vms.push(gauges);
        }
        Ok(vms)
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

    /// Gives back the rows of VMs that are gone, once their last counts were handed out, and the
    /// places of vCPU threads that are gone.
    fn recycle(&mut self) -> Result<(), ProbeError> {
        if self.ended.is_empty() {
            return Ok(());
        }
        for vm in std::mem::take(&mut self.ended) {
            let alive = self.maps.vms.get(&vm.kvm, 0).is_ok_and(|entry| entry.born == vm.born);
            if alive {
                self.ended.push(vm);
                continue;
            }
            self.processes.remove(&vm);
            let mine = self.rows.used.iter().filter(|(_, owner)| owner.vm == vm);
            for row in mine.map(|(row, _)| *row).collect::<Vec<_>>() {
                self.maps.free_row(row)?;
                self.rows.used.remove(&row);
                self.rows.upcoming.push_back(row);
            }
        }
        self.maps.free_dead_threads()
    }

    fn losses(&self) -> Result<Vec<(&'static str, u64)>, ProbeError> {
        let cpus = self.maps.cpu.get(&0, 0).map_err(map_error("CPU"))?;
        let sum = |loss: Loss| cpus.iter().map(|cpu| cpu.loss[loss as usize]).sum();
        let mut losses: Vec<_> = Loss::ALL.iter().map(|loss| (loss.name(), sum(*loss))).collect();
        let salvaged: u64 = self.cursors.iter().map(Cursor::salvaged).sum();
        losses[Loss::RecordedChanges as usize].1 -= salvaged.min(sum(Loss::RecordedChanges));
        losses.push(("unknown_records", self.unknown_records));
        Ok(losses)
    }
}

impl Maps {
    fn take(probe: &mut Probe) -> Result<Self, ProbeError> {
        macro_rules! map {
            ($name:literal) => {
                probe
                    .ebpf
                    .take_map($name)
                    .ok_or(ProbeError::NoMap($name))?
                    .try_into()
                    .map_err(map_error($name))?
            };
        }
        Ok(Self {
            cpu: map!("CPU"),
            rows: map!("ROWS"),
            owners: map!("ROW_OWNERS"),
            free_rows: map!("FREE_ROWS"),
            vms: map!("VMS"),
            threads: map!("THREADS"),
            thread_index: map!("THREAD_INDEX"),
            free_threads: map!("FREE_THREADS"),
            gauges: map!("GAUGES"),
            ring: map!("RING"),
        })
    }

    /// Each CPU's state, `None` where it kept changing while it was read.
    fn cpu_states(&self) -> Result<Vec<Option<Cpu>>, ProbeError> {
        let mut states: Vec<Option<Cpu>> = Vec::new();
        for _ in 0..TRIES {
            let cpus = self.cpu.get(&0, 0).map_err(map_error("CPU"))?;
            states.resize(cpus.len(), None);
            for (state, cpu) in states.iter_mut().zip(cpus.iter()) {
                if state.is_none() && !cpu.is_torn() {
                    *state = Some(*cpu);
                }
            }
            if states.iter().all(Option::is_some) {
                break;
            }
        }
        Ok(states)
    }

    fn free_row(&mut self, row: u32) -> Result<(), ProbeError> {
        let nobody = RowOwner { vm: VmKey::default(), cause: 0, pad: 0 };
        self.owners.set(row, nobody, 0).map_err(map_error("ROW_OWNERS"))?;
        let cpus = self.rows.get(&row, 0).map_err(map_error("ROWS"))?.len();
        let zero = PerCpuValues::try_from(vec![[0; COUNTERS]; cpus])
            .map_err(|error| map_error("ROWS")(MapError::IoError(error)))?;
        self.rows.set(row, zero, 0).map_err(map_error("ROWS"))?;
        self.free_rows.push(row, 0).map_err(map_error("FREE_ROWS"))
    }

    fn free_dead_threads(&mut self) -> Result<(), ProbeError> {
        let known: Vec<u64> = self.thread_index.keys().filter_map(Result::ok).collect();
        for id in known {
            if identity::thread_exists((id >> 32) as u32, id as u32) {
                continue;
            }
            let Ok(place) = self.thread_index.get(&id, 0) else { continue };
            if self.thread_index.remove(&id).is_ok() {
                let mut thread = self.threads.get(&place, 0).map_err(map_error("THREADS"))?;
                thread.id = 0;
                self.threads.set(place, thread, 0).map_err(map_error("THREADS"))?;
                self.free_threads.push(place, 0).map_err(map_error("FREE_THREADS"))?;
            }
        }
        Ok(())
    }
}

fn sum(cpus: &PerCpuValues<Row>) -> Row {
    let mut sum = [0; COUNTERS];
    for row in cpus.iter() {
        for (sum, n) in sum.iter_mut().zip(row) {
            *sum += n;
        }
    }
    sum
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

fn map_error(name: &'static str) -> impl Fn(MapError) -> ProbeError {
    move |source| ProbeError::Map { name, source }
}
