//! The cases: which tool is run how. To measure another one, add a line here.

use super::seen::Tool;

/// One tool, watching the guest go through the scenario.
pub struct Case {
    /// What to call it.
    pub name: &'static str,
    /// Whose output is to be read.
    pub tool: Tool,
    /// What it tells about the SPTE changes that it sees, and what else it sees.
    pub tells: &'static str,
    /// A line of shell that runs `cycle` or `burst` under the tool.
    pub run: &'static str,
    /// What to do afterwards, no part of the cost.
    pub after: &'static str,
    /// Whether the tool starts the workload, so that its own start and end can be told.
    pub starts_work: bool,
    /// Which table it is for.
    pub part: Part,
    /// Whether it is run on every kernel, or only where the comparison is in full.
    pub everywhere: bool,
}

/// Which table a case is for.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Part {
    /// First of all, not shown: what is first is slower.
    WarmUp,
    /// What others are compared with.
    Base,
    /// Costs.
    Cost,
    /// Whether two agree that watch the same run.
    Check,
    /// Cost by number of VMs.
    Scale,
}

const fn cost(name: &'static str, tool: Tool, tells: &'static str, run: &'static str) -> Case {
    let part = Part::Cost;
    Case { name, tool, tells, run, after: "", starts_work: true, part, everywhere: false }
}

const fn collapse(name: &'static str, tells: &'static str, run: &'static str) -> Case {
    Case { everywhere: true, ..cost(name, Tool::Collapse, tells, run) }
}

macro_rules! perf {
    ($events:literal, $command:literal) => {
        concat!("perf stat -a -x, -o perf.csv -e ", $events, " -- ", $command)
    };
}

/// It starts nothing but ELF programs.
macro_rules! bpftrace {
    ($program:literal) => {
        concat!("bpftrace -o bpftrace.txt -c '/bin/busybox sh /bin/cycle' -e '", $program, "'")
    };
}

/// It watches from outside, through the cycle, to its orderly end. Without VMs there is nothing to show
/// that it is ready, but five seconds are long when waiting takes no time.
macro_rules! beside {
    ($tool:literal) => {
        concat!(
            $tool,
            " >shown & sleep 5\n",
            "METER_OF=$(pidof collapse) cycle; kill $(pidof collapse); wait $!"
        )
    };
}

/// So many VMs that have touched their memory and do nothing more; ten seconds of watching them, a
/// screen each second.
macro_rules! idle_vms {
    ($vms:literal) => {
        concat!(
            "workload run --quiet --vms ",
            $vms,
            " --size 4M 'touch; hold 600000' & guests=$!; sleep 30\n",
            "collapse live >shown & sleep 5\n",
            "METER_OF=$(pidof collapse) meter cost work.json sleep 10\n",
            "kill $(pidof collapse); wait $!; kill -9 $guests"
        )
    };
}

const HIST: &str = "\
    on=/sys/kernel/tracing/events/kvmmmu/kvm_tdp_mmu_spte_changed
    echo hist:keys=common_pid,level >$on/trigger; cycle; cat $on/hist >hist.txt
    echo '!hist:keys=common_pid,level' >$on/trigger";
const TRACE_CMD: &str = "\
    trace-cmd record -q -o /tmp/trace.dat -e kvmmmu:kvm_tdp_mmu_spte_changed \
    -e kvmmmu:fast_page_fault -e kvm:kvm_page_fault /bin/cycle";
const TRACE_CMD_AFTER: &str =
    "trace-cmd dump --options -i /tmp/trace.dat >options.txt; rm -f /tmp/trace.dat*";

const fn idle(name: &'static str, run: &'static str) -> Case {
    Case { part: Part::Scale, starts_work: false, ..cost(name, Tool::Collapse, "", run) }
}

/// All of them, in the order in which they are run.
pub const CASES: [Case; 25] = [
    Case { part: Part::WarmUp, everywhere: true, ..cost("warm-up", Tool::None, "", "cycle") },
    Case {
        part: Part::Base,
        everywhere: true,
        ..cost("no tracing", Tool::None, "nothing", "cycle")
    },
    Case { everywhere: true, ..cost("no tracing again", Tool::None, "noise", "cycle") },
    Case {
        everywhere: true,
        ..cost(
            "perf stat, 1 event",
            Tool::Perf,
            "number",
            perf!("kvmmmu:kvm_tdp_mmu_spte_changed", "cycle"),
        )
    },
    cost(
        "perf stat, 3 events",
        Tool::Perf,
        "number; faults",
        perf!("kvmmmu:kvm_tdp_mmu_spte_changed,kvmmmu:fast_page_fault,kvm:kvm_page_fault", "cycle"),
    ),
    cost("ftrace hist trigger", Tool::Hist, "thread, level", HIST),
    Case {
        after: TRACE_CMD_AFTER,
        ..cost("trace-cmd record, 3 events", Tool::TraceCmd, "each one; faults", TRACE_CMD)
    },
    cost(
        "bpftrace, tracepoint",
        Tool::Bpftrace,
        "thread, level",
        bpftrace!(
            "tracepoint:kvmmmu:kvm_tdp_mmu_spte_changed { @spte[pid, args.level] = count(); }"
        ),
    ),
    cost(
        "bpftrace, raw tracepoint, empty",
        Tool::Bpftrace,
        "nothing: the floor",
        bpftrace!("rawtracepoint:kvm_tdp_mmu_spte_changed { }"),
    ),
    cost(
        "bpftrace, raw tracepoint",
        Tool::Bpftrace,
        "thread, level",
        bpftrace!("rawtracepoint:kvm_tdp_mmu_spte_changed { @spte[pid, arg2] = count(); }"),
    ),
    cost(
        "bpftrace, 3 raw tracepoints",
        Tool::Bpftrace,
        "thread, level; faults",
        bpftrace!(
            "rawtracepoint:kvm_tdp_mmu_spte_changed { @spte[pid, arg2] = count(); } \
             rawtracepoint:fast_page_fault { @fast[pid] = count(); } \
             rawtracepoint:kvm_page_fault { @fault[pid] = count(); }"
        ),
    ),
    cost(
        "bpftrace, latency",
        Tool::Bpftrace,
        "faults: time to re-entry",
        bpftrace!(
            "rawtracepoint:kvm_page_fault { @at[tid] = nsecs; } \
             rawtracepoint:kvm_entry /@at[tid]/ { @ns = hist(nsecs - @at[tid]); @at[tid] = 0; }"
        ),
    ),
    collapse(
        "collapse report",
        "VM, cause, kind, level, gfn, time, regions, episodes; faults and their time",
        "collapse report --format json -o report.json -- cycle",
    ),
    Case {
        tool: Tool::Events,
        ..collapse(
            "collapse events, to a file",
            "the same, a line each",
            "collapse events -o events.jsonl -- cycle",
        )
    },
    Case {
        tool: Tool::Events,
        ..collapse(
            "collapse events --each",
            "the same of each one, with the SPTE before and after",
            "collapse events --each -o events.jsonl -- cycle",
        )
    },
    Case {
        tool: Tool::Events,
        ..collapse(
            "collapse events --stacks",
            "the same, with the kernel's stack of each split and zap",
            "collapse events --stacks -o events.jsonl -- cycle",
        )
    },
    Case {
        after: "collapse report --from /tmp/r --format json -o report.json; rm /tmp/r",
        ..collapse("collapse record", "the same, in a file", "collapse record -o /tmp/r -- cycle")
    },
    Case {
        starts_work: false,
        ..collapse(
            "collapse live, into a pipe",
            "the same, shown once a second",
            beside!("collapse live | cat"),
        )
    },
    Case {
        starts_work: false,
        ..collapse(
            "collapse live, dashboard",
            "the same, drawn once a second",
            beside!("meter terminal collapse live"),
        )
    },
    Case { everywhere: true, ..cost("no tracing, at the end", Tool::None, "noise", "cycle") },
    Case {
        part: Part::Check,
        everywhere: true,
        ..cost(
            "both, 64 MiB",
            Tool::Collapse,
            "",
            perf!(
                "kvmmmu:kvm_tdp_mmu_spte_changed",
                "collapse report --format json -o report.json -- cycle"
            ),
        )
    },
    Case {
        part: Part::Check,
        everywhere: true,
        ..cost(
            "both, 256 MiB in one ioctl",
            Tool::Collapse,
            "",
            perf!(
                "kvmmmu:kvm_tdp_mmu_spte_changed",
                "collapse report --format json -o report.json -- burst"
            ),
        )
    },
    idle("1 VM", idle_vms!("1")),
    idle("10 VMs", idle_vms!("10")),
    idle("100 VMs", idle_vms!("100")),
];
