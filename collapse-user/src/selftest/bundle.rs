//! Everything that a bug report needs, in one JSON file. It covers the test guest and the kernel; of
//! other VMs and processes it has only what the kernel's own messages about KVM and probes contain.

use std::{collections::BTreeMap, fs, path::Path};

use serde::Serialize;

use super::{guest::Account, verdict::Verdict};
use crate::{kernel::inspect::Inspected, report::Report};

/// Name and version of the JSON format.
const SCHEMA: &str = "collapse.selftest-bundle/1";

/// The file that is written if none is named.
pub const DEFAULT_BUNDLE: &str = "collapse-selftest.json";

/// Settings of the host that decide how guest memory is mapped, and the kernel's version.
const HOST_FILES: [&str; 9] = [
    "/proc/sys/kernel/osrelease",
    "/proc/sys/kernel/version",
    "/proc/sys/kernel/tainted",
    "/proc/sys/kernel/numa_balancing",
    "/sys/devices/system/cpu/online",
    "/sys/kernel/debug/kprobes/enabled",
    "/sys/kernel/mm/ksm/run",
    "/sys/kernel/mm/transparent_hugepage/defrag",
    "/sys/kernel/mm/transparent_hugepage/enabled",
];

/// Words of kernel messages that are kept.
const MESSAGES: [&str; 8] =
    ["kvm", "kprobe", "bpf", "ftrace", "lockdep", "WARNING:", "BUG:", "Oops"];
const MESSAGES_KEPT: usize = 64;

/// The bundle.
#[derive(Serialize)]
struct Bundle<'a> {
    schema: &'static str,
    selftest: &'a Verdict,
    /// The account of the process with the guest.
    guest: &'a Account,
    /// The measurement, of the guest's VM only.
    report: &'a Report,
    /// Everything that was found out about the kernel, as in `doctor`.
    inspected: Inspected,
    host_files: BTreeMap<&'static str, Option<String>>,
    /// Kernel messages that may be related.
    messages: Vec<String>,
}

/// The bundle as JSON text.
pub fn text(
    selftest: &Verdict,
    guest: &Account,
    report: &Report,
    host: &Inspected,
) -> serde_json::Result<String> {
    let read = |path| fs::read_to_string(Path::new(path)).ok().map(|text| text.trim().to_owned());
    let bundle = Bundle {
        schema: SCHEMA,
        selftest,
        guest,
        report,
        inspected: without_secrets(host.clone()),
        host_files: HOST_FILES.into_iter().map(|path| (path, read(path))).collect(),
        messages: relevant(&kernel_messages()),
    };
    Ok(serde_json::to_string_pretty(&bundle)? + "\n")
}

/// Removes secrets: addresses of the kernel, which hold until the next boot (whether they are known is
/// kept), and the machine's name.
fn without_secrets(mut host: Inspected) -> Inspected {
    for symbol in host.symbols.iter_mut().flat_map(BTreeMap::values_mut) {
        symbol.address = symbol.address.min(1);
    }
    host.hostname = None;
    host
}

/// The kernel's log; empty if it may not be read.
fn kernel_messages() -> String {
    const READ_ALL: libc::c_int = 3;
    const SIZE_OF_BUFFER: libc::c_int = 10;
    // SAFETY: this request takes no buffer.
    let size = unsafe { libc::klogctl(SIZE_OF_BUFFER, std::ptr::null_mut(), 0) };
    let mut buffer = vec![0_u8; usize::try_from(size).unwrap_or(0)];
    // SAFETY: the buffer has the length that is passed.
    let read = unsafe { libc::klogctl(READ_ALL, buffer.as_mut_ptr().cast(), size.max(0)) };
    buffer.truncate(usize::try_from(read).unwrap_or(0));
    String::from_utf8_lossy(&buffer).into_owned()
}

/// The last lines that may be related. Others would reveal more about the machine than is needed.
fn relevant(log: &str) -> Vec<String> {
    let ours = |line: &&str| MESSAGES.iter().any(|word| line.contains(word));
    let lines: Vec<_> = log.lines().filter(ours).collect();
    let first = lines.len().saturating_sub(MESSAGES_KEPT);
    lines[first..].iter().map(ToString::to_string).collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn only_messages_that_matter_are_kept() {
        let log = "<6>[1.0] kvm: enabled\n<6>[2.0] eth0: 02:00:00:00:00:01\n<4>[3.0] WARNING: x\n";
        assert_eq!(relevant(log), ["<6>[1.0] kvm: enabled", "<4>[3.0] WARNING: x"]);
        let many = "kvm\n".repeat(MESSAGES_KEPT + 5) + "kvm last";
        let kept = relevant(&many);
        assert_eq!(
            (kept.len(), kept.last().map(String::as_str)),
            (MESSAGES_KEPT, Some("kvm last"))
        );
    }
}
