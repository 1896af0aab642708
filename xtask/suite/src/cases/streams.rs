//! The lab itself.

use anyhow::{Result, ensure};
use lab::{
    LabOutcome, Series,
    kernels::{self, CpuVendor},
};

use crate::case::LabCase;

/// Streams, status and files arrive whole, from every emulator, and the oldest and the newest kernel; with
/// `rarely`, from every kernel.
pub fn cases(rarely: bool) -> Vec<LabCase> {
    let all = kernels::all();
    let chosen = (0..all.len()).filter(|at| rarely || *at == 0 || *at == all.len() - 1);
    let amd = chosen.map(|at| case(&all[at], CpuVendor::Amd));
    amd.chain([case(kernels::default(), CpuVendor::Intel)]).collect()
}

fn case(kernel: &'static Series, cpu: CpuVendor) -> LabCase {
    const SCRIPT: &str = "
        test -c /dev/kvm || exit 1
        printf 'a\\0b'
        echo noise >&2
        head -c 5000000 /dev/urandom >/out/large
        md5sum </out/large >/out/sum
        exit 42";
    fn check(outcome: &LabOutcome, _: &Series) -> Result<()> {
        ensure!(outcome.ending.code() == 42, "ended with {:?}", outcome.ending);
        ensure!(outcome.stdout == b"a\0b", "stdout: {:?}", outcome.stdout);
        ensure!(outcome.stderr == b"noise\n", "stderr: {:?}", outcome.stderr);
        let files = outcome.files.as_deref().unwrap_or("/nonexistent".as_ref());
        let size = std::fs::metadata(files.join("large"))?.len();
        ensure!(size == 5_000_000, "the large file came back with {size} bytes");
        let sum = std::process::Command::new("sh")
            .args(["-c", "md5sum <large | cmp - sum"])
            .current_dir(files)
            .status()?;
        ensure!(sum.success(), "the large file came back changed");
        Ok(())
    }
    LabCase {
        cpu,
        cpus: 1,
        ..LabCase::new(
            "streams, status and files come back whole",
            kernel,
            &["sh", "-c", SCRIPT],
            check,
        )
    }
}
