//! One VM: over time, by cause, by slot, run by run, and how long things take.

pub mod charts;
mod tables;

use ratatui::{
    buffer::Buffer,
    layout::Rect,
    text::{Line, Span},
};

use super::caption;
use crate::{
    model::{Grade, Vm},
    tui::{format, nav::Nav, scene::Scene, theme::Role, widgets},
};

/// A tab.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Tab {
    /// Mappings and rates over time.
    Charts,
    /// What changed why.
    Causes,
    /// Slots and their dirty logging.
    Slots,
    /// Runs of the collapse routine.
    Collapse,
    /// How long things take.
    Latency,
}

impl Tab {
    const ALL: [Self; 5] = [Self::Charts, Self::Causes, Self::Slots, Self::Collapse, Self::Latency];

    /// The tab so many after it.
    pub fn turned(self, by: isize) -> Self {
        let place = Self::ALL.iter().position(|tab| *tab == self).unwrap_or_default() as isize;
        Self::ALL[(place + by).rem_euclid(Self::ALL.len() as isize) as usize]
    }

    fn title(self) -> &'static str {
        match self {
            Self::Charts => "charts",
            Self::Causes => "causes",
            Self::Slots => "slots",
            Self::Collapse => "collapse runs",
            Self::Latency => "latency",
        }
    }
}

/// From so many columns on, charts and another tab are side by side.
const WIDE: u16 = 100;

/// Draws it.
pub fn draw(buf: &mut Buffer, at: Rect, scene: &Scene, nav: &Nav, vm: &Vm) {
    let mut lines = vec![caption(scene, vm)];
    if at.height >= 8 {
        lines.push(regions(scene, vm));
    }
    if at.height >= 12 {
        lines.push(books(scene, vm));
    }
    let at = widgets::paragraph(buf, at, &lines);
    if at.height == 0 {
        return;
    }
    buf.set_line(at.x, at.y, &tabs(scene, nav), at.width);
    let body = Rect { x: at.x + 1, y: at.y + 1, width: at.width - 2, height: at.height - 1 };
    if at.width < WIDE {
        tab(buf, body, scene, nav.tab, vm);
        return;
    }
    // Tables need the room more than charts do.
    let half = body.width * 2 / 5;
    let right = Rect { x: body.x + half, width: body.width - half, ..body };
    charts::draw(buf, Rect { width: half - 1, ..body }, scene, vm);
    let right = widgets::rule(buf, right, scene.theme);
    let other = if nav.tab == Tab::Charts { Tab::Causes } else { nav.tab };
    tab(buf, right, scene, other, vm);
}

fn tab(buf: &mut Buffer, at: Rect, scene: &Scene, tab: Tab, vm: &Vm) {
    match tab {
        Tab::Charts => charts::draw(buf, at, scene, vm),
        Tab::Causes => tables::causes(buf, at, scene, vm),
        Tab::Slots => tables::slots(buf, at, scene, vm),
        Tab::Collapse => tables::collapse(buf, at, scene, vm),
        Tab::Latency => charts::latency(buf, at, scene, vm),
    }
}

fn tabs(scene: &Scene, nav: &Nav) -> Line<'static> {
    let mut spans = vec![Span::styled(" Tab ", scene.theme.style(Role::Key))];
    for tab in Tab::ALL {
        let style =
            if tab == nav.tab { scene.theme.selected() } else { scene.theme.style(Role::Dim) };
        spans.push(Span::styled(format!(" {} ", tab.title()), style));
    }
    Line::from(spans)
}

/// What became of its regions.
fn regions(scene: &Scene, vm: &Vm) -> Line<'static> {
    let theme = scene.theme;
    let counts = vm.regions.counts();
    let part = |n: u64, what: &str, role: Role| {
        let role = if n > 0 { role } else { Role::Dim };
        Span::styled(format!("  {} {what}", format::count(n)), theme.style(role))
    };
    let mut spans = vec![
        Span::styled(" regions", theme.style(Role::Dim)),
        part(counts.lost, "lost", Role::Text),
        part(counts.recovered, "recovered", Role::Good),
    ];
    if counts.recovered_read_only > 0 {
        spans.push(part(counts.recovered_read_only, "of them read-only", Role::Warn));
    }
    spans.extend([
        part(counts.refaulted_small, "small again", Role::Bad),
        part(counts.still_split, "still split", Role::Warn),
        part(counts.untouched - counts.still_split, "not touched since", Role::Text),
    ]);
    Line::from(spans)
}

/// Whether counts and KVM's gauges agree.
fn books(scene: &Scene, vm: &Vm) -> Line<'static> {
    let theme = scene.theme;
    let checks = &vm.reconciliation;
    let (grade, role) = match checks.grade() {
        Grade::Unknown => ("unknown: no gauges to compare with", Role::Dim),
        Grade::Exact => ("exact", Role::Good),
        Grade::Moving => ("moving, not judged", Role::Warn),
        Grade::Off => ("OFF", Role::Bad),
    };
    let residual = format::known(vm.residual(), |[small, huge, giant]| {
        format!("{small} × 4K, {huge} × 2M, {giant} × 1G")
    });
    Line::from(vec![
        Span::styled(" counts against KVM's gauges: ", theme.style(Role::Dim)),
        Span::styled(grade, theme.style(role)),
        Span::styled(
            format!(
                "  {} of {} intervals exact, residual {residual}",
                checks.exact, checks.intervals
            ),
            theme.style(Role::Dim),
        ),
    ])
}
