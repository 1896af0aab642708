//! The named scenarios, written in the language that users write theirs in.

use anyhow::Result;

use crate::out;

/// A named scenario.
pub struct Builtin {
    /// The name on the command line.
    pub name: &'static str,
    /// The subject, in one line.
    pub about: &'static str,
    /// Options whose default it changes.
    pub defaults: &'static [(&'static str, &'static str)],
    /// The phases, in the language.
    pub text: &'static str,
}

/// The life cycle that the tool is about.
const FAILED_MIGRATION: &str = "touch; log-on; touch; get-log; touch; log-off; touch";
/// The life cycle where harvesting and write-protecting are separate calls.
const MANUAL_LOG: &str = "touch; log-on; touch; get-log; clear-log; touch; log-off; touch";

/// All named scenarios.
pub const BUILTINS: &[Builtin] = &[
    Builtin {
        name: "failed-migration",
        about: "dirty logging on, harvested, off again: do the huge pages come back?",
        defaults: &[],
        text: FAILED_MIGRATION,
    },
    Builtin {
        name: "dirty-rate",
        about: "a short dirty-rate sample that most of the guest sleeps through",
        defaults: &[],
        text: "touch; log-on; touch random=10%; get-log; log-off; hold 200; touch",
    },
    Builtin {
        name: "lifecycle",
        about: "every way to gain and lose huge mappings, one after the other",
        defaults: &[],
        text: "create; touch; log-on; touch; get-log; touch; log-off; touch; touch read
               madvise dontneed; touch; slot-delete; slot-add; touch; destroy",
    },
    Builtin {
        name: "steady",
        about: "a guest that keeps writing, no dirty logging",
        defaults: &[],
        text: "repeat 10 { touch; hold 50 }",
    },
    Builtin {
        name: "race",
        about: "vCPUs that write while dirty logging stops",
        defaults: &[("vcpus", "2")],
        text: "touch; touch background vcpu=all
               repeat 2 { log-on; hold 200; get-log; hold 100; log-off; hold 200 }
               stop; touch",
    },
    Builtin {
        name: "two-vms",
        about: "two guests of one process, both through a failed migration, interleaved",
        defaults: &[("vms", "2")],
        text: FAILED_MIGRATION,
    },
    Builtin {
        name: "churn",
        about: "guests that come, touch memory, are logged and go",
        defaults: &[("iterations", "20")],
        text: "create; touch; log-on; touch; log-off; touch; destroy",
    },
    Builtin {
        name: "manual-protect",
        about: "a failed migration with KVM_DIRTY_LOG_MANUAL_PROTECT_ENABLE",
        defaults: &[("log_protect", "manual")],
        text: MANUAL_LOG,
    },
    Builtin {
        name: "initially-set",
        about: "a failed migration with KVM_DIRTY_LOG_INITIALLY_SET, as QEMU does it",
        defaults: &[("log_protect", "initially-set")],
        text: MANUAL_LOG,
    },
    Builtin {
        name: "madvise",
        about: "host memory dropped, its huge pages split, then collapsed again",
        defaults: &[],
        text: "touch; madvise dontneed; touch; madvise split; touch; madvise collapse; touch",
    },
    Builtin {
        name: "mprotect",
        about: "host memory made read-only and writable again",
        defaults: &[],
        text: "touch; mprotect ro; touch read; mprotect rw; touch",
    },
    Builtin {
        name: "fork-cow",
        about: "the VMM forks, and the guest's writes break the copy-on-write",
        defaults: &[],
        text: "touch; fork-cow; touch; fork-end; touch",
    },
    Builtin {
        name: "memslot",
        about: "slot deleted, added again and moved",
        defaults: &[],
        text: "touch; slot-delete; slot-add; touch; slot-move; touch; slot-move to=1G; touch",
    },
    Builtin {
        name: "nx",
        about: "execution in each 2 MiB, which nx_huge_pages=force splits and a worker recovers",
        defaults: &[],
        text: "touch; touch exec; wait-recovery; touch",
    },
    Builtin {
        name: "pause",
        about: "a background writer that is paused and resumed under dirty logging",
        defaults: &[],
        text: "touch background; log-on; hold 100; pause; get-log; hold 200; get-log
               resume; hold 100; get-log; stop; log-off; touch",
    },
];

/// The phases of the language, for `workload list`.
const PHASES: &str =
    "  touch [write|read|exec] [from=SIZE] [size=SIZE] [stride=SIZE] [random=COUNT|N%] [seed=N]
        [rate=PER_SECOND] [background]     vcpu=N|all|split: split shares the range (default)
  stop | pause | resume                    the background touches
  log-on | log-off | get-log | clear-log [step=SIZE] | pre-fault
  madvise dontneed|collapse|hugepage|nohugepage|split|mergeable|free|pageout
        |soft-offline
        [from=SIZE] [size=SIZE]
  mprotect none|ro|rw [from=SIZE] [size=SIZE]
  fork-cow | fork-end | uffd-register | uffd-protect | migrate-pages node=N
  slot-delete | slot-add [logged] [read-only] [slot=N size=SIZE backing=BACKING] | slot-move [to=ADDRESS]
  hold MS | wait-recovery [timeout=MS] | wait-huge [timeout=MS]
  create [count=N] | destroy                 without a leading create, the VMs are there
  repeat N { ... }                         # starts a comment
Every phase takes vm=N|first|last|all and slot=N|all where it makes sense.";

/// Prints the named scenarios and the language.
pub fn list() -> Result<()> {
    let line = |builtin: &Builtin| format!("  {:<17} {}\n", builtin.name, builtin.about);
    let scenarios: String = BUILTINS.iter().map(line).collect();
    out::print(&format!(
        "Scenarios (workload NAME):\n{scenarios}\n\
         Phases (workload run 'PHASE; PHASE; ...'):\n{PHASES}\n"
    ))
}

#[cfg(test)]
mod tests {
    use std::collections::BTreeSet;

    use super::*;
    use crate::parse;

    #[test]
    fn all_are_valid_and_named_once() {
        let mut names = BTreeSet::new();
        for builtin in BUILTINS {
            assert!(!parse::scenario(builtin.text).unwrap().is_empty(), "{}", builtin.name);
            assert!(names.insert(builtin.name), "{} is there twice", builtin.name);
        }
    }
}
