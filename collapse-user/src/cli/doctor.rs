//! `collapse doctor`

use serde::Serialize;

use super::{Format, output::Output};
use crate::{
    exit::{Exit, Failure, OrExit as _},
    kernel::inspect::Inspected,
    plan::{Coverage, Mmu, Plan, obstacles},
    report::{SignalReport, release},
};

/// The answer.
#[derive(Serialize)]
struct Diagnosis<'a> {
    schema: &'static str,
    kernel: String,
    mmu: Mmu,
    /// What makes measuring impossible, if anything.
    obstacle: Option<String>,
    coverage: Vec<SignalReport>,
    /// Everything that was found out about the kernel.
    inspected: &'a Inspected,
}

pub(super) fn run(format: Format) -> Result<Exit, Failure> {
    let (plan, host) = Plan::for_running_kernel();
    let coverage = plan.coverage();
    let obstacle = obstacles(&host).into_iter().find(|obstacle| obstacle.fatal);
    let obstacle = obstacle.map(|obstacle| obstacle.to_string());
    let exit = match &obstacle {
        Some(_) => Exit::CannotMeasure,
        None if coverage.missing().next().is_some() => Exit::Partial,
        None => Exit::Ok,
    };
    let text = match format {
        Format::Text => text(&host, &coverage, obstacle.as_deref()),
        Format::Json => {
            let diagnosis = Diagnosis {
                schema: "collapse.doctor/1",
                kernel: release(&host),
                mmu: coverage.mmu,
                obstacle,
                coverage: coverage.signals.iter().map(SignalReport::new).collect(),
                inspected: &host,
            };
            let mut json = serde_json::to_string_pretty(&diagnosis).or_exit(Exit::Output)?;
            json.push('\n');
            json
        }
    };
    Output::open(None)?.write(&text)?;
    Ok(exit)
}

fn text(host: &Inspected, coverage: &Coverage, obstacle: Option<&str>) -> String {
    let mut lines = vec![format!("kernel {}, {}", release(host), coverage.mmu.label())];
    if let Some(obstacle) = obstacle {
        lines.push(format!("nothing can be measured: {obstacle}"));
    }
    for status in &coverage.signals {
        let name = status.signal.name;
        lines.push(match status.way {
            Some(way) => {
                let hooks: Vec<_> = way.iter().map(ToString::to_string).collect();
                format!("  ok  {name:<18} {}", hooks.join(", "))
            }
            None => format!(
                "  --  {name:<18} blind to: {} ({})",
                status.signal.loses,
                status.reason.as_deref().unwrap_or("unknown")
            ),
        });
    }
    lines.push(String::new());
    lines.join("\n")
}
