//! Causes, slots and collapse runs as tables.

use collapse_common::{Cause, Counter, abi::LOG_DIRTY_PAGES};
use ratatui::{
    buffer::Buffer,
    layout::Rect,
    text::{Line, Span},
};

use crate::tui::{format, scene::Scene, theme::Role, widgets};
use collapse_feed::{Signal, Slot};
use collapse_model::{
    CollapseSpan, LoggedBy, Metric, Region, Totals, Vm,
    fit::Fit,
    metric::{LeafChange, METRICS, Prominence, Unit},
};

/// Changes by one cause.
struct CauseTotals {
    cause: Cause,
    /// Changes of leaves.
    changes: u64,
    faults: u64,
}

/// Causes that changed or faulted anything, the most first.
fn causes_of(totals: &Totals) -> Vec<CauseTotals> {
    let all = Cause::ALL.iter().map(|&cause| CauseTotals {
        cause,
        changes: LeafChange::ALL.iter().map(|change| totals.count_of(*change, cause)).sum(),
        faults: totals.counter_of(cause, Counter::Fault),
    });
    let mut causes: Vec<_> = all.filter(|cause| cause.changes + cause.faults > 0).collect();
    causes.sort_by_key(|cause| std::cmp::Reverse((cause.changes, cause.faults)));
    causes
}

/// The number of causes listed.
pub fn causes_count(vm: &Vm) -> usize {
    causes_of(vm.totals()).len()
}

/// Columns of the numbers.
const NUMBERS: usize = 50;

/// Draws changes by cause, with each cause's share of all.
pub fn causes(buf: &mut Buffer, at: Rect, scene: &Scene, vm: &Vm) {
    let theme = scene.theme;
    let dim = theme.style(Role::Dim);
    let totals = vm.totals();
    let causes = causes_of(totals);
    let sum: u64 = causes.iter().map(|cause| cause.changes).sum();
    // Causes in words take 34 columns.
    let narrow = usize::from(at.width) < 34 + NUMBERS;
    let label = usize::from(at.width).saturating_sub(NUMBERS).clamp(19, 34);
    let mut lines = vec![Line::styled(causes_head(totals, label), dim)];
    for &CauseTotals { cause, changes, .. } in &causes {
        let mut spans = vec![
            Span::raw(format::left(if narrow { cause.name() } else { cause.label() }, label)),
            Span::styled(format!(" {:>5}", format::share(changes, sum)), theme.style(Role::Key)),
        ];
        for metric in changing(totals) {
            let n = metric.of_cause(totals, cause).unwrap_or_default();
            let style = if n == 0 { dim } else { theme.style(metric.tone.into()) };
            let text = if n == 0 { "·".to_owned() } else { format::count(n) };
            spans.push(Span::styled(format!(" {text:>5}"), style));
        }
        for metric in faulting().filter(|_| cause.is_guest_fault()) {
            let n = metric.of_cause(totals, cause).filter(|_| metric.is_known(scene.coverage));
            let text = format::known(n, |n| amount(metric, n));
            spans.push(Span::raw(format!(" {}", format::right(&text, amount_width(metric)))));
        }
        lines.push(Line::from(spans));
    }
    if causes.is_empty() {
        lines.push(Line::styled("nothing changed yet", dim));
    }
    widgets::paragraph(buf, at, &lines);
}

fn causes_head(totals: &Totals, label: usize) -> String {
    let changing = changing(totals).map(|metric| format!(" {:>5}", metric.title));
    let faulting = faulting().map(|metric| format!(" {:>1$}", metric.title, amount_width(metric)));
    let titles: String = changing.chain(faulting).collect();
    format!("{} SHARE{titles}", format::left("CAUSE", label))
}

/// Metrics that changes of leaves add up to, the lesser ones only where there are such changes: dirty logging
/// write-protects or clears dirty bits, and there is room for one of them.
fn changing(totals: &Totals) -> impl Iterator<Item = &'static Metric> {
    METRICS.iter().filter(|metric| {
        metric.leaf_change().is_some_and(|change| {
            metric.prominence != Prominence::Reported || totals.count(change) > 0
        })
    })
}

/// Metrics of guest faults.
fn faulting() -> impl Iterator<Item = &'static Metric> {
    Metric::listed().filter(|metric| metric.counter().is_some())
}

fn amount(metric: &Metric, n: u64) -> String {
    match metric.unit {
        Unit::Nanoseconds => format::duration(n),
        _ => format::count(n),
    }
}

fn amount_width(metric: &Metric) -> usize {
    if metric.unit == Unit::Nanoseconds { 7 } else { 5 }
}

/// Slots, and regions lost in them.
pub fn slots(buf: &mut Buffer, at: Rect, scene: &Scene, vm: &Vm) {
    let theme = scene.theme;
    let dim = theme.style(Role::Dim);
    let mut lines = vec![Line::styled(
        format!(
            "{:>5} {:>5}  {:<12} {:<14} {:>11}  {}",
            "SLOT", "SIZE", "GFN", "LOGGING", "OUTSTANDING", "LARGEST"
        ),
        dim,
    )];
    let room = usize::from(at.height).saturating_sub(1);
    for slot in vm.slots.values().take(room) {
        let on = slot.flags & LOG_DIRTY_PAGES != 0;
        let by = vm.logged_by(scene.coverage.paging.pml).map_or("", short);
        let logging = if on {
            (format!("● on{by}"), Role::Split)
        } else {
            ("· off".to_owned(), Role::Dim)
        };
        let outstanding =
            vm.regions.outstanding().filter(|(region, _)| holds(slot, *region)).count();
        let id = if slot.as_id == 0 { slot.id.to_string() } else { format!("S{}", slot.id) };
        lines.push(Line::from(vec![
            Span::raw(format!("{id:>5} {:>5}  ", format::bytes(slot.npages.saturating_mul(4096)))),
            Span::raw(format::left(&format!("{:#x}", slot.base_gfn), 13)),
            Span::styled(format::left(&logging.0, 14), theme.style(logging.1)),
            Span::raw(format!(" {outstanding:>11}  ")),
            largest(scene, slot),
        ]));
    }
    if vm.slots.is_empty() {
        lines.push(Line::styled("none known yet: slots are learnt as they change", dim));
    }
    widgets::paragraph(buf, at, &lines);
}

/// The largest leaf by which KVM may map a slot, or why it is the smallest.
fn largest(scene: &Scene, slot: &Slot) -> Span<'static> {
    let (text, role) = match Fit::of(slot) {
        Fit::UpTo(3) => ("1G".to_owned(), Role::Giant),
        Fit::UpTo(_) => ("2M".to_owned(), Role::Huge),
        Fit::Logged => ("4K: logged".to_owned(), Role::Split),
        Fit::GuestMemfd => ("4K: guest_memfd".to_owned(), Role::Warn),
        Fit::TooSmall => ("4K: small".to_owned(), Role::Dim),
        Fit::Misaligned(offset) => (format!("4K: {} off", format::bytes(offset)), Role::Bad),
        Fit::Unknown => (format::UNKNOWN.to_owned(), Role::Dim),
    };
    Span::styled(text, scene.theme.style(role))
}

/// How dirty logging is done, in a few characters.
fn short(by: LoggedBy) -> &'static str {
    match by {
        LoggedBy::Pml => ", PML",
        LoggedBy::WriteFaults => ", faults",
        LoggedBy::PmlAndWriteFaults => ", PML+flt",
    }
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
