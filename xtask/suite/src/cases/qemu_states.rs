//! Guests of a real QEMU on each kind of memory: `explain` names the reason why they are not huge, and `report` finds
//! the same.

use std::{fmt::Write as _, fs, path::Path, time::Duration};

use anyhow::{Context, Result};
use lab::{LabOutcome, Series, vmm::QemuRelease};
use serde_json::{Value, json};

use super::observed::same;
use crate::case::LabCase;

/// A guest of 256 MiB.
struct Memory {
    name: &'static str,
    /// `transparent_hugepage/enabled` and `shmem_enabled` of the host.
    settings: [&'static str; 2],
    /// QEMU's object behind the guest's memory; its own choice without one.
    backend: Option<&'static str>,
    /// Why the largest memslot is not huge, and what is found; neither if it is.
    reason: Option<&'static str>,
    finding: Option<&'static str>,
}

const fn guest(
    name: &'static str,
    settings: [&'static str; 2],
    backend: Option<&'static str>,
    reason: Option<&'static str>,
    finding: Option<&'static str>,
) -> Memory {
    Memory { name, settings, backend, reason, finding }
}

const MEMFD: Option<&str> = Some("memory-backend-memfd");
const MISALIGNED: [Option<&str>; 2] = [Some("misaligned"), Some("slot_misaligned")];

const GUESTS: &[Memory] = &[
    guest("usual", ["always", "never"], None, None, None),
    guest("never", ["never", "never"], None, Some("thp_never"), Some("never_huge")),
    // QEMU maps it at any 4 KiB.
    guest("memfd-never", ["always", "never"], MEMFD, MISALIGNED[0], MISALIGNED[1]),
    guest("memfd-advise", ["always", "advise"], MEMFD, MISALIGNED[0], MISALIGNED[1]),
    guest("memfd-always", ["always", "always"], MEMFD, MISALIGNED[0], MISALIGNED[1]),
    guest(
        "hugetlb",
        ["never", "never"],
        Some("memory-backend-memfd,hugetlb=on,hugetlbsize=2M"),
        None,
        None,
    ),
    guest(
        "file",
        ["never", "never"],
        Some("memory-backend-file,mem-path=/huge/ram,share=on,align=2M"),
        None,
        None,
    ),
];

/// Explains a guest, and reports on it, once it is up.
const EXPLAINED: &str = "set -e
thp=/sys/kernel/mm/transparent_hugepage
mkdir /huge && mount -t tmpfs -o huge=always,size=300M none /huge
sysctl -q -w vm.nr_hugepages=136
guest() {
    name=$1; echo $2 >$thp/enabled; echo $3 >$thp/shmem_enabled; shift 3
    qemu-guest --name $name 'guest idle' \"sh collapse explain --vm $name --format json >/out/$name.json\" \
        \"sh collapse explain --vm $name >/out/$name.txt\" \
        \"sh collapse report --vm $name --duration 500ms -f json -o /out/$name.report.json\" -- \"$@\"
}
";

/// On a kernel, with a release of QEMU.
pub fn case(kernel: &'static Series, qemu: QemuRelease) -> LabCase {
    let mut script = EXPLAINED.to_owned();
    for Memory { name, settings: [thp, shmem], backend, .. } in GUESTS {
        let backend = backend.map_or(String::new(), |object| {
            format!(" -object {object},id=ram,size=256M -machine memory-backend=ram")
        });
        // Writing to a string cannot fail.
        let _ = writeln!(script, "guest {name} {thp} {shmem}{backend}");
    }
    LabCase {
        qemu: Some(qemu),
        timeout: Duration::from_mins(10),
        ..LabCase::new("why guests of QEMU are not huge", kernel, &["sh", "-c", &script], check)
    }
}

fn check(outcome: &LabOutcome, _: &Series) -> Result<()> {
    outcome.success()?;
    let files = outcome.files.as_deref().context("no files came back")?;
    GUESTS.iter().try_for_each(|guest| guest.judge(files).with_context(|| guest.name.to_owned()))
}

impl Memory {
    fn judge(&self, files: &Path) -> Result<()> {
        let json = |end: &str| -> Result<Value> {
            let path = files.join(format!("{}{end}", self.name));
            let text =
                fs::read_to_string(&path).with_context(|| format!("reading {}", path.display()))?;
            Ok(serde_json::from_str(&text)?)
        };
        let explanation = json(".json")?;
        let vm = &explanation["vms"][0];
        same("name", &vm["name"], &json!(self.name))?;
        let largest = &vm["slots"][0];
        same("reason", largest["reason"].as_str(), self.reason)?;
        same("whether it is huge", vm["huge_share"].as_f64() > Some(0.9), self.reason.is_none())?;
        let report = json(".report.json")?;
        let found = report["vms"][0]["findings"].as_array().context("no findings")?;
        let found: Vec<_> = found.iter().filter_map(|found| found["name"].as_str()).collect();
        same("findings", found.as_slice(), self.finding.as_slice())
    }
}
