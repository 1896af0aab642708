//! The wish that everything under way ends.

use std::sync::atomic::{AtomicBool, Ordering};
use std::thread;
use std::time::{Duration, Instant};

static STOP: AtomicBool = AtomicBool::new(false);

/// Makes vCPUs and waits end at their next safe point. A signal handler may call it.
pub fn request() {
    STOP.store(true, Ordering::Relaxed);
}

/// Whether an end was requested.
pub fn requested() -> bool {
    STOP.load(Ordering::Relaxed)
}

/// Sleeps, but not past such a request.
pub fn sleep(time: Duration) {
    const SLICE: Duration = Duration::from_millis(20);
    let end = Instant::now() + time;
    while !requested() {
        match end.saturating_duration_since(Instant::now()) {
            Duration::ZERO => return,
            left => thread::sleep(left.min(SLICE)),
        }
    }
}
