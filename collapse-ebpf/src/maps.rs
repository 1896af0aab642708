//! The maps, and the words that all programs share. User space sets the table sizes before load; it
//! finds the maps by their names, which are those in [`collapse_common::abi::map`].

use aya_ebpf::{
    helpers::bpf_get_smp_processor_id,
    macros::map,
    maps::{Array, HashMap, Queue, RingBuf, StackTrace},
};
use collapse_common::{
    abi::{Cpu, CpuRow, Function, Peeked, PendingFaults, RowOwner, Thread, Vm, VmGauges},
    latency::Latencies,
};

use crate::word::Word;

/// `BPF_F_MMAPABLE`: user space reads the map as memory. A system call on a map keeps kprobe
/// programs from running on its CPU meanwhile, which loses events if the caller is preempted.
const MAPPED: u32 = 1 << 10;

/// Each CPU's working state.
#[map]
static CPUS: Array<Cpu> = Array::with_max_entries(1, MAPPED);

/// Exact totals by CPU and (VM, cause) row. An array with a part for each CPU, as the kernel's own
/// per-CPU arrays cannot be mapped.
#[map]
static ROWS: Array<CpuRow> = Array::with_max_entries(1024, MAPPED);

/// How long guest faults and exits for a full log took, by (VM, cause) row. Shared by all CPUs.
#[map]
static LATENCIES: Array<Latencies> = Array::with_max_entries(1024, MAPPED);

/// The owner of each row.
#[map]
static ROW_OWNERS: Array<RowOwner> = Array::with_max_entries(1024, MAPPED);

/// Rows not in use. User space fills the queue.
#[map]
static FREE_ROWS: Queue<u32> = Queue::with_max_entries(1024, 0);

/// Live VMs by `struct kvm` address.
#[map]
static VMS: HashMap<u64, Vm> = HashMap::with_max_entries(1024, 0);

/// The state of each thread known to KVM.
#[map]
static THREADS: Array<Thread> = Array::with_max_entries(8192, MAPPED);

/// Position in [`THREADS`] by `bpf_get_current_pid_tgid`.
#[map]
static THREAD_INDEX: HashMap<u64, u32> = HashMap::with_max_entries(8192, 0);

/// Positions in [`THREADS`] not in use. User space fills the queue.
#[map]
static FREE_THREADS: Queue<u32> = Queue::with_max_entries(8192, 0);

/// Position in [`THREADS`] of the thread that ran a vCPU last.
#[map]
static VCPUS: HashMap<u64, u32> = HashMap::with_max_entries(8192, 0);

/// The functions that [`crate::ops`] is attached to. User space fills the map.
#[map]
static FUNCTIONS: HashMap<u64, Function> = HashMap::with_max_entries(256, 0);

/// Blocks of runs, and marks. Nobody is woken: user space reads on a timer.
#[map]
static RING: RingBuf = RingBuf::with_byte_size(1 << 20, 0);

/// Kernel stacks, where the user wants them.
#[map]
static STACKS: StackTrace = StackTrace::with_max_entries(1, 0);

/// Kernel stacks whose place in [`STACKS`] another one has.
#[map]
static MORE_STACKS: StackTrace = StackTrace::with_max_entries(2, 0);

/// The VM that [`crate::requests::walk`] found.
#[map]
static GAUGES: Array<VmGauges> = Array::with_max_entries(1, MAPPED);

/// What [`crate::requests::peek`] read.
#[map]
static PEEKED: Array<Peeked> = Array::with_max_entries(1, MAPPED);

/// The faults that [`crate::requests::pending_faults`] found.
#[map]
static PENDING_FAULTS: Array<PendingFaults> = Array::with_max_entries(1, MAPPED);

pub fn latencies() -> &'static Array<Latencies> {
    &LATENCIES
}

pub fn row_owners() -> &'static Array<RowOwner> {
    &ROW_OWNERS
}

pub fn free_rows() -> &'static Queue<u32> {
    &FREE_ROWS
}

pub fn vms() -> &'static HashMap<u64, Vm> {
    &VMS
}

pub fn threads() -> &'static Array<Thread> {
    &THREADS
}

pub fn thread_index() -> &'static HashMap<u64, u32> {
    &THREAD_INDEX
}

pub fn free_threads() -> &'static Queue<u32> {
    &FREE_THREADS
}

pub fn vcpus() -> &'static HashMap<u64, u32> {
    &VCPUS
}

pub fn functions() -> &'static HashMap<u64, Function> {
    &FUNCTIONS
}

pub fn ring() -> &'static RingBuf {
    &RING
}

pub fn stacks() -> &'static StackTrace {
    &STACKS
}

pub fn more_stacks() -> &'static StackTrace {
    &MORE_STACKS
}

pub fn gauges() -> &'static Array<VmGauges> {
    &GAUGES
}

pub fn peeked() -> &'static Array<Peeked> {
    &PEEKED
}

pub fn pending_faults() -> &'static Array<PendingFaults> {
    &PENDING_FAULTS
}

/// Returns this CPU's working state.
#[inline(always)]
pub fn cpu() -> Option<&'static mut Cpu> {
    // SAFETY: no arguments.
    let id = unsafe { bpf_get_smp_processor_id() };
    // SAFETY: the map value lives as long as the program. Only programs on its CPU write it, and none that
    // can be preempted.
    CPUS.get_ptr_mut(id).map(|cpu| unsafe { &mut *cpu })
}

/// Counters at a position in [`ROWS`].
#[inline(always)]
pub fn counters(position: u32) -> Option<*mut CpuRow> {
    ROWS.get_ptr_mut(position)
}

/// Returns a CPU's counters of `row`.
#[inline(always)]
pub fn row(cpu: &Cpu, row: u32) -> Option<*mut CpuRow> {
    counters(cpu.first_row + row)
}

/// The phase of the machine: memslot changes and operations tick it.
pub static EPOCH: Word = Word::new(0);

/// The generation of what is cached of vCPU threads: the end of a VM and dirty logging going on or off
/// tick it, so that the next fault of each thread looks its vCPU up again.
pub static GENERATION: Word = Word::new(0);

/// Not 0 while guest faults are not timed, see [`SetDetail::untimed`].
pub static UNTIMED: Word = Word::new(0);

/// The regions whose changes are not recorded at present: the bits of a [`LeftOut`].
pub static LEFT_OUT: Word = Word::new(0);

/// Value of the kernel's `page_offset_base`, which [`crate::requests::walk`] learns.
pub static PAGE_OFFSET: Word = Word::new(0);

/// Value of the kernel's `vmemmap_base`, which [`crate::requests::walk`] learns.
pub static VMEMMAP: Word = Word::new(0);
