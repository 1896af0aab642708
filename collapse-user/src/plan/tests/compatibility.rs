//! The page on what is seen on which kernel, made from recorded kernels.

use std::{env, fmt::Write as _, fs, path::Path};

use collapse_feed::Signal;

use super::{kernel, planned, status};

const PAGE: &str = concat!(env!("CARGO_MANIFEST_DIR"), "/../docs/compatibility.md");
const KERNELS: [&str; 6] = ["5.10", "6.1", "6.12", "6.12-intel", "6.18", "7.3"];

/// Writes the block again with `GOLDEN=write`.
#[test]
fn the_page_says_what_is_seen() {
    const MARKS: [&str; 2] = ["<!-- begin seen -->\n", "<!-- end seen -->"];
    let page = fs::read_to_string(Path::new(PAGE)).unwrap();
    let (before, rest) = page.split_once(MARKS[0]).unwrap();
    let (block, after) = rest.split_once(MARKS[1]).unwrap();
    let expected = table();
    if env::var_os("GOLDEN").is_some_and(|what| what == "write") {
        fs::write(PAGE, format!("{before}{}{expected}{}{after}", MARKS[0], MARKS[1])).unwrap();
    } else {
        assert_eq!(block, expected);
    }
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
