//! `collapse doctor`: what can be seen on this kernel, by which hooks, and what is in the way.

mod bugs;
mod check;
mod text;
mod version;

use serde::Serialize;

use self::{bugs::KnownBugs, check::Check};
use crate::{
    exit::Exit,
    kernel::inspect::Inspected,
    plan::{Coverage, InspectionDepth, Mmu, Obstacle, Paging, Plan, obstacles},
    report::SignalReport,
    watch::Setup,
};

/// The state of the running kernel, as far as it concerns measuring.
#[derive(Serialize)]
pub struct Diagnosis {
    schema: &'static str,
    kernel: String,
    mmu: Mmu,
    #[serde(flatten)]
    paging: Paging,
    /// The obstacle that makes measuring impossible, if there is one.
    obstacle: Option<String>,
    /// Everything in the way.
    obstacles: Vec<Obstacle>,
    /// Bugs of KVM that bear on huge pages and that this version has.
    #[serde(flatten)]
    bugs: KnownBugs,
    coverage: Vec<SignalReport>,
    /// The attempt to attach everything; `None` if it was not made.
    check: Option<Check>,
    /// Everything that was found out about the kernel.
    inspected: Inspected,
}

impl Diagnosis {
    /// Looks at the running kernel; with `attach`, also attaches everything for a second. With
    /// `verbose`, the verifier's log of a program that it refused is kept.
    pub fn of_running_kernel(attach: bool, verbose: bool, setup: Setup) -> Self {
        let (plan, host) = Plan::for_running_kernel(setup.fault_latency, InspectionDepth::Thorough);
        Self::new(&plan, host, attach.then_some((setup, verbose)))
    }

    fn new(plan: &Plan, host: Inspected, attach: Option<(Setup, bool)>) -> Self {
        let mut obstacles = obstacles(&host);
        let mut coverage = plan.coverage();
        let mut check = None;
        let is_fatal = |obstacle: &Obstacle| obstacle.fatal;
        if let Some((setup, verbose)) = attach.filter(|_| !obstacles.iter().any(is_fatal)) {
            let (result, impossible) = Check::run(plan, setup, verbose, &mut coverage);
            obstacles.extend(impossible);
            check = result;
        }
        let fatal = obstacles.iter().find(|obstacle| obstacle.fatal);
        Self {
            schema: "collapse.doctor/1",
            kernel: host.release(),
            mmu: coverage.mmu,
            paging: coverage.paging,
            obstacle: fatal.map(ToString::to_string),
            obstacles,
            bugs: KnownBugs::of(&host, coverage.mmu, coverage.paging),
            coverage: signals(&coverage),
            check,
            inspected: host,
        }
    }

    /// The diagnosis for people. The text ends with a line break.
    pub fn text(&self) -> String {
        text::render(self)
    }

    /// The diagnosis as one JSON object. The text ends with a line break.
    pub fn json(&self) -> serde_json::Result<String> {
        Ok(serde_json::to_string_pretty(self)? + "\n")
    }

    /// How the program ends.
    pub fn exit(&self) -> Exit {
        if self.obstacle.is_some() {
            Exit::CannotMeasure
        } else if self.coverage.iter().any(|signal| !signal.seen) {
            Exit::Partial
        } else {
            Exit::Ok
        }
    }
}

fn signals(coverage: &Coverage) -> Vec<SignalReport> {
    coverage.signals.iter().map(SignalReport::new).collect()
}
