//! The cases: which tool is run how. To measure another one, add a line here.

use lab::kernels::MeasuredTools::{self, Collapse, EveryTool, Report};

use super::seen::Tool;

/// One tool, watching the guest go through the scenario.
pub struct BenchCase {
    /// The name in tables.
    pub name: &'static str,
    /// The tool, whose output is read.
    pub tool: Tool,
    /// The properties of each SPTE change that it reports, and what else it sees.
    pub reports: &'static str,
    /// A line of shell that runs `cycle` or `burst` under the tool.
    pub run: &'static str,
    /// A line of shell for afterwards, no part of the cost.
    pub after: &'static str,
    /// Whether the tool starts the workload, so that its own start and end are known.
    pub starts_work: bool,
    /// The table that it is for.
    pub part: Part,
    /// The smallest set of tools that it belongs to.
    pub of: MeasuredTools,
}

/// The table that a case is for.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Part {
    /// First of all, not shown: the first one is slower.
    WarmUp,
    /// The run that others are compared with.
    Base,
    /// Costs.
    Cost,
    /// Agreement of two that observe the same run.
    Check,
    /// Cost by number of VMs.
    Scale,
    /// Cost to a guest whose vCPUs contend, and to one with a single vCPU on the same machine.
    Contention,
}

impl Part {
    /// Whether it has rows of its own.
    pub fn is_shown(self) -> bool {
        !matches!(self, Self::WarmUp | Self::Base)
    }
}

impl BenchCase {
    /// Whether others cannot be judged without it.
    pub fn is_needed_always(&self) -> bool {
        matches!(self.part, Part::WarmUp | Part::Base)
            || self.part == Part::Contention && self.tool == Tool::None
    }

    /// Whether it takes the guest through the same commands as another.
    pub fn does_work_of(&self, other: &Self) -> bool {
        self.run.split(' ').next_back() == other.run.split(' ').next_back()
    }
}

const fn cost(
    name: &'static str,
    tool: Tool,
    reports: &'static str,
    run: &'static str,
) -> BenchCase {
    let part = Part::Cost;
    BenchCase { name, tool, reports, run, after: "", starts_work: true, part, of: EveryTool }
}

const fn collapse(name: &'static str, reports: &'static str, run: &'static str) -> BenchCase {
    BenchCase { of: Collapse, ..cost(name, Tool::Collapse, reports, run) }
}

macro_rules! perf {
    ($events:literal, $command:literal) => {
        concat!("perf stat -a -x, -o perf.csv -e ", $events, " -- ", $command)
    };
}

/// `bpftrace`, which starts nothing but ELF programs.
macro_rules! bpftrace {
    ($program:literal) => {
        concat!("bpftrace -o bpftrace.txt -c '/bin/busybox sh /bin/cycle' -e '", $program, "'")
    };
}

/// A tool that observes from outside, through the cycle, to its orderly end. Nothing shows that it is
/// ready without VMs, but five seconds are long where waiting takes no time.
macro_rules! beside {
    ($tool:literal) => {
        concat!(
            $tool,
            " >shown & sleep 5\n",
            "METER_OF=$(pidof collapse) cycle; kill $(pidof collapse); wait $!"
        )
    };
}

/// `$vms` VMs that have touched their memory and do nothing more, observed for ten seconds with a screen
/// each second.
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

const fn idle(name: &'static str, run: &'static str) -> BenchCase {
    BenchCase { part: Part::Scale, starts_work: false, ..cost(name, Tool::Collapse, "", run) }
}

const fn contention(name: &'static str, tool: Tool, run: &'static str) -> BenchCase {
    BenchCase { part: Part::Contention, of: Collapse, ..cost(name, tool, "", run) }
}

macro_rules! report {
    ($command:literal) => {
        concat!("collapse report --format json -o report.json -- ", $command)
    };
}

/// All cases, in the order in which they run.
pub const CASES: [BenchCase; 31] = [
    BenchCase { part: Part::WarmUp, of: Report, ..cost("warm-up", Tool::None, "", "cycle") },
    BenchCase {
        part: Part::Base,
        of: Report,
        ..cost("no tracing", Tool::None, "nothing", "cycle")
    },
    BenchCase { of: Report, ..cost("no tracing again", Tool::None, "noise", "cycle") },
    BenchCase {
        of: Report,
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
    BenchCase {
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
    BenchCase {
        of: Report,
        ..collapse(
            "collapse report",
            "VM, cause, kind, level, gfn, time, regions, episodes; faults and their time",
            report!("cycle"),
        )
    },
    BenchCase {
        tool: Tool::Events,
        ..collapse(
            "collapse events, to a file",
            "the same, a line each",
            "collapse events -o events.jsonl -- cycle",
        )
    },
    BenchCase {
        tool: Tool::Events,
        ..collapse(
            "collapse events --each",
            "the same of each one, with the SPTE before and after",
            "collapse events --each -o events.jsonl -- cycle",
        )
    },
    BenchCase {
        tool: Tool::Events,
        ..collapse(
            "collapse events --stacks",
            "the same, with the kernel's stack of each split and zap",
            "collapse events --stacks -o events.jsonl -- cycle",
        )
    },
    BenchCase {
        after: "collapse report --from /tmp/r --format json -o report.json; rm /tmp/r",
        ..collapse("collapse record", "the same, in a file", "collapse record -o /tmp/r -- cycle")
    },
    BenchCase {
        starts_work: false,
        ..collapse(
            "collapse live, into a pipe",
            "the same, shown once a second",
            beside!("collapse live | cat"),
        )
    },
    BenchCase {
        starts_work: false,
        ..collapse(
            "collapse live, dashboard",
            "the same, drawn once a second",
            beside!("meter terminal collapse live"),
        )
    },
    BenchCase { of: Report, ..cost("no tracing, at the end", Tool::None, "noise", "cycle") },
    BenchCase {
        part: Part::Check,
        of: Report,
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
    BenchCase {
        part: Part::Check,
        of: Report,
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
    contention("no tracing, 1 vCPU", Tool::None, "cycle"),
    contention("no tracing, 8 vCPUs", Tool::None, "crowd"),
    contention("no tracing again, 1 vCPU", Tool::None, "cycle"),
    contention("no tracing again, 8 vCPUs", Tool::None, "crowd"),
    contention("collapse report, 1 vCPU", Tool::Collapse, report!("cycle")),
    contention("collapse report, 8 vCPUs", Tool::Collapse, report!("crowd")),
];
