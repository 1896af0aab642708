//! All VMs: their sum on top, then a row per VM.

use ratatui::{
    buffer::Buffer,
    layout::Rect,
    text::{Line, Span},
};
use unicode_width::UnicodeWidthStr as _;

use crate::tui::{
    column::Column,
    format, metric,
    nav::Nav,
    scene::{Scene, fared, name},
    spots::Hit,
    table::{rows, selected},
    theme::Role,
    vm_state::VmState,
    widgets,
};
use collapse_model::{Metric, MetricId, Standing, Vm, wording::mapped_sum};

/// Least lines for the charts of the selected VM, below the list of VMs.
const PREVIEW: u16 = 10;

/// Most lines for those charts: more would only stretch them.
const TALLEST: u16 = 36;

/// Draws the view.
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

/// Draws the sum of all VMs in two lines. Returns the area left.
fn totals(buf: &mut Buffer, at: Rect, scene: &Scene) -> Rect {
    let mut mapped = vec![Span::raw(" ")];
    mapped.extend(mapped_spans(scene, 20));
    let rates = rates(scene, usize::from(at.width));
    let left = widgets::paragraph(buf, at, &[Line::from(mapped), rates]);
    Rect { y: left.y + 1, height: left.height - 1, ..left }
}

/// Rates of all VMs in a line of `columns` columns. Metrics of the greatest weight go first where there
/// is no room.
fn rates(scene: &Scene, columns: usize) -> Line<'static> {
    let dim = scene.theme.style(Role::Dim);
    let mut rates: Vec<_> = Metric::listed()
        .map(|metric| {
            let rate = metric.rate(&scene.model.history, scene.coverage, scene.latest());
            let label = Span::styled(format!("{} ", metric.label), dim);
            let space = Span::raw(" ");
            let rate = Span::raw(metric::shown(metric, rate));
            (metric.weight(), [space.clone(), label, rate, space])
        })
        .collect();
    let width = |(_, spans): &(u8, [Span; 4])| spans.iter().map(Span::width).sum::<usize>();
    while rates.iter().map(width).sum::<usize>() > columns + 1
        && let Some(place) = (0..rates.len()).max_by_key(|place| rates[*place].0)
    {
        rates.remove(place);
    }
    rates.into_iter().flat_map(|(_, spans)| spans).collect()
}

/// Mapped memory of all VMs as text and bar.
fn mapped_spans(scene: &Scene, columns: usize) -> Vec<Span<'static>> {
    let dim = scene.theme.style(Role::Dim);
    let sample = scene.model.history.until(scene.at);
    let pages = sample.and_then(|sample| sample.pages);
    let sum = pages.map(mapped_sum);
    let mut spans = vec![
        Span::styled("mapped ", dim),
        Span::styled(format::known(sum, format::bytes), scene.theme.style(Role::Title)),
        Span::raw(" "),
    ];
    spans.extend(widgets::bar(pages, columns, scene.theme));
    spans.extend(widgets::sizes(pages, scene.theme));
    spans
}

/// Draws the sum of all VMs as a chart of mapped memory and a line per rate. Returns the area left.
fn charts(buf: &mut Buffer, at: Rect, scene: &Scene) -> Rect {
    let height = Metric::listed().count() as u16 + 2;
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
    for (row, metric) in (right.y + 1..).zip(Metric::listed()) {
        let line = widgets::spark(scene, &scene.model.history, metric, 23, right.width);
        buf.set_line(right.x, row, &line, right.width);
    }
    let fates = scene.model.vms.values().filter_map(|vm| scene.region_totals(vm));
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
            (_, false) => "No VM matches the filter. Esc clears it.",
            (true, true) => scene.nothing(),
            (false, true) => "All VMs have ended.",
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

/// Layout of the wanted columns that fit into `columns` screen columns.
fn fit(wanted: &[Column], columns: usize) -> Vec<Layout> {
    let mut room = columns.saturating_sub(1);
    let mut layout = Vec::new();
    let mut by_weight = wanted.to_vec();
    by_weight.sort_by_key(|column| column.weight());
    for column in by_weight.iter().copied() {
        // Where there is little room, a state is its glyph.
        let narrow = column == Column::State && columns < 27;
        let width = if narrow { 1 } else { width(column) } + 1;
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
    for rate in by_weight.into_iter().filter(|column| matches!(column, Column::Rate(_))) {
        give(rate, SPARK + 1, true);
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
        let title = format::cut(&title(layout.column), room) + arrow;
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
            let state = VmState::of(vm, scene);
            let text = if width == 1 { String::new() } else { format!(" {}", state.label()) };
            let text = state.glyph().to_owned() + &text;
            vec![Span::styled(format::left(&text, width), theme.style(state.role()))]
        }
        Column::Mapped => {
            let pages = scene.pages(vm);
            let sum = pages.map(mapped_sum);
            let sum = format::right(&format::known(sum, format::bytes), 5) + " ";
            let mut spans = vec![Span::raw(sum)];
            spans.extend(widgets::bar(pages, width.saturating_sub(6), theme));
            spans
        }
        Column::Huge => {
            vec![Span::raw(format::right(&widgets::huge(scene.pages(vm)), width))]
        }
        Column::Back => back(scene, vm, width),
        Column::Rate(id) => rate(layout, scene, vm, id.metric()),
    }
}

/// The title of a column.
fn title(column: Column) -> String {
    match column {
        Column::Name => "VM".to_owned(),
        Column::Pid => "PID".to_owned(),
        Column::State => "STATE".to_owned(),
        Column::Mapped => "MAPPED".to_owned(),
        Column::Huge => "HUGE".to_owned(),
        Column::Back => "RECOVERED".to_owned(),
        Column::Rate(id) => metric::title(id.metric()),
    }
}

/// The least width of a column.
fn width(column: Column) -> usize {
    match column {
        Column::Name => 9,
        Column::Pid => 7,
        Column::State => 15,
        Column::Mapped | Column::Back => 14,
        Column::Huge => 5,
        Column::Rate(id) => metric::width(id.metric()),
    }
}

/// Recovered of lost regions, and how long it takes until the others are back at the present rate.
fn back(scene: &Scene, vm: &Vm, width: usize) -> Vec<Span<'static>> {
    let Some(counts) = scene.region_totals(vm) else {
        return vec![Span::raw(format::right(format::UNKNOWN, width))];
    };
    let role = fared(counts.standing);
    let text = if counts.lost == 0 {
        "none lost".to_owned()
    } else if counts.could_return == 0 {
        "none could".to_owned()
    } else {
        let share = format::share(counts.recovered, counts.could_return);
        let rate = now(scene, vm, MetricId::Recovered).filter(|rate| *rate > 0.0);
        let left = rate.filter(|_| counts.outstanding > 0);
        let left = left.map(|rate| counts.outstanding as f64 / rate * 1e9);
        let left = left.map(|ns| format!("{share}, {} left", format::duration(ns as u64)));
        let whole = format!("{share} of {}", format::count(counts.could_return));
        let all_touched = counts.standing == Standing::Good && counts.outstanding > 0;
        let touched = counts.touched.filter(|_| all_touched);
        let touched = touched.map(|n| format!("all {} touched", format::count(n)));
        let or_short =
            |text: String| if text.width() <= width { text } else { "all touched".to_owned() };
        let text = left.filter(|text| text.width() <= width);
        text.or(touched.map(or_short)).unwrap_or(whole)
    };
    vec![Span::styled(format::right(&text, width), scene.theme.style(role))]
}

/// The rate of a metric of a VM at the time shown.
fn now(scene: &Scene, vm: &Vm, metric: MetricId) -> Option<f64> {
    metric.metric().rate(&vm.history, scene.coverage, scene.latest())
}

fn rate(layout: &Layout, scene: &Scene, vm: &Vm, metric: &Metric) -> Vec<Span<'static>> {
    let now = now(scene, vm, metric.id);
    let role = if now.is_some_and(|rate| rate > 0.0) { Role::Text } else { Role::Dim };
    let shown = format::right(&metric::shown(metric, now), layout.width - layout.spark);
    let mut spans = Vec::new();
    if layout.spark > 0 {
        let parts = layout.spark - 1;
        let values = metric.rates(&vm.history, scene.coverage, scene.time(parts), parts);
        let style = scene.theme.style(metric.tone.into());
        spans.push(Span::raw(" "));
        spans.push(Span::styled(widgets::sparkline(&values), style));
    }
    spans.push(Span::styled(shown, scene.theme.style(role)));
    spans
}
