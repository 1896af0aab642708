//! Programs that are never attached: user space runs them itself, see
//! [`collapse_common::abi::request`]. A system call that changes a map would keep kprobe programs from
//! running meanwhile; these do not.

use aya_ebpf::{
    helpers::{
        bpf_ktime_get_ns, bpf_probe_read_kernel_str_bytes, generated::bpf_probe_read_kernel,
    },
    macros::raw_tracepoint,
    programs::RawTracePointContext,
};
use collapse_common::abi::{
    ANSWER, ANSWERED, Cpu, PendingFaults, UNKNOWN_ROW, VmGauges, VmKey, is_wide,
    request::{ARGS, Adopt, GiveBack, Peek, ReadPending, Request as _, SetDetail, Walk},
};

use crate::{
    kernel::{self, fact},
    maps, registry, vcpus,
    word::bounded,
};

#[inline(always)]
fn args(ctx: &RawTracePointContext) -> [u64; ARGS] {
    [ctx.arg(0), ctx.arg(1), ctx.arg(2), ctx.arg(3)]
}

/// [`GiveBack`]
#[raw_tracepoint(tracepoint = "kvm_page_fault")]
pub fn give_back(ctx: RawTracePointContext) -> u32 {
    match GiveBack::decode(args(&ctx)) {
        GiveBack::Row(UNKNOWN_ROW) => {}
        GiveBack::Row(row) => {
            let _ = maps::free_rows().push(row, 0);
        }
        GiveBack::Thread(id) => {
            if let Some(cpu) = maps::cpu() {
                vcpus::thread_gone(cpu, id);
            }
        }
    }
    0
}

/// [`SetDetail`]
#[raw_tracepoint(tracepoint = "kvm_page_fault")]
pub fn set_detail(ctx: RawTracePointContext) -> u32 {
    let SetDetail { untimed, left_out } = SetDetail::decode(args(&ctx));
    maps::UNTIMED.set(untimed.into());
    maps::LEFT_OUT.set(left_out.bits());
    0
}

/// [`ReadPending`]
#[raw_tracepoint(tracepoint = "kvm_page_fault")]
pub fn pending_faults(ctx: RawTracePointContext) -> u32 {
    let ReadPending { place } = ReadPending::decode(args(&ctx));
    if let Some(pending) = maps::pending_faults().get_ptr_mut(0) {
        // SAFETY: only this program writes the map, and user space runs it from one thread.
        unsafe { *pending = vcpus::pending(place).unwrap_or(PendingFaults::NONE) };
    }
    0
}

/// [`Peek`]
#[raw_tracepoint(tracepoint = "kvm_page_fault")]
pub fn peek(ctx: RawTracePointContext) -> u32 {
    let Peek { address, len } = Peek::decode(args(&ctx));
    let Some(into) = maps::peeked().get_ptr_mut(0) else { return 0 };
    answer(false);
    if len == 0 || len > Peek::MOST {
        return 0;
    }
    // The verifier of 5.10 does not follow the comparison.
    let len = bounded::<{ Peek::MOST as usize - 1 }>(len as usize - 1) + 1;
    // SAFETY: the helper checks the address, and the verifier that the length fits. Only this program
    // writes the map, and user space runs it from one thread.
    let error = unsafe { bpf_probe_read_kernel(into.cast(), len as u32, address as *const _) };
    answer(error == 0);
    0
}

/// Says whether a request was carried out: what a program returns is lost.
#[inline(always)]
fn answer(carried_out: bool) {
    if let Some(peeked) = maps::peeked().get_ptr_mut(0) {
        // SAFETY: only these programs write the map, and user space runs them from one thread.
        unsafe { (*peeked)[ANSWER] = if carried_out { ANSWERED } else { 0 } };
    }
}

/// [`Adopt`]
#[raw_tracepoint(tracepoint = "kvm_page_fault")]
pub fn adopt(ctx: RawTracePointContext) -> u32 {
    let Adopt { kvm, commits, logged, total } = Adopt::decode(args(&ctx));
    answer(false);
    let Some(vm) = registry::known(kvm) else { return 0 };
    if vm.commits != commits {
        return 0;
    }
    vm.logged = logged;
    vm.total = total;
    vm.logging = is_wide(logged, total).into();
    maps::GENERATION.tick();
    answer(true);
    0
}

/// [`Walk`]. One VM a run: a loop over the list in here would take the verifier of 7.3 a hundred times
/// as long as all other programs together.
///
/// The list is not locked: a node that does not point back to the one we came from ends the walk, and
/// the next walk sees the list as it is then.
#[raw_tracepoint(tracepoint = "kvm_page_fault")]
pub fn walk(ctx: RawTracePointContext) -> u32 {
    let Some(cpu) = maps::cpu() else { return 0 };
    let Some(gauges) = maps::gauges().get_ptr_mut(0) else { return 0 };
    // SAFETY: only this program writes the map, and user space runs it from one thread.
    let gauges: &mut VmGauges = unsafe { &mut *gauges };
    gauges.vm = VmKey { kvm: 0, born: 0 };
    learn_bases();
    let head = fact!(vm_list);
    let Walk { after } = Walk::decode(args(&ctx));
    let node = if after == Walk::HEAD { head } else { after };
    if let Some(next) = kernel::read::<u64>(node, 0)
        && next != head
        && kernel::read::<u64>(next, 8) == Some(node)
    {
        gauge(cpu, gauges, next.wrapping_sub(fact!(kvm_vm_list).into()));
    }
    0
}

#[inline(always)]
fn gauge(cpu: &mut Cpu, gauges: &mut VmGauges, kvm: u64) {
    let Some(vm) = registry::entry(cpu, kvm) else { return };
    gauges.vm = VmKey { kvm, born: vm.born };
    // SAFETY: no arguments.
    gauges.ts = unsafe { bpf_ktime_get_ns() };
    gauges.pages = kernel::pages(kvm);
    gauges.created = vm.created;
    gauges.commits = vm.commits;
    gauges.tid = kernel::read(kvm, fact!(kvm_userspace_pid)).unwrap_or(0);
    gauges.debugfs[0] = 0;
    let name = kernel::read::<u64>(kvm, fact!(kvm_debugfs_dentry))
        .and_then(|dentry| kernel::read::<u64>(dentry, fact!(dentry_name)));
    if let Some(name) = name {
        // SAFETY: the helper checks the address and ends the string inside the buffer.
        let _ = unsafe { bpf_probe_read_kernel_str_bytes(name as *const u8, &mut gauges.debugfs) };
    }
}

/// Reads where the kernel's direct map and page structures begin (`KASLR` moves them), for the
/// rmap hooks.
#[inline(always)]
fn learn_bases() {
    if let Some(base) = kernel::read(fact!(page_offset_base), 0) {
        maps::PAGE_OFFSET.set(base);
    }
    if let Some(base) = kernel::read(fact!(vmemmap_base), 0) {
        maps::VMEMMAP.set(base);
    }
}
