//! Folded stacks, as `flamegraph.pl`, inferno and speedscope read them: a line per stack, outermost
//! first, and a weight.

use std::{
    collections::BTreeMap,
    io::{self, Write},
    rc::Rc,
};

use collapse_common::{Transition, abi::VmKey};

use collapse_feed::{Change, Coverage, Event, EventKind, Update};
use collapse_model::{Model, Observer, Vm};

/// Adds SPTE changes up by the stack that they happened in, where that was recorded.
pub struct Folded<W> {
    out: W,
    /// By number: functions, outermost first.
    stacks: BTreeMap<u32, Rc<str>>,
    /// Names of the VMs that changes belong to.
    names: BTreeMap<VmKey, String>,
    weights: BTreeMap<Key, u64>,
}

/// VM, kind, cause and functions.
type Key = (VmKey, &'static str, &'static str, Rc<str>);

/// Stands for a stack that could not be taken.
const UNKNOWN: &str = "[unknown]";

impl<W: Write> Folded<W> {
    /// Writes to `out`, all of it at the end.
    pub fn new(out: W) -> Self {
        let (stacks, names, weights) = (BTreeMap::new(), BTreeMap::new(), BTreeMap::new());
        Self { out, stacks, names, weights }
    }

    fn change(&mut self, key: VmKey, vm: Option<&Vm>, change: &Change) {
        let Some(stack) = change.stack else { return };
        let stack = self.stacks.get(&stack).cloned().unwrap_or_else(|| UNKNOWN.into());
        if let Some(process) = vm.and_then(|vm| vm.process.as_ref()) {
            self.names
                .entry(key)
                .or_insert_with(|| frame(&format!("{} (pid {})", process.name.text, process.pid)));
        }
        let kind = match change.transition {
            // The second half of a split in two steps.
            Transition::SplitRelink => Transition::Split.name(),
            transition => transition.name(),
        };
        let weight = self.weights.entry((key, kind, change.cause.name(), stack)).or_default();
        *weight += u64::from(change.count);
    }
}

impl<W: Write> Observer for Folded<W> {
    fn stacks(&mut self, stacks: &[(u32, Vec<String>)]) {
        self.stacks.extend(stacks.iter().map(|(number, frames)| (*number, folded(frames))));
    }

    fn event(&mut self, event: &Event, vm: Option<&Vm>) -> io::Result<()> {
        if let EventKind::Change(change) = &event.kind {
            self.change(event.vm, vm, change);
        }
        Ok(())
    }

    fn reading(&mut self, _: &Update, _: &Model, _: &Coverage) -> io::Result<()> {
        Ok(())
    }

    /// Writes all lines.
    fn finish(&mut self, _: &Model) -> io::Result<()> {
        if self.weights.is_empty() {
            log::warn!("this recording has no stacks: record with --stacks");
        }
        for ((vm, kind, cause, stack), weight) in &self.weights {
            let vm = self.names.get(vm).map_or("unknown VM", String::as_str);
            writeln!(self.out, "{vm};{kind};{cause};{stack} {weight}")?;
        }
        self.out.flush()
    }
}

fn folded(frames: &[String]) -> Rc<str> {
    if frames.is_empty() {
        return UNKNOWN.into();
    }
    frames.iter().rev().map(|name| frame(name)).collect::<Vec<_>>().join(";").into()
}

/// A name without characters that separate frames and lines.
fn frame(name: &str) -> String {
    name.replace([';', '\n', '\r'], "_")
}

#[cfg(test)]
mod tests {
    use collapse_common::Cause;

    use super::*;
    use collapse_feed::{Batch, Mmu, NameSource, Sptes, VmName, VmProcess, VmReading, fixtures};

    const VM: VmKey = VmKey { kvm: 1, born: 5 };

    fn event(transition: Transition, stack: Option<u32>) -> Event {
        let change = Change {
            gfn: 512,
            sptes: Some(Sptes { old: 1, new: 0 }),
            stack,
            ..fixtures::change(Cause::Collapse, transition)
        };
        Event { ts: 150, vm: VM, tid: 9, kind: EventKind::Change(change) }
    }

    fn lines(updates: &[Update]) -> String {
        let coverage = fixtures::full_coverage(Mmu::Tdp);
        let (mut out, mut model) = (Vec::new(), Model::default());
        let mut folded = Folded::new(&mut out);
        for update in updates {
            model.update_observed(update, &coverage, &mut folded).unwrap();
        }
        folded.finish(&model).unwrap();
        String::from_utf8(out).unwrap()
    }

    fn batch(at: u64, frames: &[&str], events: Vec<Event>) -> Update {
        let frames = frames.iter().map(|name| (*name).to_owned()).collect();
        let process = VmProcess {
            pid: 7,
            tid: 7,
            comm: String::new(),
            name: VmName { text: "a;b".to_owned(), source: NameSource::Comm },
        };
        let vms = vec![VmReading { vm: VM, pages: None, process: Some(process), fd: None }];
        let stacks = vec![(0, frames), (1, Vec::new())];
        Update::Batch(Batch { at, vms, events, stacks, ..Batch::default() })
    }

    #[test]
    fn weights_add_up_by_stack() {
        let zap = || event(Transition::Zap, Some(0));
        let others = [Some(1), None].map(|stack| event(Transition::SplitRelink, stack));
        let updates = vec![
            batch(100, &["zap", "ioctl"], Vec::new()),
            batch(200, &["zap", "ioctl"], [zap(), zap()].into_iter().chain(others).collect()),
            // Programs that were attached again number their stacks from zero.
            Update::Detached { at: 300, why: String::new() },
            Update::Attached { at: 400 },
            batch(500, &["zap", "close"], vec![zap()]),
            batch(600, &["zap", "close"], vec![zap()]),
        ];
        let expected = "\
            a_b (pid 7);split;collapse;[unknown] 1\n\
            a_b (pid 7);zap;collapse;close;zap 2\n\
            a_b (pid 7);zap;collapse;ioctl;zap 2\n";
        assert_eq!(lines(&updates), expected);
    }

    #[test]
    fn a_recording_without_stacks_has_no_lines() {
        let updates = vec![batch(100, &[], vec![event(Transition::Zap, None)])];
        assert_eq!(lines(&updates), "");
    }
}
