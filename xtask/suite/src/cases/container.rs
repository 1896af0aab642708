//! As in a container on a node of a cluster: what the manifest in docs/contrib gives suffices, and VMs in PID namespaces of
//! their own are named.

use anyhow::{Context as _, Result, ensure};
use serde_json::Value;

use lab::{ImageFile, LabOutcome, Series, kernels};

use super::observed::same;
use crate::case::LabCase;

const MANIFEST: &str = include_str!("../../../../docs/contrib/kubernetes/collapse.yaml");

/// On the default kernel.
pub fn cases() -> Vec<LabCase> {
    let script = ImageFile {
        path: "/bin/container.sh".to_owned(),
        permissions: 0o755,
        content: include_bytes!("container.sh").to_vec(),
    };
    let command = ["sh", "/bin/container.sh", &capabilities().unwrap_or_default()];
    let case = LabCase::new("in a container", kernels::default(), &command, check);
    vec![LabCase { cpus: 1, files: vec![script], ..case }]
}

/// The capabilities that the manifest gives, by their usual names.
fn capabilities() -> Option<String> {
    let (_, rest) = MANIFEST.split_once("add: [")?;
    let names = rest.split_once(']')?.0.split(", ").map(|name| format!("CAP_{name}"));
    Some(names.collect::<Vec<_>>().join(","))
}

fn check(outcome: &LabOutcome, _: &Series) -> Result<()> {
    outcome.success()?;
    let report: Value = serde_json::from_slice(&outcome.stdout)?;
    let coverage = report["coverage"].as_array().context("no coverage in the report")?;
    let missing: Vec<_> = coverage.iter().filter(|signal| signal["seen"] != true).collect();
    ensure!(!coverage.is_empty() && missing.is_empty(), "not seen: {missing:?}");
    let vm = &report["vms"][0];
    same("the VM's name", vm["name"].as_str(), Some("elsewhere"))?;
    ensure!(vm["splits"]["total"].as_u64() > Some(0), "no splits: {}", vm["splits"]);
    Ok(())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_manifest_names_its_capabilities() {
        let names = capabilities().unwrap();
        assert!(names.starts_with("CAP_BPF,") && names.ends_with(",CAP_SYS_RESOURCE"), "{names}");
    }
}
