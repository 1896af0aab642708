//! Programs that are attached nowhere, and run only when user space asks something.

use collapse_common::abi::{Peeked, VmGauges, map};
use collapse_feed::VmReading;

use super::{decode, mapped::Mapped, maps, peek::Peeker, walk::walk};
use crate::{
    identity,
    plan::Plan,
    probe::{Limits, Probe, ProbeError},
};

/// Tables that hold nothing: only the VMs of a walk are entered.
const LIMITS: Limits = Limits { rows: 8, threads: 8, vms: 1 << 13, ring: 1 << 16, stacks: 1 };

/// Loaded programs that nothing in the kernel runs.
pub struct Idle {
    probe: Probe,
    gauges: Mapped<VmGauges>,
    peeked: Mapped<Peeked>,
    list_offset: u32,
}

impl Idle {
    /// Loads them.
    pub fn load(plan: &Plan) -> Result<Self, ProbeError> {
        let mut probe = Probe::load(plan, LIMITS, false)?;
        let gauges = maps::mapped(&mut probe, map::GAUGES, 1)?;
        let peeked = maps::mapped(&mut probe, map::PEEKED, 1)?;
        probe.load_questions();
        Ok(Self { probe, gauges, peeked, list_offset: plan.kernel.kvm_vm_list })
    }

    /// Returns the VMs that there are, in the order in which they were created, each with its `struct kvm`.
    pub fn vms(&self) -> Vec<(u64, VmReading)> {
        let mut vms = walk(&self.probe, &self.gauges, self.list_offset);
        // KVM puts new ones first.
        vms.reverse();
        let reading = |gauges: &VmGauges| {
            let fd = decode::debugfs_name(gauges).and_then(identity::parse_debugfs_name);
            let reading = VmReading {
                vm: gauges.vm,
                pages: decode::pages(gauges.pages),
                process: identity::process_of_thread(gauges.tid),
                fd: fd.map(|(_, fd)| fd),
            };
            (gauges.vm.kvm, reading)
        };
        vms.iter().map(reading).collect()
    }

    /// The kernel's memory.
    pub fn memory(&self) -> Peeker<'_> {
        Peeker::new(&self.probe, &self.peeked)
    }
}
