//! The page on what is seen on which kernel, made from recorded kernels.

use std::fmt::Write as _;

use collapse_feed::Signal;

use super::{kernel, planned, status};

const PAGE: &str = include_str!("../../../../docs/compatibility.md");
const KERNELS: [&str; 6] = ["5.10", "6.1", "6.12", "6.12-intel", "6.18", "7.3"];

#[test]
fn the_page_says_what_is_seen() {
    let table = table();
    assert!(PAGE.contains(&table), "docs/compatibility.md lacks:\n{table}");
}

fn table() -> String {
    let plans = KERNELS.map(|series| planned(&kernel(series)));
    let mut text = format!("| signal | {} |\n|---|{}\n", KERNELS.join(" | "), "---|".repeat(6));
    let mut reasons = Vec::new();
    for signal in Signal::ALL.iter().copied() {
        let seen = plans.each_ref().map(|plan| {
            let mut all = plan.coverage.signals.iter();
            let needed = all.any(|status| status.signal == signal);
            needed.then(|| status(plan, signal).is_seen())
        });
        let cells = seen.map(|seen| match seen {
            Some(true) => "yes",
            Some(false) => "no",
            None => "–",
        });
        writeln!(text, "| `{}` | {} |", signal.name(), cells.join(" | ")).unwrap();
        for (series, plan) in KERNELS
            .iter()
            .zip(&plans)
            .filter(|(_, plan)| plan.coverage.missing().any(|status| status.signal == signal))
        {
            let reason = status(plan, signal).reason.as_deref().unwrap_or_default();
            reasons.push(format!("- {series}, `{}`: {reason}\n", signal.name()));
        }
    }
    text + "\nNot seen, and why:\n\n" + &reasons.concat()
}
