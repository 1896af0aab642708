use collapse_common::{
    Cause, Counter, Transition,
    abi::{Pages, VmKey},
    counter::index,
    latency::{NO_LATENCIES, Outcome, bucket},
};
use serde_json::{Value, json};
use uuid::Uuid;

use super::*;
use collapse_feed::fixtures::{self, full_coverage, row};
use collapse_feed::{
    Batch, Change, Collapse, Coverage, Event, EventKind, Machine, Mmu, Signal, Slot, SlotChange,
    VmReading,
};
use collapse_model::Model;

const MS: u64 = 1_000_000;
const VM: VmKey = VmKey { kvm: 0xffff_8880_0000_0000, born: 5 };
const SLOT: Slot =
    Slot { id: 1, as_id: 0, base_gfn: 0x40000, npages: 16_384, flags: 0, userspace_addr: None };

/// Everything is seen but what `unless` takes.
fn coverage(unless: fn(Signal) -> bool) -> Coverage {
    let mut coverage = full_coverage(Mmu::Tdp);
    for status in coverage.signals.iter_mut().filter(|status| unless(status.signal)) {
        status.hooks = None;
    }
    coverage
}

fn event(ts: u64, kind: EventKind) -> Event {
    Event { ts, vm: VM, tid: 7, kind }
}

/// A change from the first region of the slot on.
fn change(ts: u64, cause: Cause, transition: Transition, level: u32, count: u32) -> Event {
    change_at(ts, 0, cause, transition, level, count)
}

fn change_at(
    ts: u64,
    region: u64,
    cause: Cause,
    transition: Transition,
    level: u32,
    count: u32,
) -> Event {
    let gfn = SLOT.base_gfn + region * 512;
    let change = Change { level, gfn, count, ..fixtures::change(cause, transition) };
    event(ts, EventKind::Change(change))
}

fn reading(pages: Pages) -> Vec<VmReading> {
    vec![VmReading { vm: VM, pages: Some(pages), process: None, fd: Some(4) }]
}

/// A failed migration of a VM on 6.12, as far as the batches tell.
fn failed_migration() -> Model {
    let mut model = Model::default();
    model.apply(&Batch { at: MS, settled: true, vms: reading([0, 32, 0]), ..Batch::default() });
    let on = EventKind::SlotChanged {
        slot: Slot { flags: 1, ..SLOT },
        change: SlotChange::LogOn,
        logging: true,
    };
    let off = EventKind::SlotChanged { slot: SLOT, change: SlotChange::LogOff, logging: false };
    let collapse = Collapse {
        slot: SLOT,
        start: 120 * MS,
        pages_before: None,
        pages_after: None,
        yields: Some(3),
    };
    let events = vec![
        event(20 * MS, on),
        change(21 * MS, Cause::EagerSplit, Transition::Split, 2, 32),
        event(120 * MS, off),
        change(121 * MS, Cause::Collapse, Transition::Zap, 1, 16_384),
        event(140 * MS, EventKind::Collapse(collapse)),
        change(160 * MS, Cause::GuestFault, Transition::Install, 2, 30),
        change_at(161 * MS, 31, Cause::GuestFault, Transition::Install, 1, 1),
    ];
    let counter = |counter: Counter| counter as usize;
    let rows = vec![
        (VM, Cause::EagerSplit, row(&[(index(Transition::Split, 2), 32)])),
        (VM, Cause::Collapse, row(&[(index(Transition::Zap, 1), 16_384)])),
        (
            VM,
            Cause::LoggedFault,
            row(&[
                (counter(Counter::Fault), 1_000),
                (counter(Counter::FastFault), 1_000),
                (counter(Counter::Stall), 2 * MS),
            ]),
        ),
        (
            VM,
            Cause::RacingFault,
            row(&[(counter(Counter::Fault), 20), (counter(Counter::Stall), MS)]),
        ),
        (
            VM,
            Cause::GuestFault,
            row(&[
                (index(Transition::Install, 2), 30),
                (index(Transition::Install, 1), 1),
                (counter(Counter::Fault), 31),
            ]),
        ),
        (
            VmKey::default(),
            Cause::Unknown,
            row(&[(index(Transition::Zap, 1), 3), (index(Transition::Age, 1), 90)]),
        ),
    ];
    let mut fast = Box::new(NO_LATENCIES);
    fast[Outcome::Fast as usize][bucket(2_000)] = 1_000;
    let mut racing = Box::new(NO_LATENCIES);
    racing[Outcome::Nothing as usize][bucket(50_000)] = 18;
    let latencies = vec![(VM, Cause::LoggedFault, fast), (VM, Cause::RacingFault, racing)];
    model.apply(&Batch {
        at: 200 * MS,
        settled: true,
        vms: reading([1, 30, 0]),
        hugetlb: Vec::new(),
        uuids: vec![(VM, Uuid::from_u128(0x4f1a_6c52_9d3e_4b7a_8c15_0e2d_3f4a_5b6c))],
        slots: Vec::new(),
        stacks: Vec::new(),
        rows,
        latencies,
        events,
        losses: vec![("ring_full_changes", 0)],
        overhead: None,
    });
    model
}

fn report(unless: fn(Signal) -> bool) -> Report {
    let model = failed_migration();
    let machine = Machine { kernel: "6.12".to_owned(), ..Machine::default() };
    Report::of(&model, &coverage(unless), machine, None)
}

/// The JSON, which is as the schema says.
fn json(report: &Report) -> Value {
    let json = serde_json::to_value(report).unwrap();
    let schema = serde_json::to_value(schema()).unwrap();
    let validator = jsonschema::validator_for(&schema).unwrap();
    let errors: Vec<_> = validator.iter_errors(&json).map(|error| error.to_string()).collect();
    assert!(errors.is_empty(), "{errors:?}");
    json
}

#[test]
fn the_schema_refuses_what_is_no_report() {
    let schema = serde_json::to_value(schema()).unwrap();
    let validator = jsonschema::validator_for(&schema).unwrap();
    let good = json(&report(|_| false));
    for (path, bad) in [
        ("/vms/0/splits/total", json!(-1)),
        ("/vms/0/splits/by_cause", json!({"weather": 1})),
        ("/vms/0/reconciliation/grade", json!("fair")),
        ("/window_ns", Value::Null),
    ] {
        let mut json = good.clone();
        *json.pointer_mut(path).unwrap() = bad;
        assert!(!validator.is_valid(&json), "{path}");
    }
}

#[test]
fn a_report_is_read_back_as_it_was() {
    let json = json(&report(|signal| signal == Signal::Faults));
    let back: Report = serde_json::from_value(json.clone()).unwrap();
    assert_eq!(serde_json::to_value(back).unwrap(), json);
}

#[test]
fn detail_is_where_and_when() {
    let (model, coverage) = (failed_migration(), coverage(|_| false));
    let mut report = report(|_| false);
    report.add_detail(&model, &coverage);
    let json = json(&report);
    let vm = &json["vms"][0];
    assert_eq!(vm["timeline"].as_array().map(Vec::len), Some(2));
    assert_eq!(
        (&vm["timeline"][1]["lost"], &vm["timeline"][1]["recovered"]),
        (&json!(32), &json!(30))
    );
    let map = &vm["memory_map"][0];
    assert_eq!((&map["slot"]["id"], &map["regions_per_cell"]), (&json!(1), &json!(1)));
    let cells = map["cells"].as_array().unwrap();
    assert_eq!(cells.len(), 32);
    assert_eq!(cells[29], json!({"small": 0, "still_split": 0, "unmapped": 0}));
    assert_eq!(cells[30], json!({"small": 0, "still_split": 0, "unmapped": 1}));
    assert_eq!(cells[31], json!({"small": 1, "still_split": 0, "unmapped": 0}));
    let (none, split) = (MapCell::default(), MapCell { still_split: 1, ..MapCell::default() });
    assert_eq!(map["cells_at_log_on"], json!(vec![none; 32]));
    assert_eq!(map["cells_at_log_off"], json!(vec![split; 32]));
}

#[test]
fn what_is_null_has_a_reason() {
    let json = json(&report(|signal| signal == Signal::FaultLatency));
    let unknown = &json["vms"][0]["unknown"];
    assert_eq!(unknown["latency"], "fault_latency is not seen: not attached");
    assert_eq!(unknown["name"], "the process behind it is not known");
}

#[test]
fn a_uuid_is_there_where_it_is_known() {
    let mut report = report(|_| false);
    assert_eq!(json(&report)["vms"][0]["uuid"], "4f1a6c52-9d3e-4b7a-8c15-0e2d3f4a5b6c");
    report.vms[0].uuid = None;
    assert_eq!(json(&report)["vms"][0].get("uuid"), None);
}

#[test]
fn vms_are_selected() {
    let select = |selector: &str| {
        let mut report = report(|_| false);
        report.vms[0].name = Some("guest-1".to_owned());
        (report.vms[0].pid, report.vms[0].tid) = (Some(40), Some(41));
        report.select(&[selector.parse().unwrap()]);
        report
    };
    for selector in ["40", "guest-*", "41-4"] {
        assert_eq!((select(selector).vms.len(), select(selector).selections[0].vms), (1, 1));
    }
    let none = select("other");
    assert_eq!(none.vms.len(), 0);
    assert!(render(&none, Style::Plain).contains("No VM matched other.\n"));
}

#[test]
fn the_text_answers_first() {
    let text = render(&report(|_| false), Style::Plain);
    let expected = "\
collapse report: kernel 6.12, TDP MMU, 199.0 ms, 1 VM

VM of unknown process (pid –, fd 4)
  huge pages: 32 lost, 30 recovered (93.7 %, 96.7 % of those touched since); 1 NOT recovered: \
mapped small again; 1 not touched since
  back after 40.0 ms (median), 40.0 ms at most, from when they could come back (139.0 ms from the \
loss); vCPU time lost to faults: 3.0 ms (2.0 ms under dirty logging, 1.0 ms during collapse)
  mappings            start              end    share   residual
    4 KiB                 0                1    0.0 %          0
    2 MiB                32               30   99.9 %          0
    1 GiB                 0                0    0.0 %          0
  gauge checks            1   exact: 1 exact, 0 off
  splits                 32   32 × 2M: eager_split 32
  zaps                16384   16384 × 4K: collapse 16384
  installs               31   30 × 2M, 1 × 4K: guest_fault 31
  refaults               31   30 × 2M, 1 × 4K: guest_fault 31
  refaults small          1   1 × 4K: guest_fault 1
  write-protects          0
  dirty clears            0
  recoveries             30   by refault 30
  guest faults         1051   1000 by the fast path, 1000 while dirty logging, 20 while collapsing
  fault latency        1018   p50 1.8 µs, p99 56.4 µs, none above 65.5 µs
  PML-full exits          0
  dirty logging               on 1 times, off 1 times (per slot)
  episodes                1
    1: logging for 100.0 ms (1 slot), 32 lost, 30 of 31 touched recovered (the last 40.0 ms after \
log-off), 1 not touched since, no PML-full exits, 1020 faults in 3.0 ms of vCPU time: recovered in part, the rest stayed small
  collapse runs           1
    slot 1 (64 MiB at gfn 0x40000) took 20.0 ms: zapped 16384 × 4K, recovered 0

lost: nothing
changes of unknown VM: 3
counts add up with KVM's own gauges
coverage: full
";
    assert_eq!(text, expected);
}

#[test]
fn regions_that_are_gone_are_no_failure() {
    let mut model = Model::default();
    model.apply(&Batch { at: MS, ..Batch::default() });
    let events = vec![
        change(2 * MS, Cause::SlotGone, Transition::Zap, 2, 32),
        event(
            3 * MS,
            EventKind::SlotChanged { slot: SLOT, change: SlotChange::Deleted, logging: false },
        ),
    ];
    model.apply(&Batch { at: 4 * MS, events, ..Batch::default() });
    let report = Report::of(&model, &coverage(|_| false), Machine::default(), None);
    let text = render(&report, Style::Plain);
    let verdict = "no region lost its huge page; 32 taken away by the VMM or with their slot";
    assert!(text.contains(verdict), "{text}");
}

#[test]
fn the_host_is_named_and_its_name_is_harmless() {
    let machine = Machine { name: Some("web\x1b[2J".to_owned()), kernel: "6.12".to_owned() };
    let report = Report::of(&Model::default(), &coverage(|_| false), machine, None);
    assert_eq!(json(&report)["host"]["name"], "web\u{1b}[2J");
    let text = render(&report, Style::Plain);
    assert!(text.starts_with("collapse report: web␛[2J, kernel 6.12, "), "{text}");
}

#[test]
fn json_has_what_is_new() {
    let json = json(&report(|_| false));
    assert_eq!(
        (&json["unattributed_changes"], &json["unattributed_ageing"]),
        (&json!(3), &json!(90))
    );
    assert_eq!((&json["vms_ended"], &json["vms_forgotten"]), (&json!(0), &json!(0)));
    let vm = &json["vms"][0];
    assert_eq!(vm["regions"]["lost"], 32);
    assert_eq!(vm["regions"]["lost_by_cause"], json!({"eager_split": 32}));
    assert_eq!(vm["recoveries"]["by_promotion"], 0);
    let checks = json!({"grade": "exact", "intervals": 1, "exact": 1, "off": 0});
    assert_eq!(vm["reconciliation"], checks);
    assert_eq!(vm["stall"]["total_ns"], 3 * MS);
    assert_eq!(vm["stall"]["by_cause"]["guest_fault_logging"], 2 * MS);
    assert_eq!(vm["racing"], json!({"faults": 20, "fast": 0, "unresolved": 18}));
    assert_eq!(vm["faults"]["while_collapsing"], 20);
    let latency = &vm["latency"];
    assert_eq!(latency["total"]["count"], 1_018);
    assert_eq!(latency["total"]["buckets"], json!([[1_536, 1_000], [49_152, 18]]));
    assert_eq!(latency["by_outcome"]["fast"]["mean_ns"], Value::Null);
    assert_eq!(latency["by_cause"]["guest_fault_logging"]["mean_ns"], 2_000);
    assert_eq!(vm["time_to_recover"]["count"], 30);
    assert_eq!(vm["time_to_recover"]["max_ns"], 40 * MS);
    assert_eq!(vm["time_to_recover_from_loss"]["max_ns"], 139 * MS);
    assert_eq!(vm["time_to_refault"]["min_ns"], 39 * MS);
    let span = &vm["collapse_spans"][0];
    assert_eq!(span["yields"], 3);
    let race = json!({"installs_4k": 0, "installs_2m": 0, "read_only_4k": 0, "read_only_2m": 0});
    assert_eq!(span["race"], race);
}

#[test]
fn json_has_episodes() {
    let json = json(&report(|_| false));
    let vm = &json["vms"][0];
    assert_eq!((&vm["episode_count"], &vm["episodes"][0]["number"]), (&json!(1), &json!(1)));
    let episode = &vm["episodes"][0];
    assert_eq!((&episode["phase"], &episode["outcome"]), (&json!("recovering"), &json!("partly")));
    assert_eq!(episode["logging_duration_ns"], 100 * MS);
    assert_eq!(episode["recovery_duration_ns"], Value::Null);
    assert_eq!((&episode["splits"], &episode["pages"]), (&json!(32), &json!(16_384)));
    assert_eq!(
        (&episode["collapse"]["runs"], &episode["collapse"]["yields"]),
        (&json!(1), &json!(3))
    );
    let logging =
        json!({"faults": 1_000, "fast": 1_000, "stall_ns": 2 * MS, "stall_error_ns": null});
    assert_eq!(episode["cost"]["logging"], logging);
    assert_eq!(episode["cost_unknown"], Value::Null);
}

#[test]
fn what_is_not_measured_is_unknown() {
    let json = json(&report(|signal| signal == Signal::FaultLatency));
    let vm = &json["vms"][0];
    assert_eq!((&vm["latency"], &vm["stall"]), (&Value::Null, &Value::Null));
    assert_eq!(vm["racing"]["unresolved"], Value::Null);
    assert_eq!(vm["episodes"][0]["cost"]["logging"]["stall_ns"], Value::Null);
    assert_eq!(vm["episodes"][0]["cost"]["logging"]["faults"], 1_000);
    let text = render(&report(|signal| signal == Signal::FaultLatency), Style::Plain);
    assert!(text.contains("fault latency           –"), "{text}");
}

#[test]
fn without_slots_and_faults_there_are_no_episodes_and_costs() {
    let json = json(&report(|signal| signal == Signal::DirtyLogging || signal == Signal::Faults));
    let vm = &json["vms"][0];
    assert_eq!((&vm["episodes"], &vm["episode_count"]), (&Value::Null, &Value::Null));
    assert_eq!((&vm["faults"], &vm["racing"]), (&Value::Null, &Value::Null));
}

#[test]
fn a_live_view_is_spared_the_dead() {
    let mut model = failed_migration();
    let coverage = coverage(|signal| signal == Signal::FastFaults);
    let expected = "t=0.2 pid=– name=– 4k=1 2m=30 1g=0 splits=32 zaps=16384 installs=31 refaults=31 \
        refaults_small=1 lost=32 recovered=30 outstanding=2 taken_away=0 gone=0 \
        small_to_the_end=0 became_huge=0 write_protects=0 dirty_clears=0 faults=1051 fast_faults=– \
        ring_full_exits=0 stall_ns=3000000 pml_full_exits=0 pml_full_ns=0 \
        retried_faults=0 lock_waits=0 lock_wait_ns=0\n";
    assert_eq!(live_lines(&model, &coverage), expected);
    let ended = event(210 * MS, EventKind::VmDestroyed { pages: None });
    model.apply(&Batch { at: 300 * MS, events: vec![ended], ..Batch::default() });
    assert_eq!(live_lines(&model, &coverage), "");
    model.detached(400 * MS, "kvm is not loaded".to_owned());
    assert_eq!(live_lines(&model, &coverage), "t=0.4 kvm is not loaded, waiting\n");
}

/// As after kprobes were switched off: what shares a reason is named once, and no count of what cannot be
/// attributed is taken for nothing.
#[test]
fn one_reason_for_many_signals_is_one_line() {
    let report = report(|signal| signal != Signal::TdpChanges);
    let text = render(&report, Style::Plain);
    let (_, lines) = text.split_once("coverage: 1 of ").unwrap();
    assert_eq!(lines.lines().count(), 2, "{text}");
    assert!(
        lines.contains("vm_created, vm_destroyed, ") && lines.contains(" are not seen"),
        "{text}"
    );
    let few = render(&self::report(|signal| signal == Signal::DropSpte), Style::Plain);
    assert!(few.contains("\n  drop_spte: calls of drop_spte ("), "{few}");
    let empty = Report::of(&nothing_lost(), &coverage(|_| true), Machine::default(), None);
    let text = render(&empty, Style::Plain);
    assert!(text.contains("no region was seen to lose its huge page\n"), "{text}");
}

/// A VM that lost nothing, as far as is known.
fn nothing_lost() -> Model {
    let mut model = Model::default();
    model.apply(&Batch { at: MS, ..Batch::default() });
    let seen = event(2 * MS, EventKind::VmSeen);
    model.apply(&Batch { at: 3 * MS, events: vec![seen], ..Batch::default() });
    model
}

#[test]
fn lost_time_has_its_error_and_its_long_faults() {
    let mut report = report(|_| false);
    let stall = report.vms[0].stall.as_mut().unwrap();
    (stall.error_ns, stall.long_faults, stall.long_ns) = (Some(MS), 2, MS);
    let long = LongFaultReport {
        end_ns: 7,
        duration_ns: MS,
        vcpu: Some(3),
        tid: 9,
        address: 0x4000_1000,
        cause: Cause::LoggedFault.name().into(),
    };
    report.vms[0].longest_faults = Some(vec![long]);
    let cost = report.vms[0].episodes.as_mut().unwrap()[0].cost.as_mut().unwrap();
    (cost.logging.stall_error_ns, cost.collapsing.stall_error_ns) = (Some(3 * MS), Some(4 * MS));
    let text = render(&report, Style::Plain);
    let lost =
        "vCPU time lost to faults: 3.0 ms ± 1.0 ms, 1.0 ms of it in 2 long faults (2.0 ms under";
    assert!(text.contains(lost), "{text}");
    assert!(text.contains("2   1.0 ms of vCPU 3 at 0x40001000 (guest_fault_logging)\n"), "{text}");
    // An error as large as the time itself leaves nothing to say but what it is at most.
    assert!(text.contains("faults in up to 13.0 ms of vCPU time"), "{text}");
}
