//! The host's kernel, and the name of this process.

use std::ffi::CString;
use std::fs;

use anyhow::{Context, Result};
use serde::Serialize;

/// The parameters that decide how KVM maps memory; null where this host has none of the name.
#[derive(Serialize)]
pub struct MmuParameters {
    tdp_mmu: Option<String>,
    eager_page_split: Option<String>,
    nx_huge_pages: Option<String>,
    npt: Option<String>,
    ept: Option<String>,
}

impl MmuParameters {
    /// Reads them.
    pub fn read() -> Self {
        Self {
            tdp_mmu: parameter("kvm", "tdp_mmu"),
            eager_page_split: parameter("kvm", "eager_page_split"),
            nx_huge_pages: parameter("kvm", "nx_huge_pages"),
            npt: parameter("kvm_amd", "npt"),
            ept: parameter("kvm_intel", "ept"),
        }
    }
}

fn parameter(module: &str, name: &str) -> Option<String> {
    let text = fs::read_to_string(format!("/sys/module/{module}/parameters/{name}")).ok()?;
    Some(text.trim().to_owned())
}

/// The kernel's release, as `uname -r` prints it.
pub fn kernel_release() -> Option<String> {
    Some(fs::read_to_string("/proc/sys/kernel/osrelease").ok()?.trim().to_owned())
}

/// Gives this process a name.
pub fn set_process_name(name: &str) -> Result<()> {
    let name = CString::new(name).context("--name")?;
    // SAFETY: the string ends in a zero byte; the kernel cuts it to its own limit.
    unsafe { libc::prctl(libc::PR_SET_NAME, name.as_ptr()) };
    Ok(())
}
