//! The frame around every view: heading, list of views, status line, help.

use ratatui::{
    buffer::Buffer,
    layout::Rect,
    text::{Line, Span},
};
use unicode_width::UnicodeWidthStr as _;

use super::{
    ascii::to_ascii,
    format,
    keys::KeyCommand,
    nav::{Nav, View},
    scene::{Heading, Scene},
    spots::Hit,
    theme::{Role, severity},
    transport,
    views::{self, help},
};
use collapse_feed::{DetailStep, printable};
use collapse_model::Grade;

/// Columns and rows of the smallest terminal that a view is drawn in.
const SMALLEST: (u16, u16) = (20, 5);

/// Right end of the status line.
const HELP: &str = "? help  q quit ";

/// Least columns in which a message is shown rather than a number of messages.
const MESSAGE: usize = 16;

/// Least height at which the player has a line to itself.
const TRANSPORT: u16 = 12;

/// Draws a frame.
pub fn draw(buf: &mut Buffer, area: Rect, scene: &Scene, nav: &Nav, frozen: bool) {
    if area.width < SMALLEST.0 || area.height < SMALLEST.1 {
        too_small(buf, area);
    } else {
        // In short terminals the view needs the line more.
        let tabs = u16::from(area.height >= 10);
        buf.set_line(area.x, area.y, &head(scene), area.width);
        if tabs > 0 {
            views_line(buf, Rect { y: area.y + 1, height: 1, ..area }, scene, nav);
        }
        let transport = u16::from(scene.track.is_some() && area.height >= TRANSPORT);
        let height = area.height - 2 - tabs - transport;
        let body = Rect { y: area.y + 1 + tabs, height, ..area };
        views::draw(buf, body, scene, nav);
        if let Some(first) = nav.help {
            help::draw(buf, body, scene, first);
            scene.spots.add(body, Hit::Command(KeyCommand::Help));
        }
        if let Some(track) = scene.track.filter(|_| transport > 0) {
            transport::draw(buf, Rect { y: body.bottom(), height: 1, ..area }, scene, &track);
        }
        status(buf, Rect { y: area.bottom() - 1, height: 1, ..area }, scene, nav, frozen);
    }
    if scene.theme.ascii {
        to_ascii(buf);
    }
}

fn too_small(buf: &mut Buffer, area: Rect) {
    let (columns, rows) = SMALLEST;
    let text = format!("too small: needs {columns}x{rows}");
    let mut rest = text.as_str();
    for row in area.top()..area.bottom() {
        let (line, more) = rest.split_at(rest.len().min(usize::from(area.width)));
        buf.set_string(area.x, row, line, ratatui::style::Style::new());
        rest = more;
    }
}

/// The first line: what is watched, and for how long.
fn head(scene: &Scene) -> Line<'static> {
    let dim = scene.theme.style(Role::Dim);
    let model = scene.model;
    let alive = model.vms.values().filter(|vm| !vm.gone).count();
    let Heading { machine, title } = scene.heading;
    let host = machine.name.as_deref().map(|name| printable(name.as_bytes()));
    let title = title.as_ref().map(|title| printable(title.as_bytes()));
    let title = title.or_else(|| host.clone()).map_or(String::new(), |title| format!("  {title}"));
    let vms = if alive == 1 { "1 VM".to_owned() } else { format!("{alive} VMs") };
    let ended = match model.ended() {
        0 => String::new(),
        n => format!(" ({} ended)", format::count(n)),
    };
    let watched = if let Some(track) = scene.track {
        let on = host.map_or(String::new(), |host| format!(" on {host}"));
        format!("recorded {}{on}", transport::date(track.recorded))
    } else {
        let window = format::duration(model.window());
        format!("watched for {window} · every {}", every(scene.step))
    };
    let rest = format!(
        "{vms}{ended} · {watched} · kernel {} · {}",
        machine.kernel,
        scene.coverage.label(),
    );
    Line::from(vec![
        Span::styled(" collapse", scene.theme.style(Role::Title)),
        Span::raw(title),
        Span::raw("  "),
        Span::styled(rest, dim),
    ])
}

fn every(ns: u64) -> String {
    if ns.is_multiple_of(1_000_000_000) {
        format!("{}s", ns / 1_000_000_000)
    } else {
        format!("{}ms", ns / 1_000_000)
    }
}

fn views_line(buf: &mut Buffer, at: Rect, scene: &Scene, nav: &Nav) {
    let long: usize = View::ALL.iter().map(|view| view.title().width() + 4).sum();
    let mut x = at.x;
    for (view, number) in View::ALL.into_iter().zip(1..) {
        let current = view == nav.view;
        let text = if current || usize::from(at.width) >= long {
            format!(" {number} {} ", view.title())
        } else {
            format!(" {number} ")
        };
        let style = if current { scene.theme.current() } else { scene.theme.style(Role::Dim) };
        let room = at.right().saturating_sub(x);
        let width = (text.width() as u16).min(room);
        buf.set_stringn(x, at.y, &text, usize::from(room), style);
        scene.spots.add(Rect { x, width, ..at }, Hit::View(view));
        x = (x + width + 1).min(at.right());
    }
}

/// Draws the status line: reliability of the numbers, the time shown, how to get help.
fn status(buf: &mut Buffer, at: Rect, scene: &Scene, nav: &Nav, frozen: bool) {
    if nav.typing {
        let line = Line::from(vec![
            Span::styled(" /", scene.theme.style(Role::Key)),
            Span::raw(printable(nav.shown_filter().as_bytes())),
            Span::styled("▏", scene.theme.style(Role::Key)),
        ]);
        buf.set_line(at.x, at.y, &line, at.width);
        return;
    }
    let parts = parts(at, scene, nav, frozen);
    let mut spans = Vec::new();
    let mut used = 0;
    for (text, role) in parts {
        let width = text.width() + 2;
        if used + width > usize::from(at.width) {
            break;
        }
        used += width;
        spans.push(Span::raw(" "));
        spans.push(Span::styled(text, scene.theme.style(role)));
        spans.push(Span::raw(" "));
    }
    buf.set_line(at.x, at.y, &Line::from(spans), at.width);
    if used + HELP.width() <= usize::from(at.width) {
        let x = at.right() - HELP.width() as u16;
        buf.set_string(x, at.y, HELP, scene.theme.style(Role::Dim));
        let spot = Rect { x, width: HELP.width() as u16, ..at };
        scene.spots.add(Rect { width: 6, ..spot }, Hit::Command(KeyCommand::Help));
        scene.spots.add(Rect { x: x + 8, width: 6, ..spot }, Hit::Command(KeyCommand::Quit));
    }
}

/// Texts of the status line, the most important first.
fn parts(at: Rect, scene: &Scene, nav: &Nav, frozen: bool) -> Vec<(String, Role)> {
    let mut parts = Vec::new();
    if scene.is_past() {
        let back = format::duration(scene.model.now - scene.at);
        parts.push((format!("−{back}"), Role::Warn));
    }
    if frozen {
        parts.push(("PAUSED".to_owned(), Role::Warn));
    }
    parts.extend(trust(scene, at.width < 30));
    let place = parts.len();
    parts.extend(cost(scene));
    if let Some(early) = scene.track.and_then(|track| track.early) {
        parts.push((format!("recording {early}"), Role::Warn));
    }
    if let Some(track) = scene.track.filter(|_| at.y + 1 < TRANSPORT) {
        parts.push((transport::brief(&track), Role::Key));
    }
    if scene.unread > 0 {
        let used: usize = parts.iter().map(|(text, _)| text.width() + 2).sum();
        let room = usize::from(at.width).saturating_sub(used + 2 + HELP.width());
        parts.splice(place..place, notice(scene, room));
    } else {
        if let Some(load) = scene.load {
            parts.push((format!("self {}", format::busy(load * 1e9)), Role::Dim));
        }
        let kept = scene.model.history.first().map_or(0, |first| scene.ago(first.at));
        parts.push((format!("history {}", format::duration(kept)), Role::Dim));
        parts.push((format!("window {}", format::duration(scene.span)), Role::Dim));
    }
    if !nav.shown_filter().is_empty() {
        parts.push((format!("/{}", printable(nav.shown_filter().as_bytes())), Role::Key));
    }
    parts
}

/// The latest notice in at most `columns` columns, and the number of others that are unread; where a
/// text does not fit, only the number.
fn notice(scene: &Scene, columns: usize) -> Option<(String, Role)> {
    let latest = scene.notices.latest(1).pop()?;
    let more = match scene.unread - 1 {
        0 => String::new(),
        n => format!(" (+{})", format::count(n)),
    };
    let room = columns.saturating_sub(more.width());
    let text = if room < MESSAGE {
        format!("! {}", format::count(scene.unread))
    } else {
        let line = latest.text.lines().next().unwrap_or_default();
        format::cut(&format!("! {line}"), room) + &more
    };
    Some((text, severity(latest.level)))
}

/// Lost events, signals not observed, and VMs whose counts do not add up.
fn trust(scene: &Scene, narrow: bool) -> Vec<(String, Role)> {
    let lost: u64 = scene.model.losses.values().sum();
    let signals = scene.coverage.signals.len();
    let missing = scene.coverage.missing().count();
    let off = scene.model.vms.values().filter(|vm| vm.reconciliation.grade() == Grade::Off).count();
    let (lost_role, coverage_role) = (
        if lost > 0 { Role::Bad } else { Role::Dim },
        if missing > 0 { Role::Warn } else { Role::Dim },
    );
    let mut parts = vec![
        (format!("lost {}", format::count(lost)), lost_role),
        (
            format!("{} {}/{signals}", if narrow { "cov" } else { "coverage" }, signals - missing),
            coverage_role,
        ),
    ];
    if off > 0 {
        parts.push((format!("counts off: {off}"), Role::Bad));
    }
    parts
}

/// Cost of the eBPF programs, or the detail that is left out to stay within the budget.
fn cost(scene: &Scene) -> Option<(String, Role)> {
    let overhead = scene.model.overhead.as_ref()?;
    Some(match overhead.step {
        DetailStep::Full => (format!("probes {:.1}%", overhead.percent), Role::Dim),
        less => (format!("reduced: {}", less.label()), Role::Warn),
    })
}
