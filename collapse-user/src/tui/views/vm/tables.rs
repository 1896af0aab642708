//! Causes, slots and collapse runs as tables.

use collapse_common::{Cause, Counter, Transition, abi::LOG_DIRTY_PAGES};
use ratatui::{
    buffer::Buffer,
    layout::Rect,
    text::{Line, Span},
};

use crate::tui::{format, scene::Scene, theme::Role, widgets};
use collapse_feed::{Signal, Slot};
use collapse_model::{CollapseSpan, Region, Totals, Vm};

/// What one cause did.
#[derive(Clone, Copy, Default)]
struct Deeds {
    splits: u64,
    zaps: u64,
    installs: u64,
    recoveries: u64,
    protects: u64,
    faults: u64,
    stall_ns: u64,
}

impl Deeds {
    fn changes(&self) -> u64 {
        self.splits + self.zaps + self.installs + self.recoveries + self.protects
    }
}

fn deeds(totals: &Totals) -> Vec<(Cause, Deeds)> {
    let of = |wanted: &[Transition]| totals.by_cause(|t, level| level <= 3 && wanted.contains(&t));
    let splits = of(&[Transition::Split, Transition::SplitRelink]);
    let relinks = of(&[Transition::SplitRelink]);
    let zaps = of(&[Transition::Zap]);
    let installs = of(&[Transition::Install]);
    let recoveries = of(&[Transition::Recover, Transition::RecoverReadOnly]);
    let protects = of(&[Transition::WriteProtect]);
    let faults = totals.counter_by_cause(Counter::Fault);
    let stalls = totals.counter_by_cause(Counter::Stall);
    let all = Cause::ALL.iter().map(|cause| {
        let get = |map: &std::collections::BTreeMap<Cause, u64>| {
            map.get(cause).copied().unwrap_or_default()
        };
        let deeds = Deeds {
            splits: get(&splits),
            zaps: get(&zaps).saturating_sub(get(&relinks)),
            installs: get(&installs),
            recoveries: get(&recoveries),
            protects: get(&protects),
            faults: get(&faults),
            stall_ns: get(&stalls),
        };
        (*cause, deeds)
    });
    let mut deeds: Vec<_> = all.filter(|(_, deeds)| deeds.changes() + deeds.faults > 0).collect();
    deeds.sort_by_key(|(_, deeds)| std::cmp::Reverse((deeds.changes(), deeds.faults)));
    deeds
}

/// How many causes there are to tell of.
pub fn causes_count(vm: &Vm) -> usize {
    deeds(&vm.totals()).len()
}

/// What changed why, with each cause's share of all changes.
pub fn causes(buf: &mut Buffer, at: Rect, scene: &Scene, vm: &Vm) {
    let theme = scene.theme;
    let dim = theme.style(Role::Dim);
    let deeds = deeds(&vm.totals());
    let sum: u64 = deeds.iter().map(|(_, deeds)| deeds.changes()).sum();
    // The numbers take 50 columns, causes in words 34.
    let narrow = usize::from(at.width) < 34 + 50;
    let label = usize::from(at.width).saturating_sub(50).clamp(19, 34);
    let head = format!(
        "{} SHARE SPLIT   ZAP  INST RECOV WPROT FAULT    vCPU",
        format::left("CAUSE", label),
    );
    let mut lines = vec![Line::styled(head, dim)];
    for (cause, deeds) in &deeds {
        let mut spans = vec![
            Span::raw(format::left(if narrow { cause.name() } else { cause.label() }, label)),
            Span::styled(
                format!(" {:>5}", format::share(deeds.changes(), sum)),
                theme.style(Role::Key),
            ),
        ];
        let counts = [
            (deeds.splits, Role::Split),
            (deeds.zaps, Role::Zap),
            (deeds.installs, Role::Small),
            (deeds.recoveries, Role::Huge),
            (deeds.protects, Role::Text),
        ];
        for (n, role) in counts {
            let style = if n == 0 { dim } else { theme.style(role) };
            let text = if n == 0 { "·".to_owned() } else { format::count(n) };
            spans.push(Span::styled(format!(" {text:>5}"), style));
        }
        let (faults, stall) = if cause.is_guest_fault() {
            let seen = |signal, shown: String| {
                if scene.coverage.sees(signal) { shown } else { format::UNKNOWN.to_owned() }
            };
            (
                seen(Signal::Faults, format::count(deeds.faults)),
                seen(Signal::FaultLatency, format::duration(deeds.stall_ns)),
            )
        } else {
            (String::new(), String::new())
        };
        spans.push(Span::raw(format!(" {faults:>5} {stall:>7}")));
        lines.push(Line::from(spans));
    }
    if deeds.is_empty() {
        lines.push(Line::styled("nothing changed yet", dim));
    }
    widgets::paragraph(buf, at, &lines);
}

/// Slots, and regions lost in them.
pub fn slots(buf: &mut Buffer, at: Rect, scene: &Scene, vm: &Vm) {
    let theme = scene.theme;
    let dim = theme.style(Role::Dim);
    let mut lines = vec![Line::styled(
        format!(
            "{:>5} {:>5}  {:<12} {:<14} {:>11}",
            "SLOT", "SIZE", "GFN", "LOGGING", "OUTSTANDING"
        ),
        dim,
    )];
    let room = usize::from(at.height).saturating_sub(1);
    for slot in vm.slots.values().take(room) {
        let on = slot.flags & LOG_DIRTY_PAGES != 0;
        let logging = if on { ("● on", Role::Split) } else { ("· off", Role::Dim) };
        let outstanding =
            vm.regions.outstanding().filter(|(region, _)| holds(slot, *region)).count();
        let id = if slot.as_id == 0 { slot.id.to_string() } else { format!("S{}", slot.id) };
        lines.push(Line::from(vec![
            Span::raw(format!("{id:>5} {:>5}  ", format::bytes(slot.npages.saturating_mul(4096)))),
            Span::raw(format::left(&format!("{:#x}", slot.base_gfn), 13)),
            Span::styled(format::left(logging.0, 14), theme.style(logging.1)),
            Span::raw(format!(" {outstanding:>11}")),
        ]));
    }
    if vm.slots.is_empty() {
        lines.push(Line::styled("none known yet: slots are learnt as they change", dim));
    }
    widgets::paragraph(buf, at, &lines);
}

fn holds(slot: &Slot, region: Region) -> bool {
    let end = slot.base_gfn.saturating_add(slot.npages);
    region.as_id() == u32::from(slot.as_id) && (slot.base_gfn..end).contains(&region.gfn())
}

/// Runs of the collapse routine, the latest first, and what raced with them.
pub fn collapse(buf: &mut Buffer, at: Rect, scene: &Scene, vm: &Vm) {
    let dim = scene.theme.style(Role::Dim);
    let head = format!(
        "{:>6} {:>4} {:>5} {:>7} {:>6} {:>6} {:>5} {:>11} {:>6}",
        "AGO", "SLOT", "SIZE", "TOOK", "ZAP 4K", "RECOV", "R/O", "RACED 2M/4K", "YIELDS"
    );
    let mut lines = vec![Line::styled(head, dim)];
    let room = usize::from(at.height).saturating_sub(1);
    lines.extend(vm.spans.iter().rev().take(room).map(|span| run(scene, span)));
    if !scene.coverage.sees(Signal::Collapse) {
        lines.push(Line::styled("– not seen on this kernel", dim));
    } else if vm.spans.is_empty() {
        lines.push(Line::styled("none yet", dim));
    }
    widgets::paragraph(buf, at, &lines);
}

fn run(scene: &Scene, span: &CollapseSpan) -> Line<'static> {
    let theme = scene.theme;
    let work = &span.work;
    let raced = format::known(span.race, |race| {
        format!("{}/{}", format::count(race.installs_2m), format::count(race.installs_4k))
    });
    let small = span.race.is_some_and(|race| race.installs_4k > 0);
    let ended = span.start.saturating_add(span.duration);
    Line::from(vec![
        Span::styled(format!("{:>6} ", format::duration(scene.ago(ended))), theme.style(Role::Dim)),
        Span::raw(format!(
            "{:>4} {:>5} {:>7} ",
            span.slot.id,
            format::bytes(span.slot.npages.saturating_mul(4096)),
            format::duration(span.duration),
        )),
        Span::styled(format!("{:>6} ", format::count(work.zapped_4k)), theme.style(Role::Zap)),
        Span::styled(format!("{:>6} ", format::count(work.recovered)), theme.style(Role::Huge)),
        Span::raw(format!("{:>5} ", format::count(work.recovered_read_only))),
        Span::styled(
            format!("{raced:>11}"),
            theme.style(if small { Role::Warn } else { Role::Text }),
        ),
        Span::raw(format!(" {:>6}", format::known(span.yields, |n| n.to_string()))),
    ])
}
