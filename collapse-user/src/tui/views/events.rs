//! The latest events, newest first.

use collapse_common::spte::frames;
use ratatui::{
    buffer::Buffer,
    layout::Rect,
    text::{Line, Span},
};

use crate::tui::{
    format,
    nav::Nav,
    scene::{Scene, name},
    table,
    theme::Role,
    widgets,
};
use collapse_feed::{Event, EventKind, LongFault, NoProgress, SlotChange};
use collapse_model::{Vm, wording};

/// Draws the view.
pub fn draw(buf: &mut Buffer, at: Rect, scene: &Scene, nav: &Nav) {
    let dim = scene.theme.style(Role::Dim);
    let count = count(scene, nav);
    let of = match table::selected(scene, nav) {
        Some(vm) if !nav.all => format!("of {} · a: all VMs", name(vm)),
        _ => "of all VMs".to_owned(),
    };
    let mut heads = vec![format!(" {count} latest events {of} · /: filter")];
    if at.height >= 10 {
        let seen = format::count(scene.model.recent.seen());
        heads.push(if scene.track.is_some() {
            format!(" out of {seen} records up to this time of the recording")
        } else {
            format!(" out of {seen} records so far, needed to track regions: listing them is free")
        });
    }
    let heads: Vec<_> = heads.into_iter().map(|head| Line::styled(head, dim)).collect();
    let rows = widgets::paragraph(buf, at, &heads);
    let room = usize::from(rows.height);
    let line = nav.line.min(count.saturating_sub(1));
    let first = widgets::first_shown(line, count, room);
    let lines = listed(scene, nav).skip(first).take(room).map(|event| row(scene, nav, event));
    widgets::paragraph(buf, rows, &lines.collect::<Vec<_>>());
    scene.spots.lines(rows, first, count);
    let y = rows.y + (line - first) as u16;
    if count > 0 && y < at.bottom() {
        buf.set_style(Rect { y, height: 1, ..at }, scene.theme.selected());
    }
}

/// Number of events listed.
pub fn count(scene: &Scene, nav: &Nav) -> usize {
    listed(scene, nav).count()
}

fn listed<'a>(scene: &Scene<'a>, nav: &Nav) -> impl Iterator<Item = &'a Event> {
    let (vm, at) = (table::selected(scene, nav).map(|vm| vm.key), scene.at);
    let (all, wanted) = (nav.all, nav.event_filter.to_lowercase());
    scene.model.recent.events().rev().filter(move |event| {
        let mine = all || vm.is_none_or(|vm| event.vm == vm);
        mine && event.ts <= at
            && (wanted.is_empty() || text(&event.kind).0.to_lowercase().contains(&wanted))
    })
}

fn row(scene: &Scene, nav: &Nav, event: &Event) -> Line<'static> {
    let dim = scene.theme.style(Role::Dim);
    let (text, role) = text(&event.kind);
    let ago = format!("−{}", format::duration(scene.ago(event.ts)));
    let tid = format::right(&event.tid.to_string(), 7);
    let mut spans = vec![Span::styled(format!(" {} {tid}  ", format::right(&ago, 8)), dim)];
    if nav.all {
        let vm: Option<&Vm> = scene.model.vms.get(&event.vm);
        spans.push(Span::raw(format::left(vm.map_or(format::UNKNOWN, name), 16) + " "));
    }
    spans.push(Span::styled(text, scene.theme.style(role)));
    Line::from(spans)
}

/// Description of an event, and its colour.
pub fn text(kind: &EventKind) -> (String, Role) {
    use collapse_common::Transition::{Install, Recover, RecoverReadOnly, Split, SplitRelink, Zap};
    match kind {
        EventKind::Change(change) => {
            let role = match change.transition {
                Split | SplitRelink => Role::Split,
                Zap => Role::Zap,
                Recover | RecoverReadOnly => Role::Huge,
                Install if change.level > 1 => Role::Huge,
                Install => Role::Small,
                _ => Role::Dim,
            };
            let size = match change.level {
                1 => "4K",
                2 => "2M",
                3 => "1G",
                _ => "page table",
            };
            let read_only = if change.read_only { ", read-only" } else { "" };
            let end =
                change.gfn + u64::from(change.count.max(1)) * frames(change.level.clamp(1, 5));
            let text = format!(
                "{} {} × {size}{read_only}, gfn {:#x}–{:#x}, {}",
                change.transition.name(),
                change.count,
                change.gfn,
                end - 1,
                change.cause.label(),
            );
            (text, role)
        }
        EventKind::VmCreated { process, .. } => {
            (format!("VM created by {} (pid {})", process.name.text, process.pid), Role::Good)
        }
        EventKind::VmSeen => ("VM seen for the first time".to_owned(), Role::Good),
        EventKind::VmDestroyed { .. } => ("VM being destroyed".to_owned(), Role::Warn),
        EventKind::VmFlushed { .. } => ("last SPTE of the VM removed".to_owned(), Role::Dim),
        EventKind::VmFreed => ("VM freed".to_owned(), Role::Dim),
        EventKind::SlotChanged { slot, change, .. } => {
            let (what, role) = match change {
                SlotChange::Created => ("created", Role::Text),
                SlotChange::Deleted => ("deleted", Role::Text),
                SlotChange::Moved => ("moved", Role::Text),
                SlotChange::LogOn => ("dirty logging on", Role::Split),
                SlotChange::LogOff => ("dirty logging off", Role::Good),
                SlotChange::Other => ("changed", Role::Dim),
            };
            let bytes = format::bytes(slot.npages.saturating_mul(4096));
            let text = format!("slot {} {what} ({bytes} at gfn {:#x})", slot.id, slot.base_gfn);
            (text, role)
        }
        EventKind::LongFault(LongFault { cause, vcpu, address, duration }) => {
            let (vcpu, took) = (wording::vcpu(*vcpu), wording::duration(*duration));
            (format!("{vcpu}: fault of {took} at {address:#x}, {}", cause.label()), Role::Fault)
        }
        EventKind::NoProgress(NoProgress { vcpu, address, duration, faults, .. }) => {
            let (vcpu, lasts) = (wording::vcpu(*vcpu), wording::duration(*duration));
            let text = format!("{vcpu}: {faults} faults at {address:#x} in {lasts}, none resolved");
            (text, Role::Warn)
        }
        EventKind::RingFull { vcpu } => {
            (format!("{}: dirty ring full", wording::vcpu(*vcpu)), Role::Fault)
        }
        EventKind::Collapse(collapse) => {
            (format!("collapse routine finished slot {}", collapse.slot.id), Role::Zap)
        }
    }
}
