//! The diagnosis for people.

use std::fmt::{self, Write as _};

use super::{Check, Diagnosis};
use collapse_model::wording::known;
use collapse_report::SignalReport;

/// Writes the diagnosis. The text ends with a line break.
pub fn render(diagnosis: &Diagnosis) -> String {
    let mut out = String::new();
    // Writing to a string cannot fail.
    let _ = write(&mut out, diagnosis);
    out
}

fn write(out: &mut String, diagnosis: &Diagnosis) -> fmt::Result {
    writeln!(out, "kernel {}, {}", diagnosis.kernel, diagnosis.paging.label(diagnosis.mmu))?;
    for obstacle in &diagnosis.obstacles {
        let weight = if obstacle.fatal { "nothing can be measured" } else { "less can be seen" };
        writeln!(out, "{weight}: {obstacle}")?;
    }
    let check = diagnosis.check.as_ref();
    if let Some(check) = check {
        let seconds = check.watched_ns as f64 / 1e9;
        writeln!(out, "\n      {:<18} {:>8}  attached for {seconds:.1} s", "signal", "hits")?;
    }
    for signal in &diagnosis.coverage {
        write_signal(out, signal, check)?;
    }
    if let Some(check) = check {
        write_programs(out, check)?;
    }
    writeln!(out, "\n{}", diagnosis.bugs.lines().join("\n"))?;
    check.map_or(Ok(()), |check| write_verifier_logs(out, check))
}

/// Writes why the verifier refused programs, where that was asked for.
fn write_verifier_logs(out: &mut String, check: &Check) -> fmt::Result {
    for (number, hook) in check.hooks.iter().enumerate() {
        // Signals that share a hook share its refusal.
        let shown = check.hooks[..number].iter().any(|earlier| earlier.hook == hook.hook);
        if let Some(log) = hook.verifier_log.as_ref().filter(|_| !shown) {
            let programs = hook.programs.join(", ");
            writeln!(out, "\nverifier log of {programs} at {}:\n{}", hook.hook, log.trim_end())?;
        }
    }
    Ok(())
}

fn write_signal(out: &mut String, signal: &SignalReport, check: Option<&Check>) -> fmt::Result {
    let word = if signal.seen { "ok" } else { "--" };
    write!(out, "  {word}  {:<18} ", signal.signal)?;
    if let Some(check) = check {
        let hits = check.hits(&signal.signal).filter(|_| signal.seen);
        write!(out, "{:>8}  ", known(hits))?;
    }
    if signal.seen {
        return writeln!(out, "{}", signal.hooks.join(", "));
    }
    writeln!(
        out,
        "not seen: {} ({})",
        signal.loses.as_deref().unwrap_or_default(),
        signal.reason.as_deref().unwrap_or("unknown")
    )
}

fn write_programs(out: &mut String, check: &Check) -> fmt::Result {
    writeln!(
        out,
        "\n      {:<24} {:>8} {:>13} {:>11} {:>13}",
        "program", "hits", "instructions", "translated", "machine code"
    )?;
    for program in &check.programs {
        writeln!(
            out,
            "      {:<24} {:>8} {:>13} {:>9} B {:>11} B",
            program.program,
            known(program.hits),
            known(program.verified_instructions),
            known(program.translated_bytes),
            program.jited_bytes,
        )?;
    }
    Ok(())
}

#[cfg(test)]
mod tests {
    use std::path::Path;

    use super::*;
    use crate::{
        doctor::check::{HookCheck, ProgramCheck},
        kernel::inspect::Inspected,
        plan::{FaultLatency, Plan},
    };

    #[test]
    fn a_line_per_signal_and_program() {
        let path = Path::new(env!("CARGO_MANIFEST_DIR")).join("tests/fixtures/kernels/5.10.json");
        let host = Inspected::from_file(&path).unwrap();
        let plan = Plan::new(&host, FaultLatency::default());
        let mut diagnosis = Diagnosis::new(&plan, host, None);
        let planned = render(&diagnosis);
        let signals = diagnosis.coverage.len();
        assert_eq!(
            planned.lines().count(),
            1 + diagnosis.obstacles.len() + signals + 2,
            "{planned}"
        );
        let hook = |hook: &str, hits| HookCheck {
            signal: "collapse",
            hook: hook.to_owned(),
            programs: vec!["enter", "leave"],
            counted: "kvm_mmu_recover_huge_pages".to_owned(),
            attached: true,
            reason: None,
            verifier_log: None,
            hits: Some(hits),
        };
        let refused = HookCheck {
            attached: false,
            reason: Some("the kernel refuses program enter: invalid".to_owned()),
            verifier_log: Some("0: R1=ctx()\n1: invalid\n".to_owned()),
            hits: None,
            ..hook("c", 0)
        };
        diagnosis.check = Some(Check {
            watched_ns: 1_000_000_000,
            hooks: vec![hook("a", 3), hook("b", 3), refused],
            programs: vec![ProgramCheck {
                program: "collapse".to_owned(),
                hits: Some(3),
                verified_instructions: None,
                translated_bytes: Some(800),
                jited_bytes: 512,
            }],
        });
        let tried = render(&diagnosis);
        let line = |start: &str| tried.lines().find(|line| line.trim().starts_with(start));
        assert!(line("ok  collapse ").unwrap().contains("       3  kprobe"), "{tried}");
        assert!(line("--  gauges ").unwrap().contains("       –  not seen"), "{tried}");
        let log = "\nverifier log of enter, leave at c:\n0: R1=ctx()\n1: invalid\n";
        assert!(tried.ends_with(log), "{tried}");
        assert!(line("collapse ").unwrap().ends_with("3             –       800 B         512 B"));
    }
}
