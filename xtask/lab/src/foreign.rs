//! Programs of Debian's for the lab's machines, with the libraries and files that they need.

use std::{
    collections::BTreeMap,
    fs,
    os::unix::fs::PermissionsExt,
    path::{Path, PathBuf},
    process::Command,
};

use anyhow::{Context, Result, ensure};
use base::{CommandExt, cache};

use crate::{ImageFile, apt::Apt, kernel::unpack};

/// Folders with libraries, below the root of what was unpacked.
const LIBRARIES: [&str; 2] = ["lib/x86_64-linux-gnu", "usr/lib/x86_64-linux-gnu"];
const LOADER: &str = "ld-linux-x86-64.so.2";
/// The file with the versions, written last, once everything else is in place.
const NOTE: &str = "versions.json";
/// Folders in the cache, and the folder of the image for what is in each.
const FOLDERS: [(&str, &str); 4] =
    [("bin", "/bin"), ("lib", "/lib"), ("lib64", "/lib64"), ("data", "/lab")];

/// Programs of one release, so that they share libraries.
pub struct ForeignPrograms {
    /// The folder in the cache.
    pub shelf: &'static str,
    /// Debian's release, such as `trixie`.
    pub release: &'static str,
    /// Package and program, for `/bin`.
    pub programs: &'static [(&'static str, &'static str)],
    /// Other files of these packages, or of those that they depend on, for `/lab`.
    pub data: &'static [&'static str],
}

/// Programs that are ready for the lab.
pub struct Fetched {
    /// Programs, libraries, the loader and other files.
    pub files: Vec<ImageFile>,
    /// Version by program.
    pub versions: BTreeMap<String, String>,
}

impl ForeignPrograms {
    /// Finds them in the cache, or fetches them.
    pub fn fetch(&self) -> Result<Fetched> {
        let cache = cache::dir()?;
        let _lock = cache::lock()?;
        let home = cache.join(self.shelf).join(self.release);
        if !home.join(NOTE).is_file() {
            let names: Vec<_> = self.programs.iter().map(|(_, program)| *program).collect();
            let names = names.join(", ");
            eprintln!("lab: fetching {names} of {} and their libraries", self.release);
            self.download(&cache, &home).with_context(|| format!("fetching {names}"))?;
        }
        let note = fs::read(home.join(NOTE)).context("reading the programs' versions")?;
        let versions = serde_json::from_slice(&note).context("reading the programs' versions")?;
        let mut files = Vec::new();
        for (folder, place) in FOLDERS {
            // A cache of an earlier version may lack a folder that was not needed.
            for entry in fs::read_dir(home.join(folder)).into_iter().flatten() {
                let path = entry.context("listing the programs")?.path();
                let name = path.file_name().unwrap_or_default().to_string_lossy();
                files.push(ImageFile {
                    path: format!("{place}/{name}"),
                    permissions: 0o755,
                    content: fs::read(&path)
                        .with_context(|| format!("reading {}", path.display()))?,
                });
            }
        }
        Ok(Fetched { files, versions })
    }

    fn download(&self, cache: &Path, home: &Path) -> Result<()> {
        let work = home.with_extension("part");
        if work.exists() {
            fs::remove_dir_all(&work).with_context(|| format!("clearing {}", work.display()))?;
        }
        let (archives, unpacked) = (work.join("archives"), work.join("unpacked"));
        let kept = FOLDERS.map(|(folder, _)| work.join(folder));
        for folder in [&archives.join("partial"), &unpacked].into_iter().chain(&kept) {
            fs::create_dir_all(folder).with_context(|| format!("creating {}", folder.display()))?;
        }
        let packages: Vec<&str> = self.programs.iter().map(|(package, _)| *package).collect();
        Apt::open(cache)?.download_closure(&packages, self.release, &archives)?;
        let mut versions = BTreeMap::new();
        for entry in fs::read_dir(&archives).context("listing the downloads")? {
            let path = entry.context("listing the downloads")?.path();
            let name = path.file_name().unwrap_or_default().to_string_lossy().into_owned();
            // PACKAGE_VERSION_ARCHITECTURE.deb
            let mut parts = name.strip_suffix(".deb").unwrap_or_default().split('_');
            let (Some(package), Some(version)) = (parts.next(), parts.next()) else { continue };
            unpack(&path, &unpacked)?;
            if let Some((_, program)) = self.programs.iter().find(|(name, _)| *name == package) {
                // `:` and the like are escaped as in a URL.
                versions.insert((*program).to_owned(), version.replace("%3a", ":"));
            }
        }
        for (_, program) in self.programs {
            keep(&unpacked, program, &work).with_context(|| format!("keeping {program}"))?;
        }
        for file in self.data {
            let from = unpacked.join(file);
            let name = from.file_name().context("a file has no name")?;
            copy(&from, &work.join("data").join(name))?;
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
}

/// Copies a program, the loader and the libraries that the loader finds for it.
fn keep(root: &Path, program: &str, into: &Path) -> Result<()> {
    let binary = root.join("usr/bin").join(program);
    ensure!(binary.is_file(), "its package has no such program");
    let libraries = LIBRARIES.map(|folder| root.join(folder));
    let loader = libraries.iter().map(|folder| folder.join(LOADER)).find(|path| path.exists());
    let loader = loader.context("its packages have no loader")?;
    let list = Command::new(&loader)
        .arg("--library-path")
        .arg(libraries.map(|folder| folder.display().to_string()).join(":"))
        .arg("--list")
        .arg(&binary)
        .read()?;
    copy(&binary, &into.join("bin").join(program))?;
    copy(&loader, &into.join("lib64").join(LOADER))?;
    for (name, path) in found(&String::from_utf8_lossy(&list)) {
        ensure!(path.starts_with(root), "it needs {name}, which its packages do not have");
        copy(&path, &into.join("lib").join(name))?;
    }
    Ok(())
}

fn copy(from: &Path, to: &PathBuf) -> Result<()> {
    fs::copy(from, to).with_context(|| format!("copying {}", from.display()))?;
    fs::set_permissions(to, fs::Permissions::from_mode(0o755)).context("making it executable")
}

/// Libraries, by name, in what the loader lists as `NAME => PATH (ADDRESS)`.
fn found(list: &str) -> Vec<(&str, PathBuf)> {
    let lines = list.lines().filter_map(|line| line.trim().split_once(" => "));
    let lines = lines.filter(|(name, _)| !name.contains('/'));
    lines.map(|(name, path)| (name, path.split(" (").next().unwrap_or(path).into())).collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn libraries_of_a_program() {
        let list = "\tlinux-vdso.so.1 (0x00007ff)\n\tlibz.so.1 => /u/libz.so.1 (0x00007f)\n\
                    \tlibq.so.2 => not found\n\
                    \t/lib64/ld-linux-x86-64.so.2 => /u/ld.so (0x00007f)\n";
        let expected = [("libz.so.1", "/u/libz.so.1"), ("libq.so.2", "not found")];
        assert_eq!(found(list), expected.map(|(name, path)| (name, PathBuf::from(path))));
    }
}
