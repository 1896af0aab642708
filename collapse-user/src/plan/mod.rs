//! The choice of hooks for a kernel. It is pure: a plan is computed from an [`Inspected`] value, so
//! that plans for every kernel are tested with recorded values.

mod facts;
mod hook;
mod latency;
mod layout;
mod obstacles;
mod signals;
#[cfg(test)]
mod tests;

use std::collections::{BTreeMap, BTreeSet};
use std::path::Path;

use collapse_common::{Selection, abi::Kernel};
use collapse_feed::clock;
pub use collapse_feed::{Coverage, Mmu, Paging, Signal, SignalStatus};

pub use hook::{Hook, Layout};
pub use latency::{FaultLatency, FaultLatencyError, TIMED_SIGNALS};
pub use layout::{SlotIndex, SlotLayout, TdpLayout, VmFields};
pub use obstacles::{NO_KVM, Obstacle, addresses_are_hidden, lacking, obstacles};
pub use signals::{Only, REBUILDING_ROUTINE, SIGNALS, SignalHooks};

use crate::kernel::inspect::{Fact, Inspected, Kvm, WantedFacts};

/// The hooks to attach on a kernel, and the facts and settings to load their programs with.
#[derive(Debug)]
pub struct Plan {
    /// Facts about the kernel, for the eBPF programs.
    pub kernel: Kernel,
    /// Changes that the eBPF programs record.
    pub selection: Selection,
    /// Where KVM keeps memslots.
    pub slots: Fact<SlotLayout>,
    /// Hooks to attach, by signal, in the order of the table of signals.
    pub hooks: Vec<(Signal, &'static [Hook])>,
    /// Addresses of the functions that they attach to, as far as they are known.
    pub addresses: BTreeMap<&'static str, u64>,
    coverage: Coverage,
}

/// Determines the MMU that KVM uses for ordinary guests, from its module parameters.
fn mmu_of(kernel: &Inspected) -> Mmu {
    match (&kernel.kvm.nested_paging, &kernel.kvm.tdp_mmu) {
        (Ok(false), _) => Mmu::Shadow,
        (Ok(true), Ok(true)) => Mmu::Tdp,
        (Ok(true), Ok(false)) => Mmu::Rmap,
        _ => Mmu::Unknown,
    }
}

/// Determines what the CPU does for page tables, from the parameters of the vendor's module.
fn paging_of(kernel: &Inspected) -> Paging {
    let Kvm { vendor, accessed_dirty, pml, .. } = &kernel.kvm;
    Paging { vendor: *vendor, accessed_dirty: accessed_dirty.clone().ok(), pml: pml.clone().ok() }
}

impl Plan {
    /// Inspects the running kernel and plans for it. A quick inspection takes every function to be
    /// traceable; attaching then fails on those that are not.
    pub fn for_running_kernel(latency: FaultLatency, depth: InspectionDepth) -> (Self, Inspected) {
        let kernel = inspect(Path::new("/"), depth);
        let mut plan = Self::new(&kernel, latency);
        plan.kernel.tick_ns = clock::tick_ns();
        (plan, kernel)
    }

    /// Plans for a kernel that was inspected.
    pub fn new(kernel: &Inspected, latency: FaultLatency) -> Self {
        let mut facts = facts::facts(kernel);
        let mmu = mmu_of(kernel);
        let needed = SIGNALS.iter().filter(|row| match row.only {
            None => true,
            Some(Only::Mmu(only)) => only == mmu,
            Some(Only::NestedPaging) => mmu != Mmu::Shadow,
            // If that is not known, it may.
            Some(Only::Pml) => kernel.kvm.pml != Ok(false),
        });
        let mut chosen: Vec<_> = needed.map(|row| (row.signal, choose(row, kernel))).collect();
        if latency == FaultLatency::OFF {
            for signal in TIMED_SIGNALS {
                leave_out(&mut chosen, signal, "switched off (--fault-latency off)");
            }
        }
        let hooks: Vec<_> = chosen
            .iter()
            .filter_map(|(signal, hooks)| Some((*signal, *hooks.as_ref().ok()?)))
            .collect();
        let of = |wanted| hooks.iter().find(|(signal, _)| *signal == wanted).map(|(_, of)| *of);
        let timed = of(Signal::FaultLatency).map_or(0, |_| latency.one_in());
        let kvm_counts_faults = of(Signal::Faults)
            .is_some_and(|hooks| hooks.iter().any(|hook| matches!(hook, Hook::Read { .. })));
        let rebuilds =
            |hook: &Hook| matches!(hook, Hook::Function { function: REBUILDING_ROUTINE, .. });
        let coverage = Coverage {
            mmu,
            signals: chosen.into_iter().map(status).collect(),
            timed_faults: timed,
            spte: facts.spte,
            kvm_counts_faults,
            collapse_rebuilds: of(Signal::Collapse).map(|hooks| hooks.iter().any(rebuilds)),
            paging: paging_of(kernel),
        };
        facts.time_faults = timed;
        if of(Signal::Progress).is_none() {
            facts.kvm_invalidating = Kernel::UNKNOWN;
        }
        if !kvm_counts_faults {
            (facts.vcpu_taken, facts.vcpu_fast) = (Kernel::UNKNOWN, Kernel::UNKNOWN);
        }
        let functions = hooks.iter().flat_map(|(_, hooks)| hooks.iter()).filter_map(Hook::function);
        let addresses = functions
            .filter_map(|name| Some((name, kernel.symbol(name)?.address)))
            .filter(|(_, address)| *address != 0)
            .collect();
        let slots = SlotLayout::of(kernel);
        Self { kernel: facts, selection: Selection::DEFAULT, slots, hooks, addresses, coverage }
    }

    /// Returns the coverage if every hook attaches.
    pub fn coverage(&self) -> Coverage {
        self.coverage.clone()
    }
}

/// The hooks chosen for a signal, or the reason why it has none.
type Chosen = Result<&'static [Hook], String>;

/// Chooses the first set of hooks that is available on this kernel.
fn choose(row: &SignalHooks, kernel: &Inspected) -> Chosen {
    let no_field = row
        .fields
        .iter()
        .find_map(|field| facts::offset(kernel, field).err().map(|why| format!("{field}: {why}")));
    if let Some(reason) = no_field {
        return Err(reason);
    }
    let mut reasons = Vec::new();
    let chosen = row.hook_sets.iter().copied().find(|hooks| {
        let missing: Vec<_> = hooks.iter().filter_map(|hook| missing(hook, kernel)).collect();
        let usable = missing.is_empty();
        for reason in missing {
            // Of two sets that have a hook in common.
            if !reasons.contains(&reason) {
                reasons.push(reason);
            }
        }
        usable
    });
    chosen.ok_or_else(|| reasons.join("; "))
}

fn leave_out(chosen: &mut [(Signal, Chosen)], signal: Signal, why: &str) {
    for (_, hooks) in chosen.iter_mut().filter(|(of, hooks)| *of == signal && hooks.is_ok()) {
        *hooks = Err(why.to_owned());
    }
}

fn status((signal, chosen): (Signal, Chosen)) -> SignalStatus {
    let (hooks, reason) = match chosen {
        Ok(hooks) => (Some(hooks.iter().map(ToString::to_string).collect()), None),
        Err(reason) => (None, Some(reason)),
    };
    SignalStatus { signal, hooks, reason }
}

/// The depth of an inspection of the running kernel.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum InspectionDepth {
    /// Skips the list of traceable functions, which takes longer to read than everything else.
    Quick,
    /// Inspects everything.
    Thorough,
}

/// Inspects all that plans depend on, below `root` (`/`, unless in a test).
fn inspect(root: &Path, depth: InspectionDepth) -> Inspected {
    let functions = functions();
    let variables = variables();
    let tracepoints = tracepoints();
    let offsets = facts::offsets();
    let wanted = WantedFacts {
        symbols: &functions,
        variables: &variables,
        tracepoints: &tracepoints,
        offsets: &offsets,
        sizes: facts::SIZES,
        constants: facts::CONSTANTS,
        functions: facts::FUNCTIONS,
        traceable: depth == InspectionDepth::Thorough,
    };
    Inspected::of_running_kernel(root, &wanted)
}

/// Returns the reason why a hook cannot be used; `None` if it can, as far as is known.
fn missing(hook: &Hook, kernel: &Inspected) -> Option<String> {
    match *hook {
        Hook::Raw { tracepoint, layout, .. } => {
            if kernel.has_tracepoint(tracepoint) == Some(false) {
                return Some(format!("no tracepoint {tracepoint}"));
            }
            let fields = kernel.tracepoints.get(tracepoint).and_then(|t| t.fields.as_ref().ok());
            match (layout, fields, facts::raw_args(kernel, tracepoint)) {
                (Layout::Field(name), Some(fields), _)
                    if !fields.iter().any(|field| field.name == name) =>
                {
                    Some(format!("tracepoint {tracepoint} has no {name}"))
                }
                (Layout::Args(wanted), _, Some(args)) if args != wanted => {
                    Some(format!("tracepoint {tracepoint} has {args} arguments"))
                }
                _ => None,
            }
        }
        Hook::Entry { function, .. } => not_a_probe(function, kernel),
        // The program finds by the address which function it runs in.
        Hook::Function { function, .. } => {
            not_a_probe(function, kernel).or_else(|| no_address("function", function, kernel))
        }
        Hook::Read { field, .. } => {
            facts::offset(kernel, field).err().map(|why| format!("{field}: {why}"))
        }
        Hook::Run { variable, .. } => no_address("variable", variable, kernel),
    }
}

/// Returns the reason why a function cannot be probed; `None` if it can, as far as is known.
fn not_a_probe(function: &str, kernel: &Inspected) -> Option<String> {
    if kernel.symbols.is_err() || kernel.can_probe(function) {
        return None;
    }
    Some(match kernel.symbol(function) {
        None => format!("no function {function}"),
        Some(_) => format!("{function} cannot be probed"),
    })
}

/// Returns the reason why the address of a symbol is not known; `None` if it is.
fn no_address(what: &str, name: &str, kernel: &Inspected) -> Option<String> {
    match (&kernel.symbols, kernel.symbol(name)) {
        (Err(why), _) => Some(format!("the address of {name} is not known: {why}")),
        (Ok(_), None) => Some(format!("no {what} {name}")),
        (Ok(_), Some(symbol)) if symbol.address == 0 => {
            Some(format!("the address of {name} is hidden (kernel.kptr_restrict)"))
        }
        (Ok(_), Some(_)) => None,
    }
}

/// Iterates over the hooks of every alternative of every signal.
fn every_hook() -> impl Iterator<Item = &'static Hook> {
    SIGNALS.iter().flat_map(|signal| signal.hook_sets).flat_map(|hooks| hooks.iter())
}

/// Lists the functions of every hook, and those whose presence is a fact.
fn functions() -> Vec<&'static str> {
    let hooks = every_hook().filter_map(Hook::function);
    let names: BTreeSet<_> = hooks.chain(facts::HELPERS.iter().copied()).collect();
    names.into_iter().collect()
}

/// Lists the variables of every hook, and those that facts come from.
fn variables() -> Vec<&'static str> {
    let hooks = every_hook().filter_map(|hook| match *hook {
        Hook::Run { variable, .. } => Some(variable),
        _ => None,
    });
    let names: BTreeSet<_> = hooks.chain(facts::VARIABLES.iter().copied()).collect();
    names.into_iter().collect()
}

/// Lists the tracepoints of every hook.
fn tracepoints() -> Vec<&'static str> {
    let hooks = every_hook();
    let names: BTreeSet<_> = hooks
        .filter_map(|hook| match *hook {
            Hook::Raw { tracepoint, .. } => Some(tracepoint),
            _ => None,
        })
        .collect();
    names.into_iter().collect()
}
