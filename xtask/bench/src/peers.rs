//! The tools that `collapse` is compared with, from Debian's archive, and the libraries they need.

use std::{
    collections::BTreeMap,
    fs,
    os::unix::fs::PermissionsExt,
    path::{Path, PathBuf},
    process::Command,
};

use anyhow::{Context, Result, ensure};
use base::{CommandExt, cache};
use lab::{ImageFile, apt::Apt, kernel::unpack};

/// One release for all of them, so that they share libraries. The perf of this one reads any kernel's tracepoints.
const RELEASE: &str = "trixie";
/// Package and program.
const PROGRAMS: [(&str, &str); 3] =
    [("linux-perf", "perf"), ("trace-cmd", "trace-cmd"), ("bpftrace", "bpftrace")];
const LIBRARIES: &str = "usr/lib/x86_64-linux-gnu";
const LOADER: &str = "ld-linux-x86-64.so.2";
/// The file with the versions, written last, once everything else is in place.
const NOTE: &str = "versions.json";

/// The peers, ready for the lab.
pub struct Peers {
    /// Programs, libraries and the loader.
    pub files: Vec<ImageFile>,
    /// Version by program.
    pub versions: BTreeMap<String, String>,
}

impl Peers {
    /// Finds them in the cache, or fetches them.
    pub fn fetch() -> Result<Self> {
        let cache = cache::dir()?;
        let _lock = cache::lock()?;
        let home = cache.join("peers").join(RELEASE);
        if !home.join(NOTE).is_file() {
            download(&cache, &home).context("fetching perf, trace-cmd and bpftrace")?;
        }
        let note = fs::read(home.join(NOTE)).context("reading the peers' versions")?;
        let versions = serde_json::from_slice(&note).context("reading the peers' versions")?;
        let mut files = Vec::new();
        for folder in ["bin", "lib", "lib64"] {
            for entry in fs::read_dir(home.join(folder)).context("listing the peers")? {
                let path = entry.context("listing the peers")?.path();
                let name = path.file_name().unwrap_or_default().to_string_lossy();
                files.push(ImageFile {
                    path: format!("/{folder}/{name}"),
                    permissions: 0o755,
                    content: fs::read(&path)
                        .with_context(|| format!("reading {}", path.display()))?,
                });
            }
        }
        Ok(Self { files, versions })
    }
}

fn download(cache: &Path, home: &Path) -> Result<()> {
    eprintln!("bench: fetching perf, trace-cmd, bpftrace and their libraries (some 100 MB)");
    let work = home.with_extension("part");
    if work.exists() {
        fs::remove_dir_all(&work).with_context(|| format!("clearing {}", work.display()))?;
    }
    let (archives, unpacked) = (work.join("archives"), work.join("unpacked"));
    for folder in [&archives.join("partial"), &unpacked, &work.join("lib"), &work.join("lib64")] {
        fs::create_dir_all(folder).with_context(|| format!("creating {}", folder.display()))?;
    }
    fs::create_dir(work.join("bin")).context("making room for the programs")?;
    Apt::open(cache)?.download_closure(
        &PROGRAMS.map(|(package, _)| package),
        RELEASE,
        &archives,
    )?;
    let mut versions = BTreeMap::new();
    for entry in fs::read_dir(&archives).context("listing the downloads")? {
        let path = entry.context("listing the downloads")?.path();
        let name = path.file_name().unwrap_or_default().to_string_lossy().into_owned();
        // PACKAGE_VERSION_ARCHITECTURE.deb
        let mut parts = name.strip_suffix(".deb").unwrap_or_default().split('_');
        let (Some(package), Some(version)) = (parts.next(), parts.next()) else { continue };
        unpack(&path, &unpacked)?;
        if let Some((_, program)) = PROGRAMS.iter().find(|(name, _)| *name == package) {
            // `:` and the like are escaped as in a URL.
            versions.insert((*program).to_owned(), version.replace("%3a", ":"));
        }
    }
    for (_, program) in PROGRAMS {
        keep(&unpacked, program, &work).with_context(|| format!("keeping {program}"))?;
    }
    for folder in [&archives, &unpacked] {
        fs::remove_dir_all(folder).context("removing what is not needed")?;
    }
    fs::write(work.join(NOTE), serde_json::to_vec(&versions)?)
        .context("writing the versions down")?;
    if home.exists() {
        fs::remove_dir_all(home).with_context(|| format!("clearing {}", home.display()))?;
    }
    fs::rename(&work, home).with_context(|| format!("keeping {}", home.display()))
}

/// Copies a program, the loader and the libraries that the loader finds for it.
fn keep(root: &Path, program: &str, into: &Path) -> Result<()> {
    let (binary, libraries) = (root.join("usr/bin").join(program), root.join(LIBRARIES));
    ensure!(binary.is_file(), "its package has no such program");
    let loader = libraries.join(LOADER);
    let list = Command::new(&loader)
        .arg("--library-path")
        .arg(&libraries)
        .arg("--list")
        .arg(&binary)
        .read()?;
    copy(&binary, &into.join("bin").join(program))?;
    copy(&loader, &into.join("lib64").join(LOADER))?;
    for library in found(&String::from_utf8_lossy(&list)) {
        copy(&libraries.join(&library), &into.join("lib").join(&library))?;
    }
    Ok(())
}

fn copy(from: &Path, to: &PathBuf) -> Result<()> {
    fs::copy(from, to).with_context(|| format!("copying {}", from.display()))?;
    fs::set_permissions(to, fs::Permissions::from_mode(0o755)).context("making it executable")
}

/// Names of the libraries in what the loader lists as `NAME => PATH (ADDRESS)`.
fn found(list: &str) -> Vec<String> {
    let names = list.lines().filter_map(|line| line.split_once(" => "));
    names.map(|(name, _)| name.trim().to_owned()).filter(|name| !name.contains('/')).collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn libraries_of_a_program() {
        let list = "\tlinux-vdso.so.1 (0x00007ff)\n\tlibz.so.1 => /u/libz.so.1 (0x00007f)\n\
                    \t/lib64/ld-linux-x86-64.so.2 => /u/ld.so (0x00007f)\n";
        assert_eq!(found(list), ["libz.so.1"]);
    }
}
