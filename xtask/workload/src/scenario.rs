//! Scenarios: typed phases, and the VMs, vCPUs and slots that each is for.

use std::time::Duration;

use collapse_guest::units::Bytes;
use collapse_guest::{Access, Advice, Backing, Protection, vm::SlotMode};
use serde_json::{Map, Value};

use crate::share::Share;

/// A scenario's step: one phase, or a repeated group.
#[derive(Clone, Debug)]
pub enum ScenarioStep {
    /// One phase.
    Phase(Phase),
    /// A group carried out several times.
    Repeat(u64, Vec<ScenarioStep>),
}

/// One phase, and the VMs, vCPUs and slots that it is for.
#[derive(Clone, Debug)]
pub struct Phase {
    /// The name it was written with.
    pub name: String,
    /// The arguments it was written with, for the report.
    pub args: Map<String, Value>,
    /// The action.
    pub action: Action,
    /// The VMs.
    pub vm: VmPick,
    /// The vCPUs of each VM.
    pub vcpu: VcpuPick,
    /// The slots of each VM.
    pub slot: SlotPick,
}

/// The action of a phase.
#[derive(Clone, Debug, PartialEq)]
pub enum Action {
    /// Makes VMs: this many, or as many as the options say.
    Create(Option<usize>),
    /// Ends VMs.
    Destroy,
    /// Makes vCPUs access memory.
    Touch(Touch),
    /// Ends background touches.
    Stop,
    /// Holds background touches.
    Pause,
    /// Lets held background touches go on.
    Resume,
    /// Switches dirty logging on (true) or off.
    Log(bool),
    /// Harvests the dirty log.
    GetLog,
    /// Makes KVM map slots in advance.
    PreFault,
    /// Clears the last harvest, in calls of this many bytes of guest memory.
    ClearLog(Option<Bytes>),
    /// Advises the host kernel about a slot's memory.
    Madvise(Advice, Range),
    /// Changes the host's access rights to a slot's memory.
    Mprotect(Protection, Range),
    /// Forks a process that shares all memory copy-on-write.
    ForkCow,
    /// Ends the forked processes.
    ForkEnd,
    /// Removes slots from the guest.
    SlotDelete,
    /// Puts a removed slot back, or makes a new one, in this mode from its first moment.
    SlotAdd(Option<Bytes>, Option<Backing>, SlotMode),
    /// Registers slots' memory with userfaultfd.
    UffdRegister,
    /// Protects slots' memory with userfaultfd, and ends that.
    UffdProtect,
    /// Moves all memory of this process to a NUMA node.
    MigratePages(u32),
    /// Moves slots to another guest-physical address.
    SlotMove(Option<Bytes>),
    /// Does nothing for a while.
    Hold(Duration),
    /// Waits until all huge pages are mapped huge again, at most this long.
    WaitRecovery(Duration),
    /// Waits until the host has all memory in huge pages, at most this long.
    WaitHuge(Duration),
}

/// Accesses of vCPUs to memory.
#[derive(Clone, Debug, PartialEq)]
pub struct Touch {
    /// The kind of access.
    pub access: Access,
    /// The part of the slot.
    pub range: Range,
    /// Bytes from one access to the next.
    pub stride: Bytes,
    /// A random subset of the places, instead of all in order.
    pub random: Option<Share>,
    /// The seed of the random subset.
    pub seed: u64,
    /// Accesses per second and vCPU.
    pub rate: Option<u64>,
    /// Whether it goes on while later phases run.
    pub background: bool,
}

/// A part of a slot.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Range {
    /// Bytes from the slot's start.
    pub from: Bytes,
    /// Length; to the slot's end if not given.
    pub size: Option<Bytes>,
}

/// The VMs that a phase is for.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum VmPick {
    /// All that live, oldest first.
    All,
    /// The oldest that lives.
    First,
    /// The newest that lives.
    Last,
    /// The one with this index.
    Index(usize),
}

/// The vCPUs that a phase is for.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum VcpuPick {
    /// All, each with its own part of the range.
    Split,
    /// All, each with the whole range.
    All,
    /// The one with this number.
    Index(usize),
}

/// The slots that a phase is for.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum SlotPick {
    /// All data slots.
    All,
    /// The one with this id.
    Id(u32),
}

/// Whether a scenario makes its first VMs itself: nothing but holding comes before `create`.
pub fn begins_without_vms(steps: &[ScenarioStep]) -> bool {
    fn first_action(steps: &[ScenarioStep]) -> Option<&Action> {
        steps.iter().find_map(|step| match step {
            ScenarioStep::Phase(Phase { action: Action::Hold(_), .. })
            | ScenarioStep::Repeat(0, _) => None,
            ScenarioStep::Phase(phase) => Some(&phase.action),
            ScenarioStep::Repeat(_, body) => first_action(body),
        })
    }
    matches!(first_action(steps), Some(Action::Create(_)))
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::parse::scenario;

    #[test]
    fn vms_are_there_unless_created_first() {
        for (text, without) in [
            ("create; touch", true),
            ("hold 5; repeat 2 { repeat 1 { create } }", true),
            ("repeat 0 { touch }; create", true),
            ("touch; create; touch vm=last", false),
            ("repeat 2 { hold 1; touch }; destroy", false),
            ("hold 5", false),
        ] {
            assert_eq!(begins_without_vms(&scenario(text).unwrap()), without, "{text}");
        }
    }
}
