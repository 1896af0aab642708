//! Phases of one VM, and their results.

use std::{
    io,
    time::{Duration, Instant},
};

use anyhow::{Context, Result, bail, ensure};
use collapse_guest::code::{EXEC_STUB, Walk};
use collapse_guest::units::{Bytes, GIB, HUGE, PAGE};
use collapse_guest::vcpu::{Done, Vcpu, VcpuOrder};
use collapse_guest::vm::{CLEAR_RASTER, GuestSlot, GuestVm, LOW_SLOT, SlotMode};
use collapse_guest::{Access, Advice, Backing, Protection, stop as ending};
use serde_json::{Value, json};

use crate::options::{WorkloadOptions, check_slot_size};
use crate::scenario::{Action, Phase, Range, SlotPick, Touch, VcpuPick};
use crate::slots;

/// Carries out a phase that is about one VM.
pub fn on_vm(vm: &mut GuestVm, phase: &Phase, options: &WorkloadOptions) -> Result<Value> {
    match &phase.action {
        Action::Touch(order) => touch(vm, phase, order),
        Action::Stop => stop(vm, phase.vcpu),
        Action::Pause => on_vcpus(vm, phase.vcpu, Vcpu::pause),
        Action::Resume => on_vcpus(vm, phase.vcpu, Vcpu::resume),
        Action::Log(on) => log(vm, phase.slot, *on),
        Action::PreFault => pre_fault(vm, phase.slot),
        Action::GetLog => get_log(vm, phase.slot),
        Action::ClearLog(step) => clear_log(vm, phase.slot, *step),
        Action::Madvise(advice, range) => madvise(vm, phase.slot, *advice, *range),
        Action::Mprotect(protection, range) => mprotect(vm, phase.slot, *protection, *range),
        Action::SlotDelete => slot_delete(vm, phase.slot),
        Action::SlotAdd(size, backing, mode) => {
            let size = size.unwrap_or(options.size);
            slot_add(vm, phase.slot, size, backing.unwrap_or(options.backing), *mode)
        }
        Action::UffdRegister => uffd_register(vm, phase.slot),
        Action::UffdProtect => uffd_protect(vm, phase.slot),
        Action::MigratePages(node) => migrate_pages(*node),
        Action::SlotMove(to) => slot_move(vm, phase.slot, *to),
        Action::WaitRecovery(timeout) => wait_recovery(vm, *timeout),
        Action::WaitHuge(timeout) => wait_huge(vm, *timeout),
        Action::Create(_)
        | Action::Destroy
        | Action::ForkCow
        | Action::ForkEnd
        | Action::Hold(_) => bail!("is not about one VM"),
    }
}

/// Ends all background touches of a VM.
pub fn quiesce(vm: &mut GuestVm) -> Result<()> {
    stop(vm, VcpuPick::All).map(drop)
}

fn present(slot: &GuestSlot) -> bool {
    slot.present
}

fn logged(slot: &GuestSlot) -> bool {
    slot.mode.logged
}

/// The part of a slot that a range names, as offset and length.
fn resolve(range: Range, slot: &GuestSlot) -> Result<(u64, u64)> {
    let (from, whole) = (range.from.0, slot.memory.size());
    let left = whole.checked_sub(from).filter(|left| *left > 0);
    let left = left.with_context(|| format!("from={} is outside the slot", range.from))?;
    let size = range.size.map_or(left, |size| size.0);
    ensure!(size > 0 && size <= left, "size={} is outside the slot", Bytes(size));
    Ok((from, size))
}

fn touch(vm: &mut GuestVm, phase: &Phase, touch: &Touch) -> Result<Value> {
    let slots = slots::pick(vm, phase.slot, present, "in the guest")?;
    let vcpus = pick_vcpus(vm, phase.vcpu)?;
    let parts = if phase.vcpu == VcpuPick::Split { vcpus.len() as u64 } else { 1 };
    let mut orders: Vec<VcpuOrder> = vcpus.iter().map(|_| new_order(touch)).collect();
    for id in slots {
        let slot = vm.slot(id)?;
        let (from, size) = resolve(touch.range, slot)?;
        if touch.access == Access::Exec {
            for place in (from..from + size).step_by(touch.stride.0 as usize) {
                slot.memory.store(place, &EXEC_STUB)?;
            }
        }
        for (order, part) in orders.iter_mut().zip((0..parts).cycle()) {
            order.walks.push(walk(touch, slot.address + from, size, part, parts));
        }
    }
    let mut work: Vec<(usize, VcpuOrder)> = vcpus.into_iter().zip(orders).collect();
    // A share of a small range can be empty.
    work.retain(|(_, order)| order.walks.iter().any(|walk| walk.count > 0));
    let vcpus: Vec<usize> = work.iter().map(|(vcpu, _)| *vcpu).collect();
    if let Some(busy) = vcpus.iter().find(|vcpu| vm.vcpus[**vcpu].busy()) {
        bail!("vCPU {busy} still touches in the background (`stop` it)");
    }
    for (vcpu, order) in work {
        vm.vcpus[vcpu].begin(order)?;
    }
    if touch.background {
        return Ok(json!({ "vcpus": vcpus.len() }));
    }
    finish(vcpus.into_iter().map(|vcpu| vm.vcpus[vcpu].finish()).collect())
}

fn new_order(touch: &Touch) -> VcpuOrder {
    VcpuOrder {
        access: touch.access,
        walks: Vec::new(),
        rate: touch.rate,
        endless: touch.background,
    }
}

/// The walk through one of `parts` equal parts of a range.
fn walk(touch: &Touch, base: u64, size: u64, part: u64, parts: u64) -> Walk {
    let stride = touch.stride.0;
    let places = size.div_ceil(stride);
    let bound =
        |total: u64, part: u64| (u128::from(total) * u128::from(part) / u128::from(parts)) as u64;
    let of_part = |total| bound(total, part + 1) - bound(total, part);
    let wanted = touch.random.map_or(places, |share| share.of(places));
    Walk {
        base: base + bound(places, part) * stride,
        stride,
        places: of_part(places),
        count: of_part(wanted).min(of_part(places)),
        seed: touch.random.map(|_| touch.seed),
    }
}

fn pick_vcpus(vm: &GuestVm, pick: VcpuPick) -> Result<Vec<usize>> {
    match pick {
        VcpuPick::Split | VcpuPick::All => Ok((0..vm.vcpus.len()).collect()),
        VcpuPick::Index(index) => {
            ensure!(index < vm.vcpus.len(), "there is no vCPU {index}");
            Ok(vec![index])
        }
    }
}

fn on_vcpus(vm: &mut GuestVm, pick: VcpuPick, act: fn(&mut Vcpu)) -> Result<Value> {
    let vcpus = pick_vcpus(vm, pick)?;
    for vcpu in &vcpus {
        act(&mut vm.vcpus[*vcpu]);
    }
    Ok(json!({ "vcpus": vcpus.len() }))
}

fn stop(vm: &mut GuestVm, pick: VcpuPick) -> Result<Value> {
    let vcpus = pick_vcpus(vm, pick)?;
    finish(vcpus.into_iter().filter_map(|vcpu| vm.vcpus[vcpu].stop()).collect())
}

/// Sums up what vCPUs did. All of them have ended, whatever the outcome.
fn finish(outcomes: Vec<Result<Done>>) -> Result<Value> {
    let mut sum = Done::default();
    for outcome in outcomes {
        let done = outcome?;
        sum.accesses += done.accesses;
        sum.passes += done.passes;
    }
    Ok(json!({ "touched": sum.accesses, "passes": sum.passes }))
}

fn log(vm: &mut GuestVm, pick: SlotPick, on: bool) -> Result<Value> {
    let slots = slots::pick(vm, pick, present, "in the guest")?;
    for id in &slots {
        vm.log(*id, on)?;
    }
    Ok(json!({ "slots": slots }))
}

fn pre_fault(vm: &GuestVm, pick: SlotPick) -> Result<Value> {
    for id in slots::pick(vm, pick, present, "in the guest")? {
        vm.pre_fault(id)?;
    }
    Ok(json!({}))
}

fn get_log(vm: &mut GuestVm, pick: SlotPick) -> Result<Value> {
    let mut dirty = 0;
    for id in slots::pick(vm, pick, logged, "being logged")? {
        dirty += vm.harvest(id)?;
    }
    Ok(json!({ "dirty_pages": dirty }))
}

fn clear_log(vm: &mut GuestVm, pick: SlotPick, step: Option<Bytes>) -> Result<Value> {
    let step = step.map(|step| step.0 / PAGE);
    if let Some(pages) = step {
        let fits = pages > 0 && pages.is_multiple_of(CLEAR_RASTER);
        ensure!(fits, "step must be a multiple of {}", Bytes(CLEAR_RASTER * PAGE));
    }
    let (mut pages, mut calls) = (0, 0);
    for id in slots::pick(vm, pick, logged, "being logged")? {
        let (more_pages, more_calls) = vm.clear(id, step)?;
        pages += more_pages;
        calls += more_calls;
    }
    Ok(json!({ "cleared_pages": pages, "calls": calls }))
}

fn madvise(vm: &GuestVm, pick: SlotPick, advice: Advice, range: Range) -> Result<Value> {
    let mut supported = true;
    let mut huge_pages = 0;
    for id in slots::pick(vm, pick, |_| true, "known")? {
        let slot = vm.slot(id)?;
        let (from, size) = resolve(range, slot)?;
        supported &= slot.memory.advise(advice, from, size)?;
        huge_pages += slot.memory.huge_pages()?;
    }
    Ok(json!({ "supported": supported, "huge_pages": huge_pages }))
}

fn mprotect(vm: &GuestVm, pick: SlotPick, protection: Protection, range: Range) -> Result<Value> {
    let mut bytes = 0;
    for id in slots::pick(vm, pick, |_| true, "known")? {
        let slot = vm.slot(id)?;
        let (from, size) = resolve(range, slot)?;
        slot.memory.protect(protection, from, size)?;
        bytes += size;
    }
    Ok(json!({ "pages": bytes / PAGE }))
}

fn slot_delete(vm: &mut GuestVm, pick: SlotPick) -> Result<Value> {
    let slots = slots::pick(vm, pick, present, "in the guest")?;
    for id in &slots {
        vm.delete_slot(*id)?;
    }
    Ok(json!({ "slots": slots }))
}

fn uffd_register(vm: &mut GuestVm, pick: SlotPick) -> Result<Value> {
    let slots = slots::pick(vm, pick, |_| true, "known")?;
    for id in &slots {
        vm.register_userfaultfd(*id)?;
    }
    Ok(json!({ "slots": slots }))
}

fn uffd_protect(vm: &GuestVm, pick: SlotPick) -> Result<Value> {
    let slots = slots::pick(vm, pick, |_| true, "known")?;
    for id in &slots {
        vm.slot(*id)?.memory.protect_by_userfaultfd()?;
    }
    Ok(json!({ "slots": slots }))
}

fn migrate_pages(node: u32) -> Result<Value> {
    ensure!(node < u64::BITS, "there is no node {node}");
    let to = 1_u64 << node;
    let from = !to;
    let bits = libc::c_ulong::from(u64::BITS);
    // SAFETY: both masks are as long as they are said to be; the kernel reads them only. 0 is this process.
    let left =
        unsafe { libc::syscall(libc::SYS_migrate_pages, 0, bits, &raw const from, &raw const to) };
    ensure!(left >= 0, io::Error::last_os_error());
    Ok(json!({ "not_moved": left }))
}

fn slot_add(
    vm: &mut GuestVm,
    pick: SlotPick,
    size: Bytes,
    backing: Backing,
    mode: SlotMode,
) -> Result<Value> {
    if let SlotPick::Id(id) = pick
        && !vm.knows_slot(id)
    {
        check_slot_size(size, backing)?;
        vm.add_slot(id, size.0, backing, mode)?;
        return Ok(json!({ "slots": [id] }));
    }
    let slots = slots::pick(vm, pick, |slot| !slot.present, "deleted")?;
    for id in &slots {
        vm.restore_slot(*id, mode)?;
    }
    Ok(json!({ "slots": slots }))
}

fn slot_move(vm: &mut GuestVm, pick: SlotPick, to: Option<Bytes>) -> Result<Value> {
    let mut to = to.map(|to| to.0);
    let mut addresses = Vec::new();
    for id in slots::pick(vm, pick, present, "in the guest")? {
        let size = vm.slot(id)?.memory.size();
        let address = vm.move_slot(id, to)?;
        addresses.push(json!({ "id": id, "base_gfn": address / PAGE }));
        to = to.map(|to| (to + size).next_multiple_of(GIB));
    }
    Ok(json!({ "slots": addresses }))
}

fn wait_recovery(vm: &GuestVm, timeout: Duration) -> Result<Value> {
    let gauges = vm.gauges();
    let expected = vm.present_slots().map(|slot| slot.memory.huge_pages()).sum::<Result<u64>>()?;
    // Without the gauge there is nothing to wait for but the time.
    let recovered = || Ok(gauges.read().pages.map(|pages| pages.huge >= expected));
    let (recovered, waited_ms) = wait(timeout, recovered)?;
    Ok(json!({ "recovered": recovered, "expected_2m": expected, "waited_ms": waited_ms }))
}

fn wait_huge(vm: &GuestVm, timeout: Duration) -> Result<Value> {
    let slots = || vm.slots().filter(|(id, slot)| *id != LOW_SLOT && slot.present);
    let expected: u64 = slots().map(|(_, slot)| slot.memory.size() / HUGE).sum();
    let huge_pages = || slots().map(|(_, slot)| slot.memory.huge_pages()).sum::<Result<u64>>();
    let (huge, waited_ms) = wait(timeout, || Ok(Some(huge_pages()? >= expected)))?;
    Ok(json!({ "huge": huge, "expected_2m": expected, "waited_ms": waited_ms }))
}

/// Waits for `reached`, at most this long. Returns its last answer, and the milliseconds.
fn wait(
    timeout: Duration,
    reached: impl Fn() -> Result<Option<bool>>,
) -> Result<(Option<bool>, u64)> {
    const LOOK_AGAIN: Duration = Duration::from_millis(20);
    let start = Instant::now();
    loop {
        let answer = reached()?;
        if answer == Some(true) || start.elapsed() >= timeout || ending::requested() {
            return Ok((answer, start.elapsed().as_millis() as u64));
        }
        ending::sleep(LOOK_AGAIN);
    }
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;
    use crate::share::Share;

    fn every_page() -> Touch {
        Touch {
            access: Access::Write,
            range: Range { from: Bytes(0), size: None },
            stride: Bytes(PAGE),
            random: None,
            seed: 1,
            rate: None,
            background: false,
        }
    }

    proptest! {
        #[test]
        fn parts_make_up_the_whole(pages in 1_u64..100_000, parts in 1_u64..9) {
            let touch = every_page();
            let mut next = GIB;
            for part in 0..parts {
                let walk = walk(&touch, GIB, pages * PAGE, part, parts);
                prop_assert_eq!(walk.base, next);
                prop_assert_eq!(walk.count, walk.places);
                next += walk.places * PAGE;
            }
            prop_assert_eq!(next, GIB + pages * PAGE);
        }

        #[test]
        fn no_part_is_asked_for_more_than_it_has(
            pages in 1_u64..1000, parts in 1_u64..9, wanted in 0_u64..1000,
        ) {
            let touch = Touch { random: Some(Share::Count(wanted)), ..every_page() };
            for part in 0..parts {
                let walk = walk(&touch, 0, pages * PAGE, part, parts);
                prop_assert!(walk.count <= walk.places);
            }
        }
    }
}
