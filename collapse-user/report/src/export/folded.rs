//! Folded stacks, as `flamegraph.pl`, inferno and speedscope read them: a line per stack, outermost
//! first, and a weight.

use std::{
    collections::BTreeMap,
    io::{self, Write},
    rc::Rc,
};

use collapse_common::{Transition, abi::VmKey};

use collapse_feed::{Change, Coverage, Event, EventKind, Update};
use collapse_model::{
    Model, Observer, Vm,
    metric::{FirstHalves, LeafChange},
    wording::UNKNOWN_VM,
};

/// Adds SPTE changes up by the stack that they happened in, where that was recorded.
pub struct Folded<W> {
    out: W,
    /// By number: functions, outermost first.
    stacks: BTreeMap<u32, Rc<str>>,
    /// Names of the VMs that changes belong to.
    names: BTreeMap<VmKey, String>,
    weights: BTreeMap<Key, u64>,
    /// Zaps that were added, as long as they may be halves of splits.
    zaps: FirstHalves<Key>,
}

/// VM, kind, cause and functions.
type Key = (VmKey, &'static str, &'static str, Rc<str>);

/// Stands for a stack that could not be taken.
const UNKNOWN: &str = "[unknown]";

impl<W: Write> Folded<W> {
    /// Writes to `out`, all of it at the end.
    pub fn new(out: W) -> Self {
        let (stacks, names, weights) = (BTreeMap::new(), BTreeMap::new(), BTreeMap::new());
        Self { out, stacks, names, weights, zaps: FirstHalves::default() }
    }

    fn change(&mut self, event: &Event, vm: Option<&Vm>, change: &Change) {
        if change.transition == Transition::SplitRelink
            && let Some(zap) = self.zaps.of(event, change)
        {
            self.take_back(&zap, change.count);
        }
        let key = event.vm;
        let Some(stack) = change.stack else { return };
        let stack = self.stacks.get(&stack).cloned().unwrap_or_else(|| UNKNOWN.into());
        if let Some(vm) = vm.filter(|vm| vm.process.is_some()) {
            self.names.entry(key).or_insert_with(|| frame(&vm.label()));
        }
        let kind = if LeafChange::Split.is(change.transition) {
            Transition::Split.name()
        } else {
            change.transition.name()
        };
        let key = (key, kind, change.cause.name(), stack);
        if change.transition == Transition::Zap {
            self.zaps.zapped(event, change, key.clone());
        }
        *self.weights.entry(key).or_default() += u64::from(change.count);
    }

    /// Removes zaps that were halves of splits.
    fn take_back(&mut self, zap: &Key, count: u32) {
        if let Some(weight) = self.weights.get_mut(zap) {
            *weight = weight.saturating_sub(count.into());
            if *weight == 0 {
                self.weights.remove(zap);
            }
        }
    }
}

impl<W: Write> Observer for Folded<W> {
    fn stacks(&mut self, stacks: &[(u32, Vec<String>)]) {
        self.stacks.extend(stacks.iter().map(|(number, frames)| (*number, folded(frames))));
    }

    fn event(&mut self, event: &Event, vm: Option<&Vm>) -> io::Result<()> {
        if let EventKind::Change(change) = &event.kind {
            self.change(event, vm, change);
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
            let vm = self.names.get(vm).map_or(UNKNOWN_VM, String::as_str);
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
        event_at(512, Cause::Collapse, transition, stack)
    }

    fn event_at(gfn: u64, cause: Cause, transition: Transition, stack: Option<u32>) -> Event {
        let change = Change {
            gfn,
            sptes: Some(Sptes { old: 1, new: 0 }),
            stack,
            ..fixtures::change(cause, transition)
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
        let others = [Some(1), None].map(|stack| event(Transition::Split, stack));
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

    /// As on 5.10 and 6.1: the zap of a huge leaf, and the link of a page table in its place.
    #[test]
    fn a_split_in_two_steps_is_one_split_and_no_zap() {
        let at = |gfn, transition, stack| event_at(gfn, Cause::LoggedFault, transition, stack);
        let split = |gfn, zap, link| {
            [at(gfn, Transition::Zap, zap), at(gfn, Transition::SplitRelink, link)]
        };
        let in_two_steps = |zap, link| {
            let mut events = split(0, zap, link).to_vec();
            // Only what is linked where it was zapped is a split.
            events.push(at(512, Transition::Zap, zap));
            events.push(at(1024, Transition::SplitRelink, link));
            lines(&[batch(100, &[], Vec::new()), batch(200, &["zap", "fault"], events)])
        };
        let zap = "a_b (pid 7);zap;guest_fault_logging;fault;zap 1\n";
        let splits = "a_b (pid 7);split;guest_fault_logging;[unknown] 2\n";
        assert_eq!(in_two_steps(Some(0), Some(1)), format!("{splits}{zap}"));
        // Where only zaps have stacks, and where only splits have.
        assert_eq!(in_two_steps(Some(0), None), zap);
        assert_eq!(in_two_steps(None, Some(1)), splits);
    }

    #[test]
    fn a_recording_without_stacks_has_no_lines() {
        let updates = vec![batch(100, &[], vec![event(Transition::Zap, None)])];
        assert_eq!(lines(&updates), "");
    }
}
