//! The explanation for people.

use std::fmt::Write as _;

use super::{
    BackingKind, Explanation, Log, Logging, SlotExplanation, VmExplanation, reason::Reason,
};
use crate::{PagesBySize, Style};
use collapse_model::wording::{SIZES, UNKNOWN, bytes, duration, known, leaves, percent};

/// Slots below this size, bytes, share a line: ROMs, and what displays show.
const SMALL_SLOT: u64 = 2 << 20;

/// Part of a VM's mapped memory from which on a slot decides on what is said of the VM.
const LEAST_SHARE: f64 = 0.05;

/// Renders an explanation. The text ends with a line break.
pub fn render(explanation: &Explanation, style: Style) -> String {
    let mut out = String::new();
    // Writing to a string cannot fail.
    let _ = write(&mut out, explanation, style);
    out
}

fn write(out: &mut String, explanation: &Explanation, style: Style) -> std::fmt::Result {
    let Explanation { host, settings, vms, budgets, .. } = explanation;
    let count = if vms.len() == 1 { "1 VM".to_owned() } else { format!("{} VMs", vms.len()) };
    let took = duration(explanation.took_ns);
    writeln!(
        out,
        "collapse explain: kernel {}, {}, {count}, in {took}",
        host.kernel,
        host.mmu_label()
    )?;
    writeln!(
        out,
        "THP: {}; THP of shared memory: {}; NX huge pages: {}",
        known(settings.thp.as_ref()),
        known(settings.shmem_thp.as_ref()),
        known(settings.nx_huge_pages.map(|on| if on { "on" } else { "off" })),
    )?;
    for vm in vms {
        writeln!(out)?;
        write_vm(out, vm, style)?;
    }
    if !budgets.is_empty() {
        writeln!(out)?;
    }
    for budget in budgets {
        let verdict = if budget.ok { "kept" } else { "NOT kept" };
        writeln!(out, "budget {}: {verdict}", budget.budget)?;
        for check in budget.checks.iter().filter(|check| !check.ok) {
            let vm = check.vm.as_ref().map_or(String::new(), |vm| format!("{vm}: "));
            writeln!(out, "  {vm}{}", check.reason.as_deref().unwrap_or_default())?;
        }
    }
    Ok(())
}

fn write_vm(out: &mut String, vm: &VmExplanation, style: Style) -> std::fmt::Result {
    writeln!(out, "{}", style.bold(&vm.label()))?;
    writeln!(out, "  {}", verdict(vm))?;
    if let Some(debt) = vm.debt_bytes.filter(|debt| *debt > 0) {
        writeln!(out, "  {} are huge in the host and small for the guest", bytes(debt))?;
    }
    let Some(slots) = &vm.slots else {
        return writeln!(out, "  its memslots could not be read");
    };
    if let Some(why) = &vm.slots_unknown {
        writeln!(out, "  what is mapped is known of the VM, and not of each slot: {why}")?;
    }
    let (twins, slots): (Vec<_>, Vec<_>) =
        slots.iter().partition(|slot| slot.of_smm(slots).is_some());
    let (large, small): (Vec<_>, Vec<_>) =
        slots.into_iter().partition(|slot| slot.bytes >= SMALL_SLOT);
    for slot in large {
        write_slot(out, slot, style)?;
    }
    let others =
        [(small, "below 2 MiB"), (twins, "with the same memory for SMM, which does not use it")];
    for (slots, what) in others.iter().filter(|(slots, _)| !slots.is_empty()) {
        let sum = slots.iter().map(|slot| slot.bytes).sum();
        let slot = if slots.len() == 1 { "slot" } else { "slots" };
        writeln!(out, "  and {} {slot} {what} ({} together)", slots.len(), bytes(sum))?;
    }
    Ok(())
}

/// The first line: how much is huge, and what keeps the rest from it.
fn verdict(vm: &VmExplanation) -> String {
    let share = match (vm.huge_share, vm.pages) {
        (Some(share), Some(pages)) => {
            format!(
                "{} of {} mapped are huge ({})",
                percent(share),
                bytes(pages.bytes()),
                by_size(pages),
            )
        }
        (None, Some(_)) => "nothing is mapped".to_owned(),
        _ => "how much is huge is not known: this kernel has no gauges".to_owned(),
    };
    // Not firmware in a guest that is huge.
    let mapped = vm.pages.map_or(0, PagesBySize::bytes);
    let matters = |slot: &&SlotExplanation| {
        let share = slot.pages.map(|pages| pages.bytes() as f64 / mapped.max(1) as f64);
        slot.bytes >= SMALL_SLOT && share.is_none_or(|share| share >= LEAST_SHARE)
    };
    let slots = vm.slots.iter().flatten().filter(matters);
    let worst = slots
        .filter(|slot| !matches!(slot.reason, None | Some(Reason::NotTouched)))
        .max_by_key(|slot| slot.pages.map_or(slot.bytes, PagesBySize::bytes));
    match worst.and_then(|slot| slot.evidence.as_ref()) {
        Some(evidence) => format!("{share}; {evidence}"),
        None => share,
    }
}

/// Leaves by size, the largest first, with the part of what is mapped where there is more than one size.
fn by_size(pages: PagesBySize) -> String {
    let counts = [pages.giant, pages.huge, pages.small];
    let shares = [pages.share_1g(), pages.share_2m(), pages.huge_share().map(|huge| 1.0 - huge)];
    let sizes = counts.into_iter().zip(shares).zip([3, 2, 1]).filter(|((n, _), _)| *n > 0);
    let one = sizes.clone().count() < 2;
    let sizes = sizes.map(|((n, share), level)| match share.filter(|_| !one) {
        Some(share) => format!("{}: {}", leaves(n, level), percent(share)),
        None => leaves(n, level),
    });
    sizes.collect::<Vec<_>>().join(", ")
}

fn write_slot(out: &mut String, slot: &SlotExplanation, style: Style) -> std::fmt::Result {
    let smm = if slot.as_id == 0 { "" } else { " (SMM)" };
    let read_only = if slot.read_only { ", read-only" } else { "" };
    let logging = slot.logging.map_or(String::new(), |logging| format!(", {}", logged(logging)));
    let place = slot.userspace_addr.map_or(String::new(), |at| format!(" (in the VMM at {at:#x})"));
    writeln!(
        out,
        "  slot {}{smm}: {} at {:#x}{place}, {}{read_only}{logging}",
        slot.id,
        bytes(slot.bytes),
        slot.base_gfn.saturating_mul(4096),
        backing(slot),
    )?;
    let host = slot.host.map_or_else(
        || format!("host: {UNKNOWN}"),
        |host| format!("host: {} present, {} huge", bytes(host.present), bytes(host.huge)),
    );
    let guest = slot.pages.map_or_else(
        || format!("guest: {UNKNOWN}"),
        |pages| {
            let counts = [pages.giant, pages.huge, pages.small];
            let sizes = counts.into_iter().zip([3, 2, 1]).filter(|(n, _)| *n > 0);
            let sizes: Vec<_> = sizes.map(|(n, level)| leaves(n, level)).collect();
            let share = slot.huge_share.map_or(String::new(), |s| format!(", {} huge", percent(s)));
            if sizes.is_empty() {
                "guest: nothing mapped".to_owned()
            } else {
                format!("guest: {}{share}", sizes.join(", "))
            }
        },
    );
    writeln!(out, "    {host}; {guest}")?;
    match (&slot.reason, &slot.evidence, &slot.remedy) {
        (Some(Reason::NotTouched), Some(evidence), _) => writeln!(out, "    {evidence}"),
        (Some(_), Some(evidence), Some(remedy)) => {
            let verdict = match slot.reason {
                Some(Reason::Unknown) => "not known whether it is huge",
                _ => "not huge",
            };
            writeln!(out, "    {}", style.bold(&format!("{verdict}: {evidence}")))?;
            writeln!(out, "    {}", style.dim(&format!("→ {remedy}")))
        }
        _ => writeln!(out, "    huge"),
    }
}

fn logged(logging: Logging) -> String {
    let log = match logging.log {
        Log::Bitmap => "a bitmap",
        Log::ManualBitmap => "a bitmap cleared by hand",
        Log::InitiallySetBitmap => "an initially set bitmap",
        Log::Ring => "rings",
    };
    let by = match logging.by_cpu {
        Some(true) => ", by the CPU (PML)",
        Some(false) => ", by write faults",
        None => "",
    };
    format!("dirty logging on (in {log}{by})")
}

fn backing(slot: &SlotExplanation) -> String {
    let Some(backing) = &slot.backing else { return "backing not known".to_owned() };
    let kind = match backing.kind {
        BackingKind::Anonymous => "anonymous memory",
        BackingKind::Shared => "shared memory",
        BackingKind::Hugetlb => "hugetlb",
        BackingKind::File => "a file",
        BackingKind::PfnMap => "device memory",
        BackingKind::GuestMemfd => "guest_memfd",
    };
    let size = SIZES.iter().find(|size| Some(size.bytes) == backing.page_bytes);
    let size = size.map_or(String::new(), |size| format!(" of {}", size.name));
    let notes = [
        (backing.advised, ", MADV_HUGEPAGE"),
        (backing.forbidden, ", MADV_NOHUGEPAGE"),
        (backing.userfaultfd, ", userfaultfd"),
    ];
    let notes: String =
        notes.into_iter().filter(|(applies, _)| *applies).map(|(_, note)| note).collect();
    format!("{kind}{size}{notes}")
}
