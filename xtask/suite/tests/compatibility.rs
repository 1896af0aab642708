//! The page on what the tests run, made from the list of kernels.

use std::fmt::Write as _;

use lab::kernels::{self, CpuVendor, DefaultMmu};

const PAGE: &str = include_str!("../../../docs/compatibility.md");

#[test]
fn the_page_says_what_is_run() {
    let table = table();
    assert!(PAGE.contains(&table), "docs/compatibility.md lacks:\n{table}");
}

fn table() -> String {
    let mut text =
        "| kernel | MMU by default | CPU | each run | `--all` |\n|---|---|---|---|---|\n"
            .to_owned();
    for series in kernels::all() {
        let mmu = match series.mmu {
            DefaultMmu::Tdp => "TDP",
            DefaultMmu::Rmap => "rmap",
        };
        for cpu in CpuVendor::ALL {
            let vendor = match cpu {
                CpuVendor::Amd => "AMD",
                CpuVendor::Intel => "Intel",
            };
            let sets = |rarely| {
                let sets = series.parameters(cpu, rarely).map(|set| match set {
                    "" => "defaults".to_owned(),
                    set => format!("`{set}`"),
                });
                sets.collect::<Vec<_>>()
            };
            let always = sets(false);
            let more: Vec<_> = sets(true).into_iter().filter(|set| !always.contains(set)).collect();
            let list =
                |sets: &[String]| if sets.is_empty() { "–".to_owned() } else { sets.join(", ") };
            let (name, always, more) = (series.name, list(&always), list(&more));
            writeln!(text, "| {name} | {mmu} | {vendor} | {always} | {more} |").expect("memory");
        }
    }
    text
}
