//! What a scenario asks for: typed phases and the part of the machine each is aimed at.

use std::time::Duration;

use anyhow::Result;
use collapse_guest::units::Bytes;
use collapse_guest::{Access, Advice, Backing, Protection};
use serde_json::{Map, Value};

use crate::parse;
use crate::share::Share;
use crate::syntax;

/// A scenario's step: one phase, or a repeated group.
#[derive(Clone, Debug)]
pub enum Step {
    /// One phase.
    Phase(Phase),
    /// A group carried out several times.
    Repeat(u64, Vec<Step>),
}

/// One phase with its aim.
#[derive(Clone, Debug)]
pub struct Phase {
    /// The name it was written with.
    pub name: String,
    /// The arguments it was written with, for the report.
    pub args: Map<String, Value>,
    /// What to do.
    pub action: Action,
    /// Which VMs.
    pub vm: VmPick,
    /// Which vCPUs of each.
    pub vcpu: VcpuPick,
    /// Which slots of each.
    pub slot: SlotPick,
}

/// What a phase does.
#[derive(Clone, Debug, PartialEq)]
pub enum Action {
    /// Makes VMs: so many, or as many as the options say.
    Create(Option<usize>),
    /// Ends VMs.
    Destroy,
    /// Lets vCPUs access memory.
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
    /// Clears what was last harvested, in calls of so many bytes of guest memory.
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
    /// Puts a removed slot back, or makes a new one.
    SlotAdd(Option<Bytes>, Option<Backing>),
    /// Moves slots to another guest-physical address.
    SlotMove(Option<Bytes>),
    /// Does nothing for a while.
    Hold(Duration),
    /// Waits until all huge pages are mapped huge again, at most so long.
    WaitRecovery(Duration),
}

/// How vCPUs access memory.
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
    /// What the random subset is drawn from.
    pub seed: u64,
    /// Accesses per second and vCPU.
    pub rate: Option<u64>,
    /// Goes on while later phases run.
    pub background: bool,
}

/// A part of a slot.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Range {
    /// Bytes from the slot's start.
    pub from: Bytes,
    /// Its length; to the slot's end if not given.
    pub size: Option<Bytes>,
}

/// Which VMs a phase is for.
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

/// Which vCPUs a phase is for.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum VcpuPick {
    /// All, each with its own part of the range.
    Split,
    /// All, each with the whole range.
    All,
    /// The one with this number.
    Index(usize),
}

/// Which slots a phase is for.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum SlotPick {
    /// All data slots.
    All,
    /// The one with this id.
    Id(u32),
}

/// Reads a scenario.
pub fn parse(text: &str) -> Result<Vec<Step>> {
    syntax::parse(text)?.into_iter().map(parse::step).collect()
}

/// Whether a scenario makes its first VMs itself: nothing but holding comes before `create`.
pub fn begins_without_vms(steps: &[Step]) -> bool {
    fn first_action(steps: &[Step]) -> Option<&Action> {
        steps.iter().find_map(|step| match step {
            Step::Phase(Phase { action: Action::Hold(_), .. }) | Step::Repeat(0, _) => None,
            Step::Phase(phase) => Some(&phase.action),
            Step::Repeat(_, body) => first_action(body),
        })
    }
    matches!(first_action(steps), Some(Action::Create(_)))
}

#[cfg(test)]
mod tests {
    use super::*;

    fn only_phase(text: &str) -> Phase {
        match parse(text).unwrap().remove(0) {
            Step::Phase(phase) => phase,
            Step::Repeat(..) => panic!("a group"),
        }
    }

    #[test]
    fn a_plain_touch_writes_every_page_once() {
        let phase = only_phase("touch");
        let Action::Touch(touch) = phase.action else { panic!("not a touch") };
        assert_eq!(touch.access, Access::Write);
        assert_eq!(touch.stride, Bytes(4096));
        assert_eq!((touch.random, touch.rate, touch.background), (None, None, false));
        assert_eq!(
            (phase.vm, phase.vcpu, phase.slot),
            (VmPick::All, VcpuPick::Split, SlotPick::All)
        );
    }

    #[test]
    fn arguments_reach_the_phase_and_the_report() {
        let phase = only_phase("touch read vm=last vcpu=1 slot=2 from=2M random=10% background");
        assert_eq!(phase.vm, VmPick::Last);
        assert_eq!(phase.vcpu, VcpuPick::Index(1));
        assert_eq!(phase.slot, SlotPick::Id(2));
        assert_eq!(phase.args["random"], "10%");
        assert_eq!(phase.args["background"], true);
        let Action::Touch(touch) = phase.action else { panic!("not a touch") };
        assert_eq!(touch.random, Some(Share::Percent(10)));
        assert_eq!(touch.range.from, Bytes(2 << 20));
    }

    #[test]
    fn exec_goes_by_regions() {
        let Action::Touch(touch) = only_phase("touch exec").action else { panic!("not a touch") };
        assert_eq!(touch.stride, Bytes(2 << 20));
    }

    #[test]
    fn mistakes_are_named() {
        for (text, part) in [
            ("tuch", "unknown phase `tuch`"),
            ("touch wrote", "`wrote`"),
            ("touch speed=3", "`speed`"),
            ("log-on background", "`background`"),
            ("touch stride=0", "stride"),
            ("touch rate=0", "rate"),
            ("touch vm=x", "`x`"),
            ("touch vm=1 vm=2", "twice"),
            ("madvise", "madvise"),
            ("madvise please", "`please`"),
            ("hold", "hold"),
            ("hold soon", "`soon`"),
            ("repeat 2 { create count=many }", "`many`"),
        ] {
            let error = format!("{:#}", parse(text).unwrap_err());
            assert!(error.contains(part), "{text}: {error}");
        }
    }

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
            assert_eq!(begins_without_vms(&parse(text).unwrap()), without, "{text}");
        }
    }
}
