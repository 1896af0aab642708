//! Other tools that look at KVM, beside which `collapse` is measured and shown.

use crate::foreign::ForeignPrograms;

/// Debian's perf, trace-cmd and bpftrace. The perf of this release reads any kernel's tracepoints.
pub const TOOLS: ForeignPrograms = ForeignPrograms {
    shelf: "peers",
    release: "trixie",
    programs: &[("linux-perf", "perf"), ("trace-cmd", "trace-cmd"), ("bpftrace", "bpftrace")],
    data: &[],
};
