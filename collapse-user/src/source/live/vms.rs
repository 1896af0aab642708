//! The VMs in KVM's own list: their gauges, and the processes behind them.

use std::{collections::BTreeMap, mem};

use collapse_common::abi::{VmGauges, VmKey};
use collapse_feed::VmProcess;
use uuid::Uuid;

use crate::{
    identity,
    probe::Probe,
    source::{VmReading, decode, hugetlb::Hugetlb, maps::Maps, walk::walk},
};

/// VMs known so far.
pub struct Vms {
    /// Process, and file descriptor of the VM in it.
    processes: BTreeMap<VmKey, (VmProcess, Option<u32>)>,
    /// UUIDs that were not handed out yet.
    uuids: Vec<(VmKey, Uuid)>,
    hugetlb: Hugetlb,
    /// Offset of `kvm.vm_list`.
    list_offset: u32,
}

impl Vms {
    /// Starts without any VM. `list_offset` is that of `kvm.vm_list`.
    pub fn new(list_offset: u32) -> Self {
        Self {
            processes: BTreeMap::new(),
            uuids: Vec::new(),
            hugetlb: Hugetlb::default(),
            list_offset,
        }
    }

    /// Reads every VM in KVM's list.
    pub fn walk(&self, probe: &Probe, maps: &Maps) -> Vec<VmGauges> {
        walk(probe, &maps.gauges, self.list_offset)
    }

    /// Names the processes behind VMs.
    pub fn readings(&mut self, gauges: &[VmGauges]) -> Vec<VmReading> {
        gauges.iter().map(|gauges| self.reading(gauges)).collect()
    }

    fn reading(&mut self, gauges: &VmGauges) -> VmReading {
        let known = self.processes.get(&gauges.vm).cloned().or_else(|| {
            let process = identity::process_of_thread(gauges.tid)?;
            let fd = decode::debugfs_name(gauges)
                .and_then(identity::parse_debugfs_name)
                .map(|(_, fd)| fd);
            self.uuids.extend(identity::uuid(process.pid).map(|uuid| (gauges.vm, uuid)));
            self.processes.insert(gauges.vm, (process.clone(), fd));
            Some((process, fd))
        });
        let (process, fd) = known.map_or((None, None), |(process, fd)| (Some(process), fd));
        VmReading { vm: gauges.vm, pages: decode::pages(gauges.pages), process, fd }
    }

    /// Returns UUIDs of VMs whose processes were named since the call before.
    pub fn new_uuids(&mut self) -> Vec<(VmKey, Uuid)> {
        mem::take(&mut self.uuids)
    }

    /// Returns VMs whose process has another amount of memory from hugetlbfs than was reported
    /// before, bytes.
    pub fn hugetlb_changes(&mut self, vms: &[VmReading]) -> Vec<(VmKey, u64)> {
        self.hugetlb.changes(vms)
    }

    /// Returns the process behind a VM, and the file descriptor of the VM in it, if they are known.
    pub fn process(&self, vm: VmKey) -> Option<(&VmProcess, Option<u32>)> {
        self.processes.get(&vm).map(|(process, fd)| (process, *fd))
    }

    /// Forgets a VM that is gone.
    pub fn forget(&mut self, vm: VmKey) {
        self.processes.remove(&vm);
    }
}
