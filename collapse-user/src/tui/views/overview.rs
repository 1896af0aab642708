//! A row per VM, and all of them together on top.

use std::cmp::Ordering;

use ratatui::{
    buffer::Buffer,
    layout::Rect,
    text::{Line, Span},
};
use unicode_width::UnicodeWidthStr as _;

use crate::tui::{
    column::Column,
    format,
    metric::{METRICS, RECOVERIES},
    nav::Nav,
    scene::{Scene, State, name},
    spots::Hit,
    theme::Role,
    widgets,
};
use collapse_model::Vm;

/// What rows are sorted by; unknown comes last.
#[derive(PartialEq)]
enum Rank {
    Text(String),
    Number(f64),
}

impl Rank {
    fn of(column: Column, scene: &Scene, vm: &Vm) -> Self {
        let number = |n: Option<f64>| Self::Number(n.unwrap_or(-1.0));
        match column {
            Column::Name => Self::Text(name(vm).to_lowercase()),
            Column::Pid => number(vm.process.as_ref().map(|process| f64::from(process.pid))),
            Column::State => Self::Number(f64::from(State::of(vm, scene) as u8)),
            Column::Mapped => {
                number(pages(scene, vm).map(|pages| {
                    widgets::mapped_bytes(pages).iter().map(|bytes| *bytes as f64).sum()
                }))
            }
            Column::Back => number(fate(scene, vm).map(|fate| fate.lost as f64)),
            _ => number(column.metric().and_then(|metric| metric.now(scene, &vm.history))),
        }
    }

    /// Names from A to Z, numbers from the greatest on.
    fn compare(&self, other: &Self) -> Ordering {
        match (self, other) {
            (Self::Text(a), Self::Text(b)) => a.cmp(b),
            (Self::Number(a), Self::Number(b)) => b.total_cmp(a),
            (Self::Text(_), Self::Number(_)) => Ordering::Less,
            (Self::Number(_), Self::Text(_)) => Ordering::Greater,
        }
    }
}

/// VMs in the order shown.
pub fn rows<'a>(scene: &Scene<'a>, nav: &Nav) -> impl Iterator<Item = &'a Vm> + use<'a> {
    let wanted = nav.filter.to_lowercase();
    let is_wanted = |vm: &&Vm| {
        let pid = vm.process.as_ref().map(|process| process.pid.to_string());
        name(vm).to_lowercase().contains(&wanted) || pid.is_some_and(|pid| pid == wanted)
    };
    // Where a recording ends, most have gone, and they are what it is about.
    let ended = scene.track.is_some();
    let vms = scene.model.vms.values().filter(|vm| !vm.gone || ended || nav.vm == Some(vm.key));
    let mut rows: Vec<_> =
        vms.filter(is_wanted).map(|vm| (Rank::of(nav.sort, scene, vm), vm)).collect();
    rows.sort_by(|(a, vm), (b, other)| {
        let order = a.compare(b);
        let order = if nav.reversed { order.reverse() } else { order };
        order.then(vm.key.born.cmp(&other.key.born)).then(vm.key.cmp(&other.key))
    });
    rows.into_iter().map(|(_, vm)| vm)
}

/// The VM that the user chose, or the first.
pub fn selected<'a>(scene: &Scene<'a>, nav: &Nav) -> Option<&'a Vm> {
    let chosen = nav.vm.and_then(|key| scene.model.vms.get(&key));
    chosen.or_else(|| rows(scene, nav).next())
}

/// Mappings at the time shown.
pub fn pages(scene: &Scene, vm: &Vm) -> Option<[u64; 3]> {
    if scene.is_past() {
        vm.history.until(scene.at).and_then(|sample| sample.pages)
    } else {
        vm.pages()
    }
}

/// What became of regions.
struct Fate {
    lost: u64,
    recovered: u64,
    outstanding: u64,
}

/// What had become of a VM's regions at the time shown.
fn fate(scene: &Scene, vm: &Vm) -> Option<Fate> {
    if scene.is_past() {
        let sample = vm.history.until(scene.at)?;
        let (lost, recovered) = (sample.flows.lost, sample.flows.recovered);
        return Some(Fate { lost, recovered, outstanding: sample.outstanding });
    }
    let counts = vm.regions.counts();
    let (lost, recovered) = (counts.lost, counts.recovered);
    Some(Fate { lost, recovered, outstanding: counts.outstanding })
}

/// Lines that the charts of the selected VM need, where the list of VMs leaves so many.
const PREVIEW: u16 = 10;

/// More of them would only stretch them.
const TALLEST: u16 = 36;

/// Draws it.
pub fn draw(buf: &mut Buffer, at: Rect, scene: &Scene, nav: &Nav) {
    let at = match at.height {
        0..8 => at,
        8..24 => totals(buf, at, scene),
        _ => charts(buf, at, scene),
    };
    let vms = rows(scene, nav).count() as u16;
    let room = at.height.saturating_sub(vms + 2);
    match selected(scene, nav).filter(|_| room >= PREVIEW && vms > 0) {
        None => table(buf, at, scene, nav),
        Some(vm) => {
            let height = room.min(TALLEST);
            table(buf, Rect { height: at.height - height, ..at }, scene, nav);
            let below = Rect { y: at.bottom() - height, height, ..at };
            let below = widgets::title(buf, below, scene.theme, &format!(" {}", name(vm)));
            let below = Rect { x: below.x + 1, width: below.width - 2, ..below };
            super::vm::charts::draw(buf, below, scene, vm);
        }
    }
}

/// The host in two lines.
fn totals(buf: &mut Buffer, at: Rect, scene: &Scene) -> Rect {
    let mut mapped = vec![Span::raw(" ")];
    mapped.extend(mapped_spans(scene, 20));
    let mut flows = vec![Span::raw(" ")];
    for metric in METRICS {
        flows.push(Span::styled(format!("{} ", metric.name), scene.theme.style(Role::Dim)));
        flows.push(Span::raw(metric.shown(metric.now(scene, &scene.model.history))));
        flows.push(Span::raw("  "));
    }
    let left = widgets::paragraph(buf, at, &[Line::from(mapped), Line::from(flows)]);
    Rect { y: left.y + 1, height: left.height - 1, ..left }
}

/// Mapped memory of all VMs, as text and bar.
fn mapped_spans(scene: &Scene, columns: usize) -> Vec<Span<'static>> {
    let dim = scene.theme.style(Role::Dim);
    let sample = scene.model.history.until(scene.at);
    let pages = sample.and_then(|sample| sample.pages);
    let sum = pages.map(|pages| widgets::mapped_bytes(pages).iter().sum());
    let mut spans = vec![
        Span::styled("mapped ", dim),
        Span::styled(format::known(sum, format::bytes), scene.theme.style(Role::Title)),
        Span::raw(" "),
    ];
    spans.extend(widgets::bar(pages, columns, scene.theme));
    for (size, (name, _, glyph, role)) in widgets::SIZES.into_iter().enumerate().rev() {
        spans.push(Span::styled(format!("  {glyph} "), scene.theme.style(role)));
        spans.push(Span::styled(format!("{name} "), dim));
        spans.push(Span::raw(format::known(pages.map(|pages| pages[size]), format::count)));
    }
    spans
}

/// The host as a chart of mapped memory and a line per rate.
fn charts(buf: &mut Buffer, at: Rect, scene: &Scene) -> Rect {
    let height = METRICS.len() as u16 + 2;
    let top = Rect { height, ..at };
    let half = (top.width / 2).saturating_sub(1);
    let left = Rect { x: top.x + 1, width: half.saturating_sub(1), ..top };
    let right = Rect { x: top.x + half + 2, width: top.width - half - 3, ..top };
    let mut head = mapped_spans(scene, 0);
    head.insert(0, Span::styled("all VMs: ", scene.theme.style(Role::Title)));
    buf.set_line(left.x, left.y, &Line::from(head), left.width);
    let plot = widgets::plot(left, widgets::LABEL);
    let chart = Rect { y: left.y + 1, height: height - 2, ..plot };
    widgets::stacked(buf, chart, scene, &scene.model.history);
    widgets::time_axis(buf, Rect { y: top.y + height - 1, height: 1, ..plot }, scene);
    for (row, metric) in (right.y + 1..).zip(METRICS) {
        let room = usize::from(right.width).saturating_sub(23);
        let values = metric.charted(scene, &scene.model.history, room);
        let line = Line::from(vec![
            Span::styled(format::left(metric.name, 15), scene.theme.style(Role::Dim)),
            Span::raw(format::right(&metric.shown(metric.now(scene, &scene.model.history)), 6)),
            Span::raw("  "),
            Span::styled(widgets::sparkline(&values), scene.theme.style(metric.role)),
        ]);
        buf.set_line(right.x, row, &line, right.width);
    }
    let fates = scene.model.vms.values().filter_map(|vm| fate(scene, vm));
    let (lost, recovered, outstanding) = fates.fold((0, 0, 0), |sum, fate| {
        (sum.0 + fate.lost, sum.1 + fate.recovered, sum.2 + fate.outstanding)
    });
    let line = Line::from(vec![
        Span::styled("regions        ", scene.theme.style(Role::Dim)),
        Span::raw(format!(
            "{} lost, {} recovered, {} outstanding",
            format::count(lost),
            format::count(recovered),
            format::count(outstanding)
        )),
    ]);
    buf.set_line(right.x, right.y, &line, right.width);
    Rect { y: at.y + height + 1, height: at.height - height - 1, ..at }
}

fn table(buf: &mut Buffer, at: Rect, scene: &Scene, nav: &Nav) {
    if at.height == 0 {
        return;
    }
    let columns = fit(&scene.options.columns, usize::from(at.width));
    buf.set_line(at.x, at.y, &heads(&columns, scene, nav), at.width);
    let mut x = at.x + 1;
    for layout in &columns {
        let width = (layout.width as u16).min(at.right().saturating_sub(x));
        scene.spots.add(Rect { x, y: at.y, width, height: 1 }, Hit::Sort(layout.column));
        x = x.saturating_add(layout.width as u16 + 1).min(at.right());
    }
    let body = Rect { y: at.y + 1, height: at.height - 1, ..at };
    let rows: Vec<_> = rows(scene, nav).collect();
    if rows.is_empty() {
        let text = match (scene.model.vms.is_empty(), nav.filter.is_empty()) {
            (_, false) => "No VM has such a name. Esc shows all.",
            (true, true) => scene.nothing(),
            (false, true) => "No VM any more.",
        };
        let dim = scene.theme.style(Role::Dim);
        widgets::paragraph(buf, body, &[Line::styled(format!(" {text}"), dim)]);
        return;
    }
    let chosen = selected(scene, nav).map(|vm| vm.key);
    let place = rows.iter().position(|vm| Some(vm.key) == chosen).unwrap_or_default();
    let room = usize::from(body.height);
    let first = widgets::first_shown(place, rows.len(), room);
    for ((index, vm), y) in rows.iter().enumerate().skip(first).take(room).zip(body.top()..) {
        let mut spans = vec![Span::raw(" ")];
        for layout in &columns {
            spans.extend(cell(layout, scene, vm));
            spans.push(Span::raw(" "));
        }
        buf.set_line(body.x, y, &Line::from(spans), body.width);
        let line = Rect { y, height: 1, ..body };
        scene.spots.add(line, Hit::Vm(vm.key));
        if index == place {
            buf.set_style(line, scene.theme.selected());
        }
    }
}

/// A column's place on the screen.
#[derive(Clone, Copy, Debug)]
struct Layout {
    column: Column,
    width: usize,
    /// Of `width`: for a sparkline.
    spark: usize,
}

/// Columns of a sparkline.
const SPARK: usize = 7;

/// What fits into so many columns.
fn fit(wanted: &[Column], columns: usize) -> Vec<Layout> {
    let mut room = columns.saturating_sub(1);
    let mut layout = Vec::new();
    for column in Column::BY_WEIGHT.into_iter().filter(|column| wanted.contains(column)) {
        // Where there is little room, a state is its glyph.
        let narrow = column == Column::State && columns < 27;
        let width = if narrow { 1 } else { column.width() } + 1;
        if width <= room || layout.is_empty() {
            room = room.saturating_sub(width);
            layout.push(Layout { column, width: width - 1, spark: 0 });
        }
    }
    layout.sort_by_key(|layout| wanted.iter().position(|column| *column == layout.column));
    let mut give = |column, most: usize, spark: bool| {
        if let Some(layout) = layout.iter_mut().find(|layout| layout.column == column) {
            let more = most.min(room);
            if !spark || more == most {
                layout.width += more;
                layout.spark += if spark { more } else { 0 };
                room -= more;
            }
        }
    };
    give(Column::Name, 3, false);
    give(Column::Back, 4, false);
    for column in [Column::Recoveries, Column::Splits, Column::Faults, Column::Zaps, Column::Stall]
    {
        give(column, SPARK + 1, true);
    }
    give(Column::Mapped, 20, false);
    give(Column::Name, 24, false);
    give(Column::Mapped, 20, false);
    layout
}

fn heads(columns: &[Layout], scene: &Scene, nav: &Nav) -> Line<'static> {
    let mut spans = vec![Span::raw(" ")];
    for layout in columns {
        let sorted = layout.column == nav.sort;
        let arrow = match (sorted, nav.reversed == (layout.column == Column::Name)) {
            (false, _) => "",
            (true, true) => "▼",
            (true, false) => "▲",
        };
        let width = layout.width - layout.spark;
        let room = layout.width.saturating_sub(arrow.width());
        let title = format::cut(layout.column.title(), room) + arrow;
        let title = if layout.column.is_text() {
            format::left(&title, width)
        } else {
            format::right(&title, layout.width)
        };
        let role = if sorted { Role::Key } else { Role::Dim };
        spans.push(Span::styled(title, scene.theme.style(role)));
        spans.push(Span::raw(" "));
    }
    Line::from(spans)
}

fn cell(layout: &Layout, scene: &Scene, vm: &Vm) -> Vec<Span<'static>> {
    let theme = scene.theme;
    let width = layout.width;
    match layout.column {
        Column::Name => vec![Span::raw(format::left(name(vm), width))],
        Column::Pid => {
            let pid = format::known(vm.process.as_ref(), |process| process.pid.to_string());
            vec![Span::styled(format::right(&pid, width), theme.style(Role::Dim))]
        }
        Column::State => {
            let state = State::of(vm, scene);
            let text = if width == 1 { String::new() } else { format!(" {}", state.label()) };
            let text = state.glyph().to_owned() + &text;
            vec![Span::styled(format::left(&text, width), theme.style(state.role()))]
        }
        Column::Mapped => {
            let pages = pages(scene, vm);
            let sum = pages.map(|pages| widgets::mapped_bytes(pages).iter().sum());
            let sum = format::right(&format::known(sum, format::bytes), 5) + " ";
            let mut spans = vec![Span::raw(sum)];
            spans.extend(widgets::bar(pages, width.saturating_sub(6), theme));
            spans
        }
        Column::Back => back(scene, vm, width),
        _ => rate(layout, scene, vm),
    }
}

/// Recovered of lost regions, and how long it takes until the others are back at the present rate.
fn back(scene: &Scene, vm: &Vm, width: usize) -> Vec<Span<'static>> {
    let Some(counts) = fate(scene, vm) else {
        return vec![Span::raw(format::right(format::UNKNOWN, width))];
    };
    let (text, role) = if counts.lost == 0 {
        ("none lost".to_owned(), Role::Dim)
    } else if counts.outstanding == 0 {
        let share = format::share(counts.recovered, counts.lost);
        (format!("{share} of {}", format::count(counts.lost)), Role::Good)
    } else {
        let share = format::share(counts.recovered, counts.lost);
        let rate = RECOVERIES.now(scene, &vm.history).filter(|rate| *rate > 0.0);
        let left = rate.map(|rate| counts.outstanding as f64 / rate * 1e9);
        let left = left.map(|ns| format!("{share}, {} left", format::duration(ns as u64)));
        let text = left.filter(|text| text.width() <= width);
        (text.unwrap_or_else(|| format!("{share} of {}", format::count(counts.lost))), Role::Warn)
    };
    vec![Span::styled(format::right(&text, width), scene.theme.style(role))]
}

fn rate(layout: &Layout, scene: &Scene, vm: &Vm) -> Vec<Span<'static>> {
    let Some(metric) = layout.column.metric() else { return Vec::new() };
    let now = metric.now(scene, &vm.history);
    let role = if now.is_some_and(|rate| rate > 0.0) { Role::Text } else { Role::Dim };
    let shown = format::right(&metric.shown(now), layout.width - layout.spark);
    let mut spans = Vec::new();
    if layout.spark > 0 {
        let values = metric.charted(scene, &vm.history, layout.spark - 1);
        spans.push(Span::raw(" "));
        spans.push(Span::styled(widgets::sparkline(&values), scene.theme.style(metric.role)));
    }
    spans.push(Span::styled(shown, scene.theme.style(role)));
    spans
}
