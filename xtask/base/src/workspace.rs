//! The checkout, and the cargo that runs the task.

use std::{
    env,
    path::{Path, PathBuf},
    process::Command,
};

use crate::process::{CommandExt, on_path};

/// The root of the workspace.
pub fn root() -> PathBuf {
    let manifest = Path::new(env!("CARGO_MANIFEST_DIR"));
    manifest.ancestors().nth(2).unwrap_or(manifest).to_path_buf()
}

/// The folder for everything that is built.
pub fn target_dir() -> PathBuf {
    let own = env::var_os("CARGO_TARGET_DIR").filter(|path| !path.is_empty());
    root().join(own.unwrap_or_else(|| "target".into()))
}

/// The folder for what the lab brings back: files of commands, tests and benchmarks.
pub fn lab_dir() -> PathBuf {
    target_dir().join("lab")
}

/// The folder in which cargo keeps the sources of dependencies.
pub fn crates_dir() -> PathBuf {
    let own = env::var_os("CARGO_HOME").filter(|path| !path.is_empty()).map(PathBuf::from);
    own.or_else(|| Some(env::home_dir()?.join(".cargo"))).unwrap_or_default()
}

/// The cargo that runs this program, in the workspace's root.
pub fn cargo() -> Command {
    let mut cargo = Command::new(env::var_os("CARGO").unwrap_or_else(|| "cargo".into()));
    cargo.current_dir(root());
    cargo
}

/// Makes sure that cargo has a component, asking rustup for it; returns whether it is there.
pub fn ensure_component(name: &str, subcommand: &str) -> bool {
    let present = || cargo().args([subcommand, "--version"]).succeeds();
    if !present() && on_path("rustup") {
        eprintln!("setup: asking rustup for {name}");
        if let Err(error) = Command::new("rustup").args(["component", "add", name]).run() {
            eprintln!("setup: {error:#}");
        }
    }
    present()
}
