//! Facts about the running kernel, and reading its memory.

use core::{mem, ptr};

use aya_ebpf::{
    EbpfContext as _,
    helpers::{self, bpf_probe_read_kernel},
    programs::{ProbeContext, RawTracePointContext},
};
use collapse_common::{
    Selection, SpteLayout,
    abi::{Kernel, Pages, Slot, UNKNOWN_PAGES, UNKNOWN_VCPU, VcpuFaults},
};

/// Set by user space before load and frozen, so the verifier folds every use.
#[unsafe(no_mangle)]
pub static KERNEL: Kernel = Kernel::NOTHING;

/// The user's choice, set the same way.
#[unsafe(no_mangle)]
pub static SELECTION: Selection = Selection::DEFAULT;

macro_rules! fact {
    ($($field:ident).+) => {
        // SAFETY: reads a static; volatile because the loader replaces the value after compilation.
        unsafe { core::ptr::read_volatile(&raw const $crate::kernel::KERNEL.$($field).+) }
    };
}
pub(crate) use fact;

macro_rules! chosen {
    ($field:ident) => {
        // SAFETY: as for facts.
        unsafe { core::ptr::read_volatile(&raw const $crate::kernel::SELECTION.$field) }
    };
}
pub(crate) use chosen;

#[inline(always)]
pub fn spte_layout() -> SpteLayout {
    SpteLayout {
        present: fact!(spte.present),
        writable: fact!(spte.writable),
        accessed: fact!(spte.accessed),
        dirty: fact!(spte.dirty),
    }
}

/// Returns argument `n` (0 to 5) of the probed function.
///
/// Volatile, so that the compiler does not choose between two arguments by computing an address,
/// which the verifier forbids for the context.
#[inline(always)]
pub fn arg(ctx: &ProbeContext, n: usize) -> u64 {
    let regs = ctx.regs;
    // SAFETY: the registers are the context of a kprobe program.
    unsafe {
        match n {
            0 => ptr::read_volatile(&raw const (*regs).rdi),
            1 => ptr::read_volatile(&raw const (*regs).rsi),
            2 => ptr::read_volatile(&raw const (*regs).rdx),
            3 => ptr::read_volatile(&raw const (*regs).rcx),
            4 => ptr::read_volatile(&raw const (*regs).r8),
            _ => ptr::read_volatile(&raw const (*regs).r9),
        }
    }
}

/// Returns argument `n` of a raw tracepoint. Volatile, so that it is read where it is needed, and not kept
/// on the stack until then.
#[inline(always)]
pub fn raw_arg(ctx: &RawTracePointContext, n: usize) -> u64 {
    // SAFETY: the context is an array of the tracepoint's arguments; the verifier checks the position.
    unsafe { ptr::read_volatile(ctx.as_ptr().cast::<u64>().add(n)) }
}

/// Returns the instruction pointer: an address among the first bytes of the probed function.
#[inline(always)]
pub fn ip(ctx: &ProbeContext) -> u64 {
    // SAFETY: the registers are the context of a kprobe program.
    unsafe { ptr::read_volatile(&raw const (*ctx.regs).rip) }
}

/// Reads a value at `address` plus a field's `offset`; `None` if the field is unknown on this
/// kernel or the read faults.
#[inline(always)]
pub fn read<T>(address: u64, offset: u32) -> Option<T> {
    if offset == Kernel::UNKNOWN || address == 0 {
        return None;
    }
    // SAFETY: the helper checks the address; `T` is plain data at every call.
    unsafe { bpf_probe_read_kernel((address + u64::from(offset)) as *const T) }.ok()
}

/// Reads a number at `address` plus a field's `offset`; 0 if the field is unknown on this kernel or the
/// read faults. Leaves the verifier one way to follow: the kernel clears what it cannot read.
#[inline(always)]
pub fn read_or_zero<T>(address: u64, offset: u32) -> T {
    // SAFETY: `T` is a number at every call, and 0 is one.
    let mut value: T = unsafe { mem::zeroed() };
    if offset != Kernel::UNKNOWN {
        let size = const { size_of::<T>() as u32 };
        let place = (address + u64::from(offset)) as *const _;
        // SAFETY: `value` has the size; the helper checks the address.
        unsafe { helpers::generated::bpf_probe_read_kernel((&raw mut value).cast(), size, place) };
    }
    value
}

/// KVM's gauges of a VM.
#[inline(always)]
pub fn pages(kvm: u64) -> Pages {
    read(kvm, fact!(kvm_pages)).unwrap_or(UNKNOWN_PAGES)
}

/// Returns the memslot at `slot`; zero if it cannot be read.
#[inline(always)]
pub fn slot(slot: u64) -> Slot {
    Slot {
        base_gfn: read_or_zero(slot, fact!(slot_base_gfn)),
        npages: read_or_zero(slot, fact!(slot_npages)),
        id: read_or_zero(slot, fact!(slot_id)),
        as_id: read_or_zero(slot, fact!(slot_as_id)),
        flags: read_or_zero(slot, fact!(slot_flags)),
    }
}

/// Returns the VM of a vCPU.
#[inline(always)]
pub fn vcpu_kvm(vcpu: u64) -> u64 {
    read_or_zero(vcpu, fact!(vcpu_kvm))
}

/// Returns the number of a vCPU.
#[inline(always)]
pub fn vcpu_id(vcpu: u64) -> u32 {
    read(vcpu, fact!(vcpu_id)).unwrap_or(UNKNOWN_VCPU)
}

/// Returns the vCPU that is loaded on a CPU, and so belongs to the thread that runs there; 0 if none is.
/// Mirrors `kvm_get_running_vcpu`, 5.6 and later.
#[inline(always)]
pub fn loaded_vcpu(cpu: u32) -> u64 {
    let running = fact!(running_vcpu);
    match read::<u64>(fact!(per_cpu_offset), cpu * 8) {
        Some(offset) if running != 0 => read_or_zero(offset.wrapping_add(running), 0),
        _ => 0,
    }
}

/// Returns the faults that KVM has counted of a vCPU; 0 where it does not count them.
#[inline(always)]
pub fn vcpu_faults(vcpu: u64) -> VcpuFaults {
    let taken = vcpu_taken_faults(vcpu);
    let spurious: u64 = read_or_zero(vcpu, fact!(vcpu_spurious));
    let ended = vcpu_resolved_faults(vcpu) + spurious;
    VcpuFaults { taken, fast: vcpu_fast_faults(vcpu), ended }
}

/// Returns the faults that KVM has counted of a vCPU, whatever came of them; 0 where it does not count them.
#[inline(always)]
pub fn vcpu_taken_faults(vcpu: u64) -> u64 {
    read_or_zero(vcpu, fact!(vcpu_taken))
}

/// Returns the fast faults that KVM has counted of a vCPU; 0 where it does not count them.
#[inline(always)]
pub fn vcpu_fast_faults(vcpu: u64) -> u64 {
    read_or_zero(vcpu, fact!(vcpu_fast))
}

/// Returns the faults of a vCPU that KVM has resolved: fixed or emulated. Not those that another vCPU had resolved
/// before it.
#[inline(always)]
pub fn vcpu_resolved_faults(vcpu: u64) -> u64 {
    read_or_zero::<u64>(vcpu, fact!(vcpu_fixed)) + read_or_zero::<u64>(vcpu, fact!(vcpu_emulated))
}
