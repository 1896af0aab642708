//! The tools that `collapse` is compared with.

use lab::foreign::ForeignPrograms;

/// Debian's perf, trace-cmd and bpftrace. The perf of this release reads any kernel's tracepoints.
pub const PEERS: ForeignPrograms = ForeignPrograms {
    shelf: "peers",
    release: "trixie",
    programs: &[("linux-perf", "perf"), ("trace-cmd", "trace-cmd"), ("bpftrace", "bpftrace")],
    data: &[],
};
