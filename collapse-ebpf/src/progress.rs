//! vCPUs that get nowhere: guest faults at one page, again and again, of which KVM resolves none. So it is while an
//! invalidation of that memory is open, which may be for ever if KVM has a bug.
//!
//! Only timed faults are looked at, one in some hundred, and of these only those that changed no SPTE: what KVM has
//! counted of the vCPU meanwhile says how many faults there were, and that none was resolved.

use aya_ebpf::helpers::bpf_ktime_get_ns;
use collapse_common::abi::{Cpu, Kernel, Stuck, Thread};

use crate::{
    kernel::{self, fact},
    marks,
};

/// Notes that a timed fault of the thread's vCPU, at `address`, changed no SPTE.
#[inline(always)]
pub fn none(cpu: &mut Cpu, thread: &mut Thread, vcpu: u64, address: u64) {
    if fact!(kvm_invalidating) == Kernel::UNKNOWN || thread.vcpu != vcpu {
        return;
    }
    let (page, resolved) = (address >> 12, kernel::vcpu_resolved_faults(vcpu));
    let taken = kernel::vcpu_taken_faults(vcpu);
    let stuck = &mut thread.stuck;
    if stuck.since == 0 || stuck.page != page || stuck.resolved != resolved {
        *stuck =
            Stuck { page, since: thread.fault_at, taken, resolved, report_after: Stuck::LEAST };
        return;
    }
    // SAFETY: no arguments.
    let lasted = unsafe { bpf_ktime_get_ns() } - stuck.since;
    if lasted >= stuck.report_after {
        stuck.report_after = lasted * 2;
        // Somebody may clear KVM's statistics.
        let faults = taken.saturating_sub(stuck.taken);
        marks::no_progress(cpu, thread.row, vcpu, address, lasted, faults);
    }
}
