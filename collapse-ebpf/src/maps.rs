//! Maps, by who writes them. User space sets the table sizes before load.

use core::{cell::UnsafeCell, ptr};

use aya_ebpf::{
    macros::map,
    maps::{Array, HashMap, PerCpuArray, Queue, RingBuf},
};
use collapse_common::abi::{Cpu, Row, RowOwner, Thread, Vm, VmGauges};

/// Each CPU's working state.
#[map]
static CPU: PerCpuArray<Cpu> = PerCpuArray::with_max_entries(1, 0);

/// Exact totals by (VM, cause) row, per CPU.
#[map]
static ROWS: PerCpuArray<Row> = PerCpuArray::with_max_entries(1024, 0);

/// Who each row belongs to.
#[map]
static ROW_OWNERS: Array<RowOwner> = Array::with_max_entries(1024, 0);

/// Rows not in use. User space fills it, and gives back the rows of VMs that are gone.
#[map]
static FREE_ROWS: Queue<u32> = Queue::with_max_entries(1024, 0);

/// Live VMs by `struct kvm` address.
#[map]
static VMS: HashMap<u64, Vm> = HashMap::with_max_entries(1024, 0);

/// What each thread known to KVM is doing.
#[map]
static THREADS: Array<Thread> = Array::with_max_entries(8192, 0);

/// Position in [`THREADS`] by `bpf_get_current_pid_tgid`.
#[map]
static THREAD_INDEX: HashMap<u64, u32> = HashMap::with_max_entries(8192, 0);

/// Positions in [`THREADS`] not in use.
#[map]
static FREE_THREADS: Queue<u32> = Queue::with_max_entries(8192, 0);

/// Blocks of runs, and marks. Nobody is woken: user space reads on a timer.
#[map]
static RING: RingBuf = RingBuf::with_byte_size(1 << 20, 0);

/// Where the walk over KVM's list of VMs stands.
#[map]
static GAUGES: Array<VmGauges> = Array::with_max_entries(1, 0);

pub fn rows() -> &'static PerCpuArray<Row> {
    &ROWS
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

pub fn ring() -> &'static RingBuf {
    &RING
}

pub fn gauges() -> &'static Array<VmGauges> {
    &GAUGES
}

/// This CPU's working state.
#[inline(always)]
pub fn cpu() -> Option<&'static mut Cpu> {
    // SAFETY: the map value lives as long as the program. Only programs on this CPU write it, and
    // a program is not preempted by another one that does: SPTE changes and the operations around
    // them happen in task context only.
    CPU.get_ptr_mut(0).map(|cpu| unsafe { &mut *cpu })
}

/// A word shared by all CPUs, read and written without locks. The BPF target selects no atomic
/// loads, and fetching atomics need 5.12; volatile access to an aligned word is what is needed.
pub struct Word(UnsafeCell<u64>);

// SAFETY: access is volatile and of one aligned word; who races sees the old or the new value.
unsafe impl Sync for Word {}

impl Word {
    #[inline(always)]
    pub fn get(&self) -> u64 {
        // SAFETY: the word lives as long as the program.
        unsafe { ptr::read_volatile(self.0.get()) }
    }

    #[inline(always)]
    pub fn set(&self, value: u64) {
        // SAFETY: as above.
        unsafe { ptr::write_volatile(self.0.get(), value) }
    }

    /// Changes the word. Two CPUs at once may lose an increment, which still leaves it changed: all
    /// that the readers of [`EPOCH`] and [`GENERATION`] ask.
    #[inline(always)]
    pub fn tick(&self) {
        self.set(self.get() + 1);
    }
}

/// Phases of the machine: memslot changes and collapse spans tick it.
pub static EPOCH: Word = Word(UnsafeCell::new(0));

/// What is cached of vCPU threads: the end of a VM and dirty logging going on or off tick it, so
/// that the next fault of each thread looks its vCPU up again.
pub static GENERATION: Word = Word(UnsafeCell::new(0));

/// Value of the kernel's `page_offset_base`, see [`crate::vm`].
pub static PAGE_OFFSET: Word = Word(UnsafeCell::new(0));

/// Value of the kernel's `vmemmap_base`, see [`crate::vm`].
pub static VMEMMAP: Word = Word(UnsafeCell::new(0));
