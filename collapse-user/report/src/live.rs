//! Lines for what is no terminal: one per VM.

use std::fmt::Write as _;

use super::{keys::SIZES, report::in_order};
use collapse_feed::Coverage;
use collapse_model::{Model, Vm, metric::METRICS, wording::known};

/// One line per VM that has not ended, for a pipe.
pub fn live_lines(model: &Model, coverage: &Coverage) -> String {
    let seconds = model.window() as f64 / 1e9;
    let mut text = String::new();
    // Writing to a string cannot fail.
    if let Some(why) = &model.unwatched {
        let _ = writeln!(text, "t={seconds:.1} {why}, waiting");
    }
    for vm in in_order(model).filter(|vm| !vm.gone) {
        let process = vm.process.as_ref();
        let name = process.map(|process| process.name.text.replace(' ', "_"));
        let _ = writeln!(
            text,
            "t={seconds:.1} pid={} name={} {}",
            known(process.map(|process| process.pid)),
            known(name),
            values(vm, coverage).join(" "),
        );
    }
    text
}

fn values(vm: &Vm, coverage: &Coverage) -> Vec<String> {
    let pages = (0..).zip(SIZES).map(|(place, size): (usize, _)| {
        format!("{size}={}", known(vm.pages().map(|pages| pages[place])))
    });
    let last = vm.history.last();
    let metrics = METRICS.iter().map(|metric| {
        let value =
            last.filter(|_| metric.is_reported(coverage)).map(|last| last.values[metric.id]);
        format!("{}={}", metric.key, known(value))
    });
    pages.chain(metrics).collect()
}
