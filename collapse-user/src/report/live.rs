//! The live table: a row per VM, rates since the table before.

use std::fmt::Write as _;

use unicode_width::{UnicodeWidthChar as _, UnicodeWidthStr as _};

use crate::identity::printable;

use super::{Report, Style, VmReport, text::duration};

/// A VM's figures that rates are made of.
#[derive(Clone, Copy, Default)]
struct Flows {
    splits: u64,
    zaps: u64,
    recoveries: u64,
    faults: Option<u64>,
}

impl Flows {
    fn of(vm: &VmReport) -> Self {
        Self {
            splits: vm.splits.total,
            zaps: vm.zaps.total,
            recoveries: vm.recoveries.total,
            faults: vm.faults.as_ref().map(|faults| faults.total),
        }
    }
}

/// The table for a terminal of so many columns and rows, a string per line, none wider than the
/// terminal and none more than its rows.
pub fn live_table(
    title: Option<&str>,
    before: Option<&Report>,
    now: &Report,
    columns: usize,
    rows: usize,
    style: Style,
) -> Vec<String> {
    let alive: Vec<_> = now.vms.iter().filter(|vm| !vm.gone).collect();
    let title = format!(
        "collapse{}: kernel {}, {}, {}, {} alive, {} ended; Ctrl-C ends",
        title.map_or(String::new(), |title| format!(" ({})", printable(title.as_bytes()))),
        now.host.kernel,
        now.host.mmu.label(),
        duration(now.window_ns),
        alive.len(),
        now.vms_ended,
    );
    let head = format!(
        "{:<18} {:>7} {:>7} {:>9} {:>7} {:>5} {:>8} {:>9} {:>8} {:>9} {:>11}",
        "VM",
        "pid",
        "logging",
        "4K",
        "2M",
        "1G",
        "splits/s",
        "zaps/s",
        "recov/s",
        "faults/s",
        "recovered"
    );
    let mut lines = vec![cut(&title, columns), style.bold(&cut(&head, columns))];
    let missing = now.coverage.iter().filter(|signal| !signal.seen).count();
    let lost: u64 = now.losses.values().sum();
    let seen = match now.blind() {
        Some(why) => format!("{why}, waiting"),
        None => format!("{missing} of {} signals not seen", now.coverage.len()),
    };
    let reloads = match now.reloads {
        0 => String::new(),
        n => format!("; KVM was loaded again {n} times"),
    };
    let status = format!("lost {lost}; {seen}{reloads}");
    let room = rows.saturating_sub(lines.len() + 1);
    let seconds =
        before.map(|before| (now.window_ns.saturating_sub(before.window_ns)) as f64 / 1e9);
    for vm in alive.iter().take(room) {
        let earlier = before
            .and_then(|before| before.vms.iter().find(|earlier| earlier.born_ns == vm.born_ns));
        lines.push(cut(&row(vm, earlier, seconds), columns));
    }
    if alive.len() > room
        && let Some(last) = lines.last_mut()
    {
        *last = cut(&format!("… and {} more", alive.len() + 1 - room), columns);
    }
    lines.push(style.dim(&cut(&status, columns)));
    lines.truncate(rows);
    lines
}

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

fn row(vm: &VmReport, earlier: Option<&VmReport>, seconds: Option<f64>) -> String {
    let name = cut(vm.name.as_deref().unwrap_or("–"), 18);
    let pad = " ".repeat(18 - name.width().min(18));
    let now = Flows::of(vm);
    let then = earlier.map(Flows::of);
    let rate = |of: fn(&Flows) -> Option<u64>| {
        let change = of(&now)?.saturating_sub(of(&then?)?);
        let seconds = seconds.filter(|seconds| *seconds > 0.0)?;
        Some(change as f64 / seconds)
    };
    let shown = |rate: Option<f64>| rate.map_or("–".to_owned(), |rate| format!("{rate:.0}"));
    let pages = vm.pages.end.map(|pages| [pages.small, pages.huge, pages.giant]);
    let page = |at: usize| pages.map_or("–".to_owned(), |pages| pages[at].to_string());
    format!(
        "{name}{pad} {:>7} {:>7} {:>9} {:>7} {:>5} {:>8} {:>9} {:>8} {:>9} {:>11}",
        vm.pid.map_or("–".to_owned(), |pid| pid.to_string()),
        vm.dirty_logging.map_or("–", |on| if on { "on" } else { "off" }),
        page(0),
        page(1),
        page(2),
        shown(rate(|flows| Some(flows.splits))),
        shown(rate(|flows| Some(flows.zaps))),
        shown(rate(|flows| Some(flows.recoveries))),
        shown(rate(|flows| flows.faults)),
        format!("{}/{}", vm.regions.counts.recovered, vm.regions.counts.lost),
    )
}

/// The text, cut to so many columns.
fn cut(text: &str, columns: usize) -> String {
    let mut width = 0;
    text.chars()
        .take_while(|c| {
            width += c.width().unwrap_or(0);
            width <= columns
        })
        .collect()
}

#[cfg(test)]
mod tests {
    use collapse_common::abi::VmKey;
    use proptest::prelude::*;

    use super::*;
    use crate::{
        model::Vm,
        plan::{Coverage, Mmu},
        report::Host,
    };

    fn report(vms: u64, window_ns: u64) -> Report {
        let coverage = Coverage { mmu: Mmu::Tdp, signals: Vec::new(), timed_faults: 1 };
        let vm = |born| VmReport::new(&Vm::new(VmKey { kvm: 1, born }), &coverage);
        Report {
            schema: crate::report::SCHEMA,
            version: "0",
            host: Host { kernel: "6.12".to_owned(), mmu: Mmu::Tdp },
            window_ns,
            command: None,
            coverage: Vec::new(),
            reloads: 0,
            losses: [("ring_full_changes", 3)].into(),
            settled: true,
            unattributed_changes: 0,
            unattributed_ageing: 0,
            vms_ended: 2,
            vms_forgotten: 1,
            vms: (1..=vms).map(vm).collect(),
        }
    }

    #[test]
    fn unknown_is_a_dash_and_loss_is_shown() {
        let lines = live_table(None, None, &report(1, 0), 100, 10, Style::Plain);
        assert!(lines[2].contains('–') && !lines[2].contains(" 0 "), "{lines:?}");
        assert!(lines.last().is_some_and(|line| line.starts_with("lost 3;")), "{lines:?}");
    }

    #[test]
    fn vms_that_do_not_fit_are_counted() {
        let lines = live_table(None, None, &report(9, 0), 100, 6, Style::Plain);
        assert_eq!(lines.len(), 6);
        assert_eq!(lines[4], "… and 7 more");
    }

    proptest! {
        /// No terminal is too small, and nothing is wider or longer than it.
        #[test]
        fn fits_every_terminal(columns in 1usize..300, rows in 1usize..100, vms in 0u64..150, second: bool) {
            let (before, now) = (report(vms / 2, 5), report(vms, 1_000_000_005));
            let before = second.then_some(&before);
            let title = Some("a\x1b[31m title 漢字");
            let lines = live_table(title, before, &now, columns, rows, Style::Plain);
            prop_assert!(lines.len() <= rows);
            for line in lines {
                prop_assert!(line.width() <= columns);
                prop_assert!(!line.contains(char::is_control));
            }
        }
    }
}
