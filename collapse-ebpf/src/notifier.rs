//! The causes of MMU notifiers: the host changes memory under the guest, often from a thread that is
//! none of the VM's.

use aya_ebpf::helpers::{
    bpf_get_current_comm, bpf_get_current_task, bpf_get_current_task_btf, bpf_task_pt_regs,
};
use collapse_common::{Cause, abi::Thread};

use crate::kernel::{self, fact};

/// Returns the cause by number of an invalidation on the current thread: the one that the thread is
/// known for, else the one that the event stands for.
///
/// An invalidation may run inside a guest fault of the same thread, whose cause it then covers until
/// it returns.
#[inline(always)]
pub fn cause(thread: &Thread, event: u32) -> u32 {
    let by_thread = by_thread();
    // Any process may have such a name.
    if by_thread != NOBODY && is_kernel_thread() {
        return by_thread;
    }
    let by_work = thread.host_causes & 0xff;
    if by_work != NOBODY {
        return by_work;
    }
    if event == MMU_NOTIFY_CLEAR && thread.depth == 0 && is_running(thread.vcpu) {
        return Cause::NotifierCow as u32;
    }
    let by_call = by_system_call();
    if by_call != NOBODY { by_call } else { by_event(event) }
}

/// Returns the cause by number of a migration of pages by its `enum migrate_reason`, the same numbers from
/// 5.10 to 7.3.
#[inline(always)]
pub fn of_migration(reason: u64) -> u32 {
    const MR_NUMA_MISPLACED: u32 = 5;
    if reason as u32 == MR_NUMA_MISPLACED {
        Cause::NotifierNuma as u32
    } else {
        Cause::NotifierMigrate as u32
    }
}

/// `MMU_NOTIFY_CLEAR` of `enum mmu_notifier_event`.
const MMU_NOTIFY_CLEAR: u32 = 1;

/// No cause is known for the thread. A plain number: of an option the compiler leaves a register
/// uninitialised on one path, which the verifier refuses.
const NOBODY: u32 = Cause::Unknown as u32;

/// Returns the cause by number that the current thread is known for by its name: that of kernel
/// threads which invalidate for one reason only. [`NOBODY`] for all others.
#[inline(always)]
fn by_thread() -> u32 {
    let comm = bpf_get_current_comm().unwrap_or_default();
    let word = u64::from_le_bytes([
        comm[0], comm[1], comm[2], comm[3], comm[4], comm[5], comm[6], comm[7],
    ]);
    const KHUGEPAGED: u64 = u64::from_le_bytes(*b"khugepag");
    const KSMD: u64 = u64::from_le_bytes(*b"ksmd\0\0\0\0");
    const KSWAPD: u64 = u64::from_le_bytes(*b"kswapd\0\0");
    const KCOMPACT: u64 = u64::from_le_bytes(*b"kcompact");
    // One kswapd per node: kswapd0, kswapd1, …
    const SIX_BYTES: u64 = (1 << 48) - 1;
    match word {
        KHUGEPAGED => Cause::NotifierThp as u32,
        KSMD => Cause::NotifierKsm as u32,
        KCOMPACT => Cause::NotifierMigrate as u32,
        _ if word & SIX_BYTES == KSWAPD => Cause::NotifierReclaim as u32,
        _ => NOBODY,
    }
}

/// Whether the current thread is in `KVM_RUN` of a vCPU, and so in a guest fault if it touches memory:
/// it then holds the vCPU's mutex, whose lowest bits are flags.
#[inline(always)]
fn is_running(vcpu: u64) -> bool {
    // SAFETY: no arguments.
    let task = unsafe { bpf_get_current_task() };
    kernel::read::<u64>(vcpu, fact!(vcpu_mutex)).is_some_and(|owner| owner & !7 == task)
}

/// `PF_KTHREAD`
const KERNEL_THREAD: u32 = 0x0020_0000;

#[inline(always)]
fn is_kernel_thread() -> bool {
    // SAFETY: no arguments.
    let task = unsafe { bpf_get_current_task() };
    kernel::read::<u32>(task, fact!(task_flags)).unwrap_or(0) & KERNEL_THREAD != 0
}

/// Returns the cause by number that the system call stands for which the current thread is in: memory is
/// given back, or userfaultfd acts. [`NOBODY`] for all others, and where the kernel does not tell.
///
/// This costs a few reads per invalidation of a VM's memory, and nothing for all other system calls.
#[inline(always)]
fn by_system_call() -> u32 {
    if fact!(task_regs) == 0 {
        return NOBODY;
    }
    // SAFETY: no arguments; then a task that exists, as it is the current one.
    let regs = unsafe { bpf_task_pt_regs(bpf_get_current_task_btf()) } as u64;
    if word(regs, CS) != USER_CS {
        return NOBODY;
    }
    match word(regs, ORIG_RAX) {
        MADVISE if gives_back(word(regs, RDX)) => by_size(word(regs, RSI)),
        FALLOCATE if word(regs, RSI) & PUNCH_HOLE != 0 => by_size(word(regs, R10)),
        IOCTL if word(regs, RSI) >> 8 & 0xff == UFFDIO => Cause::NotifierUserfault as u32,
        _ => NOBODY,
    }
}

/// The user's registers, as offsets in `struct pt_regs`. A system call's arguments are RDI, RSI, RDX, R10.
const R10: u32 = 7 * 8;
const RDX: u32 = 12 * 8;
const RSI: u32 = 13 * 8;
const ORIG_RAX: u32 = 15 * 8;
const CS: u32 = 17 * 8;

/// `__USER_CS`: 64-bit code. Numbers of system calls are others in 32-bit code.
const USER_CS: u64 = 0x33;

const IOCTL: u64 = 16;
const MADVISE: u64 = 28;
const FALLOCATE: u64 = 285;
/// `FALLOC_FL_PUNCH_HOLE`
const PUNCH_HOLE: u64 = 2;
/// The type of userfaultfd's ioctls.
const UFFDIO: u64 = 0xaa;

#[inline(always)]
fn word(regs: u64, register: u32) -> u64 {
    kernel::read_or_zero(regs, register)
}

/// Whether advice drops pages: `MADV_DONTNEED`, `MADV_FREE`, `MADV_REMOVE`, `MADV_DONTNEED_LOCKED`.
#[inline(always)]
fn gives_back(advice: u64) -> bool {
    const DROPS: u64 = 1 << 4 | 1 << 8 | 1 << 9 | 1 << 24;
    advice < 32 && DROPS >> advice & 1 != 0
}

/// The cause by number of giving back `bytes`.
#[inline(always)]
fn by_size(bytes: u64) -> u32 {
    const _: () = assert!(Cause::NotifierDiscardSmall as u32 == Cause::NotifierDiscard as u32 + 1);
    Cause::NotifierDiscard as u32 + u32::from(bytes < 2 << 20)
}

/// `enum mmu_notifier_event`, the same numbers from 5.10 to 7.3. A table in a word: the compiler
/// would make one in memory of a `match`, and index it in a way that the verifier cannot follow.
#[inline(always)]
fn by_event(event: u32) -> u32 {
    const CAUSES: u64 = u64::from_le_bytes([
        Cause::NotifierUnmap as u8,
        Cause::NotifierClear as u8,
        Cause::NotifierProtect as u8,
        Cause::NotifierProtect as u8,
        Cause::NotifierOther as u8,
        Cause::NotifierOther as u8,
        Cause::NotifierMigrate as u8,
        Cause::NotifierOther as u8,
    ]);
    if event < 8 { (CAUSES >> (event * 8)) as u32 & 0xff } else { Cause::NotifierOther as u32 }
}
