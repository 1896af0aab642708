//! The maps of loaded programs, as user space reads and fills them.

use std::{mem::offset_of, thread, time::Duration};

use aya::{
    Pod,
    maps::{MapData, MapError, Queue, RingBuf},
};
use collapse_common::{
    abi::{
        Cpu, CpuRow, Peeked, PendingFaults, Row, RowOwner, RunList, Thread, VmGauges, VmKey,
        WRITERS, map,
    },
    counter::{COUNTERS, CPU_COUNTERS},
    latency::{Latencies, NO_LATENCIES},
};

use super::mapped::Mapped;
use crate::probe::{Probe, ProbeError};

/// The maps that user space reads as memory or fills.
pub struct Maps {
    pub cpus: Mapped<Cpu>,
    /// By CPU, then by row.
    pub rows: Mapped<CpuRow>,
    pub latencies: Mapped<Latencies>,
    pub owners: Mapped<RowOwner>,
    pub free_rows: Queue<MapData, u32>,
    pub threads: Mapped<Thread>,
    pub free_threads: Queue<MapData, u32>,
    pub gauges: Mapped<VmGauges>,
    pub peeked: Mapped<Peeked>,
    pub pending_faults: Mapped<PendingFaults>,
    pub ring: RingBuf<MapData>,
}

impl Maps {
    /// Takes the maps out of the loaded object, and maps those that are arrays into our memory.
    pub fn take(probe: &mut Probe) -> Result<Self, ProbeError> {
        let cpus = probe.cpus as usize;
        let rows = probe.map_len(map::ROW_OWNERS) as usize;
        let threads = probe.map_len(map::THREADS) as usize;
        Ok(Self {
            cpus: mapped(probe, map::CPUS, cpus)?,
            rows: mapped(probe, map::ROWS, cpus * rows)?,
            latencies: mapped(probe, map::LATENCIES, rows)?,
            owners: mapped(probe, map::ROW_OWNERS, rows)?,
            free_rows: queue(probe, map::FREE_ROWS)?,
            threads: mapped(probe, map::THREADS, threads)?,
            free_threads: queue(probe, map::FREE_THREADS)?,
            gauges: mapped(probe, map::GAUGES, 1)?,
            peeked: mapped(probe, map::PEEKED, 1)?,
            pending_faults: mapped(probe, map::PENDING_FAULTS, 1)?,
            ring: probe.take_map(map::RING)?.try_into().map_err(map_error(map::RING))?,
        })
    }

    /// Copies each run list; `None` where it kept changing while it was read.
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

    /// Writes each CPU's number, and where its counters begin, into its working state.
    pub fn number_cpus(&mut self) {
        for at in 0..self.cpus.len() {
            let mut cpu = self.cpus.read(at);
            cpu.id = at as u32;
            cpu.first_row = (at * self.owners.len()) as u32;
            self.cpus.write(at, &cpu);
        }
    }

    /// Returns the position of a CPU's counters of a row.
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

    /// Clears a row in which nothing is counted any more.
    pub fn clear_row(&mut self, row: u32) {
        for cpu in 0..self.cpus.len() {
            self.rows.write(self.counters(cpu, row), &[0; CPU_COUNTERS]);
        }
        self.latencies.write(row as usize, &NO_LATENCIES);
        let nobody = RowOwner { vm: VmKey::default(), cause: 0, muted: 0 };
        self.owners.write(row as usize, &nobody);
    }
}

/// Takes an array out of the loaded object, and maps its first values into our memory.
pub fn mapped<T: Pod>(
    probe: &mut Probe,
    name: &'static str,
    len: usize,
) -> Result<Mapped<T>, ProbeError> {
    Mapped::new(probe.take_map(name)?, len)
        .map_err(|error| map_error(name)(MapError::IoError(error)))
}

fn queue(probe: &mut Probe, name: &'static str) -> Result<Queue<MapData, u32>, ProbeError> {
    probe.take_map(name)?.try_into().map_err(map_error(name))
}

/// Adds the name of the map to an error.
pub fn map_error(name: &'static str) -> impl Fn(MapError) -> ProbeError {
    move |source| ProbeError::Map { name, source }
}
