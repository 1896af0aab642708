//! Events as lines, of JSON or of a table: what the model learns from, with what it knows of them.

mod filter;
mod line;
mod lines;
pub mod schema;
#[cfg(test)]
mod tests;

use std::{
    collections::BTreeMap,
    io::{self, Write},
};

use collapse_common::abi::VmKey;

pub use filter::{Filter, KINDS, Sample};
pub use line::{End, HeaderLine, Host, Line, Lost, SCHEMA, Sight};
pub use lines::{COLUMNS, Lines};

use line::slot_of;

use crate::{
    model::{Model, Slots},
    source::{Change, Event, EventKind, SlotChange, Update, recording::Clocks},
};

/// Writes events that a filter takes, a line each.
pub struct EventWriter<W> {
    out: W,
    lines: Lines,
    clocks: Clocks,
    filter: Filter,
    /// Slots as of the last event.
    slots: BTreeMap<VmKey, Slots>,
    losses: BTreeMap<&'static str, u64>,
    /// When the last batch was read, ns.
    before: Option<u64>,
    end: End,
}

impl<W: Write> EventWriter<W> {
    /// Writes the header.
    pub fn new(
        mut out: W,
        lines: Lines,
        clocks: Clocks,
        host: Host,
        filter: Filter,
    ) -> io::Result<Self> {
        lines.frame(&mut out, &HeaderLine::new(clocks, host))?;
        lines.columns(&mut out)?;
        let (slots, losses) = (BTreeMap::new(), BTreeMap::new());
        Ok(Self { out, lines, clocks, filter, slots, losses, before: None, end: End::new() })
    }

    /// Whether as many were written as were wanted.
    pub fn is_done(&self) -> bool {
        self.filter.limit.is_some_and(|limit| self.end.events >= limit)
    }

    /// Writes what an update tells, once the model has taken it.
    pub fn update(&mut self, update: &Update, model: &Model) -> io::Result<()> {
        let sight = match update {
            Update::Batch(batch) => {
                return self.batch(batch.at, &batch.events, &batch.losses, model);
            }
            Update::Blind { .. } => return Ok(()),
            Update::Detached { at, why } => Sight::new(self.clocks, *at, Some(why)),
            Update::Attached { at } => {
                // The others count from zero.
                self.losses.clear();
                Sight::new(self.clocks, *at, None)
            }
        };
        self.lines.line(&mut self.out, &sight)?;
        self.out.flush()
    }

    /// Writes a batch's events and losses, once the model has taken the batch.
    fn batch(
        &mut self,
        at: u64,
        events: &[Event],
        losses: &[(&'static str, u64)],
        model: &Model,
    ) -> io::Result<()> {
        for event in events {
            if self.is_done() {
                break;
            }
            self.event(event, model)?;
        }
        for (way, n) in losses {
            let before = self.losses.insert(way, *n).unwrap_or(0);
            if *n > before {
                let lost = Lost::new(self.clocks, self.before, at, way, n - before);
                self.lines.line(&mut self.out, &lost)?;
            }
        }
        self.before = Some(at);
        self.out.flush()
    }

    /// Writes what was left out.
    pub fn finish(&mut self) -> io::Result<()> {
        self.lines.frame(&mut self.out, &self.end)?;
        self.out.flush()
    }

    fn event(&mut self, event: &Event, model: &Model) -> io::Result<()> {
        if let EventKind::SlotChanged { slot, change, .. } = &event.kind {
            let slots = self.slots.entry(event.vm).or_default();
            match change {
                SlotChange::Deleted => slots.remove(&(slot.as_id, slot.id)),
                _ => slots.insert((slot.as_id, slot.id), *slot),
            };
        }
        let (vm, slot) = (model.vms.get(&event.vm), slot_of(event, self.slots.get(&event.vm)));
        if matches!(event.kind, EventKind::VmFreed) {
            self.slots.remove(&event.vm);
        }
        if !self.filter.takes(event, vm, slot.as_ref()) {
            self.end.filtered += 1;
            return Ok(());
        }
        let line = Line::new(event, self.clocks, vm, slot);
        let (EventKind::Change(change), Some(sample)) = (&event.kind, self.filter.sample) else {
            return self.write(&line);
        };
        let mut sampled = 0;
        for part in sample.parts(event.vm, change) {
            sampled += u64::from(part.count);
            self.write(&line.part(&part))?;
        }
        self.end.sampled_out += u64::from(change.count) - sampled;
        Ok(())
    }

    fn write(&mut self, line: &Line) -> io::Result<()> {
        if self.is_done() {
            return Ok(());
        }
        self.end.events += 1;
        self.lines.line(&mut self.out, line)
    }
}

/// The kind of an event in every output.
pub fn kind(event: &EventKind) -> &'static str {
    match event {
        EventKind::Change(Change { transition, .. }) => transition.name(),
        EventKind::VmCreated { .. } => "vm_created",
        EventKind::VmSeen => "vm_seen",
        EventKind::VmDestroyed { .. } => "vm_destroyed",
        EventKind::VmFlushed { .. } => "vm_flushed",
        EventKind::VmFreed => "vm_freed",
        EventKind::SlotChanged { change, .. } => match change {
            SlotChange::Created => "slot_created",
            SlotChange::Deleted => "slot_deleted",
            SlotChange::Moved => "slot_moved",
            SlotChange::LogOn => "log_on",
            SlotChange::LogOff => "log_off",
            SlotChange::Other => "slot_changed",
        },
        EventKind::Collapse(_) => "collapse_span",
    }
}
