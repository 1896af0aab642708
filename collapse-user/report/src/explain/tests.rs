use proptest::prelude::*;

use super::*;
use collapse_feed::Slot;

const HUGE: u64 = 2 << 20;
/// A gigabyte, where slots begin here.
const BASE: u64 = 1 << 30;

fn settings(thp: &str, shmem_thp: &str) -> Settings {
    let set = |word: &str| Some(word.to_owned());
    Settings { thp: set(thp), shmem_thp: set(shmem_thp), nx_huge_pages: Some(false) }
}

fn backing(kind: BackingKind) -> Backing {
    Backing { kind, page_bytes: None, advised: false, forbidden: false, userfaultfd: false }
}

fn pages<T: From<PagesBySize>>(small: u64, huge: u64, giant: u64) -> T {
    PagesBySize { small, huge, giant }.into()
}

/// A slot of 64 MiB, aligned and touched, small in the host and for the guest.
fn small<'a>(settings: &'a Settings, backing: &'a Backing) -> SlotFacts<'a> {
    SlotFacts {
        slot: Slot {
            id: 1,
            as_id: 0,
            base_gfn: BASE / 4096,
            npages: 16384,
            flags: 0,
            userspace_addr: Some(0x7f00_0000_0000),
        },
        backing: Some(backing),
        host: Some(HostMemory { present: 64 << 20, huge: 0 }),
        pages: pages(16384, 0, 0),
        vm_pages: pages(16384, 0, 0),
        nx_splits: 0,
        thp_disabled: false,
        settings,
    }
}

fn reason(facts: &SlotFacts) -> Option<Reason> {
    why(facts).map(|(reason, _)| reason)
}

/// Each reason from the facts that make it, and its twin without them.
#[test]
fn each_reason_has_its_facts() {
    let (never, madvise, always) =
        (settings("never", "never"), settings("madvise", "advise"), settings("always", "always"));
    let (anonymous, shared) = (backing(BackingKind::Anonymous), backing(BackingKind::Shared));
    let advised = Backing { advised: true, ..anonymous.clone() };
    let advised_shared = Backing { advised: true, ..shared.clone() };
    assert_eq!(reason(&small(&never, &anonymous)), Some(Reason::ThpNever));
    assert_eq!(reason(&small(&madvise, &anonymous)), Some(Reason::ThpMadvise));
    assert_eq!(reason(&small(&madvise, &advised)), Some(Reason::HostSmall));
    assert_eq!(reason(&small(&always, &anonymous)), Some(Reason::HostSmall));
    assert_eq!(reason(&small(&never, &shared)), Some(Reason::ShmemNever));
    assert_eq!(reason(&small(&madvise, &shared)), Some(Reason::ShmemAdvise));
    assert_eq!(reason(&small(&madvise, &advised_shared)), Some(Reason::HostSmall));
    let forbidden = Backing { forbidden: true, ..anonymous.clone() };
    assert_eq!(reason(&small(&always, &forbidden)), Some(Reason::Nohugepage));
    let restored = Backing { userfaultfd: true, ..forbidden.clone() };
    assert_eq!(reason(&small(&always, &restored)), Some(Reason::Userfaultfd));
    let device = backing(BackingKind::PfnMap);
    // What the host has of device memory is not known.
    let pfn_map = SlotFacts { host: None, ..small(&always, &device) };
    assert_eq!(reason(&pfn_map), Some(Reason::PfnMap));
    let disabled = SlotFacts { thp_disabled: true, ..small(&always, &anonymous) };
    assert_eq!(reason(&disabled), Some(Reason::ThpDisabled));
    assert_eq!(reason(&small(&always, &backing(BackingKind::File))), Some(Reason::File));

    let huge = HostMemory { present: 64 << 20, huge: 64 << 20 };
    let in_host = SlotFacts { host: Some(huge), ..small(&always, &anonymous) };
    assert_eq!(reason(&in_host), Some(Reason::Debt));
    assert_eq!(debt(&in_host), Some(64 << 20));
    assert_eq!(reason(&SlotFacts { nx_splits: 32, ..in_host.clone() }), Some(Reason::Nx));
    let mapped_huge = SlotFacts { pages: pages(0, 32, 0), ..in_host.clone() };
    assert_eq!(reason(&mapped_huge), None);
    assert_eq!(debt(&mapped_huge), Some(0));
    let untouched = SlotFacts { pages: pages(0, 0, 0), ..in_host };
    assert_eq!(reason(&untouched), Some(Reason::NotTouched));
}

/// A VMM's memfd, which QEMU maps at any 4 KiB, where shared memory has no huge pages either.
#[test]
fn a_misaligned_slot_names_what_else_is_in_the_way() {
    let (never, advise) = (settings("madvise", "never"), settings("madvise", "advise"));
    let memfd = Backing { advised: true, ..backing(BackingKind::Shared) };
    let found = |settings| {
        let mut facts = small(settings, &memfd);
        facts.slot.userspace_addr = Some(0x7f00_0000_0000 - 4096);
        why(&facts).unwrap()
    };
    let (reason, evidence) = found(&never);
    assert_eq!(reason, Reason::Misaligned);
    let also = "; besides, 64 MiB are small in the host: shared memory, and shmem_enabled is never or deny";
    assert!(evidence.ends_with(also), "{evidence}");
    let (reason, evidence) = found(&advise);
    assert_eq!(reason, Reason::Misaligned);
    assert!(!evidence.contains("besides"), "{evidence}");
}

#[test]
fn one_gigabyte_is_a_level() {
    let always = settings("always", "always");
    let hugetlb = Backing { page_bytes: Some(1 << 30), ..backing(BackingKind::Hugetlb) };
    let facts = |at, pages| {
        let mut facts = small(&always, &hugetlb);
        facts.slot.npages = 1 << 18;
        facts.slot.userspace_addr = Some(at);
        facts.host = Some(HostMemory { present: 1 << 30, huge: 1 << 30 });
        SlotFacts { pages, ..facts }
    };
    assert_eq!(reason(&facts(1 << 40, pages(0, 0, 1))), None);
    assert_eq!(reason(&facts(1 << 40, pages(0, 512, 0))), Some(Reason::Small1G));
    assert_eq!(reason(&facts((1 << 40) + HUGE, pages(0, 512, 0))), Some(Reason::Misaligned1G));
    assert_eq!(reason(&facts((1 << 40) + 4096, pages(5, 0, 0))), Some(Reason::Misaligned));
}

proptest! {
    /// What KVM forbids is named before what the host might do better; nothing is claimed of a slot that is
    /// huge.
    #[test]
    fn the_reason_follows_from_the_facts(
        offset in prop_oneof![Just(0u64), 1u64..512], logged: bool, npages in 1u64..1 << 20,
        small_pages in 0u64..1 << 20, huge_pages in 0u64..1 << 11, host_huge in 0u64..1 << 11,
        kind in 0usize..5, nx_splits in 0u64..2, known: bool,
    ) {
        let kinds = [
            BackingKind::Anonymous, BackingKind::Shared, BackingKind::Hugetlb, BackingKind::File,
            BackingKind::PfnMap,
        ];
        let (always, backing) = (settings("always", "always"), backing(kinds[kind]));
        let mut facts = small(&always, &backing);
        facts.slot.npages = npages;
        facts.slot.flags = logged.into();
        facts.slot.userspace_addr = Some(0x7f00_0000_0000 + offset * 4096);
        facts.pages = known.then(|| pages(small_pages, huge_pages, 0));
        facts.vm_pages = pages(small_pages, huge_pages, 0);
        let present = small_pages * 4096 + host_huge * HUGE;
        facts.host = Some(HostMemory { present, huge: host_huge * HUGE });
        facts.nx_splits = nx_splits;

        let found = reason(&facts);
        let share = facts.vm_pages.unwrap().huge_share();
        let in_host = (host_huge * HUGE) as f64 >= 0.95 * present as f64;
        if present > 0 && (known || in_host) && share.is_some_and(|share| share >= 0.95) {
            prop_assert_eq!(found, None);
        } else if let Some(found) = found.filter(|found| *found != Reason::NotTouched) {
            prop_assert_eq!(found == Reason::Logged, logged);
            if !logged && kinds[kind] != BackingKind::PfnMap {
                prop_assert_eq!(found == Reason::Misaligned, offset > 0);
            }
            prop_assert!(!found.remedy().is_empty());
        }
        if let (Some(debt), true) = (debt(&facts), offset == 0) {
            prop_assert!(debt <= small_pages * 4096 && debt <= host_huge * HUGE);
        }
    }
}

fn explanation() -> Explanation {
    let (never, anonymous) = (settings("never", "never"), backing(BackingKind::Anonymous));
    let facts = small(&never, &anonymous);
    let (reason, evidence) = why(&facts).unwrap();
    let slot = SlotExplanation {
        id: 1,
        as_id: 0,
        base_gfn: BASE / 4096,
        bytes: 64 << 20,
        userspace_addr: facts.slot.userspace_addr,
        read_only: false,
        logging: None,
        backing: Some(anonymous.clone()),
        host: facts.host,
        pages: facts.pages,
        huge_share: facts.pages.and_then(PagesBySize::huge_share),
        debt_bytes: debt(&facts),
        reason: Some(reason),
        evidence: Some(evidence),
        remedy: Some(reason.remedy().into()),
    };
    let mut vm = VmExplanation {
        pid: Some(7),
        name: Some("guest".to_owned()),
        pages: pages(16384, 0, 0),
        slots: Some(vec![slot]),
        ..VmExplanation::default()
    };
    vm.sum_up();
    Explanation {
        schema: SCHEMA.into(),
        version: "0".into(),
        host: Host::new(
            collapse_feed::Machine { name: None, kernel: "6.12".to_owned() },
            &collapse_feed::fixtures::patchy_coverage(),
        ),
        settings: never,
        took_ns: 1_000_000,
        budgets: Vec::new(),
        vms: vec![vm],
    }
}

#[test]
fn the_first_lines_name_the_reason() {
    let text = render(&explanation(), crate::Style::Plain);
    let verdict = text.lines().nth(4).unwrap();
    assert_eq!(
        verdict,
        "  0.0 % of 64 MiB mapped are huge (16384 × 4K); 64 MiB are small in the host: \
         transparent_hugepage/enabled is never"
    );
    assert!(text.contains("→ echo madvise"), "{text}");
}

/// A little firmware that is small is not what there is to say of a guest that is huge.
#[test]
fn the_verdict_is_about_what_matters() {
    let verdict = |small: u64| {
        let mut explanation = explanation();
        let vm = &mut explanation.vms[0];
        (vm.pages, vm.slots.as_mut().unwrap()[0].pages) = (pages(small, 32, 0), pages(small, 0, 0));
        vm.sum_up();
        let text = render(&explanation, crate::Style::Plain);
        text.lines().nth(4).unwrap().contains("transparent_hugepage")
    };
    assert_eq!([512, 4096].map(verdict), [false, true]);
}

/// SMM has its own view of the same memory, which it hardly ever uses.
#[test]
fn slots_of_smm_are_told_once() {
    let mut explanation = explanation();
    let vm = &mut explanation.vms[0];
    let slot = vm.slots.as_ref().unwrap()[0].clone();
    let unused = |slot: SlotExplanation| SlotExplanation {
        as_id: 1,
        pages: pages(0, 0, 0),
        reason: Some(Reason::NotTouched),
        ..slot
    };
    let twin = unused(slot.clone());
    let other = SlotExplanation { base_gfn: 1 << 30, ..unused(slot.clone()) };
    let used = SlotExplanation { as_id: 1, ..slot.clone() };
    vm.slots = Some(vec![slot, twin, other, used]);
    vm.sum_up();
    let evidence = |at: usize| vm.slots.as_ref().unwrap()[at].evidence.as_deref();
    assert_eq!(evidence(1), Some("the memory of slot 1 for SMM, which does not use it"));
    assert_eq!(evidence(0), evidence(2));
    explanation.leave_out_addresses();
    let text = render(&explanation, crate::Style::Plain);
    let slots = |of: &str| text.lines().filter(|line| line.contains(of)).count();
    assert_eq!((slots("  slot 1"), slots("  slot 1 (SMM)")), (3, 2), "{text}");
    let once =
        "\n  and 1 slot with the same memory for SMM, which does not use it (64 MiB together)\n";
    assert!(text.contains(once), "{text}");
}

#[test]
fn budgets_are_held_against_every_vm() {
    let mut explanation = explanation();
    let budgets = |text: &str| vec![Budget::on_explanation(text).unwrap()];
    explanation.judge(&budgets("huge_share >= 95%"));
    assert!(!explanation.keeps_budgets());
    assert!(render(&explanation, crate::Style::Plain).contains("huge_share >= 95%: NOT kept"));
    explanation.judge(&budgets("huge_share < 95%"));
    assert!(explanation.keeps_budgets());
    // It is not in an explanation.
    let refused = Budget::on_explanation("log_on == 0").unwrap_err().to_string();
    assert!(refused.contains("no metric 'log_on'"), "{refused}");
    // Slots by reason, and what is huge in the host alone.
    for (budget, kept) in [
        ("slots.thp_never == 0", false),
        ("slots.thp_never == 1", true),
        ("slots.debt == 0", true),
        ("debt_bytes == 0", true),
        ("vm[other].debt_bytes == 0", false),
    ] {
        explanation.judge(&budgets(budget));
        assert_eq!(explanation.keeps_budgets(), kept, "{budget}");
    }
    // What is not known is not none.
    explanation.vms[0].slots = None;
    explanation.judge(&budgets("slots.debt == 0"));
    assert!(!explanation.keeps_budgets());
}

#[test]
fn addresses_are_left_out_unless_asked_for() {
    // Of a slot that is misaligned, whose reason is about addresses.
    let (always, anonymous) = (settings("always", "always"), backing(BackingKind::Anonymous));
    let mut facts = small(&always, &anonymous);
    facts.slot.userspace_addr = Some(0x7f00_0010_0000);
    let mut explanation = explanation();
    let slot = &mut explanation.vms[0].slots.as_mut().unwrap()[0];
    slot.userspace_addr = facts.slot.userspace_addr;
    (slot.reason, slot.evidence) = why(&facts).unzip();
    assert_eq!(slot.reason, Some(Reason::Misaligned));
    let outputs = |explanation: &Explanation| {
        let json = serde_json::to_string(explanation).unwrap();
        (render(explanation, crate::Style::Plain), json)
    };
    let (text, json) = outputs(&explanation);
    assert!(text.contains("(in the VMM at 0x7f0000100000)") && json.contains("139637977776128"));
    explanation.leave_out_addresses();
    let (text, json) = outputs(&explanation);
    assert!(!text.contains("0x7f0000100000"), "{text}");
    assert!(text.contains("guest address 0x40000000 is 1 MiB beyond"), "{text}");
    assert!(!json.contains("139637977776128") && !json.contains("7f0000100000"), "{json}");
}

#[test]
fn the_schema_describes_the_json() {
    let schema = schema().to_value();
    let json = serde_json::to_value(explanation()).unwrap();
    let keys = |value: &Value| {
        value.as_object().unwrap().keys().cloned().collect::<std::collections::BTreeSet<_>>()
    };
    assert_eq!(keys(&schema["properties"]), keys(&json));
    let vm = &schema["$defs"]["VmExplanation"]["properties"];
    assert_eq!(keys(vm), keys(&json["vms"][0]));
    assert_eq!(json["vms"][0]["slots"][0]["reason"], "thp_never");
}
