//! What the host and the VMM do to guest memory outside dirty logging: each has its own cause, as an independent
//! recording confirms, and the findings that it should have and no others.

use std::{fmt::Write as _, time::Duration};

use anyhow::{Context, Result, ensure};
use lab::{
    LabOutcome, Series,
    kernels::{Feature, SelectCase},
};
use serde_json::Value;

use super::{
    observed::{self, ObservedRun, same},
    on,
};
use crate::case::{LabCase, LabCheck};

/// Guests, what the host does to each, and what should come of it.
const GUESTS: &[Guest] = &[
    Guest {
        name: "migrated",
        options: "--backing 4k --size 8M",
        scenario: "touch; madvise soft-offline from=0 size=64K; touch",
        zapped_by: &["notifier_migrate"],
        ..UNTOUCHED
    },
    Guest {
        name: "reported",
        scenario: "touch; repeat 2 { madvise dontneed; touch }",
        zapped_by: &["notifier_discard"],
        ..UNTOUCHED
    },
    Guest {
        name: "ballooned",
        scenario: "touch; madvise split; touch",
        zapped_by: &["notifier_discard_small"],
        findings: &["given_back_small"],
        ..UNTOUCHED
    },
    Guest {
        name: "thrashed",
        scenario: "touch; repeat 6 { mprotect none; mprotect rw; touch }",
        zapped_by: &["notifier_protect"],
        findings: &["host_thrashes"],
        ..UNTOUCHED
    },
    Guest {
        name: "protected",
        scenario: "touch; repeat 2 { mprotect none; mprotect rw; touch }",
        zapped_by: &["notifier_protect"],
        ..UNTOUCHED
    },
    Guest {
        name: "churned",
        options: "--size 16M --slots 2",
        scenario: "touch; repeat 8 { slot-delete slot=2; touch slot=1; slot-add slot=2; touch }",
        zapped_by: &["slot_deleted"],
        findings: &["memslot_churn"],
        ..UNTOUCHED
    },
    Guest {
        name: "periodic",
        scenario: "touch; repeat 4 { log-on; touch; get-log; touch; log-off; touch }",
        zapped_by: &[],
        findings: &["logged_periodically"],
        ..UNTOUCHED
    },
];

/// Guests whose memory is managed by the host: moved between NUMA nodes, merged, reclaimed, protected. Each has a twin
/// of which less is done, or nothing.
const MANAGED: &[Guest] = &[
    Guest {
        name: "moved",
        options: "--size 64M",
        scenario: "touch; migrate-pages node=1; touch",
        zapped_by: &["notifier_migrate"],
        findings: &["host_migrates"],
        ..UNTOUCHED
    },
    Guest {
        name: "moved-a-bit",
        scenario: "touch; migrate-pages node=1; touch",
        zapped_by: &["notifier_migrate"],
        ..UNTOUCHED
    },
    Guest {
        name: "reclaimed",
        setup: "insmod /lab/modules/brd.ko rd_nr=1 rd_size=131072; mkswap /dev/ram0 >/dev/null; swapon /dev/ram0",
        options: "--size 64M",
        scenario: "touch; madvise pageout; touch",
        zapped_by: &["notifier_reclaim"],
        findings: &["host_reclaims"],
        ..UNTOUCHED
    },
    Guest {
        name: "reclaimed-a-bit",
        scenario: "touch; madvise pageout; touch",
        zapped_by: &["notifier_reclaim"],
        ..UNTOUCHED
    },
    Guest {
        name: "userfaultfd",
        scenario: "touch; uffd-register; uffd-protect; touch",
        zapped_by: &["notifier_userfaultfd"],
        findings: &["userfaultfd"],
        ..UNTOUCHED
    },
    Guest { name: "registered", scenario: "touch; uffd-register; touch", ..UNTOUCHED },
    Guest { name: "unmerged", scenario: "touch; madvise mergeable; hold 500; touch", ..UNTOUCHED },
    Guest {
        name: "merged",
        setup: "cd /sys/kernel/mm/ksm; echo 20000 >pages_to_scan; echo 10 >sleep_millisecs; echo 1 >run",
        scenario: "touch; madvise mergeable; hold 5000; touch read",
        zapped_by: &["notifier_ksm"],
        findings: &["ksm_merges"],
        ..UNTOUCHED
    },
    Guest {
        name: "discarded",
        setup: "echo 0 >run",
        options: "--size 64M --vcpus 2",
        scenario: "touch; touch background vcpu=all; repeat 20 { madvise dontneed; hold 5 }; stop; touch",
        zapped_by: &["notifier_discard"],
        findings: &["host_thrashes"],
        // It depends on how the emulator shares CPUs out.
        possible: &["faults_retried"],
    },
    Guest {
        name: "balanced",
        setup: "cd /sys/kernel/debug/sched/numa_balancing; echo 10 >scan_delay_ms; echo 50 >scan_period_min_ms; \
                echo 100 >scan_period_max_ms; echo 1 >/proc/sys/kernel/numa_balancing",
        scenario: "migrate-pages node=1; touch; touch background; hold 20000; stop",
        zapped_by: &["notifier_numa"],
        findings: &["numa_balancing"],
        ..UNTOUCHED
    },
    Guest {
        name: "unbalanced",
        setup: "echo 0 >/proc/sys/kernel/numa_balancing",
        scenario: "migrate-pages node=1; touch; touch background; hold 2000; stop",
        ..UNTOUCHED
    },
];

/// A guest that nobody does anything to.
const UNTOUCHED: Guest = Guest {
    name: "",
    setup: "",
    options: "--size 16M",
    scenario: "",
    zapped_by: &[],
    findings: &[],
    possible: &[],
};

struct Guest {
    name: &'static str,
    /// Settings of the host, which stay for the guests after it.
    setup: &'static str,
    options: &'static str,
    scenario: &'static str,
    /// Causes of zaps but for the collapse routine and the VM's end.
    zapped_by: &'static [&'static str],
    findings: &'static [&'static str],
    /// Findings that it may have besides.
    possible: &'static [&'static str],
}

/// On kernels that tell memory given back from other causes. Memory is managed on some only: on 6.1, for one,
/// `MADV_PAGEOUT` leaves huge pages where they are.
pub fn cases(rarely: bool) -> Vec<LabCase> {
    let tells = |series: &&'static Series| series.has(Feature::TaskRegisters);
    let at_work = on(SelectCase::HostWork, rarely).filter(tells).map(at_work);
    at_work.chain(on(SelectCase::HostWork, false).map(managed)).collect()
}

fn at_work(kernel: &'static Series) -> LabCase {
    case("work of the host, against tracefs", kernel, GUESTS, |outcome, kernel| {
        check(outcome, kernel, GUESTS)
    })
}

fn managed(kernel: &'static Series) -> LabCase {
    LabCase {
        // Two nodes of the memory of one.
        cmdline: &["numa=fake=2", "numa_balancing=disable"],
        ..case(
            "memory that the host manages, against tracefs",
            kernel,
            MANAGED,
            |outcome, kernel| check(outcome, kernel, MANAGED),
        )
    }
}

fn case(name: &str, kernel: &'static Series, guests: &[Guest], check: LabCheck) -> LabCase {
    let mut runs = "set -e\n".to_owned();
    for Guest { name, setup, options, scenario, .. } in guests {
        // Writing to a string cannot fail.
        let _ = writeln!(runs, "{setup}\nworkload run '{scenario}' {options} --name {name}");
    }
    LabCase {
        timeout: Duration::from_mins(4),
        files: observed::files(kernel),
        ..LabCase::new(name, kernel, &["sh", "/bin/observe.sh", "/out", "sh", "-c", &runs], check)
    }
}

fn check(outcome: &LabOutcome, kernel: &Series, guests: &[Guest]) -> Result<()> {
    outcome.success()?;
    let run = ObservedRun::read(outcome.files.as_deref().context("no files came back")?)?;
    run.against_tracefs()?;
    for guest in guests {
        let vm = run.vms().iter().find(|vm| vm["name"] == guest.name);
        let vm = vm.with_context(|| format!("no VM named {} in the report", guest.name))?;
        guest.check(vm).with_context(|| format!("VM {}", guest.name))?;
    }
    run.trust(kernel)
}

impl Guest {
    fn check(&self, vm: &Value) -> Result<()> {
        let causes = vm["zaps"]["by_cause"].as_object().context("no causes")?;
        let causes = causes.keys().map(String::as_str);
        // Where it rebuilds huge pages in place, the collapse routine zaps nothing.
        let causes: Vec<_> =
            causes.filter(|cause| !matches!(*cause, "teardown" | "collapse")).collect();
        same("causes of zaps", causes.as_slice(), self.zapped_by)?;
        let findings = vm["findings"].as_array().context("no findings")?;
        let names = findings.iter().filter_map(|found| found["name"].as_str());
        let names: Vec<_> = names.filter(|name| !self.possible.contains(name)).collect();
        same("findings", names.as_slice(), self.findings)?;
        let complete = |found: &Value| {
            let numbers = found["evidence"].as_array().is_some_and(|numbers| !numbers.is_empty());
            numbers && found["knobs"].as_array().is_some_and(|knobs| !knobs.is_empty())
        };
        ensure!(
            findings.iter().all(complete),
            "a finding without evidence or remedy: {findings:?}"
        );
        Ok(())
    }
}
