//! The causes of MMU notifiers: the host changes memory under the guest, often from a thread that is
//! none of the VM's.

use aya_ebpf::helpers::{bpf_get_current_comm, bpf_get_current_task};
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
    if thread.host_cause != NOBODY {
        return thread.host_cause;
    }
    if event == MMU_NOTIFY_CLEAR && thread.depth == 0 && is_running(thread.vcpu) {
        return Cause::NotifierCow as u32;
    }
    by_event(event)
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
