//! The eBPF programs: they see, count and record. User space decides what that means.
//!
//! - [`spte`], [`rmap`]: SPTE changes, on the hot path
//! - [`fault`]: guest faults, on the hot path
//! - [`pml`]: exits for a full log of dirty pages
//! - [`progress`]: vCPUs that get nowhere with their faults
//! - [`lock`]: waits for `mmu_lock`
//! - [`ops`], [`slots`], [`notifier`]: operations that enclose changes, once per operation
//! - [`requests`]: programs that user space runs itself
//! - [`nesting`]: the operations that a thread is in
//! - [`vcpus`]: the faults that KVM counts of a vCPU
//! - [`threads`], [`hints`]: the thread table, and the way to it that takes no lookup
//! - [`registry`]: VMs, and the rows that their changes are counted in
//! - [`marks`], [`runs`], [`times`]: records for user space, and counting
//! - [`maps`], [`word`], [`kernel`]: maps, shared words, facts about the running kernel
//!
//! A module uses only those after it in this list. `docs/ebpf.md` explains what the verifier asks for,
//! and how that shaped the code.
#![no_std]
#![no_main]
#![feature(asm_experimental_arch)]
#![allow(missing_docs, reason = "the programs are entry points, documented in place")]

mod fault;
mod hints;
mod kernel;
mod lock;
mod maps;
mod marks;
mod nesting;
mod notifier;
mod ops;
mod pml;
mod progress;
mod registry;
mod requests;
mod rmap;
mod runs;
mod slots;
mod spte;
mod threads;
mod times;
mod vcpus;
mod word;

/// GPL-only helpers (`bpf_probe_read_kernel` and others) need a GPL-compatible licence.
#[unsafe(no_mangle)]
#[unsafe(link_section = "license")]
static LICENSE: [u8; 13] = *b"Dual MIT/GPL\0";

#[panic_handler]
fn panic(_: &core::panic::PanicInfo) -> ! {
    loop {}
}
