//! Kernel stacks, as the programs number them and as everything above does.

use std::collections::{BTreeMap, HashMap};

use aya::{
    maps::{MapData, StackTraceMap},
    util::kernel_symbols,
};
use collapse_common::abi::MORE_STACKS;

/// The place of a stack in the kernel.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
struct Place {
    /// The first table or the second.
    table: usize,
    id: u32,
}

impl Place {
    /// Returns the place that [`collapse_common::abi::Stacked::stack`] names; `None` if the stack could not
    /// be taken.
    fn of(recorded: i64) -> Option<Self> {
        let id = u32::try_from(recorded & !MORE_STACKS).ok()?;
        Some(Self { table: usize::from(recorded & MORE_STACKS != 0), id })
    }
}

/// Kernel stacks by number.
pub struct Stacks {
    /// The table that the programs try first, and the one for stacks whose place there is taken.
    maps: [StackTraceMap<MapData>; 2],
    /// Functions by address.
    symbols: BTreeMap<u64, String>,
    /// Our number by the kernel's; `None` for stacks that could not be taken. Ours count from 0 on, so
    /// that they take little room in a recording.
    numbers: HashMap<Option<Place>, u32>,
    /// Stacks that were numbered since the last call of [`Self::news`].
    new: Vec<(u32, Vec<String>)>,
    not_taken: u64,
}

impl Stacks {
    /// Reads the stacks that the programs put into two maps, the second where they could not into the first.
    pub fn new(maps: [StackTraceMap<MapData>; 2]) -> Self {
        Self {
            maps,
            symbols: BTreeMap::new(),
            numbers: HashMap::new(),
            new: Vec::new(),
            not_taken: 0,
        }
    }

    /// Reads the addresses of all functions, those of programs included, which must be attached by then.
    /// Slow: the kernel lists every function.
    pub fn learn(&mut self) {
        match kernel_symbols() {
            Ok(symbols) => self.symbols = symbols,
            Err(error) => log::warn!("stacks have no function names: /proc/kallsyms: {error}"),
        }
    }

    /// Returns our number of a stack that a program recorded; a negative one could not be taken.
    pub fn number(&mut self, recorded: i64) -> u32 {
        let recorded = Place::of(recorded);
        self.not_taken += u64::from(recorded.is_none());
        if let Some(number) = self.numbers.get(&recorded) {
            return *number;
        }
        let number = self.numbers.len() as u32;
        let frames = recorded.map_or_else(Vec::new, |id| self.frames(id));
        self.numbers.insert(recorded, number);
        self.new.push((number, frames));
        number
    }

    /// Returns how often a stack could not be taken, for instance because others have its places in
    /// both tables.
    pub fn not_taken(&self) -> u64 {
        self.not_taken
    }

    /// Returns the stacks that were numbered since the last call.
    pub fn news(&mut self) -> Vec<(u32, Vec<String>)> {
        std::mem::take(&mut self.new)
    }

    fn frames(&mut self, Place { table, id }: Place) -> Vec<String> {
        // Nobody removes or replaces a stack, so it is still the one that the program saw.
        let addresses = match self.maps[table].get(&id, 0) {
            Ok(stack) => stack.frames().iter().map(|frame| frame.ip).collect::<Vec<_>>(),
            Err(error) => {
                log::warn!("cannot read kernel stack {id}: {error}");
                return Vec::new();
            }
        };
        named(&addresses, &self.symbols)
    }
}

/// Names the functions that addresses are in, without the frames of tracing itself.
fn named(addresses: &[u64], symbols: &BTreeMap<u64, String>) -> Vec<String> {
    let name = |(depth, address): (usize, &u64)| {
        if symbols.get(address).is_some_and(|name| TRAMPOLINES.iter().any(|end| name == end)) {
            return None;
        }
        // All but the innermost return to after a call, which may be the end of the function.
        let called = if depth == 0 { *address } else { address.saturating_sub(1) };
        let (_, name) = symbols.range(..=called).next_back()?;
        // The module follows.
        name.split_whitespace().next()
    };
    let names = addresses.iter().enumerate().map(|frame| name(frame).unwrap_or(UNKNOWN));
    let names: Vec<_> = names.collect();
    let tracing = |name: &&str| TRACING.iter().any(|start| name.starts_with(start));
    let own = names.iter().rposition(tracing).map_or(0, |last| last + 1);
    names[own..].iter().map(|name| (*name).to_owned()).collect()
}

/// A function whose name is not known.
const UNKNOWN: &str = "[unknown]";

/// Prefixes of the functions that run between a traced function and a program.
const TRACING: [&str; 4] = ["bpf_prog_", "bpf_trace_run", "__bpf_trace_", "__traceiter_"];

/// Where a function returns to whose return a kretprobe watches. Before 5.15 the kernel does not find the
/// caller behind it, and the stack ends there.
const TRAMPOLINES: [&str; 2] = ["kretprobe_trampoline", "__kretprobe_trampoline"];

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_stack_is_in_one_of_two_tables() {
        let place = |recorded| Place::of(recorded).map(|place| (place.table, place.id));
        assert_eq!(place(5), Some((0, 5)));
        assert_eq!(place(5 | MORE_STACKS), Some((1, 5)));
        assert_eq!([-1, i64::MIN].map(place), [None; 2]);
    }

    #[test]
    fn frames_are_named_from_the_traced_function_on() {
        let symbols = [
            (100, "entry_SYSCALL_64"),
            (200, "handle_changed_spte\t[kvm]"),
            (300, "kvm_vm_ioctl\t[kvm]"),
            (400, "__bpf_trace_kvm_tdp_mmu_spte_changed\t[kvm]"),
            (450, "kretprobe_trampoline"),
            (500, "bpf_prog_0123_spte_changed\t[bpf]"),
        ];
        let symbols = symbols.map(|(address, name)| (address, name.to_owned())).into();
        let named = |addresses: &[u64]| named(addresses, &symbols);
        let frames = ["handle_changed_spte", "kvm_vm_ioctl", "entry_SYSCALL_64"];
        assert_eq!(named(&[510, 410, 300, 310, 200]), frames);
        assert_eq!(named(&[200, 301]), frames[..2]);
        assert_eq!(named(&[99]), [UNKNOWN]);
        assert_eq!(named(&[200, 450]), ["handle_changed_spte", UNKNOWN]);
        assert_eq!(named(&[]), [""; 0]);
    }
}
