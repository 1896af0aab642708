//! What this program takes of the machine.

use std::{mem::MaybeUninit, time::Instant};

/// CPU time that this process took, between looks at it.
#[derive(Debug, Default)]
pub struct Load {
    last: Option<(Instant, f64)>,
}

impl Load {
    /// The part of a core taken since the look before; `None` at the first.
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
    // SAFETY: the pointer is to a live value of that type.
    if unsafe { libc::getrusage(libc::RUSAGE_SELF, usage.as_mut_ptr()) } != 0 {
        return None;
    }
    // SAFETY: the call filled it in.
    let usage = unsafe { usage.assume_init() };
    let seconds = |time: libc::timeval| time.tv_sec as f64 + time.tv_usec as f64 / 1e6;
    Some(seconds(usage.ru_utime) + seconds(usage.ru_stime))
}
