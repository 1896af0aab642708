//! Maps, by who writes them. User space sets the table sizes before load.

use core::{cell::UnsafeCell, ptr};

use aya_ebpf::{
    helpers::bpf_get_smp_processor_id,
    macros::map,
    maps::{Array, HashMap, Queue, RingBuf, StackTrace},
};
use collapse_common::{
    abi::{Cpu, PendingFaults, Row, RowOwner, Thread, Vm, VmGauges},
    latency::Latencies,
};

use crate::runs;

/// `BPF_F_MMAPABLE`: user space reads the map as memory. A system call on a map keeps kprobe
/// programs from running on its CPU meanwhile, which loses events if the caller is preempted.
const MAPPED: u32 = 1 << 10;

/// Each CPU's working state.
#[map]
static CPUS: Array<Cpu> = Array::with_max_entries(1, MAPPED);

/// Exact totals by CPU and (VM, cause) row. An array with a part for each CPU, as the kernel's own
/// per-CPU arrays cannot be mapped.
#[map]
static ROWS: Array<Row> = Array::with_max_entries(1024, MAPPED);

/// How long guest faults took, by (VM, cause) row. Shared by all CPUs.
#[map]
static LATENCIES: Array<Latencies> = Array::with_max_entries(1024, MAPPED);

/// Who each row belongs to.
#[map]
static ROW_OWNERS: Array<RowOwner> = Array::with_max_entries(1024, MAPPED);

/// Rows not in use. User space fills it.
#[map]
static FREE_ROWS: Queue<u32> = Queue::with_max_entries(1024, 0);

/// Live VMs by `struct kvm` address.
#[map]
static VMS: HashMap<u64, Vm> = HashMap::with_max_entries(1024, 0);

/// What each thread known to KVM is doing.
#[map]
static THREADS: Array<Thread> = Array::with_max_entries(8192, MAPPED);

/// Position in [`THREADS`] by `bpf_get_current_pid_tgid`.
#[map]
static THREAD_INDEX: HashMap<u64, u32> = HashMap::with_max_entries(8192, 0);

/// Positions in [`THREADS`] not in use.
#[map]
static FREE_THREADS: Queue<u32> = Queue::with_max_entries(8192, 0);

/// Position in [`THREADS`] of the thread that ran a vCPU last.
#[map]
static VCPUS: HashMap<u64, u32> = HashMap::with_max_entries(8192, 0);

/// Blocks of runs, and marks. Nobody is woken: user space reads on a timer.
#[map]
static RING: RingBuf = RingBuf::with_byte_size(1 << 20, 0);

/// Kernel stacks, where they are asked for.
#[map]
static STACKS: StackTrace = StackTrace::with_max_entries(1, 0);

/// Where the walk over KVM's list of VMs stands.
#[map]
static GAUGES: Array<VmGauges> = Array::with_max_entries(1, MAPPED);

/// What [`crate::fault::pending_faults`] found.
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

pub fn ring() -> &'static RingBuf {
    &RING
}

pub fn stacks() -> &'static StackTrace {
    &STACKS
}

pub fn gauges() -> &'static Array<VmGauges> {
    &GAUGES
}

pub fn pending_faults() -> &'static Array<PendingFaults> {
    &PENDING_FAULTS
}

/// This CPU's working state.
#[inline(always)]
pub fn cpu() -> Option<&'static mut Cpu> {
    // SAFETY: no arguments.
    let id = unsafe { bpf_get_smp_processor_id() };
    // SAFETY: the map value lives as long as the program. Only programs on its CPU write it; where one
    // can be preempted by another, they write it with single atomic instructions, or words whose
    // reader checks what it finds. A run list has one writer: a program, which does not run twice at a
    // time on one CPU, or kprobes, which are never preempted.
    CPUS.get_ptr_mut(id).map(|cpu| unsafe { &mut *cpu })
}

/// What hot programs on one CPU go by, so that they need neither this CPU's working state nor the
/// thread's. Not used where programs can be preempted: one that is while it writes leaves halves of
/// two threads.
#[repr(C, align(64))]
pub struct Hint {
    /// `bpf_get_current_pid_tgid` of the thread that this is of; 0 if none. At most one CPU has a hint
    /// of a thread: the next that learns of it takes it away.
    pub thread: u64,
    /// [`Thread::vcpu`] if the thread is in no operation and its last fault left nothing to tidy up,
    /// so that another has nothing to do; else 0.
    pub vcpu: u64,
    /// [`Thread::generation`].
    pub generation: u64,
    /// Position in [`ROWS`] of this CPU's counters of the thread's row.
    pub counters: u32,
    /// [`Thread::row`].
    pub row: u32,
    /// [`Thread::base`].
    pub base: u32,
    /// Padding.
    pub pad: u32,
    /// Guest faults until the next that is timed.
    pub until_timed: u64,
}

/// Most CPUs that can have hints.
const HINTS_LEN: usize = collapse_common::abi::CPUS;

/// By CPU. No map of its own, as a lookup costs 11 instructions, and this 4.
static HINTS: Hints = Hints(UnsafeCell::new(
    [const {
        Hint {
            thread: 0,
            vcpu: 0,
            generation: 0,
            counters: 0,
            row: 0,
            base: 0,
            pad: 0,
            until_timed: 0,
        }
    }; HINTS_LEN],
));

struct Hints(UnsafeCell<[Hint; HINTS_LEN]>);

// SAFETY: a hint is written by programs on its CPU, of which one runs at a time, but for what is said
// of `thread`.
unsafe impl Sync for Hints {}

/// This CPU's hint.
#[inline(always)]
pub fn hint() -> &'static mut Hint {
    // SAFETY: no arguments.
    hint_of(unsafe { bpf_get_smp_processor_id() })
}

/// A CPU's hint. There are no more CPUs than hints, as user space sees to.
#[inline(always)]
pub fn hint_of(cpu: u32) -> &'static mut Hint {
    // SAFETY: lives as long as the program.
    unsafe { &mut (*HINTS.0.get())[cpu as usize & (HINTS_LEN - 1)] }
}

/// Counters at a position in [`ROWS`].
#[inline(always)]
pub fn counters(position: u32) -> Option<*mut Row> {
    ROWS.get_ptr_mut(position)
}

/// A CPU's counters of `row`.
#[inline(always)]
pub fn row(cpu: &Cpu, row: u32) -> Option<*mut Row> {
    counters(cpu.first_row + row)
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

    /// Adds to the word at once, a negative number as its complement.
    #[inline(always)]
    pub fn add(&self, n: u64) {
        // SAFETY: as above.
        runs::shared_add(unsafe { &mut *self.0.get() }, n);
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

/// Guest faults on their way that are timed.
pub static TIMED: Word = Word(UnsafeCell::new(0));

/// Guest faults are not timed at present if this is not 0.
pub static UNTIMED: Word = Word(UnsafeCell::new(0));

/// Which changes are recorded: those of regions whose number has none of these bits. With bit 63,
/// which stands for every region, none are.
pub static LEFT_OUT: Word = Word(UnsafeCell::new(0));

/// Value of the kernel's `page_offset_base`, see [`crate::vm`].
pub static PAGE_OFFSET: Word = Word(UnsafeCell::new(0));

/// Value of the kernel's `vmemmap_base`, see [`crate::vm`].
pub static VMEMMAP: Word = Word(UnsafeCell::new(0));
