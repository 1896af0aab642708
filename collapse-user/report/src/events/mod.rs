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
    rc::Rc,
};

use collapse_common::SpteLayout;

pub use filter::{Filter, KINDS, Sample};
pub use line::{End, HeaderLine, Line, Lost, SCHEMA, Sight};
pub use lines::{COLUMNS, Lines};

use line::{StackLine, slot_of};

use crate::Host;
use collapse_feed::{
    Change, Coverage, Event, EventKind, Machine, SlotChange, Update, recording::Clocks,
};
use collapse_model::{Model, Vm};

/// Writes events that a filter takes, a line each.
pub struct EventWriter<W> {
    out: W,
    lines: Lines,
    clocks: Clocks,
    filter: Filter,
    spte: SpteLayout,
    losses: BTreeMap<&'static str, u64>,
    /// Kernel stacks by number.
    stacks: BTreeMap<u32, Rc<[String]>>,
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
        machine: Machine,
        coverage: &Coverage,
        filter: Filter,
    ) -> io::Result<Self> {
        let host = Host::new(machine, coverage.mmu);
        lines.frame(&mut out, &HeaderLine::new(clocks, host))?;
        lines.columns(&mut out)?;
        let (spte, losses, stacks) = (coverage.spte, BTreeMap::new(), BTreeMap::new());
        let (before, end) = (None, End::new());
        Ok(Self { out, lines, clocks, filter, spte, losses, stacks, before, end })
    }

    /// Whether as many were written as were wanted.
    pub fn is_done(&self) -> bool {
        self.filter.limit.is_some_and(|limit| self.end.events >= limit)
    }

    /// Writes what an update tells, with what the model, which takes it meanwhile, knows by then.
    pub fn update(&mut self, update: Update, model: &mut Model) -> io::Result<()> {
        let sight = match &update {
            Update::Batch(batch) => {
                let (at, losses) = (batch.at, batch.losses.clone());
                let stacks = batch.stacks.iter();
                self.stacks.extend(stacks.map(|(number, frames)| (*number, frames[..].into())));
                let mut written = Ok(());
                model.update_seen(update, &mut |event, vm| {
                    if written.is_ok() && !self.is_done() {
                        written = self.event(event, vm);
                    }
                });
                written?;
                return self.losses(at, losses);
            }
            Update::Blind { .. } => None,
            Update::Detached { at, why } => Some(Sight::new(self.clocks, *at, Some(why))),
            Update::Attached { at } => {
                // The others count from zero.
                self.losses.clear();
                Some(Sight::new(self.clocks, *at, None))
            }
        };
        model.update(update);
        let Some(sight) = sight else { return Ok(()) };
        self.lines.line(&mut self.out, &sight)?;
        self.out.flush()
    }

    /// Writes what was lost until `at`.
    fn losses(&mut self, at: u64, losses: Vec<(&'static str, u64)>) -> io::Result<()> {
        for (way, n) in losses {
            let before = self.losses.insert(way, n).unwrap_or(0);
            if n > before {
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

    fn event(&mut self, event: &Event, vm: Option<&Vm>) -> io::Result<()> {
        let slot = slot_of(event, vm.map(|vm| &vm.slots));
        if !self.filter.takes(event, vm, slot.as_ref()) {
            self.end.filtered += 1;
            return Ok(());
        }
        let mut line = Line::new(event, self.clocks, vm, slot, self.spte);
        if let Some(regions) = &mut line.regions
            && !self.filter.sees_regions()
        {
            regions.0 = None;
        }
        if let EventKind::Change(Change { stack: Some(stack), .. }) = &event.kind {
            let frames = self.stacks.get(stack).filter(|frames| !frames.is_empty());
            line.stack = Some(StackLine(frames.cloned()));
        }
        let (EventKind::Change(change), Some(sample)) = (&event.kind, self.filter.sample) else {
            return self.write(&line);
        };
        let mut sampled = 0;
        for part in sample.parts(change) {
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
