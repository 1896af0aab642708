//! The process with the test guest, which goes through a failed migration and a loss of host memory
//! and reports KVM's own figures for each phase.

use std::{
    ffi::CStr,
    io::{self, Read as _, Write as _},
};

use anyhow::{Context as _, Result};
use collapse_guest::{
    Access, Advice, Backing, LogProtect,
    gauges::{Interval, IntervalStart, PageCounts},
    units::{HUGE, PAGE},
    vm::{self, GuestVm, SlotMode},
};
use serde::{Deserialize, Serialize};

use crate::{
    exit::{Exit, Failure, OrExit as _},
    identity,
};

/// The hidden command that runs it.
pub const COMMAND: &str = "selftest-guest";
/// Regions of the data slot.
pub const REGIONS: u64 = 8;
/// Guest frames of the data slot.
pub const FRAMES: u64 = REGIONS * HUGE / PAGE;
/// Id of the data slot.
pub const SLOT: u32 = 1;

const SIZE: u64 = REGIONS * HUGE;
const NAME: &CStr = c"collapse-guest";

/// The account of the process with the guest.
#[derive(Clone, Debug, Serialize, Deserialize)]
pub struct Account {
    /// Process id.
    pub pid: u32,
    /// The thread that created the VM.
    pub tid: u32,
    /// The VM's file descriptor.
    pub fd: u32,
    /// Name of the VM for people.
    pub name: String,
    /// First guest frame of the data slot.
    pub base_gfn: u64,
    /// Phases of the guest's life, in order.
    pub phases: Vec<Phase>,
}

/// A step of the guest's life.
#[derive(Clone, Debug, Serialize, Deserialize)]
pub struct Phase {
    /// Name of the step.
    pub phase: String,
    /// Time, and KVM's counts before and after.
    #[serde(flatten)]
    pub interval: Interval,
}

impl Account {
    /// Faults of one outcome in the phases that `pick` picks by number; `None` if KVM does not count
    /// them.
    pub fn faults(&self, outcome: &str, pick: impl Fn(usize) -> bool) -> Option<u64> {
        let picked = self.phases.iter().enumerate().filter(|(number, _)| pick(*number));
        picked.map(|(_, phase)| phase.interval.faults.get(outcome).copied()).sum()
    }

    /// The place of the first phase of a name.
    pub fn place(&self, name: &str) -> Option<usize> {
        self.phases.iter().position(|phase| phase.phase == name)
    }

    /// Mappings when the guest had done everything; `None` if KVM does not count them.
    pub fn pages(&self) -> Option<PageCounts> {
        self.phases.last()?.interval.pages_after
    }
}

type Act = fn(&mut GuestVm) -> Result<()>;

/// Steps of the guest's life. Every touch is of each page once.
const LIFE: [(&str, Act); 10] = [
    ("touch", write),
    ("log_on", |vm| vm.log(SLOT, true)),
    ("touch", write),
    ("get_log", |vm| vm.harvest(SLOT).map(drop)),
    ("touch", write),
    ("log_off", |vm| vm.log(SLOT, false)),
    ("touch", write),
    ("read", |vm| vm.touch(SLOT, Access::Read)),
    ("madvise", renew),
    ("touch", write),
];

fn write(vm: &mut GuestVm) -> Result<()> {
    vm.touch(SLOT, Access::Write)
}

/// Drops the host's memory and gets new huge pages, before the guest would fault small ones in.
fn renew(vm: &mut GuestVm) -> Result<()> {
    let memory = &vm.slot(SLOT)?.memory;
    memory.advise(Advice::Dontneed, 0, SIZE)?;
    memory.populate()
}

/// Runs the guest and prints the account, then keeps the VM until stdin ends.
pub fn run() -> Result<Exit, Failure> {
    // SAFETY: plain system calls; the name ends in a zero byte.
    unsafe {
        libc::prctl(libc::PR_SET_NAME, NAME.as_ptr());
        // A process with a memory policy is exempt from NUMA balancing, which would zap too.
        libc::syscall(libc::SYS_set_mempolicy, libc::MPOL_PREFERRED, 0, 0);
    }
    let (vm, account) = match live() {
        Ok((vm, account)) => (Some(vm), Ok(account)),
        Err(error) => (None, Err(format!("{error:#}"))),
    };
    let line = serde_json::to_string::<Result<_, String>>(&account).or_exit(Exit::Output)? + "\n";
    io::stdout().write_all(line.as_bytes()).or_exit(Exit::Output)?;
    io::stdin().read_to_end(&mut Vec::new()).or_exit(Exit::Output)?;
    drop(vm);
    Ok(Exit::Ok)
}

fn live() -> Result<(GuestVm, Account)> {
    let mut vm = GuestVm::new(&vm::open_kvm()?, 1, LogProtect::Off)?;
    vm.add_slot(SLOT, SIZE, Backing::Thp, SlotMode::default())?;
    let mut phases = Vec::new();
    for (phase, act) in LIFE {
        let moment = IntervalStart::now(vm.gauges());
        act(&mut vm).with_context(|| format!("phase {phase}"))?;
        phases.push(Phase { phase: phase.to_owned(), interval: moment.until_now() });
    }
    let (tid, fd) = vm.name_in_debugfs();
    let (tid, fd) = (tid as u32, fd as u32);
    let process = identity::process_of_thread(tid).context("/proc does not show this process")?;
    let base_gfn = vm.slot(SLOT)?.address / PAGE;
    let name = process.name.text;
    Ok((vm, Account { pid: process.pid, tid, fd, name, base_gfn, phases }))
}
