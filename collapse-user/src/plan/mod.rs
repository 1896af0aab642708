//! Which hooks to use on the running kernel. Pure: a plan follows from an [`Inspected`] value, so
//! plans for every kernel are tested from recordings.

mod facts;
mod latency;
mod obstacles;
mod signals;
#[cfg(test)]
mod tests;

use std::collections::BTreeSet;
use std::path::Path;

use collapse_common::{Selection, SpteLayout, abi::Kernel};

pub use latency::FaultLatency;
pub use obstacles::{NO_KVM, Obstacle, obstacles};
pub use signals::{Hook, Layout, SIGNALS, Signal};

use crate::kernel::inspect::{Inspected, Wanted};

/// What to load and attach, and with which facts.
#[derive(Debug)]
pub struct Plan {
    /// Facts for the eBPF side.
    pub kernel: Kernel,
    /// Which changes the eBPF side records.
    pub selection: Selection,
    coverage: Coverage,
}

/// Which signals are seen.
#[derive(Clone, Debug)]
pub struct Coverage {
    /// The MMU that VMs use.
    pub mmu: Mmu,
    /// Every signal.
    pub signals: Vec<SignalStatus>,
    /// One in how many guest faults is timed; 0 for none.
    pub timed_faults: u32,
    /// Where the bits of an SPTE are.
    pub spte: SpteLayout,
}

/// How one signal is seen, or why not.
#[derive(Clone, Debug)]
pub struct SignalStatus {
    /// The signal.
    pub signal: &'static Signal,
    /// Hooks in use; `None` if it is not seen.
    pub way: Option<&'static [Hook]>,
    /// Why it is not seen.
    pub reason: Option<String>,
}

/// The MMU that KVM uses for ordinary guests.
#[derive(
    Clone, Copy, Debug, PartialEq, Eq, serde::Serialize, serde::Deserialize, schemars::JsonSchema,
)]
#[serde(rename_all = "snake_case")]
pub enum Mmu {
    /// Nested paging, page tables kept by the TDP MMU: the default from 5.14 on.
    Tdp,
    /// Nested paging, page tables kept with rmaps: `tdp_mmu=N`, the default of 5.10.
    Rmap,
    /// No nested paging: `npt=0`, `ept=0`.
    Shadow,
    /// The module parameters could not be read.
    Unknown,
}

impl Mmu {
    fn of(kernel: &Inspected) -> Self {
        match (&kernel.kvm.nested_paging, &kernel.kvm.tdp_mmu) {
            (Ok(false), _) => Self::Shadow,
            (Ok(true), Ok(true)) => Self::Tdp,
            (Ok(true), Ok(false)) => Self::Rmap,
            _ => Self::Unknown,
        }
    }

    /// The signal without which SPTE changes of this MMU are not seen.
    pub fn essential_signal(self) -> &'static str {
        match self {
            Self::Tdp | Self::Unknown => "tdp_changes",
            Self::Rmap | Self::Shadow => "rmap_changes",
        }
    }

    /// In words.
    pub fn label(self) -> &'static str {
        match self {
            Self::Tdp => "TDP MMU",
            Self::Rmap => "rmap MMU",
            Self::Shadow => "shadow paging",
            Self::Unknown => "MMU unknown",
        }
    }
}

impl Plan {
    /// Looks at the running kernel and plans for it. With `look` quick, functions that cannot be probed
    /// are taken for such that can: attaching will tell.
    pub fn for_running_kernel(latency: FaultLatency, look: Look) -> (Self, Inspected) {
        let kernel = inspect(Path::new("/"), look);
        (Self::new(&kernel, latency), kernel)
    }

    /// Plans for a kernel.
    pub fn new(kernel: &Inspected, latency: FaultLatency) -> Self {
        let mut facts = facts::facts(kernel);
        let mmu = Mmu::of(kernel);
        let needed = SIGNALS.iter().filter(|signal| signal.only.is_none_or(|only| only == mmu));
        let signals = needed.map(|signal| SignalStatus::plan(signal, kernel)).collect();
        let mut coverage = Coverage { mmu, signals, timed_faults: 0, spte: facts.spte };
        if latency == FaultLatency::OFF {
            coverage.leave_out("fault_latency", "switched off (--fault-latency off)");
        }
        if coverage.sees("fault_latency") {
            coverage.timed_faults = latency.one_in();
        }
        facts.time_faults = coverage.timed_faults;
        if !coverage.has_kvm_count_faults() {
            (facts.vcpu_taken, facts.vcpu_fast) = (Kernel::UNKNOWN, Kernel::UNKNOWN);
        }
        Self { kernel: facts, selection: Selection::DEFAULT, coverage }
    }

    /// What will be seen if everything attaches.
    pub fn coverage(&self) -> Coverage {
        self.coverage.clone()
    }
}

impl Coverage {
    /// Whether the signal called `name` is seen.
    pub fn sees(&self, name: &str) -> bool {
        self.signals.iter().any(|status| status.signal.name == name && status.way.is_some())
    }

    /// The signal called `name` is not to be seen, and why.
    pub fn leave_out(&mut self, name: &str, why: &str) {
        for status in self.signals.iter_mut().filter(|status| status.signal.name == name) {
            status.way = None;
            status.reason.get_or_insert_with(|| why.to_owned());
        }
    }

    /// Whether KVM's own counts of guest faults are taken over.
    pub fn has_kvm_count_faults(&self) -> bool {
        let way = |status: &SignalStatus| status.way.filter(|_| status.signal.name == "faults");
        let mut hooks = self.signals.iter().filter_map(way).flatten();
        hooks.any(|hook| matches!(hook, Hook::Read { .. }))
    }

    /// The same where nothing is seen at all, and `why`.
    #[must_use]
    pub fn blind(&self, why: &str) -> Self {
        let blind = |status: &SignalStatus| SignalStatus {
            way: None,
            reason: Some(why.to_owned()),
            ..status.clone()
        };
        let signals = self.signals.iter().map(blind).collect();
        Self { mmu: Mmu::Unknown, signals, timed_faults: 0, spte: self.spte }
    }

    /// Signals that are not seen.
    pub fn missing(&self) -> impl Iterator<Item = &SignalStatus> {
        self.signals.iter().filter(|status| status.way.is_none())
    }
}

impl SignalStatus {
    fn plan(signal: &'static Signal, kernel: &Inspected) -> Self {
        let no_field = signal.fields.iter().find_map(|field| {
            facts::offset(kernel, field).err().map(|why| format!("{field}: {why}"))
        });
        let mut reasons = Vec::new();
        let way = match no_field {
            Some(reason) => {
                reasons.push(reason);
                None
            }
            None => signal.ways.iter().copied().find(|way| {
                let missing: Vec<_> = way.iter().filter_map(|hook| missing(hook, kernel)).collect();
                let usable = missing.is_empty();
                reasons.extend(missing);
                usable
            }),
        };
        let reason = way.is_none().then(|| reasons.join("; "));
        Self { signal, way, reason }
    }
}

/// How closely the running kernel is looked at.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Look {
    /// It is not read which functions can be probed, which takes longer than all the rest.
    Quick,
    /// At everything.
    Thorough,
}

/// Finds out what plans depend on, below `root` (`/`, unless in a test).
fn inspect(root: &Path, look: Look) -> Inspected {
    let symbols = symbols();
    let tracepoints = tracepoints();
    let offsets = facts::offsets();
    let wanted = Wanted {
        symbols: &symbols,
        tracepoints: &tracepoints,
        offsets: &offsets,
        sizes: facts::SIZES,
        constants: facts::CONSTANTS,
        functions: facts::FUNCTIONS,
        traceable: look == Look::Thorough,
    };
    Inspected::of_running_kernel(root, &wanted)
}

/// Why a hook cannot be used; `None` if it can, as far as is known.
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
        Hook::Entry { function, .. } | Hook::Pair { function, .. } => {
            if kernel.symbols.is_err() || kernel.can_probe(function) {
                return None;
            }
            Some(match kernel.symbol(function) {
                None => format!("no function {function}"),
                Some(_) => format!("{function} cannot be probed"),
            })
        }
        Hook::Read { field, .. } => {
            facts::offset(kernel, field).err().map(|why| format!("{field}: {why}"))
        }
        Hook::Run { variable, .. } => match (&kernel.symbols, kernel.symbol(variable)) {
            (Err(why), _) => Some(format!("the address of {variable} is not known: {why}")),
            (Ok(_), None) => Some(format!("no variable {variable}")),
            (Ok(_), Some(symbol)) if symbol.address == 0 => {
                Some(format!("the address of {variable} is hidden (kernel.kptr_restrict)"))
            }
            (Ok(_), Some(_)) => None,
        },
    }
}

/// Every symbol in the table, and those that facts come from.
fn symbols() -> Vec<&'static str> {
    let hooks = SIGNALS.iter().flat_map(|signal| signal.ways).flat_map(|way| way.iter());
    let names: BTreeSet<_> = hooks
        .filter_map(|hook| match *hook {
            Hook::Entry { function, .. } | Hook::Pair { function, .. } => Some(function),
            Hook::Run { variable, .. } => Some(variable),
            Hook::Raw { .. } | Hook::Read { .. } => None,
        })
        .chain(facts::VARIABLES.iter().copied())
        .collect();
    names.into_iter().collect()
}

fn tracepoints() -> Vec<&'static str> {
    let hooks = SIGNALS.iter().flat_map(|signal| signal.ways).flat_map(|way| way.iter());
    let names: BTreeSet<_> = hooks
        .filter_map(|hook| match *hook {
            Hook::Raw { tracepoint, .. } => Some(tracepoint),
            _ => None,
        })
        .collect();
    names.into_iter().collect()
}
