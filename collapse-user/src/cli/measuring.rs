//! Options of every command that measures.

use clap::Args;

use crate::{
    plan::FaultLatency, settings::values::parse_ring_size, source::cost::Limit, watch::Setup,
};

#[derive(Clone, Copy, Debug, Args)]
#[command(next_help_heading = "Measuring")]
pub(super) struct MeasuringArgs {
    /// Print the eBPF programs' own log on stderr
    #[arg(long, global = true)]
    ebpf_log: bool,
    /// Guest faults to time: off, 1/N or all. Timing a fault costs as much as everything else that is
    /// recorded of it
    #[arg(long, global = true, value_name = "off|1/N|all", default_value_t)]
    fault_latency: FaultLatency,
    /// Most that the probes may cost, in percent of one core, or off. Above it, less is recorded: first
    /// faults are no longer timed, then only one region in 16 is followed, then none. Detail comes back
    /// when there is room
    #[arg(long, global = true, value_name = "PERCENT", default_value_t)]
    budget_overhead: Limit,
    /// Size of the ring buffer between the programs and user space, such as 4M: a power of two from 4k
    /// to 1G. Events that find it full are counted as lost; totals do not use it
    #[arg(long, global = true, value_name = "SIZE", value_parser = parse_ring_size)]
    ring_size: Option<u32>,
    /// VMs at one time that the tables in the kernel have room for, up to 8000 [default: 128]. Each
    /// takes some 30 KiB, and 4 KiB per CPU. Events that find them full are counted as lost, without a
    /// VM
    #[arg(long, global = true, value_name = "N",
        value_parser = clap::value_parser!(u32).range(1..=8000))]
    max_vms: Option<u32>,
}

impl From<MeasuringArgs> for Setup {
    fn from(args: MeasuringArgs) -> Self {
        let MeasuringArgs { ebpf_log, fault_latency, budget_overhead, ring_size, max_vms } = args;
        Self { ebpf_log, fault_latency, budget_overhead, ring_size, max_vms }
    }
}
