//! The folder for downloads and built tools, shared between clones of the project.

use std::{
    env,
    fs::{self, File},
    path::PathBuf,
};

use anyhow::{Context, Result};

/// The cache folder, made if it is missing: `$COLLAPSE_CACHE`, else `$XDG_CACHE_HOME/collapse`, else `~/.cache/collapse`.
pub fn dir() -> Result<PathBuf> {
    let set = |name| env::var_os(name).filter(|value| !value.is_empty()).map(PathBuf::from);
    let dir = set("COLLAPSE_CACHE")
        .or_else(|| Some(set("XDG_CACHE_HOME")?.join("collapse")))
        .or_else(|| Some(set("HOME")?.join(".cache/collapse")))
        .context("no place for a cache: set COLLAPSE_CACHE to a folder")?;
    fs::create_dir_all(&dir).with_context(|| format!("creating the cache {}", dir.display()))?;
    std::path::absolute(&dir).with_context(|| format!("resolving {}", dir.display()))
}

/// Holds the cache for one writer until the returned file is dropped.
pub fn lock() -> Result<File> {
    let path = dir()?.join("lock");
    let file = File::create(&path).with_context(|| format!("creating {}", path.display()))?;
    file.lock().with_context(|| format!("locking {}", path.display()))?;
    Ok(file)
}
