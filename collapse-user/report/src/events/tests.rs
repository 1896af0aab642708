use std::collections::BTreeSet;

use collapse_common::{Cause, Selection, Transition, abi::VmKey};
use proptest::prelude::*;
use serde_json::Value;

use super::*;
use crate::keys::SIZES;
use collapse_feed::fixtures::{self, full_coverage};
use collapse_feed::{Batch, Collapse, Mmu, Slot, SlotChange, Sptes};

const VM: VmKey = VmKey { kvm: 1, born: 5 };
const SLOT: Slot =
    Slot { id: 3, as_id: 0, base_gfn: 0x1000, npages: 4096, flags: 1, userspace_addr: None };

fn zap(gfn: u64, count: u32) -> Change {
    let (cause, transition) = (Cause::Collapse, Transition::Zap);
    Change { gfn, count, ..fixtures::change(cause, transition) }
}

fn event(ts: u64, kind: EventKind) -> Event {
    Event { ts, vm: VM, tid: 9, kind }
}

/// A life in short.
fn events() -> Vec<Event> {
    let slot = |change| EventKind::SlotChanged { slot: SLOT, change, logging: true };
    let collapse = Collapse {
        slot: SLOT,
        start: 130,
        pages_before: Some([4096, 0, 0]),
        pages_after: Some([0; 3]),
        yields: None,
    };
    vec![
        event(110, EventKind::VmSeen),
        event(111, slot(SlotChange::LogOn)),
        event(120, slot(SlotChange::LogOff)),
        event(140, EventKind::Change(zap(0x1000, 4096))),
        event(150, EventKind::Collapse(collapse)),
        event(160, EventKind::VmDestroyed { pages: None }),
        event(170, EventKind::VmFreed),
    ]
}

/// The lines of that life.
fn lines(filter: EventFilter) -> Vec<Value> {
    let mut model = Model::default();
    model.apply(&Batch { at: 100, ..Batch::default() });
    let (events, losses) = (events(), vec![("ring_full_changes", 7)]);
    written(filter, &mut model, Batch { at: 200, events, losses, ..Batch::default() })
}

/// The lines of a batch, each valid by the published schema.
fn written(filter: EventFilter, model: &mut Model, batch: Batch) -> Vec<Value> {
    written_with(filter, false, model, batch)
}

/// The same, with addresses of the host or without.
fn written_with(
    filter: EventFilter,
    addresses: bool,
    model: &mut Model,
    batch: Batch,
) -> Vec<Value> {
    let clocks = Clocks { monotonic: 100, wall: 1_000_000_000 };
    let coverage = full_coverage(Mmu::Tdp);
    let mut out = Vec::new();
    let machine = Machine { name: Some("web7".to_owned()), kernel: "6.12".to_owned() };
    let writer = EventWriter::new(&mut out, LineFormat::Json, clocks, machine, &coverage, filter);
    let mut writer = writer.unwrap().showing_addresses(addresses);
    model.update_observed(&Update::Batch(batch), &coverage, &mut writer).unwrap();
    writer.finish(model).unwrap();
    drop(writer);
    let lines: Vec<Value> = String::from_utf8(out)
        .unwrap()
        .lines()
        .map(|line| serde_json::from_str(line).unwrap())
        .collect();
    let schema = schema().to_value();
    let validator = jsonschema::validator_for(&schema).unwrap();
    for line in &lines {
        assert!(validator.is_valid(line), "{line}");
    }
    lines
}

fn kinds(filter: EventFilter) -> Vec<String> {
    let kind = |line: &Value| line["kind"].as_str().unwrap_or("header").to_owned();
    lines(filter).iter().map(kind).collect()
}

#[test]
fn a_life_in_lines() {
    let expected = [
        "header",
        "vm_seen",
        "log_on",
        "log_off",
        "zap",
        "collapse_span",
        "vm_destroyed",
        "vm_freed",
        "lost",
        "end",
    ];
    assert_eq!(kinds(EventFilter::default()), expected);
    let lines = lines(EventFilter::default());
    let zap = &lines[4];
    assert_eq!((zap["gfn"].as_u64(), zap["count"].as_u64()), (Some(0x1000), Some(4096)));
    assert_eq!((&zap["cause"], &zap["slot"]["id"]), (&"collapse".into(), &3.into()));
    assert_eq!((&zap["episode"], &zap["span"]), (&1.into(), &1.into()));
    assert_eq!(zap["time"], "1970-01-01T00:00:01.000000040Z");
    assert_eq!((lines[8]["count"].as_u64(), lines[8]["since_ns"].is_null()), (Some(7), true));
}

#[test]
fn filters() {
    let only = |kind: &str| EventFilter { kinds: vec![kind.to_owned()], ..EventFilter::default() };
    assert_eq!(kinds(only("zap")), ["header", "zap", "lost", "end"]);
    let causes = vec!["collapse".to_owned()];
    assert_eq!(
        kinds(EventFilter { causes, ..EventFilter::default() }),
        ["header", "zap", "lost", "end"]
    );
    let slot = EventFilter { slot: Some(4), ..EventFilter::default() };
    assert_eq!(lines(slot)[2]["filtered"], 7);
    let limit = EventFilter { limit: Some(2), ..EventFilter::default() };
    assert_eq!(kinds(limit), ["header", "vm_seen", "log_on", "lost", "end"]);
    let sampled = lines(EventFilter { sample: Some(RegionSample(4)), ..only("zap") });
    let kept: u64 = sampled.iter().filter_map(|line| line["count"].as_u64()).sum::<u64>() - 7;
    assert_eq!(sampled.last().unwrap()["sampled_out"], 4096 - kept);
}

#[test]
fn each_change_shows_its_sptes_and_addresses_on_demand() {
    // A huge leaf on NPT, writable and accessed, and an empty entry after it.
    let sptes = Sptes { old: 0x1220_08a3, new: 0 };
    let line = |addresses| {
        let mut model = Model::default();
        model.apply(&Batch { at: 100, ..Batch::default() });
        let change = Change { level: 2, sptes: Some(sptes), ..zap(0x1000, 1) };
        let events = vec![event(150, EventKind::Change(change))];
        let batch = Batch { at: 200, events, ..Batch::default() };
        written_with(EventFilter::default(), addresses, &mut model, batch).swap_remove(1)
    };
    let mut old = serde_json::json!({
        "raw": "0x8a3", "present": true, "leaf": true, "writable": true, "accessed": true,
        "dirty": false, "pfn": null,
    });
    assert_eq!(line(false)["old"], old);
    old["raw"] = "0x122008a3".into();
    old["pfn"] = 0x12200.into();
    let line = line(true);
    assert_eq!(line["old"], old);
    assert_eq!((&line["new"]["present"], &line["new"]["pfn"]), (&false.into(), &Value::Null));
    assert_eq!(line["regions"], serde_json::json!({"zapped": 1}));
}

#[test]
fn a_change_shows_its_stack() {
    let mut model = Model::default();
    model.apply(&Batch { at: 100, ..Batch::default() });
    let events = [Some(0), Some(1), None].map(|stack| {
        let sptes = Some(Sptes { old: 1, new: 0 });
        event(150, EventKind::Change(Change { sptes, stack, ..zap(0x1000, 1) }))
    });
    let frames = ["handle_changed_spte", "kvm_vm_ioctl"].map(str::to_owned);
    let stacks = vec![(0, frames.to_vec()), (1, Vec::new())];
    let batch = Batch { at: 200, events: events.into(), stacks, ..Batch::default() };
    let lines = written(EventFilter::default(), &mut model, batch);
    assert_eq!(lines[1]["stack"], serde_json::json!(frames));
    // That it could not be taken is not that it was not asked for.
    assert_eq!(lines[2].get("stack"), Some(&Value::Null));
    assert_eq!(lines[3].get("stack"), None);
}

#[test]
fn the_kernel_records_what_the_filter_takes() {
    let selection = EventFilter::default().selection(false);
    assert_eq!(selection, Selection::DEFAULT);
    let kinds = vec!["zap".to_owned(), "log_on".to_owned()];
    let filter = EventFilter { kinds, sample: Some(RegionSample(4)), ..EventFilter::default() };
    let selection = filter.selection(true);
    assert_eq!(selection.transitions, 1 << Transition::Zap as u32);
    assert_eq!((selection.sample, selection.by_row, selection.each), (4, 0, 1));
    let causes = EventFilter { causes: vec!["collapse".to_owned()], ..EventFilter::default() };
    assert_eq!(causes.selection(false).by_row, 1);
}

/// The properties at a reference in a schema, or at the one part of it that is not null.
fn properties<'a>(
    schema: &'a Value,
    node: &'a Value,
) -> Option<&'a serde_json::Map<String, Value>> {
    if let Some(reference) = node["$ref"].as_str() {
        return properties(schema, schema.pointer(reference.strip_prefix('#')?)?);
    }
    let mut any = node["anyOf"].as_array().into_iter().flatten();
    node["properties"].as_object().or_else(|| any.find_map(|one| properties(schema, one)))
}

#[test]
fn every_kind_is_in_one_part_of_the_schema() {
    let schema = schema().to_value();
    let mut in_schema = Vec::new();
    for line in schema["oneOf"].as_array().unwrap() {
        let Some(kind) = properties(&schema, line).unwrap().get("kind") else { continue };
        in_schema.extend(kind["enum"].as_array().cloned().unwrap_or_default());
        in_schema.extend(kind.get("const").cloned());
    }
    let mut in_schema: Vec<_> = in_schema.iter().filter_map(Value::as_str).collect();
    let mut expected: Vec<_> =
        super::kinds().chain(["lost", "end", "detached", "attached"]).collect();
    in_schema.sort_unstable();
    expected.sort_unstable();
    assert_eq!(in_schema, expected);
}

/// Every key is in the table, apart from the bits of SPTEs, which are in their raw values, and from the numbers
/// of findings, which are in their sentences.
#[test]
fn every_key_has_a_column() {
    let schema = schema().to_value();
    let mut paths = BTreeSet::new();
    for line in schema["oneOf"].as_array().unwrap() {
        let line = properties(&schema, line).unwrap();
        if line.contains_key("schema") || line.contains_key("filtered") {
            continue;
        }
        for (key, node) in line {
            match properties(&schema, node) {
                Some(inner) => paths.extend(inner.keys().map(|inner| format!("{key}.{inner}"))),
                None if key == "pages" => paths.extend(SIZES.map(|size| format!("pages.{size}"))),
                None => _ = paths.insert(key.clone()),
            }
        }
    }
    let is_left_out = |path: &String| match path.split_once('.') {
        Some(("old" | "new", key)) => key != "raw",
        Some(("finding", key)) => matches!(key, "title" | "evidence" | "knobs"),
        _ => false,
    };
    paths.retain(|path| !is_left_out(path));
    assert_eq!(paths, COLUMNS.iter().map(|column| (*column).to_owned()).collect());
}

proptest! {
    /// A sample of everything is everything, cut at regions.
    #[test]
    fn samples_add_up(gfn in 0..1u64 << 40, count in 1..5000u32, level in 1..=3u32) {
        let gfn = gfn - gfn % collapse_common::spte::frames(level);
        let change = Change { level, ..zap(gfn, count) };
        let parts = RegionSample(1).parts(&change);
        prop_assert_eq!(parts.map(|part| part.count).sum::<u32>(), count);
    }
}
