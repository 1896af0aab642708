//! Details of the selected cell of the map: what happened, when and why.

use collapse_common::spte::frames;
use ratatui::{
    buffer::Buffer,
    layout::Rect,
    text::{Line, Span},
};

use super::{cell::CellState, place::MapLayout};
use crate::tui::{format, scene::Scene, theme::Role, views::events, widgets};
use collapse_feed::{Event, EventKind};
use collapse_model::{Lost, Recovery, Region, Returned, Vm};

/// Columns of the time before an event.
const AGO: usize = 9;

/// Draws the details.
pub fn draw(buf: &mut Buffer, at: Rect, scene: &Scene, vm: &Vm, chart: &MapLayout) {
    let first = chart.selected();
    let end = first + chart.step();
    let bytes = format::bytes(chart.scale << 21);
    let at =
        widgets::title(buf, at, scene.theme, &format!(" {bytes}: gfn {first:#x}–{:#x}", end - 1));
    let inside = |region: Region| region.as_id() == 0 && (first..end).contains(&region.gfn());
    let lost: Vec<_> = vm.regions.outstanding().filter(|(region, _)| inside(*region)).collect();
    let returned = vm.regions.returned().iter().filter(|(region, _)| inside(*region));
    let returned: Vec<_> = returned.collect();
    let columns = usize::from(at.width).saturating_sub(AGO);
    let mut log = Log { scene, columns, lines: Vec::new() };
    match (chart.scale, lost.first(), returned.first()) {
        (1, Some((_, lost)), _) => log.lost(lost),
        (1, None, Some((_, returned))) => log.returned(returned),
        (_, None, None) => {
            let before = chart.find(first).map(|(row, _)| chart.rows[row].before);
            let text = match before.unwrap_or(CellState::NotLost) {
                CellState::NotLost => {
                    "not lost since watching began; assumed to be mapped as before"
                }
                before => before.help(),
            };
            let lines = format::wrapped(text, usize::from(at.width).saturating_sub(1));
            log.lines.extend(lines.into_iter().map(|line| Line::from(format!(" {line}"))));
        }
        _ => log.lines.extend(summary(scene, &lost, returned.len())),
    }
    log.recent(vm, first, end, usize::from(at.height));
    widgets::paragraph(buf, at, &log.lines);
}

/// Lines of what happened.
struct Log<'a> {
    scene: &'a Scene<'a>,
    /// Columns of the text of an event.
    columns: usize,
    lines: Vec<Line<'static>>,
}

impl Log<'_> {
    /// Adds what happened at a time.
    fn add(&mut self, at: u64, text: &str, role: Role) {
        let theme = self.scene.theme;
        let ago = format!("−{}", format::duration(self.scene.ago(at)));
        let mut ago = format::right(&ago, AGO - 1) + " ";
        for line in format::wrapped(text, self.columns) {
            self.lines.push(Line::from(vec![
                Span::styled(ago, theme.style(Role::Dim)),
                Span::styled(line, theme.style(role)),
            ]));
            ago = " ".repeat(AGO);
        }
    }

    /// Adds what happened to a region since it lost its huge SPTE.
    fn lost(&mut self, lost: &Lost) {
        self.loss(lost);
        let (glyph, role, what) = CellState::of(lost.mapping()).look();
        self.lines.push(Line::from(vec![
            Span::raw("    now  "),
            Span::styled(glyph, self.scene.theme.style(role)),
            Span::raw(format!(" {what}, {} of {} small SPTEs", lost.small, frames(2))),
        ]));
    }

    fn loss(&mut self, lost: &Lost) {
        let episode = lost.episode.map_or(String::new(), |number| format!(", episode {number}"));
        let (what, role) = if lost.split { ("split", Role::Split) } else { ("zapped", Role::Zap) };
        let text = format!("huge SPTE {what}: {}{episode}", lost.cause.label());
        self.add(lost.at, &text, role);
        if let Some(zapped) = lost.zapped {
            self.add(zapped.get(), "no longer mapped", Role::Zap);
        }
        if let Some(refaulted) = lost.refaulted {
            self.add(refaulted.get(), "touched, mapped small", Role::Small);
        }
    }

    /// Adds what happened to a region from its loss until it was huge again.
    fn returned(&mut self, returned: &Returned) {
        self.loss(&returned.lost);
        let how = match returned.how {
            Recovery::Refault => "a fault mapped it huge",
            Recovery::InPlace => "rebuilt in place",
            Recovery::Promotion => "a fault replaced its page table",
        };
        let read_only = if returned.read_only { ", write-protected" } else { "" };
        let [could, lost] = [returned.since, returned.lost.at]
            .map(|since| format::duration(returned.at.saturating_sub(since)));
        let from_loss = if returned.since > returned.lost.at {
            format!(" ({lost} from the loss)")
        } else {
            String::new()
        };
        let text = format!("huge again after {could}{from_loss}: {how}{read_only}");
        self.add(returned.at, &text, Role::Good);
    }

    /// Adds the latest changes of guest frames `first` to `end` (exclusive), newest first.
    fn recent(&mut self, vm: &Vm, first: u64, end: u64, rows: usize) {
        let touches = |event: &&Event| match &event.kind {
            EventKind::Change(change) => {
                let size = frames(change.level.clamp(1, 5));
                let last = change.gfn.saturating_add(u64::from(change.count).saturating_mul(size));
                event.vm == vm.key && change.as_id == 0 && change.gfn < end && last > first
            }
            _ => false,
        };
        let scene = self.scene;
        let events: Vec<_> = scene.model.recent.events().rev().filter(touches).take(rows).collect();
        if !events.is_empty() {
            let dim = scene.theme.style(Role::Dim);
            self.lines.push(Line::styled(" latest changes:", dim));
        }
        for event in events {
            let (text, role) = events::text(&event.kind);
            self.add(event.ts, &text, role);
        }
    }
}

/// Number of lost regions of a cell by how they are mapped.
fn summary(scene: &Scene, lost: &[(Region, &Lost)], returned: usize) -> Vec<Line<'static>> {
    let text = format!(" {} regions lost; + zooms in to one", lost.len() + returned);
    let mut lines = vec![Line::from(text)];
    for cell in CellState::ALL {
        let n = match cell {
            CellState::Returned => returned,
            _ => lost.iter().filter(|(_, lost)| CellState::of(lost.mapping()) == cell).count(),
        };
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
