//! Every format of a report of a real run: a guest whose migrations fail, on 6.12. After a change that
//! is meant, `GOLDEN=write cargo test --test golden -- --test-threads=1` writes them anew.

use std::{fs, path::PathBuf};

use collapse::report::{Format, Report, Style};

fn golden(name: &str) -> PathBuf {
    PathBuf::from(env!("CARGO_MANIFEST_DIR")).join("tests/fixtures/report").join(name)
}

fn recorded() -> Report {
    let text = fs::read_to_string(golden("report.json")).expect("the recorded report");
    serde_json::from_str(&text).expect("it is a report")
}

fn written(report: &Report, format: Format) -> String {
    format.write(report, Style::Plain).expect("every report can be written")
}

#[test]
fn every_format_is_as_it_was() {
    let report = recorded();
    for (format, name) in [
        (Format::Text, "report.txt"),
        (Format::Json, "report.json"),
        (Format::Markdown, "report.md"),
        (Format::Html, "report.html"),
        (Format::Junit, "report.xml"),
        (Format::Csv, "report.csv"),
    ] {
        let (text, path) = (written(&report, format), golden(name));
        if std::env::var_os("GOLDEN").is_some_and(|value| value == "write") {
            fs::write(&path, &text).expect("writing it");
        }
        let expected = fs::read_to_string(&path).expect("reading it");
        assert!(text == expected, "{name} is not what it was:\n{text}");
    }
}

#[test]
fn the_json_is_as_the_schema_says() {
    let schema = serde_json::to_value(collapse::report::schema()).expect("JSON");
    let report = serde_json::to_value(recorded()).expect("JSON");
    jsonschema::validate(&schema, &report).expect("a valid report");
}

#[test]
fn junit_is_well_formed_and_counts_right() {
    let xml = written(&recorded(), Format::Junit);
    let document = roxmltree::Document::parse(&xml).expect("XML");
    let suite = document.root_element().first_element_child().expect("a suite");
    let named = |name| suite.descendants().filter(|node| node.has_tag_name(name)).count();
    for (attribute, tag) in [("tests", "testcase"), ("failures", "failure"), ("skipped", "skipped")]
    {
        assert_eq!(suite.attribute(attribute), Some(named(tag).to_string().as_str()), "{tag}");
    }
}

#[test]
fn csv_has_as_many_fields_in_every_line() {
    let csv = written(&recorded(), Format::Csv);
    let fields = csv.lines().map(|line| line.split(',').count()).collect::<Vec<_>>();
    assert!(fields.len() > 10 && fields.iter().all(|n| *n == fields[0]), "{fields:?}");
}

/// Nothing that a VM or a command is called gets to be more than text.
#[test]
fn hostile_names_stay_text() {
    const NAME: &str = "</title><script>alert(1)</script>|`]]>&\"'*@x,=1";
    let mut report = recorded();
    for vm in &mut report.vms {
        vm.name = Some(NAME.to_owned());
    }
    for check in report.budgets.iter_mut().flat_map(|budget| &mut budget.checks) {
        check.vm = Some(NAME.to_owned());
    }
    if let Some(command) = &mut report.command {
        command.argv = vec![NAME.to_owned()];
    }
    for format in [Format::Html, Format::Markdown, Format::Junit] {
        let text = written(&report, format);
        assert!(!text.contains("<script"), "{text}");
    }
    let xml = written(&report, Format::Junit);
    let document = roxmltree::Document::parse(&xml).expect("XML");
    let failure = document.descendants().find(|node| node.has_tag_name("failure"));
    assert!(failure.and_then(|node| node.attribute("message")).is_some_and(|m| m.contains(NAME)));
    let markdown = written(&report, Format::Markdown);
    let table = markdown.lines().filter(|line| line.starts_with("| ❌"));
    for row in table {
        let cells = row.replace("\\|", "").matches('|').count();
        assert_eq!(cells, 5, "{row}");
    }
}

/// No script, nothing fetched.
#[test]
fn the_page_stands_alone() {
    let html = written(&recorded(), Format::Html);
    for foreign in ["<script", "http:", "https:", "url(", "@import", "src=", "<link"] {
        assert!(!html.contains(foreign), "{foreign}");
    }
    assert_eq!(html.matches("<svg").count(), html.matches("</svg>").count());
}
