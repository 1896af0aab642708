//! The page on what the tests run, made from the list of kernels.

use std::{env, fmt::Write as _, fs};

use lab::kernels::{self, CpuVendor, DefaultMmu};

const PAGE: &str = concat!(env!("CARGO_MANIFEST_DIR"), "/../../docs/compatibility.md");

/// Writes the block again with `GOLDEN=write`.
#[test]
fn the_page_says_what_is_run() {
    const MARKS: [&str; 2] = ["<!-- begin run -->\n", "<!-- end run -->"];
    let page = fs::read_to_string(PAGE).expect("the page");
    let (before, rest) = page.split_once(MARKS[0]).expect("a first mark");
    let (block, after) = rest.split_once(MARKS[1]).expect("a last mark");
    let expected = table();
    if env::var_os("GOLDEN").is_some_and(|what| what == "write") {
        let page = format!("{before}{}{expected}{}{after}", MARKS[0], MARKS[1]);
        fs::write(PAGE, page).expect("a page that can be written");
    } else {
        assert_eq!(block, expected);
    }
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
