//! `collapse explain`

use std::time::Duration;

use clap::Args;
use collapse_report::{
    VmSelect,
    explain::{Explanation, render},
    gate::Budget,
};

use super::Format;
use crate::{
    exit::{Exit, Failure, OrExit as _},
    explain::explain,
    output::Output,
    settings::values::parse_duration,
};

const BUDGET_HELP: &str = "Comparison that must hold for every VM, such as 'huge_share >= 95%', \
    'debt_bytes == 0' or 'slots.misaligned == 0'. One that is not known does not hold. Can be repeated";

#[derive(Debug, Args)]
pub(super) struct ExplainArgs {
    /// Explain only these VMs: process id, name (with * and ?) or debugfs name (TID-FD). Can be repeated
    #[arg(long, value_name = "VM")]
    vm: Vec<VmSelect>,
    /// Show where the VMM has the memory of slots
    #[arg(long)]
    addresses: bool,
    /// Output format
    #[arg(long, short, value_enum, default_value_t)]
    format: Format,
    #[arg(long, value_name = "COMPARISON", value_parser = Budget::on_explanation, help = BUDGET_HELP)]
    budget: Vec<Budget>,
    /// Time that one VM may take; what is not found out by then is unknown
    #[arg(long, value_name = "TIME", value_parser = parse_duration, default_value = "2s")]
    limit: Duration,
}

pub(super) fn run(args: &ExplainArgs) -> Result<Exit, Failure> {
    let mut explanation = explain(&args.vm, args.limit)?;
    if !args.addresses {
        explanation.leave_out_addresses();
    }
    explanation.judge(&args.budget);
    Output::Stdout.write(&formatted(&explanation, args.format)?)?;
    Ok(if explanation.keeps_budgets() { Exit::Ok } else { Exit::Budget })
}

fn formatted(explanation: &Explanation, format: Format) -> Result<String, Failure> {
    Ok(match format {
        Format::Text => render(explanation, Output::Stdout.style()),
        Format::Json => serde_json::to_string_pretty(explanation).or_exit(Exit::Output)? + "\n",
    })
}
