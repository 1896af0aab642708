//! The wish to end, from SIGINT, SIGTERM or a reader that went away.

use std::sync::atomic::{AtomicBool, Ordering};
use std::thread;
use std::time::{Duration, Instant};

static STOP: AtomicBool = AtomicBool::new(false);
static READER_LEFT: AtomicBool = AtomicBool::new(false);

extern "C" fn on_signal(_: libc::c_int) {
    STOP.store(true, Ordering::Relaxed);
}

/// Makes SIGINT and SIGTERM end the run at its next safe point.
pub fn install() {
    for signal in [libc::SIGINT, libc::SIGTERM] {
        // SAFETY: an all-zero sigaction is valid, and the handler only stores to an atomic.
        unsafe {
            let mut action: libc::sigaction = std::mem::zeroed();
            action.sa_sigaction = on_signal as *const () as libc::sighandler_t;
            libc::sigaction(signal, &raw const action, std::ptr::null_mut());
        }
    }
}

/// Ends the run at its next safe point because nobody reads its output any more.
pub fn reader_left() {
    READER_LEFT.store(true, Ordering::Relaxed);
    STOP.store(true, Ordering::Relaxed);
}

/// Whether nobody reads the output any more.
pub fn has_reader_left() -> bool {
    READER_LEFT.load(Ordering::Relaxed)
}

/// Whether the run should end.
pub fn stopping() -> bool {
    STOP.load(Ordering::Relaxed)
}

/// Sleeps, but not past a wish to end.
pub fn sleep(time: Duration) {
    const SLICE: Duration = Duration::from_millis(20);
    let end = Instant::now() + time;
    while !stopping() {
        match end.saturating_duration_since(Instant::now()) {
            Duration::ZERO => return,
            left => thread::sleep(left.min(SLICE)),
        }
    }
}
