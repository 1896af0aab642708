//! The layers of the workspace: crates that must build without the means of the layers above.

use std::collections::BTreeSet;

use anyhow::{Result, ensure};
use base::{CommandExt, workspace};

/// Dependencies of the source and of the dashboard.
const OF_UPPER_LAYERS: [&str; 4] = ["aya", "clap", "ratatui", "tokio"];

/// Crates of the layers below the source and the dashboard.
const LOWER_LAYERS: [&str; 5] =
    ["collapse-common", "collapse-feed", "collapse-model", "collapse-metrics", "collapse-report"];

/// The `unwanted` packages among the dependencies, direct or not, of a package that is built alone. Fails if there is no such package.
fn built_with(package: &str, unwanted: &[&'static str]) -> Result<BTreeSet<&'static str>> {
    // `cargo metadata` would not do: it adds the features that other members ask for.
    let tree = workspace::cargo()
        .args(["tree", "--package", package, "--edges", "normal,build", "--locked"])
        .args(["--target", "x86_64-unknown-linux-gnu", "--prefix", "none", "--format", "{p}"])
        .read()?;
    let tree = String::from_utf8(tree)?;
    let names: BTreeSet<&str> = tree.lines().filter_map(|line| line.split(' ').next()).collect();
    Ok(unwanted.iter().copied().filter(|name| names.contains(name)).collect())
}

#[test]
fn dependencies_are_found_however_indirect() -> Result<()> {
    let found = built_with("collapse-user", &OF_UPPER_LAYERS)?;
    ensure!(found == OF_UPPER_LAYERS.into(), "of collapse-user's, only {found:?} were found");
    ensure!(!built_with("collapse-user", &["object"])?.is_empty(), "object, which aya brings");
    ensure!(built_with("workload", &["proptest"])?.is_empty(), "proptest is for tests only");
    ensure!(built_with("no-such-package", &[]).is_err(), "a missing package was accepted");
    Ok(())
}

#[test]
fn lower_layers_do_without_the_upper_ones_means() -> Result<()> {
    for package in LOWER_LAYERS {
        let found = built_with(package, &OF_UPPER_LAYERS)?;
        ensure!(found.is_empty(), "{package} depends on {found:?}");
    }
    Ok(())
}
