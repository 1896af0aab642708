//! One hint per CPU: all that a hot program needs of the thread that runs there, without looking up
//! either the CPU's working state or the thread's.
//!
//! A program is preemptible or it is not, and that is known per hook. KVM changes SPTEs under `mmu_lock` or
//! the page-table lock, and enters guests with interrupts off; kprobes run with preemption off. From
//! 7.x on the tracepoints `kvm_page_fault`, `fast_page_fault`, `kvm_userspace_exit`, `kvm_dirty_ring_exit` and
//! `kvm_pml_full` alone can be preempted (all can on `PREEMPT_RT`, where what is skipped is counted). Their programs
//! say nothing of whose a hint is, as halves of two threads would be left in it: they clear [`Hint::vcpu`], which
//! costs a lookup, and set [`Hint::began`], which costs a sample.

use core::cell::UnsafeCell;

use aya_ebpf::helpers::{bpf_get_smp_processor_id, bpf_jiffies64};
use collapse_common::abi::CPUS;

/// The part of a thread's state that hot programs need, on the CPU that ran the thread last.
///
/// Twice as large as a cache line, since the array need not begin with one: what a CPU writes all the
/// time shares no line with what another does.
#[repr(C, align(128))]
pub struct Hint {
    /// `bpf_get_current_pid_tgid` of the thread; 0 if there is no hint. At most one CPU has a hint of
    /// a thread: the next one that sees the thread takes it away.
    pub thread: u64,
    /// [`Thread::vcpu`] if the thread is in no operation and its last fault left nothing to tidy up,
    /// so that another fault has nothing to do; else 0.
    ///
    /// [`Thread::vcpu`]: collapse_common::abi::Thread::vcpu
    pub vcpu: u64,
    /// [`collapse_common::abi::Thread::generation`].
    pub generation: u64,
    /// Position in the map of rows of this CPU's counters of the thread's row.
    pub counters: u32,
    /// [`collapse_common::abi::Thread::row`].
    pub row: u32,
    /// [`collapse_common::abi::Thread::base`].
    pub base: u32,
    /// Padding.
    pub pad: u32,
    /// Guest faults on this CPU until the next that is timed; below 0 if none was chosen yet.
    pub until_timed: i64,
    /// The tick ([`ticks`]) at which the fault began that the thread handles; [`NOT_BEGUN`] if none, 0
    /// until the first.
    pub began: i64,
    /// The address of that fault.
    pub address: u64,
}

/// No tick: later than all.
pub const NOT_BEGUN: i64 = i64::MAX;

/// Returns the kernel's clock in ticks of 1 to 10 ms, above 0. Takes two instructions, since the verifier
/// replaces the call (5.6 and later).
#[inline(always)]
pub fn ticks() -> i64 {
    // SAFETY: no arguments.
    unsafe { bpf_jiffies64() as i64 }
}

/// By CPU. A static instead of a map: a map lookup costs 11 instructions, this 4.
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
            began: 0,
            address: 0,
        }
    }; CPUS],
));

struct Hints(UnsafeCell<[Hint; CPUS]>);

// SAFETY: a hint is written by programs on its CPU, of which one runs at a time; another CPU only ever
// clears `thread` and `vcpu`, which costs at most a lookup.
unsafe impl Sync for Hints {}

/// Returns the hint of this CPU.
#[inline(always)]
pub fn own() -> &'static mut Hint {
    // SAFETY: no arguments.
    of(unsafe { bpf_get_smp_processor_id() })
}

/// Returns the hint of a CPU. User space refuses machines with more than [`CPUS`].
#[inline(always)]
pub fn of(cpu: u32) -> &'static mut Hint {
    // SAFETY: lives as long as the program.
    unsafe { &mut (*HINTS.0.get())[cpu as usize & (CPUS - 1)] }
}
