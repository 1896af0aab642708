//! What happened in the selected cell of the map, when and why.

use collapse_common::spte::frames;
use ratatui::{
    buffer::Buffer,
    layout::Rect,
    text::{Line, Span},
};

use super::{Cell, place::Chart};
use crate::{
    model::{Lost, Region, Vm},
    source::{Event, EventKind},
    tui::{format, scene::Scene, theme::Role, views::events, widgets},
};

/// Draws it.
pub fn draw(buf: &mut Buffer, at: Rect, scene: &Scene, vm: &Vm, chart: &Chart) {
    let first = chart.selected();
    let end = first + chart.step();
    let bytes = format::bytes(chart.scale << 21);
    let at =
        widgets::title(buf, at, scene.theme, &format!(" {bytes}: gfn {first:#x}–{:#x}", end - 1));
    let inside = |region: Region| region.as_id() == 0 && (first..end).contains(&region.gfn());
    let lost: Vec<_> = vm.regions.outstanding().filter(|(region, _)| inside(*region)).collect();
    let mut lines = match (chart.scale, lost.first()) {
        (1, Some((_, lost))) => story(scene, lost),
        (_, Some(_)) => summary(scene, &lost),
        (_, None) => {
            vec![Line::from(" not lost, or huge again: taken to be mapped as before")]
        }
    };
    lines.extend(recent(scene, vm, first, end, usize::from(at.height)));
    widgets::paragraph(buf, at, &lines);
}

/// The life of one region since it lost its huge SPTE.
fn story(scene: &Scene, lost: &Lost) -> Vec<Line<'static>> {
    let episode = lost.episode.map_or(String::new(), |number| format!(", episode {number}"));
    let what = if lost.split { "split" } else { "zapped" };
    let mut lines = vec![entry(
        scene,
        lost.at,
        format!("huge SPTE {what}: {}{episode}", lost.cause.label()),
        if lost.split { Role::Split } else { Role::Zap },
    )];
    if let Some(zapped) = lost.zapped {
        lines.push(entry(scene, zapped.get(), "nothing mapped any more".to_owned(), Role::Zap));
    }
    if let Some(refaulted) = lost.refaulted {
        let text = "touched, and mapped small".to_owned();
        lines.push(entry(scene, refaulted.get(), text, Role::Small));
    }
    let (glyph, role, what) = Cell::of(lost.mapping()).look();
    lines.push(Line::from(vec![
        Span::raw("    now  "),
        Span::styled(glyph, scene.theme.style(role)),
        Span::raw(format!(" {what}, {} of {} small SPTEs", lost.small, frames(2))),
    ]));
    lines
}

fn entry(scene: &Scene, at: u64, text: String, role: Role) -> Line<'static> {
    let ago = format::right(&format!("−{}", format::duration(scene.ago(at))), 8);
    Line::from(vec![
        Span::styled(format!("{ago} "), scene.theme.style(Role::Dim)),
        Span::styled(text, scene.theme.style(role)),
    ])
}

/// How the lost regions of a cell are mapped.
fn summary(scene: &Scene, lost: &[(Region, &Lost)]) -> Vec<Line<'static>> {
    let mut lines = vec![Line::from(format!(" {} regions lost; + zooms in to one", lost.len()))];
    for cell in Cell::ALL {
        let n = lost.iter().filter(|(_, lost)| Cell::of(lost.mapping()) == cell).count();
        let (glyph, role, what) = cell.look();
        if n > 0 {
            lines.push(Line::from(vec![
                Span::styled(format!(" {glyph}"), scene.theme.style(role)),
                Span::raw(format!(" {n} {what}")),
            ]));
        }
    }
    lines
}

/// The latest events there, newest first.
fn recent(scene: &Scene, vm: &Vm, first: u64, end: u64, rows: usize) -> Vec<Line<'static>> {
    let touches = |event: &&Event| match &event.kind {
        EventKind::Change(change) => {
            let size = frames(change.level.clamp(1, 5));
            let last = change.gfn.saturating_add(u64::from(change.count).saturating_mul(size));
            event.vm == vm.key && change.as_id == 0 && change.gfn < end && last > first
        }
        _ => false,
    };
    let events: Vec<_> = scene.model.recent.events().rev().filter(touches).take(rows).collect();
    let mut lines = Vec::new();
    if !events.is_empty() {
        lines.push(Line::styled(" latest changes:", scene.theme.style(Role::Dim)));
    }
    lines.extend(events.into_iter().map(|event| {
        let (text, role) = events::text(&event.kind);
        entry(scene, event.ts, text, role)
    }));
    lines
}
