//! `collapse doctor`

mod check;
mod text;

use serde::Serialize;

use self::check::Check;
use crate::{
    cli::{DoctorArgs, Format, Setup},
    exit::{Exit, Failure, OrExit as _},
    kernel::inspect::Inspected,
    output::Output,
    plan::{Coverage, Look, Mmu, Obstacle, Plan, obstacles},
    report::SignalReport,
};

/// The answer.
#[derive(Serialize)]
struct Diagnosis<'a> {
    schema: &'static str,
    kernel: String,
    mmu: Mmu,
    /// What makes measuring impossible, if anything.
    obstacle: Option<String>,
    /// Everything in the way.
    obstacles: Vec<Obstacle>,
    coverage: Vec<SignalReport>,
    /// What came of attaching everything; `None` if it was not tried.
    check: Option<Check>,
    /// Everything that was found out about the kernel.
    inspected: &'a Inspected,
}

impl<'a> Diagnosis<'a> {
    /// Looks at the host, and with `attach` tries what was planned for it.
    fn new(plan: &Plan, host: &'a Inspected, attach: bool, setup: Setup) -> Self {
        let mut obstacles = obstacles(host);
        let mut coverage = plan.coverage();
        let mut check = None;
        if attach && !obstacles.iter().any(|obstacle| obstacle.fatal) {
            let (result, impossible) = Check::run(plan, setup, &mut coverage);
            obstacles.extend(impossible);
            check = result;
        }
        let fatal = obstacles.iter().find(|obstacle| obstacle.fatal);
        Self {
            schema: "collapse.doctor/1",
            kernel: host.release(),
            mmu: coverage.mmu,
            obstacle: fatal.map(ToString::to_string),
            obstacles,
            coverage: signals(&coverage),
            check,
            inspected: host,
        }
    }

    fn exit(&self) -> Exit {
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

pub(crate) fn run(args: &DoctorArgs, setup: Setup) -> Result<Exit, Failure> {
    let (plan, host) = Plan::for_running_kernel(setup.fault_latency, Look::Thorough);
    let diagnosis = Diagnosis::new(&plan, &host, !args.no_attach, setup);
    let text = match args.format {
        Format::Text => text::render(&diagnosis),
        Format::Json => {
            let mut json = serde_json::to_string_pretty(&diagnosis).or_exit(Exit::Output)?;
            json.push('\n');
            json
        }
    };
    Output::open(None)?.write(&text)?;
    Ok(diagnosis.exit())
}
