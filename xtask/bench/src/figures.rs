//! From phases to figures: the cost of a case above the run without tracing.

use serde::Deserialize;

use super::{
    scenario::{CYCLE, FRESH_MEMORY, PAGES, PhaseCosts},
    seen::Seen,
};

/// The output of `meter cost`. Times are instructions, as guest time is.
#[derive(Clone, Copy, Debug, Deserialize)]
pub struct MeteredCost {
    /// Before the command was started.
    pub start_ns: u64,
    /// After it had ended.
    pub end_ns: u64,
    /// Time that the machine was busy before the command was started.
    pub busy_start_ns: u64,
    /// Time that the machine was busy when the command had ended.
    pub busy_end_ns: u64,
    /// CPU time that the observer had used before.
    pub cpu_before_ns: u64,
    /// CPU time that the observer had used when the command had ended.
    pub cpu_after_ns: u64,
    /// Most memory that the observer ever had resident, bytes.
    pub resident: Option<u64>,
    /// Kernel memory of the observer's eBPF maps and programs, bytes.
    pub bpf: u64,
}

impl MeteredCost {
    /// Turns times into instructions.
    pub fn in_instructions(self, ns_per_instruction: u64) -> Self {
        let instructions = |ns: u64| ns / ns_per_instruction;
        Self {
            start_ns: instructions(self.start_ns),
            end_ns: instructions(self.end_ns),
            busy_start_ns: instructions(self.busy_start_ns),
            busy_end_ns: instructions(self.busy_end_ns),
            cpu_before_ns: instructions(self.cpu_before_ns),
            cpu_after_ns: instructions(self.cpu_after_ns),
            ..self
        }
    }
}

/// A case that came to its end.
#[derive(Clone, Debug)]
pub struct Measured {
    /// The tool from start to end.
    pub tool: MeteredCost,
    /// The workload, and the tool's use meanwhile.
    pub work: MeteredCost,
    /// The phases, if it was the cycle.
    pub phases: Option<PhaseCosts>,
    /// The tool's own counts.
    pub seen: Seen,
    /// SPTE changes that `perf stat` counted in the same run, if it did.
    pub perf: Option<u64>,
}

/// The cost of a case, in instructions above the run without tracing.
#[derive(Clone, Copy, Debug, PartialEq)]
pub struct Figures {
    /// Per SPTE change, where nothing else happens: `KVM_GET_DIRTY_LOG` protecting 16384 SPTEs.
    pub per_change: f64,
    /// Per write fault under dirty logging, on KVM's fast path.
    pub per_fault: f64,
    /// Per fault that maps a page: a fault and an SPTE change.
    pub per_install: f64,
    /// Percent of the first pass of writes under dirty logging.
    pub dirty: f64,
    /// Percent of dirty logging from on to off.
    pub cycle: f64,
    /// Percent of all phases in which the guest or KVM work.
    pub all: f64,
}

impl Figures {
    /// Compares the phases of a case with those of the run without tracing.
    pub fn new(base: &PhaseCosts, case: &PhaseCosts) -> Self {
        let sum = |phases: &PhaseCosts, names: &[&str]| -> f64 {
            names.iter().filter_map(|name| phases.get(name)).sum::<u64>() as f64
        };
        let per_page = |name| (sum(case, &[name]) - sum(base, &[name])) / PAGES as f64;
        let percent = |names: &[&str]| (sum(case, names) / sum(base, names) - 1.0) * 100.0;
        // The host's cost of fresh memory differs from run to run.
        let all = base.keys().copied().filter(|name| *name != FRESH_MEMORY);
        let all: Vec<&str> = all.collect();
        Self {
            per_change: per_page("getlog"),
            per_fault: per_page("dirty"),
            per_install: per_page("pop4k"),
            dirty: percent(&["dirty"]),
            cycle: percent(&CYCLE),
            all: percent(&all),
        }
    }
}

impl Measured {
    /// Instructions of the whole machine from the tool's start until the workload starts.
    pub fn start(&self) -> u64 {
        self.work.busy_start_ns.saturating_sub(self.tool.busy_start_ns)
    }

    /// Instructions of the whole machine from the workload's end to the tool's.
    pub fn stop(&self) -> u64 {
        self.tool.busy_end_ns.saturating_sub(self.work.busy_end_ns)
    }

    /// CPU time of the tool in each second that the workload ran, in instructions.
    pub fn cpu_per_second(&self) -> f64 {
        self.cpu() as f64 * 1e9 / self.work.end_ns.saturating_sub(self.work.start_ns) as f64
    }

    /// CPU time of the tool while the workload ran, in instructions.
    pub fn cpu(&self) -> u64 {
        self.work.cpu_after_ns.saturating_sub(self.work.cpu_before_ns)
    }
}

#[cfg(test)]
pub mod tests {
    use super::*;

    /// A case with `getlog` instructions per protected page.
    pub fn measured(getlog: u64) -> Measured {
        let tool = MeteredCost {
            start_ns: 0,
            end_ns: 500_000_000,
            busy_start_ns: 1_000_000,
            busy_end_ns: 400_000_000,
            cpu_before_ns: 0,
            cpu_after_ns: 0,
            resident: None,
            bpf: 0,
        };
        let work = MeteredCost {
            busy_start_ns: 151_000_000,
            busy_end_ns: 350_000_000,
            cpu_after_ns: 2_500_000,
            resident: Some(3 << 20),
            bpf: 1 << 19,
            ..tool
        };
        let phases = [("getlog", getlog * PAGES), ("dirty", 1000 * PAGES)];
        let seen = Seen {
            changes: Some(7),
            of_life: Some(6),
            recorded: Some(5),
            lost: Some(0),
            ..Seen::default()
        };
        Measured { tool, work, phases: Some(phases.into()), seen, perf: Some(7) }
    }

    #[test]
    fn figures_are_above_the_base() {
        let base: PhaseCosts = [
            ("dirty_on", 4_000_000),
            ("dirty", 1000 * PAGES),
            ("getlog", 100 * PAGES),
            ("pop4k", 3000 * PAGES),
        ]
        .into();
        let mut case = base.clone();
        case.insert("dirty", 1150 * PAGES);
        case.insert("getlog", 350 * PAGES);
        let figures = Figures::new(&base, &case);
        let per_page = [figures.per_change, figures.per_fault, figures.per_install];
        assert_eq!(per_page.map(f64::to_bits), [250.0, 150.0, 0.0].map(f64::to_bits));
        assert!((figures.dirty - 15.0).abs() < 1e-9);
        let cycle = 400.0 * PAGES as f64 / (4e6 + 1100.0 * PAGES as f64) * 100.0;
        assert!((figures.cycle - cycle).abs() < 1e-9);
    }
}
