use std::collections::BTreeMap;

use clap::Parser as _;
use yaml_rust2::{Yaml, YamlLoader};

use super::*;
use crate::{
    cli::{Cli, Command},
    kernel::Machine,
    model::Model,
    plan::Mmu,
    report::{Required, gate::Demands},
};

/// A report that exceeds a budget and lacks coverage, or not.
fn report(over_budget: bool, uncovered: bool) -> Report {
    let coverage = collapse_feed::fixtures::full_coverage(Mmu::Tdp);
    let mut report = Report::new(&Model::default(), &coverage, Machine::default(), None);
    report.losses = BTreeMap::from([("ring_full_changes".into(), u64::from(over_budget))]);
    let budgets = vec!["losses == 0".parse().unwrap()];
    let demands = Demands { budgets, baseline: None, coverage: Some(Required::Full) };
    report.verdicts = demands.judge(&report);
    if let Some(required) = &mut report.verdicts.required_coverage {
        required.ok = !uncovered;
    }
    report
}

#[test]
fn a_budget_comes_before_coverage() {
    let verdict = |over_budget, uncovered| verdict(&report(over_budget, uncovered)).code();
    assert_eq!(verdict(true, true), 118);
    assert_eq!(verdict(false, true), 117);
    assert_eq!(verdict(false, false), 0);
}

#[test]
fn a_recorded_commands_failure_hides_no_budget() {
    let mut report = report(true, false);
    report.command = Some(CommandReport { argv: Vec::new(), status: Some(1), signal: None });
    assert_eq!(verdict(&report), Exit::Budget);
}

const GUIDE: &str = include_str!("../../../../docs/ci.md");

/// The guide's job for a hosted runner: a list of steps, each of which runs or uses something.
fn documented_steps() -> Vec<Yaml> {
    let (_, rest) = GUIDE.split_once("\n```yaml\n").unwrap();
    let (yaml, _) = rest.split_once("\n```").unwrap();
    let documents = YamlLoader::load_from_str(yaml).unwrap();
    assert_eq!(documents.len(), 1);
    documents[0]["jobs"]["huge-pages"]["steps"].as_vec().unwrap().clone()
}

/// Words as a shell takes them, as far as single quotes and spaces go.
fn words(command: &str) -> Vec<String> {
    let mut words = vec![String::new()];
    for (at, part) in command.split('\'').enumerate() {
        for (n, piece) in part.split(|c| at % 2 == 0 && c == ' ').enumerate() {
            if n > 0 {
                words.push(String::new());
            }
            if let Some(word) = words.last_mut() {
                word.push_str(piece);
            }
        }
    }
    words.retain(|word| !word.is_empty());
    words
}

#[test]
fn the_documented_job_is_right() {
    let steps = documented_steps();
    for step in &steps {
        let is = |key: &str| step[key].as_str().is_some();
        assert!(is("run") != is("uses"), "{step:?}");
    }
    let run = |step: &Yaml| step["run"].as_str().map(|run| run.trim().to_owned());
    let command = steps.iter().filter_map(run).find(|run| run.contains("collapse report")).unwrap();
    let words = words(&command);
    assert_eq!(words[0], "sudo");
    let cli = Cli::try_parse_from(&words[1..]).unwrap();
    let Some(Command::Report(args)) = cli.command else { panic!("no report: {command}") };
    assert_eq!(args.command, ["./my-migration-test"]);
    // What is uploaded and shown is what is written.
    let others: Vec<_> = steps.iter().map(|step| format!("{step:?}")).collect();
    for output in &args.output {
        let uses = others.iter().filter(|step| step.contains(output.to_str().unwrap()));
        assert!(uses.count() > 1, "nobody uses {}", output.display());
    }
}
