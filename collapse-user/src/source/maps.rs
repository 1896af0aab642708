//! The maps of loaded programs, as user space reads and fills them.

use std::{mem::offset_of, thread, time::Duration};

use aya::maps::{Map, MapData, MapError, Queue, RingBuf};
use collapse_common::{
    abi::{Cpu, PendingFaults, Row, RowOwner, RunList, Thread, VmGauges, VmKey, WRITERS},
    counter::COUNTERS,
    latency::{BUCKETS, Latencies, OUTCOMES},
};

use super::mapped::Mapped;
use crate::probe::{Probe, ProbeError};

/// The maps.
pub struct Maps {
    pub cpus: Mapped<Cpu>,
    /// By CPU, then row.
    pub rows: Mapped<Row>,
    pub latencies: Mapped<Latencies>,
    pub owners: Mapped<RowOwner>,
    pub free_rows: Queue<MapData, u32>,
    pub threads: Mapped<Thread>,
    pub free_threads: Queue<MapData, u32>,
    pub gauges: Mapped<VmGauges>,
    pub pending_faults: Mapped<PendingFaults>,
    pub ring: RingBuf<MapData>,
}

impl Maps {
    pub fn take(probe: &mut Probe) -> Result<Self, ProbeError> {
        let len = |name| probe.ebpf.map(name).map_or(0, entries);
        let (rows, threads) = (len("ROW_OWNERS"), len("THREADS"));
        let cpus = probe.cpus as usize;
        let mut take =
            |name: &'static str| probe.ebpf.take_map(name).ok_or(ProbeError::NoMap(name));
        macro_rules! map {
            ($name:literal) => {
                take($name)?.try_into().map_err(map_error($name))?
            };
        }
        macro_rules! mapped {
            ($name:literal, $len:expr) => {
                Mapped::new(take($name)?, $len)
                    .map_err(|error| map_error($name)(MapError::IoError(error)))?
            };
        }
        Ok(Self {
            cpus: mapped!("CPUS", cpus),
            rows: mapped!("ROWS", cpus * rows),
            latencies: mapped!("LATENCIES", rows),
            owners: mapped!("ROW_OWNERS", rows),
            free_rows: map!("FREE_ROWS"),
            threads: mapped!("THREADS", threads),
            free_threads: map!("FREE_THREADS"),
            gauges: mapped!("GAUGES", 1),
            pending_faults: mapped!("PENDING_FAULTS", 1),
            ring: map!("RING"),
        })
    }

    /// Each run list, `None` where it kept changing while it was read.
    pub fn run_lists(&self, tries: usize, pause: Duration) -> Vec<Option<RunList>> {
        let read = |at: usize| {
            let offset = offset_of!(Cpu, runs) + at % WRITERS * size_of::<RunList>();
            (0..tries).find_map(|attempt| {
                if attempt > 0 {
                    thread::sleep(pause);
                }
                let list: RunList = self.cpus.read_part(at / WRITERS, offset);
                Some(list).filter(|list| !list.is_torn())
            })
        };
        (0..self.cpus.len() * WRITERS).map(read).collect()
    }

    /// Tells each CPU who it is.
    pub fn number_cpus(&mut self) {
        for at in 0..self.cpus.len() {
            let mut cpu = self.cpus.read(at);
            cpu.id = at as u32;
            cpu.first_row = (at * self.owners.len()) as u32;
            self.cpus.write(at, &cpu);
        }
    }

    /// Position of a CPU's counters of a row.
    fn counters(&self, cpu: usize, row: u32) -> usize {
        cpu * self.owners.len() + row as usize
    }

    /// Counters of a row, summed over CPUs.
    pub fn row(&self, row: u32) -> Row {
        let mut sum = [0; COUNTERS];
        for cpu in 0..self.cpus.len() {
            let counts = self.rows.read(self.counters(cpu, row));
            for (sum, n) in sum.iter_mut().zip(counts) {
                *sum += n;
            }
        }
        sum
    }

    /// Empties a row that is no longer counted in.
    pub fn clear_row(&mut self, row: u32) {
        for cpu in 0..self.cpus.len() {
            self.rows.write(self.counters(cpu, row), &[0; COUNTERS]);
        }
        self.latencies.write(row as usize, &[[0; BUCKETS]; OUTCOMES]);
        let nobody = RowOwner { vm: VmKey::default(), cause: 0, muted: 0 };
        self.owners.write(row as usize, &nobody);
    }
}

/// Number of values of an array.
fn entries(map: &Map) -> usize {
    let Map::Array(map) = map else { return 0 };
    map.info().map_or(0, |info| info.max_entries() as usize)
}

/// What is wrong with the map called `name`.
pub fn map_error(name: &'static str) -> impl Fn(MapError) -> ProbeError {
    move |source| ProbeError::Map { name, source }
}
