//! Builds the eBPF object with the toolchain that `cargo xtask setup` found, for embedding.

use std::{
    collections::HashMap,
    env, fs,
    path::{Path, PathBuf},
    process::Command,
};

use anyhow::{Context as _, Result, bail, ensure};

fn main() -> Result<()> {
    let object = PathBuf::from(var("OUT_DIR")?).join("collapse-ebpf");
    for input in ["../collapse-ebpf", "../collapse-common", "../Cargo.toml", "../Cargo.lock"] {
        println!("cargo:rerun-if-changed={input}");
    }
    let toolchain = Toolchain::load()?;
    toolchain.build(&object)
}

/// Where `cargo xtask setup` says the eBPF toolchain is.
struct Toolchain {
    cargo: PathBuf,
    rustc: PathBuf,
    linker: PathBuf,
}

impl Toolchain {
    fn load() -> Result<Self> {
        let file = cache_dir()?.join("ebpf-toolchain");
        println!("cargo:rerun-if-env-changed=COLLAPSE_CACHE");
        println!("cargo:rerun-if-changed={}", file.display());
        let missing = "the eBPF toolchain is not set up: run `cargo xtask setup`";
        let text = fs::read_to_string(&file).context(missing)?;
        let keys: HashMap<&str, &str> = text
            .lines()
            .filter_map(|line| line.split_once('='))
            .map(|(key, value)| (key.trim(), value.trim()))
            .collect();
        let path = |key| {
            let path = PathBuf::from(keys.get(key).copied().context(missing)?);
            ensure!(path.exists(), "{missing} ({} is gone)", path.display());
            Ok(path)
        };
        Ok(Self { cargo: path("cargo")?, rustc: path("rustc")?, linker: path("linker")? })
    }

    fn build(&self, object: &Path) -> Result<()> {
        let target_dir = PathBuf::from(var("OUT_DIR")?).join("ebpf");
        let linker_dir = self.linker.parent().context("the linker has no directory")?;
        let path = env::join_paths(
            [linker_dir.to_owned()]
                .into_iter()
                .chain(env::split_paths(&env::var_os("PATH").unwrap_or_default())),
        )?;
        // `build-std` is unstable, and the flags of a host build mean nothing to the eBPF target.
        let flags = ["--cfg=bpf_target_arch=\"x86_64\"", "-Cdebuginfo=2", "-Clink-arg=--btf"];
        let output = Command::new(&self.cargo)
            .args(["build", "--package", "collapse-ebpf", "--release"])
            .args(["--target", "bpfel-unknown-none", "-Z", "build-std=core", "--locked"])
            // The same object wherever the checkout and the toolchain are.
            .args(["-Z", "trim-paths", "--config", "profile.release.trim-paths=\"all\""])
            .arg("--target-dir")
            .arg(&target_dir)
            .env("PATH", path)
            .env("RUSTC", &self.rustc)
            .env("RUSTC_BOOTSTRAP", "1")
            .env("CARGO_ENCODED_RUSTFLAGS", flags.join("\x1f"))
            .env_remove("RUSTC_WORKSPACE_WRAPPER")
            .env_remove("RUSTC_WRAPPER")
            .env_remove("RUSTUP_TOOLCHAIN")
            .output()
            .with_context(|| format!("cannot run {}", self.cargo.display()))?;
        if !output.status.success() {
            bail!("the eBPF build failed:\n{}", String::from_utf8_lossy(&output.stderr));
        }
        let built = target_dir.join("bpfel-unknown-none/release/collapse-ebpf");
        fs::copy(&built, object).with_context(|| format!("cannot copy {}", built.display()))?;
        Ok(())
    }
}

/// The project's cache, as in `xtask`: `COLLAPSE_CACHE`, else the user's cache folder.
fn cache_dir() -> Result<PathBuf> {
    if let Some(dir) = env::var_os("COLLAPSE_CACHE") {
        return Ok(dir.into());
    }
    if let Some(dir) = env::var_os("XDG_CACHE_HOME") {
        return Ok(PathBuf::from(dir).join("collapse"));
    }
    let home = env::var_os("HOME").context("neither HOME nor COLLAPSE_CACHE is set")?;
    Ok(PathBuf::from(home).join(".cache/collapse"))
}

fn var(name: &str) -> Result<String> {
    env::var(name).with_context(|| format!("cargo did not set {name}"))
}
