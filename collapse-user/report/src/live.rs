//! Lines for what is no terminal: one per VM.

use std::fmt::Write as _;

use super::Report;

/// One line per VM, for a pipe.
pub fn live_lines(now: &Report) -> String {
    let mut text = String::new();
    if let Some(why) = now.blind() {
        let _ = writeln!(text, "t={:.1} {why}, waiting", now.window_ns as f64 / 1e9);
    }
    for vm in now.vms.iter().filter(|vm| !vm.gone) {
        let pages = vm.pages.end.map_or("4k=– 2m=– 1g=–".to_owned(), |pages| {
            format!("4k={} 2m={} 1g={}", pages.small, pages.huge, pages.giant)
        });
        let faults = vm.faults.as_ref().map_or("–".to_owned(), |faults| faults.total.to_string());
        // Writing to a string cannot fail.
        let _ = writeln!(
            text,
            "t={:.1} pid={} name={} {pages} splits={} zaps={} lost={} recovered={} faults={faults}",
            now.window_ns as f64 / 1e9,
            vm.pid.map_or("–".to_owned(), |pid| pid.to_string()),
            vm.name.as_deref().unwrap_or("–").replace(' ', "_"),
            vm.splits.total,
            vm.zaps.total,
            vm.regions.counts.lost,
            vm.regions.counts.recovered,
        );
    }
    text
}
