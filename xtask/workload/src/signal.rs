//! The wish to end, from SIGINT, SIGTERM or a reader that went away.

use std::sync::atomic::{AtomicBool, Ordering};

use collapse_guest::stop;

static READER_LEFT: AtomicBool = AtomicBool::new(false);

extern "C" fn on_signal(_: libc::c_int) {
    stop::request();
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
    stop::request();
}

/// Whether nobody reads the output any more.
pub fn has_reader_left() -> bool {
    READER_LEFT.load(Ordering::Relaxed)
}
