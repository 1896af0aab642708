//! What processes that watch KVM hold: memory, descriptors, eBPF objects, and places in the tables of their programs.

use std::fs;

use anyhow::{Context, Result};
use aya::{
    Pod,
    maps::{Array, HashMap, Map, MapData, MapInfo, loaded_maps},
    programs::{loaded_links, loaded_programs},
};
use collapse_common::abi::{RowOwner, Vm, VmKey, map};
use serde::Serialize;

use crate::observer::{field, now};

/// What is held at one moment.
#[derive(Serialize)]
pub struct Census {
    /// `CLOCK_MONOTONIC`, ns.
    at_ns: u64,
    /// eBPF programs, maps and links in the kernel, whoever's they are.
    programs: usize,
    maps: usize,
    links: usize,
    /// By process, in the order asked for.
    processes: Vec<Holdings>,
}

/// What a process holds.
#[derive(Serialize)]
struct Holdings {
    /// Memory that is resident, bytes.
    resident: u64,
    descriptors: usize,
    /// VMs, vCPUs and threads that have a place in a table.
    vms: usize,
    vcpus: usize,
    threads: usize,
    /// Rows of counters that belong to a VM.
    rows: usize,
}

impl Census {
    /// Counts what some processes hold, each with programs attached to KVM.
    pub fn of(pids: &[u32]) -> Result<Self> {
        Ok(Self {
            at_ns: now(libc::CLOCK_MONOTONIC),
            programs: loaded_programs().count(),
            maps: loaded_maps().count(),
            links: loaded_links().count(),
            processes: pids.iter().copied().map(Holdings::of).collect::<Result<_>>()?,
        })
    }
}

impl Holdings {
    fn of(pid: u32) -> Result<Self> {
        let status =
            fs::read_to_string(format!("/proc/{pid}/status")).context("no such process")?;
        let descriptors = fs::read_dir(format!("/proc/{pid}/fdinfo"))?;
        // One that was closed meanwhile is none.
        let descriptors =
            descriptors.flatten().filter_map(|entry| fs::read_to_string(entry.path()).ok());
        let descriptors: Vec<_> = descriptors.collect();
        let ids = descriptors.iter().filter_map(|text| field(text, "map_id:"));
        let maps = ids.map(|id| Ok(MapInfo::from_id(id as u32)?));
        let maps = Tables(maps.collect::<Result<_>>()?);
        Ok(Self {
            resident: field(&status, "VmRSS:").context("no memory")? * 1024,
            descriptors: descriptors.len(),
            vms: maps.keys::<Vm>(map::VMS)?,
            vcpus: maps.keys::<u32>(map::VCPUS)?,
            threads: maps.keys::<u32>(map::THREAD_INDEX)?,
            rows: maps.owned_rows()?,
        })
    }
}

/// The maps of a process.
struct Tables(Vec<MapInfo>);

impl Tables {
    fn open(&self, name: &str) -> Result<MapData> {
        let info = self.0.iter().find(|info| info.name_as_str() == Some(name));
        Ok(MapData::from_id(info.with_context(|| format!("no map {name}"))?.id())?)
    }

    /// The number of keys of a hash table.
    fn keys<V: Pod>(&self, name: &str) -> Result<usize> {
        let table = HashMap::<_, u64, V>::try_from(Map::HashMap(self.open(name)?))?;
        Ok(table.keys().count())
    }

    fn owned_rows(&self) -> Result<usize> {
        let rows = Array::<_, RowOwner>::try_from(Map::Array(self.open(map::ROW_OWNERS)?))?;
        let mut owned = 0;
        for row in rows.iter() {
            owned += usize::from(row?.vm != VmKey::default());
        }
        Ok(owned)
    }
}
