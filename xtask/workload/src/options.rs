//! The options of a run.

use anyhow::{Result, ensure};
use clap::Args;
use collapse_guest::units::{Bytes, PAGE};
use collapse_guest::{Backing, LogProtect};
use serde::Serialize;

/// The options that every scenario takes.
#[derive(Args, Clone, Debug, Serialize)]
pub struct WorkloadOptions {
    /// VMs, all in one process
    #[arg(long, value_name = "N", default_value_t = 1)]
    pub vms: usize,
    /// A process of its own for every VM; each prints its own lines
    #[arg(long)]
    pub processes: bool,
    /// vCPUs per VM
    #[arg(long, value_name = "N", default_value_t = 1)]
    pub vcpus: usize,
    /// Data slots per VM; slot 1 is at 1 GiB
    #[arg(long, value_name = "N", default_value_t = 1)]
    pub slots: u32,
    /// Memory of each data slot
    #[arg(long, default_value = "64M")]
    pub size: Bytes,
    /// Host memory behind the data slots
    #[arg(long, value_enum, default_value = "thp")]
    pub backing: Backing,
    /// When the dirty log write-protects: at GET (off), at CLEAR, or at the reset of rings
    #[arg(long, value_enum, default_value = "off")]
    pub log_protect: LogProtect,
    /// Times to go through the scenario
    #[arg(long, value_name = "N", default_value_t = 1)]
    pub iterations: u64,
    /// Go through the scenario until SIGINT or SIGTERM
    #[arg(long = "loop", conflicts_with = "iterations")]
    #[serde(rename = "loop")]
    pub endless: bool,
    /// Milliseconds to wait between phases
    #[arg(long, value_name = "MS", default_value_t = 0)]
    pub pause: u64,
    /// Milliseconds to keep the VMs at the end
    #[arg(long, value_name = "MS", default_value_t = 0)]
    pub hold: u64,
    /// Name of the process, as `ps` and the tool show it
    #[arg(long)]
    pub name: Option<String>,
    /// No lines on stdout
    #[arg(long)]
    pub quiet: bool,
}

/// Refuses sizes that the backing cannot have.
pub fn check_slot_size(size: Bytes, backing: Backing) -> Result<()> {
    let unit = backing.page_size();
    ensure!(
        size.0 >= PAGE && size.0.is_multiple_of(unit),
        "the size {size} is not a multiple of {}, the page size of the backing",
        Bytes(unit)
    );
    Ok(())
}
