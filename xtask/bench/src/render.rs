//! The tables of one kernel's run, in Markdown.

use super::{
    cases::{BenchCase, Part},
    document::{or_dash, table},
    figures::{Figures, Measured},
    scenario::PhaseCosts,
};

/// A case and its outcome.
pub struct CaseRun<'a> {
    /// The case.
    pub case: &'a BenchCase,
    /// The measurements, or the reason that there are none.
    pub outcome: Result<Measured, String>,
}

const COST: [&str; 2] = ["tool", "reports, for each SPTE change"];
/// Columns of [`above`].
const FIGURES: [&str; 6] = [
    "per SPTE change",
    "per write fault",
    "per mapped page",
    "dirty-touch phase",
    "dirty-log cycle",
    "all phases",
];
const USE: [&str; 8] = [
    "tool",
    "start, M",
    "stop, M",
    "CPU of the tool meanwhile, M",
    "resident, MiB",
    "eBPF in the kernel, MiB",
    "SPTE changes reported",
    "events lost",
];
const CHECKS: [&str; 6] = [
    "in the same run",
    "perf stat",
    "collapse: totals",
    "of these, in the life of a mapping",
    "records + open blocks",
    "lost",
];
const CONTENTION: &str = "above the untraced guest with as many vCPUs";
const SCALE: [&str; 5] = [
    "collapse live beside idle VMs",
    "CPU per second, M",
    "share of a core at 3 GHz and 1 instruction a cycle",
    "resident, MiB",
    "eBPF in the kernel, MiB",
];

/// All tables.
pub fn tables(runs: &[CaseRun]) -> String {
    let base = runs.iter().find(|ran| ran.case.part == Part::Base);
    let base = base.and_then(|ran| ran.outcome.as_ref().ok()?.phases.as_ref());
    let of = |part| runs.iter().filter(move |ran| ran.case.part == part);
    let costs = of(Part::Cost).map(|ran| cost(ran, base));
    let costs: Vec<_> = base.map(untraced).into_iter().chain(costs).collect();
    let uses = of(Part::Cost).filter(|ran| ran.case.tool.is_any() && ran.outcome.is_ok());
    let uses: Vec<_> = uses.map(usage).collect();
    let checks: Vec<_> = of(Part::Check).map(check).collect();
    let scale: Vec<_> = of(Part::Scale).map(scale).collect();
    let contention: Vec<_> = of(Part::Contention).map(|ran| contention(ran, runs)).collect();
    let parts = [
        ([&COST[..], &FIGURES].concat(), costs),
        (USE.to_vec(), uses),
        (CHECKS.to_vec(), checks),
        (SCALE.to_vec(), scale),
        ([&[CONTENTION], &FIGURES[..], &["lost or unknown"]].concat(), contention),
    ];
    let tables = parts.iter().filter(|(_, rows)| !rows.is_empty());
    tables.map(|(head, rows)| table(head, rows)).collect::<Vec<_>>().join("\n")
}

/// The row that all are compared with: all instructions, not just those above the base.
fn untraced(base: &PhaseCosts) -> Vec<String> {
    let all = Figures::new(&PhaseCosts::new(), base);
    let mut row = vec!["no tracing, all instructions".to_owned(), "nothing".to_owned()];
    row.extend([all.per_change, all.per_fault, all.per_install].map(|n| rounded(n, 0)));
    row.extend([(); 3].map(|()| or_dash(None::<u8>)));
    row
}

fn cost(ran: &CaseRun, base: Option<&PhaseCosts>) -> Vec<String> {
    let mut row = vec![ran.case.name.to_owned(), ran.case.reports.to_owned()];
    let phases = match &ran.outcome {
        Ok(measured) => measured.phases.as_ref(),
        Err(reason) => {
            row[1].clone_from(reason);
            None
        }
    };
    row.extend(above(base, phases));
    row
}

/// The figures of a case above its base, instructions and percent.
fn above(base: Option<&PhaseCosts>, phases: Option<&PhaseCosts>) -> [String; 6] {
    let figures = base.zip(phases).map(|(base, phases)| Figures::new(base, phases));
    let number = |pick: fn(&Figures) -> f64| {
        or_dash(figures.as_ref().map(|figures| rounded(pick(figures), 0)))
    };
    let percent = |pick: fn(&Figures) -> f64| {
        or_dash(figures.as_ref().map(|figures| rounded(pick(figures), 1) + " %"))
    };
    [
        number(|figures| figures.per_change),
        number(|figures| figures.per_fault),
        number(|figures| figures.per_install),
        percent(|figures| figures.dirty),
        percent(|figures| figures.cycle),
        percent(|figures| figures.all),
    ]
}

/// A case above the first one that does the same work without tracing; that one shows all instructions.
fn contention(ran: &CaseRun, runs: &[CaseRun]) -> Vec<String> {
    let phases = |ran: &'_ CaseRun| ran.outcome.as_ref().ok()?.phases.clone();
    let base = runs.iter().find(|other| {
        other.case.part == Part::Contention
            && !other.case.tool.is_any()
            && other.case.does_work_of(ran.case)
    });
    let is_base = base.is_some_and(|base| base.case.name == ran.case.name);
    let mut row = vec![name(ran)];
    if is_base {
        row[0].push_str(", all instructions");
        let all = phases(ran).map(|phases| Figures::new(&PhaseCosts::new(), &phases));
        let all = all.map(|all| [all.per_change, all.per_fault, all.per_install]);
        row.extend((0..3).map(|at| or_dash(all.map(|all| rounded(all[at], 0)))));
        row.extend([(); 3].map(|()| or_dash(None::<u8>)));
    } else {
        row.extend(above(base.and_then(phases).as_ref(), phases(ran).as_ref()));
    }
    let seen = ran.outcome.as_ref().ok().map(|measured| measured.seen);
    row.push(or_dash(seen.and_then(|seen| Some(seen.lost? + seen.unattributed?))));
    row
}

fn mib(bytes: Option<u64>) -> String {
    or_dash(bytes.map(|bytes| rounded(bytes as f64 / f64::from(1 << 20), 1)))
}

/// A number with `digits` digits after the point, and no minus before a zero.
fn rounded(number: f64, digits: usize) -> String {
    let text = format!("{number:.digits$}");
    let is_zero = text.trim_start_matches('-').bytes().all(|byte| b"0.".contains(&byte));
    if is_zero { text.trim_start_matches('-').to_owned() } else { text }
}

fn usage(ran: &CaseRun) -> Vec<String> {
    let measured = ran.outcome.as_ref().ok();
    let millions = |pick: fn(&Measured) -> u64| {
        or_dash(measured.map(|measured| format!("{:.1}", pick(measured) as f64 / 1e6)))
    };
    let is_process = ran.case.tool.is_process();
    let only = |wanted: bool, text: String| if wanted { text } else { or_dash(None::<u8>) };
    vec![
        ran.case.name.to_owned(),
        only(ran.case.starts_work, millions(Measured::start)),
        only(ran.case.starts_work, millions(Measured::stop)),
        only(is_process, millions(Measured::cpu)),
        only(is_process, mib(measured.and_then(|measured| measured.work.resident))),
        only(is_process, mib(measured.map(|measured| measured.work.bpf))),
        or_dash(measured.and_then(|measured| measured.seen.changes)),
        or_dash(measured.and_then(|measured| measured.seen.lost)),
    ]
}

fn check(ran: &CaseRun) -> Vec<String> {
    let measured = ran.outcome.as_ref().ok();
    vec![
        name(ran),
        or_dash(measured.and_then(|measured| measured.perf)),
        or_dash(measured.and_then(|measured| measured.seen.changes)),
        or_dash(measured.and_then(|measured| measured.seen.of_life)),
        or_dash(measured.and_then(|measured| measured.seen.recorded)),
        or_dash(measured.and_then(|measured| measured.seen.lost)),
    ]
}

fn scale(ran: &CaseRun) -> Vec<String> {
    let measured = ran.outcome.as_ref().ok();
    let cpu = measured.map(Measured::cpu_per_second);
    vec![
        name(ran),
        or_dash(cpu.map(|cpu| rounded(cpu / 1e6, 2))),
        or_dash(cpu.map(|cpu| rounded(cpu / 3e9 * 100.0, 2) + " %")),
        mib(measured.and_then(|measured| measured.work.resident)),
        mib(measured.map(|measured| measured.work.bpf)),
    ]
}

/// The case's name, and the reason if it has no figures.
fn name(ran: &CaseRun) -> String {
    match &ran.outcome {
        Ok(_) => ran.case.name.to_owned(),
        Err(reason) => format!("{}: {reason}", ran.case.name),
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::{cases::CASES, figures::tests::measured};

    #[test]
    fn rows_are_above_the_base() {
        let runs: Vec<CaseRun> = CASES
            .iter()
            .map(|case| CaseRun {
                case,
                outcome: match case.name {
                    "perf stat, 1 event" => Err("not here".to_owned()),
                    name if name.starts_with("collapse report") => Ok(measured(450)),
                    _ => Ok(measured(200)),
                },
            })
            .collect();
        let text = tables(&runs);
        let row =
            |start: &str| text.lines().filter(|line| line.starts_with(start)).collect::<Vec<_>>();
        let collapse = row("| collapse report |");
        assert!(collapse[0].contains("| 250 | 0 |"), "{collapse:?}");
        assert!(collapse[1].contains("| 150.0 | 50.0 | 2.5 | 3.0 | 0.5 | 7 | 0 |"), "{collapse:?}");
        assert_eq!(
            row("| perf stat, 1 event |"),
            ["| perf stat, 1 event | not here | – | – | – | – | – | – |"]
        );
        assert_eq!(row("| both, 64 MiB |"), ["| both, 64 MiB | 7 | 7 | 6 | 5 | 0 |"]);
        assert_eq!(row("| 10 VMs |"), ["| 10 VMs | 5.00 | 0.17 % | 3.0 | 0.5 |"]);
        assert!(row("| no tracing, all")[0].contains("| nothing | 200 | 1000 | 0 | – |"));
        assert!(row("| warm-up").is_empty());
        let crowd = row("| collapse report, 8 vCPUs |");
        assert!(crowd[0].contains("| 250 | 0 |"), "{crowd:?}");
        assert!(row("| no tracing, 8 vCPUs, all instructions |")[0].contains("| 200 | 1000 |"));
    }

    #[test]
    fn no_minus_before_a_zero() {
        assert_eq!(
            (rounded(-0.04, 1), rounded(-0.06, 1), rounded(-0.4, 0)),
            ("0.0".into(), "-0.1".into(), "0".into())
        );
    }
}
