//! The slots of a VM: those that a phase is for, and their description.

use anyhow::{Result, bail};
use collapse_guest::units::PAGE;
use collapse_guest::vm::{GuestSlot, GuestVm, LOW_SLOT};
use serde_json::{Value, json};

use crate::scenario::SlotPick;

/// The ids of the slots that a phase is for: those that fit among all, or the one it names.
pub fn pick(
    vm: &GuestVm,
    pick: SlotPick,
    fits: fn(&GuestSlot) -> bool,
    what: &str,
) -> Result<Vec<u32>> {
    let meant = |id: u32| match pick {
        SlotPick::All => id != LOW_SLOT,
        SlotPick::Id(wanted) => id == wanted,
    };
    let fitting = vm.slots().filter(|(id, slot)| meant(*id) && fits(slot));
    let ids: Vec<u32> = fitting.map(|(id, _)| id).collect();
    match pick {
        _ if !ids.is_empty() => Ok(ids),
        SlotPick::All => bail!("no slot of the VM is {what}"),
        SlotPick::Id(id) => bail!("slot {id} is not {what}"),
    }
}

/// A VM's slots for the report, with the number of huge pages behind each of them now.
pub fn describe(vm: &GuestVm) -> Result<Value> {
    let slots: Vec<Value> = vm
        .slots()
        .map(|(id, slot)| {
            Ok(json!({
                "id": id,
                "base_gfn": slot.address / PAGE,
                "pages": slot.memory.size() / PAGE,
                "backing": slot.memory.backing(),
                "huge_pages": slot.memory.huge_pages()?,
            }))
        })
        .collect::<Result<_>>()?;
    Ok(json!({ "vcpus": vm.vcpus.len(), "slots": slots }))
}
