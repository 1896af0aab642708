//! Layouts that cross the boundary between kernel and user space.
//!
//! All are `repr(C)` without implicit padding; sizes are checked at compile time.

mod cpu;
mod function;
mod kernel;
pub mod map;
mod mark;
pub mod request;
mod run;
mod thread;
mod vcpu;

use crate::{
    cause::CAUSES,
    counter::{COUNTERS, CPU_COUNTERS},
};

pub use self::{
    cpu::*, function::*, kernel::*, mark::*, request::LeftOut, run::*, thread::*, vcpu::*,
};

/// The counters of one (VM, cause) row.
pub type Row = [u64; COUNTERS];

/// The counters of one (VM, cause) row on one CPU, as the kernel side keeps them.
pub type CpuRow = [u64; CPU_COUNTERS];

/// The row of changes whose VM and cause are both unknown, or that found no free row.
pub const UNKNOWN_ROW: u32 = 0;

/// Who a row belongs to. Written once by the kernel side when it takes the row.
#[repr(C)]
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct RowOwner {
    /// The VM.
    pub vm: VmKey,
    /// [`crate::Cause`] by number.
    pub cause: u32,
    /// Whether its changes are counted only. Written by user space.
    pub muted: u32,
}

/// A VM's identity: `struct kvm` addresses are reused, so the moment it was first seen is part of
/// it. All zero means no VM.
#[repr(C)]
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct VmKey {
    /// Address of the `struct kvm`.
    pub kvm: u64,
    /// `CLOCK_MONOTONIC` ns at which it was created or first seen.
    pub born: u64,
}

/// The kernel side's entry for a live VM.
#[repr(C)]
#[derive(Clone, Copy)]
pub struct Vm {
    /// Generation of the VM at this address.
    pub born: u64,
    /// Guest frames in slots seen to have dirty logging switched on and not off.
    pub logged: u64,
    /// Guest frames in all slots; 0 if not known.
    pub total: u64,
    /// Whether the VM as a whole is under dirty logging, see [`is_wide`].
    pub logging: u32,
    /// 1 while a slot whose dirty logging went off is still being worked on.
    pub collapsing: u32,
    /// Whether it was seen from its creation on, so that all that KVM has counted of it happened while we
    /// watched.
    pub created: u32,
    /// Memslot updates seen.
    pub commits: u32,
    /// Row by cause; 0 where none is taken yet.
    pub rows: [u16; CAUSES],
}

/// Whether dirty logging of `logged` guest frames out of `total` (0 if not known) concerns the VM as a
/// whole: a quarter or more. VMMs log the slot of an emulated display all the time.
#[inline(always)]
pub const fn is_wide(logged: u64, total: u64) -> bool {
    logged > 0 && logged >= total / 4
}

/// KVM's own `pages_4k`, `pages_2m`, `pages_1g` of one VM; [`UNKNOWN_PAGES`] where not available.
pub type Pages = [u64; 3];

/// Gauges that this kernel does not have.
pub const UNKNOWN_PAGES: Pages = [u64::MAX; 3];

/// Longest name of a VM's debugfs directory, with its closing zero.
pub const DEBUGFS_NAME: usize = 24;

/// One VM of KVM's own list: the answer to [`request::Walk`].
#[repr(C)]
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct VmGauges {
    /// The VM; zero at the end of the list.
    pub vm: VmKey,
    /// `CLOCK_MONOTONIC` ns of reading.
    pub ts: u64,
    /// KVM's gauges.
    pub pages: Pages,
    /// `kvm->userspace_pid`: the thread that created the VM.
    pub tid: u32,
    /// [`Vm::created`].
    pub created: u32,
    /// [`Vm::commits`].
    pub commits: u32,
    /// Padding.
    pub pad: u32,
    /// Name of its directory under `kvm/` in debugfs, zero-terminated; empty if there is none.
    pub debugfs: [u8; DEBUGFS_NAME],
}

/// Kernel memory, and [`ANSWERED`] at [`ANSWER`]: the answer to [`request::Peek`] and [`request::Adopt`].
pub type Peeked = [u64; ANSWER + 1];

/// Position in [`Peeked`] of whether a request was carried out.
pub const ANSWER: usize = 512;

/// That it was.
pub const ANSWERED: u64 = 1;

macro_rules! layouts {
    ($($ty:ty = $size:literal,)*) => {
        $(const _: () = assert!(size_of::<$ty>() == $size);)*

        $(
            // SAFETY: `repr(C)` with integer fields only, and without padding, as the size check
            // above and the explicit padding fields show: any bytes are a valid value.
            #[cfg(feature = "user")]
            unsafe impl aya::Pod for $ty {}
        )*
    };
}

layouts! {
    RowOwner = 24,
    VmKey = 16,
    Vm = 104,
    Run = 32,
    Block = 1040,
    Single = 48,
    Stacked = 56,
    RunList = 1104,
    Cpu = 3456,
    Span = 72,
    VcpuFaults = 24,
    PendingFaults = 56,
    Thread = 320,
    Slot = 24,
    Mark = 160,
    VcpuMark = 64,
    Function = 16,
    Kernel = 232,
    crate::Selection = 20,
    VmGauges = 88,
}

/// Bytes of a cache line.
const CACHE_LINE: usize = 64;

// What one CPU or thread writes all the time shares no cache line with what others do. These are values
// of maps that begin with a page.
const _: () = assert!(size_of::<Cpu>().is_multiple_of(CACHE_LINE));
const _: () = assert!(size_of::<Thread>().is_multiple_of(CACHE_LINE));
const _: () = assert!(size_of::<CpuRow>().is_multiple_of(CACHE_LINE));
