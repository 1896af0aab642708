//! Memory that a model takes in user space. Prints a line of JSON per measurement.

#[allow(dead_code, reason = "each benchmark uses a part")]
mod synthetic;

use std::alloc::System;

use cap::Cap;
use collapse_model::Model;

use synthetic::Fleet;

#[global_allocator]
static ALLOCATOR: Cap<System> = Cap::new(System, usize::MAX);

/// A day, s.
const DAY: u64 = 86_400;

fn main() {
    for regions in [0, 1_000, 32 << 10, 1_000_000] {
        print_size("outstanding", regions, || {
            let mut fleet = Fleet::new(1, 2 << 20);
            let mut model = fleet.begin();
            model.apply(&fleet.split(regions));
            model
        });
    }
    for vms in [1, 10, 100, 1000] {
        print_size("vms", vms, || Fleet::new(vms, 32 << 10).model(60));
    }
    for seconds in [60, 3600, DAY] {
        print_size("history", seconds, || Fleet::new(1, 512).model(seconds));
    }
}

/// Prints the bytes that are freed with a model.
fn print_size(what: &str, amount: u64, make: impl FnOnce() -> Model) {
    let before = ALLOCATOR.allocated();
    let model = make();
    let bytes = ALLOCATOR.allocated().saturating_sub(before);
    drop(model);
    println!("{}", serde_json::json!({ "what": what, "amount": amount, "bytes": bytes }));
}
