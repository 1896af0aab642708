//! The CPU time that this program takes.

use std::{mem::MaybeUninit, time::Instant};

/// The CPU time of this process between two looks.
#[derive(Debug, Default)]
pub struct Load {
    last: Option<(Instant, f64)>,
}

impl Load {
    /// Returns the share of one core since the last look; `None` at the first.
    pub fn measure(&mut self) -> Option<f64> {
        let (now, taken) = (Instant::now(), cpu_seconds()?);
        let (then, before) = self.last.replace((now, taken))?;
        let passed = now.duration_since(then).as_secs_f64();
        (passed > 0.0).then(|| (taken - before).max(0.0) / passed)
    }
}

/// CPU time of this process, in user space and in the kernel, in seconds.
fn cpu_seconds() -> Option<f64> {
    let mut usage = MaybeUninit::<libc::rusage>::zeroed();
    // SAFETY: the pointer is to a live value of the type that the call fills in.
    if unsafe { libc::getrusage(libc::RUSAGE_SELF, usage.as_mut_ptr()) } != 0 {
        return None;
    }
    // SAFETY: all zeroes is a valid value, which the call has overwritten.
    let usage = unsafe { usage.assume_init() };
    let seconds = |time: libc::timeval| time.tv_sec as f64 + time.tv_usec as f64 / 1e6;
    Some(seconds(usage.ru_utime) + seconds(usage.ru_stime))
}
