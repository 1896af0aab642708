//! KVM's own list of VMs.

use collapse_common::abi::{VmGauges, VmKey, request::Walk};

use super::mapped::Mapped;
use crate::probe::Probe;

/// Most VMs read in one walk. The list is walked without its lock, and might lead in a circle.
const MOST: usize = 1 << 16;

/// Reads every VM in KVM's list; `list_offset` is that of `kvm.vm_list`. Where a request is refused, the VMs after it
/// are missing.
pub fn walk(probe: &Probe, answer: &Mapped<VmGauges>, list_offset: u32) -> Vec<VmGauges> {
    let mut vms = Vec::new();
    let mut after = Walk::HEAD;
    while vms.len() < MOST {
        if let Err(error) = probe.request(&Walk { after }) {
            log::warn!("{}", error.line());
            break;
        }
        let gauges = answer.read(0);
        if gauges.vm == VmKey::default() {
            break;
        }
        after = gauges.vm.kvm + u64::from(list_offset);
        vms.push(gauges);
    }
    vms
}
