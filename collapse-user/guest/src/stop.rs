//! A global request that all running orders and waits end.

use std::sync::atomic::{AtomicBool, Ordering};
use std::thread;
use std::time::{Duration, Instant};

static STOP: AtomicBool = AtomicBool::new(false);

/// Requests that vCPUs and waits end at their next safe point. Async-signal-safe.
pub fn request() {
    STOP.store(true, Ordering::Relaxed);
}

/// Returns whether an end was requested.
pub fn requested() -> bool {
    STOP.load(Ordering::Relaxed)
}

/// Sleeps for `time`, or until an end is requested.
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
