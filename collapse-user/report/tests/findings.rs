//! Findings in every format, on recordings of real runs.

mod recorded;

use collapse_feed::{Coverage, Signal};
use collapse_model::{Model, findings};
use collapse_report::{
    Format, Report, Style,
    events::{EventFilter, EventWriter, LineFormat},
    gate::{Budget, Demands},
};
use serde_json::Value;

/// The report on a recording, with coverage as `change` leaves it.
fn report_with(name: &str, change: impl Fn(&mut Coverage)) -> Report {
    let (mut replay, mut model) = (recorded::open(name), Model::default());
    while let Some(update) = replay.next_update().expect("a whole recording") {
        model.update(&update, replay.coverage());
    }
    let mut coverage = replay.coverage().clone();
    change(&mut coverage);
    Report::new(&model, &coverage, replay.machine().clone(), None)
}

fn report(name: &str) -> Report {
    report_with(name, |_| ())
}

fn written(name: &str, format: Format) -> String {
    format.write(&report(name), Style::Plain).expect("every report can be written")
}

/// Recordings, and the gravest of what is found in them.
const RECORDINGS: [(&str, &str); 6] = [
    ("never-huge", "never_huge"),
    ("hugetlb-small", "hugetlb_mapped_small"),
    ("nx-undone", "nx_recovery_undone"),
    ("eager-off", "eager_split_off"),
    ("read-only", "recovered_read_only"),
    ("raced-small", "collapse_raced"),
];

#[test]
fn every_format_names_what_was_found() {
    for (name, finding) in RECORDINGS {
        for format in [Format::Text, Format::Json, Format::Markdown, Format::Html, Format::Csv] {
            let text = written(name, format).replace("\\_", "_");
            assert!(text.contains(finding), "{name} {format:?}");
        }
        let json: Value = serde_json::from_str(&written(name, Format::Json)).expect("JSON");
        let found = json["vms"][0]["findings"].as_array().expect("a list");
        let found = found.iter().find(|found| found["name"] == finding).expect(finding);
        assert!(found["since_ns"].is_u64() && found["evidence"][0]["value"].is_u64(), "{found}");
    }
}

/// They come before the counts, right after what was run.
#[test]
fn the_text_opens_with_what_was_found() {
    for (name, finding) in RECORDINGS {
        let text = written(name, Format::Text);
        let lines: Vec<_> = text.lines().filter(|line| !line.starts_with("command")).collect();
        assert_eq!(lines[1].split(':').next(), Some(finding), "{text}");
    }
    assert!(findings::names().all(|finding| !written("raced", Format::Text).contains(finding)));
}

#[test]
fn each_is_a_test_case_that_fails_nothing() {
    let xml = written("hugetlb-small", Format::Junit);
    let document = roxmltree::Document::parse(&xml).expect("XML");
    let cases = document.descendants().filter(|node| node.has_tag_name("testcase"));
    let found: Vec<_> =
        cases.filter(|case| case.attribute("classname") == Some("collapse.finding")).collect();
    assert_eq!(found.len(), 1, "{xml}");
    assert!(found[0].attribute("name").is_some_and(|name| name.contains("hugetlb_mapped_small")));
    assert!(found[0].first_element_child().is_some_and(|child| child.has_tag_name("skipped")));
}

fn holds(report: &Report, budget: &str) -> (bool, Option<String>) {
    let budgets = vec![budget.parse::<Budget>().expect("a budget")];
    let demands = Demands { budgets, baseline: None, coverage: None };
    let verdicts = demands.judge(report);
    let check = &verdicts.budgets[0].checks[0];
    (check.ok, check.reason.clone())
}

#[test]
fn budgets_count_them() {
    let small = report("hugetlb-small");
    assert_eq!(holds(&small, "findings == 0"), (false, Some("it is 1".to_owned())));
    assert!(!holds(&small, "findings.hugetlb_mapped_small == 0").0);
    assert!(holds(&small, "findings.regions_stuck_small == 0").0);
    assert!(!holds(&small, "total.findings == 0").0);
    let clean = report("raced");
    for budget in ["findings == 0", "findings.hugetlb_mapped_small == 0", "total.findings == 0"] {
        assert_eq!(holds(&clean, budget), (true, None), "{budget}");
    }
    let wrong = "findings.hugetlb_maped_small == 0".parse::<Budget>().unwrap_err();
    assert!(wrong.to_string().contains("findings.hugetlb_mapped_small"), "{wrong}");
}

/// What could not be looked for is not absent; what was found is there.
#[test]
fn unseen_is_not_absent() {
    let blind = |coverage: &mut Coverage| coverage.lose(Signal::NxRecovery, "for a test");
    let clean = report_with("raced", blind);
    assert!(!holds(&clean, "findings == 0").0);
    assert!(!holds(&clean, "total.findings == 0").0);
    let (kept, why) = holds(&clean, "findings.nx_recovery_undone == 0");
    assert!(!kept && why.is_some_and(|why| why.contains("for a test")));
    assert!(holds(&clean, "findings.hugetlb_mapped_small == 0").0);
    let undone = report_with("nx-undone", blind);
    assert_eq!(holds(&undone, "findings.nx_recovery_undone == 1"), (true, None));
}

#[test]
fn events_tell_when_they_begin_and_end() {
    let (mut replay, mut out) = (recorded::open("hugetlb-small"), Vec::new());
    let (clocks, machine) = (replay.header().clocks, replay.machine().clone());
    let coverage = replay.coverage().clone();
    let kinds = ["finding_began", "finding_ended"].map(str::to_owned).into();
    let filter = EventFilter { kinds, ..EventFilter::default() };
    let writer = EventWriter::new(&mut out, LineFormat::Json, clocks, machine, &coverage, filter);
    let mut writer = writer.expect("memory");
    recorded::observed(&mut replay, &mut writer);
    drop(writer);
    let text = String::from_utf8(out).expect("text");
    let lines = text.lines().map(|line| serde_json::from_str::<Value>(line).expect("JSON"));
    let found: Vec<_> = lines.filter(|line| line.get("finding").is_some()).collect();
    let kinds: Vec<_> = found.iter().map(|line| line["kind"].as_str().expect("a kind")).collect();
    assert_eq!(kinds, ["finding_began", "finding_ended"], "{text}");
    assert!(found.iter().all(|line| line["finding"]["name"] == "hugetlb_mapped_small"));
    assert_eq!(found[0]["finding"]["until_ns"], Value::Null);
    assert_eq!(found[1]["finding"]["until_ns"], found[1]["ts_ns"]);
}
