//! Every format of what a recording of a real run amounts to: a guest whose migration fails, on 6.12.
//! After a change that is meant, `GOLDEN=write cargo test --test golden -- --test-threads=1` writes them
//! again.

mod recorded;

use std::{
    collections::BTreeMap,
    fs,
    path::{Path, PathBuf},
};

use collapse_feed::recording::Replay;
use collapse_model::Model;
use collapse_report::{
    CommandReport, Format, Report, Required, Style,
    events::{self, COLUMNS, EventFilter, EventWriter, LineFormat},
    export::Folded,
    gate::{Baseline, Budget, Demands},
};
use recorded::fixture;
use serde_json::{Value, json};

/// The report, held against budgets and baseline so that each comes to every end that it can have.
fn recorded() -> Report {
    let (mut replay, mut model) = (recorded::open("failed-migration"), Model::default());
    while let Some(update) = replay.next_update().expect("a whole recording") {
        model.update(&update, replay.coverage());
    }
    let command = replay.end().and_then(|end| end.command.clone()).map(CommandReport::from);
    let machine = replay.machine().clone();
    let mut report = Report::new(&model, replay.coverage(), machine, command);
    let budgets = [
        "recovery_rate >= 0.99",
        "time_to_recover.p99 < 1ms",
        "splits.by_cause.nx_recovery == 0",
        "vm[nobody].splits == 0",
    ];
    let budgets = budgets.map(|budget| budget.parse::<Budget>().expect("a budget"));
    let mut earlier = serde_json::to_value(&report).expect("JSON");
    let slower = earlier.pointer_mut("/vms/0/time_to_recover/p99_ns").expect("a latency");
    *slower = (slower.as_u64().expect("a number") / 2).into();
    let baseline = Baseline::new(vec![earlier], 0.1);
    let (budgets, baseline) = (budgets.into(), Some(baseline));
    let demands = Demands { budgets, baseline, coverage: Some(Required::Full) };
    report.verdicts = demands.judge(&report);
    report
}

/// Every event.
fn lines(lines: LineFormat) -> String {
    let (mut replay, mut out) = (recorded::open("failed-migration"), Vec::new());
    let (clocks, machine) = (replay.header().clocks, replay.machine().clone());
    let coverage = replay.coverage().clone();
    let filter = EventFilter::default();
    let writer = EventWriter::new(&mut out, lines, clocks, machine, &coverage, filter);
    let mut writer = writer.expect("memory");
    recorded::observed(&mut replay, &mut writer);
    drop(writer);
    String::from_utf8(out).expect("text")
}

/// Compares with what it was, or makes it that.
fn golden(name: &str, text: &str) {
    golden_at(&fixture(name), text);
}

fn golden_at(path: &Path, text: &str) {
    if std::env::var_os("GOLDEN").is_some_and(|value| value == "write") {
        fs::write(path, text).expect("writing it");
    }
    let expected = fs::read_to_string(path).expect("reading it");
    assert!(text == expected, "{} is not what it was:\n{text}", path.display());
}

fn schema_file(name: &str) -> PathBuf {
    PathBuf::from(env!("CARGO_MANIFEST_DIR")).join("tests/schemas").join(name)
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
        golden(name, &written(&report, format));
    }
    golden("events.ndjson", &lines(LineFormat::Json));
    golden("events.csv", &lines(LineFormat::Csv));
}

/// A dirty-rate measurement on an emulated Intel CPU, which logs dirty pages.
#[test]
fn dirty_logging_by_the_cpu_is_as_it_was() {
    let (mut replay, mut model) =
        (Replay::open(&fixture("pml.rec")).expect("a recording"), Model::default());
    while let Some(update) = replay.next_update().expect("a whole recording") {
        model.update(&update, replay.coverage());
    }
    let report = Report::new(&model, replay.coverage(), replay.machine().clone(), None);
    golden("pml.txt", &written(&report, Format::Text));
}

/// A recording with stacks, of a smaller guest.
#[test]
fn stacks_are_as_they_were() {
    let mut replay = Replay::open(&fixture("stacks.rec")).expect("a recording");
    let mut out = Vec::new();
    recorded::observed(&mut replay, &mut Folded::new(&mut out));
    golden("stacks.folded", &String::from_utf8(out).expect("text"));
}

fn validator(schema: &Value) -> jsonschema::Validator {
    jsonschema::validator_for(schema).expect("a schema")
}

/// The schema of events that was published first: what readers have is what today's lines must be valid
/// by.
fn first_schema() -> Value {
    serde_json::from_str(include_str!("schemas/events-first.json")).expect("JSON")
}

#[test]
fn the_schema_of_events_is_as_it_was() {
    let schema = serde_json::to_string_pretty(&events::schema()).expect("JSON") + "\n";
    golden_at(&schema_file("events.json"), &schema);
}

#[test]
fn every_line_is_as_the_schemas_say() {
    let schemas = [events::schema().to_value(), first_schema()].map(|schema| validator(&schema));
    let lines = lines(LineFormat::Json);
    for line in lines.lines() {
        let value: Value = serde_json::from_str(line).expect("JSON");
        assert!(schemas.iter().all(|schema| schema.is_valid(&value)), "{line}");
    }
    assert!(lines.lines().count() > 20);
}

/// Everything that can be wrong with one value.
fn wrongs() -> [Value; 9] {
    [
        json!(null),
        json!(true),
        json!(-1),
        json!(0),
        json!(1.5),
        json!("x"),
        json!(""),
        json!([]),
        json!({}),
    ]
}

/// What becomes of `json` when one value in it is another, or is left out.
fn variants(json: &Value) -> Vec<Value> {
    let mut variants: Vec<_> = wrongs().into();
    let keys: Vec<_> = match json {
        Value::Object(map) => map.keys().cloned().collect(),
        _ => Vec::new(),
    };
    for key in keys {
        let with = |inner| {
            let mut json = json.clone();
            json[&key] = inner;
            json
        };
        variants.extend(self::variants(&json[&key]).into_iter().map(with));
        let mut without = json.clone();
        without.as_object_mut().expect("an object").remove(&key);
        variants.push(without);
    }
    variants
}

/// Lines that the recording has none of, made of one that it has.
fn rare_lines(change: &Value) -> Vec<Value> {
    let (ts, time) = (&change["ts_ns"], &change["time"]);
    let spte = json!({
        "raw": "0x122008a3", "present": true, "leaf": true, "writable": true, "accessed": true,
        "dirty": false, "pfn": 0x12200,
    });
    let mut each = change.clone();
    (each["old"], each["new"], each["stack"]) = (spte.clone(), spte, json!(["kvm_vm_ioctl"]));
    let lost = json!({
        "ts_ns": ts, "time": time, "kind": "lost", "since_ns": 1, "way": "ring_full", "count": 7,
    });
    let detached = json!({"ts_ns": ts, "time": time, "kind": "detached", "why": "unloaded"});
    vec![each, lost, detached]
}

/// Keys of the header's host that the first version did not have.
const ADDED: [&str; 3] = ["vendor", "accessed_dirty", "pml"];

/// A line with the added keys as they may be.
fn with_added(mut line: Value) -> Value {
    if let Some(host) = line.get_mut("host").and_then(Value::as_object_mut) {
        host.extend(ADDED.map(|key| (key.to_owned(), Value::Null)));
    }
    line
}

/// A line as the first version wrote it.
fn without_added(mut line: Value) -> Value {
    if let Some(host) = line.get_mut("host").and_then(Value::as_object_mut) {
        host.retain(|key, _| !ADDED.contains(&key.as_str()));
    }
    line
}

/// The derived schema takes and refuses what the one did that was written by hand, but for added keys.
#[test]
fn the_schemas_agree() {
    let schemas = [events::schema().to_value(), first_schema()];
    let [derived, first] = schemas.map(|schema| validator(&schema));
    let lines = lines(LineFormat::Json);
    let lines = lines.lines().map(|line| serde_json::from_str(line).expect("JSON"));
    let lines = lines.map(without_added);
    // One line of each kind is enough.
    let mut lines: BTreeMap<String, Value> =
        lines.map(|line: Value| (line["kind"].to_string(), line)).collect();
    let rare = rare_lines(&lines["\"zap\""]);
    lines.extend(rare.into_iter().map(|line| (format!("rare {}", line["kind"]), line)));
    let (mut valid, mut invalid) = (0, 0);
    for variant in lines.values().flat_map(variants) {
        let is_valid = first.is_valid(&variant);
        assert_eq!(derived.is_valid(&with_added(variant.clone())), is_valid, "{variant}");
        *if is_valid { &mut valid } else { &mut invalid } += 1;
    }
    assert!(valid > 100 && invalid > 1000, "{valid} {invalid}");
}

/// As another program reads it.
#[test]
fn the_table_has_what_the_lines_have() {
    let (table, lines) = (lines(LineFormat::Csv), lines(LineFormat::Json));
    let mut reader = csv::Reader::from_reader(table.as_bytes());
    assert!(reader.headers().expect("a head").iter().eq(COLUMNS));
    let rows: Vec<csv::StringRecord> =
        reader.records().collect::<Result<_, _>>().expect("as many fields in every row");
    // All but the first and the last.
    let lines: Vec<_> = lines.lines().collect();
    assert_eq!(rows.len(), lines.len() - 2);
    for (row, line) in rows.iter().zip(&lines[1..]) {
        let line: Value = serde_json::from_str(line).expect("JSON");
        for (name, path) in
            [("gfn", "/gfn"), ("vm.pid", "/vm/pid"), ("slot.npages", "/slot/npages")]
        {
            let column = COLUMNS.iter().position(|column| *column == name).expect("the column");
            let expected = line.pointer(path).filter(|value| !value.is_null());
            assert_eq!(row[column], expected.map(Value::to_string).unwrap_or_default());
        }
    }
}

#[test]
fn the_json_is_as_the_schema_says() {
    let schema = serde_json::to_value(collapse_report::schema()).expect("JSON");
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
    for check in report.verdicts.budgets.iter_mut().flat_map(|budget| &mut budget.checks) {
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
