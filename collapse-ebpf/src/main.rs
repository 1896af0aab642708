//! The eBPF programs: they see, count and record; what it means is decided in user space.
//!
//! - [`spte`], [`rmap`]: SPTE changes, on the hot path
//! - [`fault`]: guest faults, on the hot path
//! - [`ops`], [`slots`], [`notifier`], [`vm`]: operations that enclose changes, once per operation
//! - [`context`]: which VM and cause a change belongs to
//! - [`runs`]: counting and run-length records
//! - [`watch`]: what keeps events from being missed where programs can be preempted
//! - [`maps`], [`kernel`]: maps, and facts about the running kernel
#![no_std]
#![no_main]
#![feature(asm_experimental_arch)]
#![allow(missing_docs, reason = "the programs are entry points, documented in place")]

mod context;
mod fault;
mod kernel;
mod maps;
mod notifier;
mod ops;
mod rmap;
mod runs;
mod slots;
mod spte;
mod vm;
mod watch;

/// GPL-only helpers (`bpf_probe_read_kernel` and others) need a GPL-compatible licence.
#[unsafe(no_mangle)]
#[unsafe(link_section = "license")]
static LICENSE: [u8; 13] = *b"Dual MIT/GPL\0";

#[panic_handler]
fn panic(_: &core::panic::PanicInfo) -> ! {
    loop {}
}
