//! The kernel's clocks. Time stamps of eBPF programs are from the monotonic one.

/// Reads `CLOCK_MONOTONIC`, ns.
pub fn monotonic_ns() -> u64 {
    read(libc::CLOCK_MONOTONIC)
}

/// Reads `CLOCK_REALTIME`, ns since 1970.
pub fn wall_ns() -> u64 {
    read(libc::CLOCK_REALTIME)
}

/// Returns the length of a tick of the kernel's clock, ns: the resolution of its coarse clocks.
pub fn tick_ns() -> u32 {
    let mut tick = libc::timespec { tv_sec: 0, tv_nsec: 0 };
    // SAFETY: the pointer is to a live value; the clock exists from 2.6.32 on.
    unsafe { libc::clock_getres(libc::CLOCK_MONOTONIC_COARSE, &raw mut tick) };
    tick.tv_nsec as u32
}

fn read(clock: libc::clockid_t) -> u64 {
    let mut now = libc::timespec { tv_sec: 0, tv_nsec: 0 };
    // SAFETY: the pointer is to a live value; both clocks exist on every Linux.
    unsafe { libc::clock_gettime(clock, &raw mut now) };
    now.tv_sec as u64 * 1_000_000_000 + now.tv_nsec as u64
}
