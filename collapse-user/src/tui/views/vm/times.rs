//! What took KVM time: its operations on a VM, by cause, and who waited for `mmu_lock`.

use std::{cmp::Reverse, collections::BTreeMap};

use collapse_common::Cause;
use collapse_feed::Signal;
use collapse_model::{TimeTaken, Vm};
use ratatui::{
    buffer::Buffer,
    layout::Rect,
    text::{Line, Span},
};

use crate::tui::{format, scene::Scene, theme::Role, widgets};

/// Columns of the numbers.
const NUMBERS: usize = 40;

/// Operations of one cause, and waits for the lock in what has that cause.
#[derive(Default)]
struct Times {
    operations: Option<TimeTaken>,
    waits: Option<TimeTaken>,
}

impl Times {
    fn total_ns(&self) -> u64 {
        let ns = |time: Option<TimeTaken>| time.map_or(0, |time| time.total_ns);
        ns(self.operations).max(ns(self.waits))
    }
}

/// Draws times by cause, the longest first.
pub fn draw(buf: &mut Buffer, at: Rect, scene: &Scene, vm: &Vm) {
    let dim = scene.theme.style(Role::Dim);
    let label = usize::from(at.width).saturating_sub(NUMBERS).clamp(16, 34);
    let title = format::left("CAUSE", label);
    let head = format!("{title} {:>5} {:>7} {:>7}", "CALLS", "TIME", "LONGEST");
    let waits = format!(" {:>5} {:>7}", "WAITS", "WAITED");
    let mut lines = vec![Line::styled(head + &waits, dim)];
    let sees_waits = scene.coverage.sees(Signal::LockWaits);
    for (cause, times) in by_cause(vm) {
        let narrow = label < 34;
        let name = format::left(if narrow { cause.name() } else { cause.label() }, label);
        let waits = match times.waits {
            Some(waits) => {
                format!(
                    " {:>5} {:>7}",
                    format::count(waits.count),
                    format::duration(waits.total_ns)
                )
            }
            None if sees_waits => format!(" {:>5} {:>7}", "·", ""),
            None => format!(" {0:>5} {0:>7}", format::UNKNOWN),
        };
        let role = if times.waits.is_some() { Role::Warn } else { Role::Dim };
        lines.push(Line::from(vec![
            Span::raw(name),
            Span::raw(taken(times.operations)),
            Span::styled(waits, scene.theme.style(role)),
        ]));
    }
    if lines.len() == 1 {
        lines.push(Line::styled("nothing has taken time yet", dim));
    }
    widgets::paragraph(buf, at, &lines);
}

fn by_cause(vm: &Vm) -> Vec<(Cause, Times)> {
    let mut times: BTreeMap<Cause, Times> = BTreeMap::new();
    for (cause, time) in vm.operations() {
        times.entry(cause).or_default().operations = Some(time);
    }
    for (cause, time) in vm.lock_waits() {
        times.entry(cause).or_default().waits = Some(time);
    }
    let mut times: Vec<_> = times.into_iter().collect();
    times.sort_by_key(|(_, times)| Reverse(times.total_ns()));
    times
}

/// Operations: a vCPU's guest faults are none.
fn taken(operations: Option<TimeTaken>) -> String {
    let Some(TimeTaken { count, total_ns, longest_ns }) = operations else {
        return format!(" {:>5} {:>7} {:>7}", "·", "", "");
    };
    let longest = format::known(longest_ns, format::duration);
    format!(" {:>5} {:>7} {longest:>7}", format::count(count), format::duration(total_ns))
}
