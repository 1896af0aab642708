//! MMU notifiers: the host changes memory under the guest, often from a thread that is none of the
//! VM's.

use aya_ebpf::{helpers::bpf_get_current_comm, macros::kprobe, programs::ProbeContext};
use collapse_common::{Cause, abi::Kernel};

use crate::{
    context,
    kernel::{self, fact},
    maps,
};

/// `kvm_mmu_notifier_invalidate_range_start(mn, range)`. It may run inside a guest fault of the
/// same thread, whose cause it then covers until it returns.
#[kprobe]
pub fn invalidate(ctx: ProbeContext) -> u32 {
    let offset = fact!(kvm_mmu_notifier);
    if offset == Kernel::UNKNOWN {
        return 0;
    }
    if let Some(cpu) = maps::cpu() {
        let kvm = ctx.arg::<u64>(0).unwrap_or(0).wrapping_sub(offset.into());
        let event: Option<u32> = kernel::read(ctx.arg(1).unwrap_or(0), fact!(range_event));
        context::enter(&ctx, cpu, kvm, by_thread().unwrap_or(by_event(event)));
    }
    0
}

/// Kernel threads that invalidate for one reason only.
#[inline(always)]
fn by_thread() -> Option<Cause> {
    let comm = bpf_get_current_comm().ok()?;
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
        KHUGEPAGED => Some(Cause::NotifierThp),
        KSMD => Some(Cause::NotifierKsm),
        KCOMPACT => Some(Cause::NotifierMigrate),
        _ if word & SIX_BYTES == KSWAPD => Some(Cause::NotifierReclaim),
        _ => None,
    }
}

/// `enum mmu_notifier_event`, the same numbers from 5.10 to 7.3.
#[inline(always)]
fn by_event(event: Option<u32>) -> Cause {
    match event {
        Some(0) => Cause::NotifierUnmap,
        Some(1) => Cause::NotifierClear,
        Some(2 | 3) => Cause::NotifierProtect,
        Some(6) => Cause::NotifierMigrate,
        _ => Cause::NotifierOther,
    }
}
