//! The registry of VMs, and their (VM, cause) rows.

use aya_ebpf::{EbpfContext, helpers::bpf_ktime_get_ns};
use aya_log_ebpf::{debug, warn};
use collapse_common::{
    Cause,
    abi::{Cpu, Loss, MarkKind, RowOwner, Slot, UNKNOWN_ROW, Vm, VmKey},
    cause::CAUSES,
};

use crate::{kernel, maps, marks, runs, word::opaque};

/// `BPF_NOEXIST`: fail rather than replace.
const NO_EXIST: u64 = 1;

/// Returns the entry of the VM at `kvm`, which is adopted if it is seen for the first time. `None`
/// if `kvm` is 0 or the table is full.
#[inline(always)]
pub fn entry(cpu: &mut Cpu, kvm: u64) -> Option<&'static mut Vm> {
    if kvm == 0 {
        return None;
    }
    if let Some(vm) = known(kvm) {
        return Some(vm);
    }
    // SAFETY: no arguments.
    let born = unsafe { bpf_ktime_get_ns() };
    register(cpu, kvm, born, MarkKind::VmSeen, NO_EXIST);
    // If another CPU was quicker, this is its entry.
    known(kvm)
}

/// Returns the entry of the VM at `kvm`, if it has one.
#[inline(always)]
pub fn known(kvm: u64) -> Option<&'static mut Vm> {
    // SAFETY: the entry is removed only by the end of the VM.
    maps::vms().get_ptr_mut(kvm).map(|vm| unsafe { &mut *vm })
}

/// Returns the identity of the VM at `kvm`; born at 0 if it has no entry.
#[inline(always)]
pub fn key(kvm: u64) -> VmKey {
    VmKey { kvm, born: known(kvm).map_or(0, |vm| vm.born) }
}

/// Enters a VM in the table and reports it. `flags` are those of `bpf_map_update_elem`: 0 replaces the
/// entry of an earlier VM at this address.
#[inline(always)]
pub fn register(cpu: &mut Cpu, kvm: u64, born: u64, kind: MarkKind, flags: u64) {
    let vm = Vm {
        born,
        logged: 0,
        total: 0,
        logging: 0,
        collapsing: 0,
        created: u32::from(matches!(kind, MarkKind::VmCreated)),
        commits: 0,
        rows: [0; CAUSES],
    };
    match maps::vms().insert(kvm, vm, flags) {
        Ok(()) => {
            let mark =
                marks::point(kind, born, VmKey { kvm, born }, Slot::NONE, kernel::pages(kvm));
            marks::send(cpu, &mark);
        }
        // -EEXIST: another CPU was quicker.
        Err(-17) => {}
        Err(_) => runs::lose(cpu, Loss::Vms, 1),
    }
}

/// Whether KVM has counted nothing of the VM that we have not seen.
#[inline(always)]
pub fn is_seen_from_creation(kvm: u64) -> bool {
    // SAFETY: the entry is removed only by the end of the VM.
    maps::vms().get_ptr(kvm).is_some_and(|vm| unsafe { (*vm).created != 0 })
}

/// The [`Cause`] by number of guest faults of a VM at present.
#[inline(always)]
pub fn fault_cause(cpu: &mut Cpu, kvm: u64) -> u32 {
    let cause = match entry(cpu, kvm) {
        Some(vm) if vm.collapsing != 0 => Cause::RacingFault,
        Some(vm) if vm.logging != 0 => Cause::LoggedFault,
        _ => Cause::GuestFault,
    };
    opaque(cause as u64, kvm) as u32
}

/// Returns the row of `kvm` and the [`Cause`] numbered `cause`, which is taken from the free rows
/// if there is none yet. [`UNKNOWN_ROW`] if the VM or a row is not available.
#[inline(always)]
pub fn row_of<C: EbpfContext>(ctx: &C, cpu: &mut Cpu, kvm: u64, cause: u32) -> u32 {
    let Some(vm) = entry(cpu, kvm) else { return UNKNOWN_ROW };
    let known = vm.rows[cause as usize & (CAUSES - 1)];
    if known != 0 {
        return known.into();
    }
    let Ok(Some(row)) = maps::free_rows().pop() else {
        runs::lose(cpu, Loss::Rows, 1);
        warn!(ctx, "row table full");
        return UNKNOWN_ROW;
    };
    if let Some(owner) = maps::row_owners().get_ptr_mut(row) {
        let vm = VmKey { kvm, born: vm.born };
        // SAFETY: nobody else has this row.
        unsafe { *owner = RowOwner { vm, cause, muted: 0 } };
    }
    vm.rows[cause as usize & (CAUSES - 1)] = row as u16;
    debug!(ctx, "row {} is cause {} of kvm {:x}", row, cause, kvm);
    row
}
