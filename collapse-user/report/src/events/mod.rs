//! Events as lines of JSON or of a table, with what the model knows about them.

mod filter;
mod kind;
mod line;
mod lines;
mod schema;
#[cfg(test)]
mod tests;

use std::{
    collections::BTreeMap,
    io::{self, Write},
    rc::Rc,
};

use collapse_common::SpteLayout;

pub use filter::{EventFilter, RegionSample};
pub use kind::{kind, kinds};
pub use line::SCHEMA;
pub use lines::{COLUMNS, LineFormat};
pub use schema::schema;

use kind::FindingKind;
use line::{
    ChangeLine, EndLine, EventLine, FindingLine, HeaderLine, Known, LostLine, SightLine, StackLine,
    slot_of,
};
use lines::LineWriter;

use crate::Host;
use collapse_feed::{Change, Coverage, Event, EventKind, Machine, Update, recording::Clocks};
use collapse_model::{Model, Observer, Vm};

/// Writes the events that a filter takes, one per line.
pub struct EventWriter<W: Write> {
    out: LineWriter<W>,
    clocks: Clocks,
    filter: EventFilter,
    spte: SpteLayout,
    addresses: bool,
    losses: BTreeMap<&'static str, u64>,
    /// Kernel stacks by number.
    stacks: BTreeMap<u32, Rc<[String]>>,
    /// When the last batch was read, ns.
    before: Option<u64>,
    end: EndLine,
}

impl<W: Write> EventWriter<W> {
    /// Writes the header.
    pub fn new(
        out: W,
        form: LineFormat,
        clocks: Clocks,
        machine: Machine,
        coverage: &Coverage,
        filter: EventFilter,
    ) -> io::Result<Self> {
        let host = Host::new(machine, coverage);
        let mut out = LineWriter::new(out, form)?;
        out.line(&EventLine::Header(HeaderLine::new(clocks, host)))?;
        let (spte, losses, stacks) = (coverage.spte, BTreeMap::new(), BTreeMap::new());
        let (addresses, before, end) = (false, None, EndLine::new());
        Ok(Self { out, clocks, filter, spte, addresses, losses, stacks, before, end })
    }

    /// Shows, or not, where in the host's memory SPTEs point, which reveals the host's layout.
    #[must_use]
    pub fn showing_addresses(self, addresses: bool) -> Self {
        Self { addresses, ..self }
    }

    /// Writes what was lost between the reading before and that of time `at`.
    fn losses(&mut self, at: u64, losses: &[(&'static str, u64)]) -> io::Result<()> {
        for (way, n) in losses {
            let before = self.losses.insert(way, *n).unwrap_or(0);
            if *n > before {
                let lost = LostLine::new(self.clocks, self.before, at, way, n - before);
                self.out.line(&EventLine::Lost(lost))?;
            }
        }
        self.before = Some(at);
        self.out.flush()
    }

    /// Writes which findings began and ended with the last batch.
    fn findings(&mut self, model: &Model) -> io::Result<()> {
        for (key, turn) in &model.turns {
            let Some(vm) = model.vms.get(key) else { continue };
            if self.filter.takes_finding(FindingKind::of(turn).name(), vm) {
                let line = FindingLine::new(self.clocks, turn, vm);
                self.write(&EventLine::Finding(line))?;
            } else {
                self.end.filtered += 1;
            }
        }
        Ok(())
    }

    /// Writes whether anything is seen from now on, or why nothing is.
    fn sight(&mut self, at: u64, why: Option<&str>) -> io::Result<()> {
        self.out.line(&EventLine::Sight(SightLine::new(self.clocks, at, why)))?;
        self.out.flush()
    }

    /// Writes the parts of a change that are in the sample.
    fn parts(
        &mut self,
        change: &Change,
        line: &ChangeLine,
        sample: RegionSample,
    ) -> io::Result<()> {
        let mut sampled = 0;
        for part in sample.parts(change) {
            sampled += u64::from(part.count);
            self.write(&EventLine::Change(line.part(&part)))?;
        }
        self.end.sampled_out += u64::from(change.count) - sampled;
        Ok(())
    }

    fn write(&mut self, line: &EventLine) -> io::Result<()> {
        if self.is_done() {
            return Ok(());
        }
        self.end.events += 1;
        self.out.line(line)
    }
}

impl<W: Write> Observer for EventWriter<W> {
    fn stacks(&mut self, stacks: &[(u32, Vec<String>)]) {
        self.stacks.extend(stacks.iter().map(|(number, frames)| (*number, frames[..].into())));
    }

    fn event(&mut self, event: &Event, vm: Option<&Vm>) -> io::Result<()> {
        if self.is_done() {
            return Ok(());
        }
        let slot = slot_of(event, vm.map(|vm| &vm.slots));
        if !self.filter.takes(event, vm, slot.as_ref()) {
            self.end.filtered += 1;
            return Ok(());
        }
        let stack = match &event.kind {
            EventKind::Change(Change { stack: Some(stack), .. }) => {
                let frames = self.stacks.get(stack).filter(|frames| !frames.is_empty());
                Some(StackLine(frames.cloned()))
            }
            _ => None,
        };
        let sees_regions = self.filter.sees_regions();
        let (clocks, layout, addresses) = (self.clocks, self.spte, self.addresses);
        let known = Known { clocks, layout, addresses, vm, slot, sees_regions, stack };
        let line = EventLine::new(event, &known);
        match (&event.kind, &line, self.filter.sample) {
            (EventKind::Change(change), EventLine::Change(line), Some(sample)) => {
                self.parts(change, line, sample)
            }
            _ => self.write(&line),
        }
    }

    fn reading(&mut self, update: &Update, model: &Model, _: &Coverage) -> io::Result<()> {
        self.findings(model)?;
        match update {
            Update::Batch(batch) => self.losses(batch.at, &batch.losses),
            Update::Unwatched { .. } => Ok(()),
            Update::Detached { at, why } => self.sight(*at, Some(why)),
            Update::Attached { at } => {
                // The programs attached now count from zero.
                self.losses.clear();
                self.sight(*at, None)
            }
        }
    }

    /// Whether as many events were written as the filter allows.
    fn is_done(&self) -> bool {
        self.filter.limit.is_some_and(|limit| self.end.events >= limit)
    }

    /// Writes how many events were left out.
    fn finish(&mut self, _: &Model) -> io::Result<()> {
        self.out.line(&EventLine::End(self.end))?;
        self.out.flush()
    }
}
