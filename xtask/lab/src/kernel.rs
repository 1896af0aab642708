//! Kernels to boot: Debian's, resolved and fetched by series, or a user's own.

use std::{
    fs,
    path::{Path, PathBuf},
    process::{Command, Stdio},
    time::Duration,
};

use anyhow::{Context, Result, anyhow, ensure};
use base::cache;

use crate::{
    apt::{Apt, is_newer},
    kernels::{self, CpuVendor},
    modules::ModuleTree,
    qemu::TRANSPORT_MODULES,
};

/// Modules of KVM that all vendors share.
const KVM_MODULES: [&str; 2] = ["irqbypass", "kvm"];

/// Modules of guests that a VMM boots with the same kernel.
pub const GUEST_MODULES: &[&str] = &["virtio_pci", "virtio_balloon"];

/// Modules that a command may load from `/lab/modules`: a disk in memory, for swap.
pub const OPTIONAL_MODULES: &[&str] = &["brd"];

/// The file with a series' latest version, and how long that counts.
const LATEST: &str = "latest";
const LATEST_LIFETIME: Duration = Duration::from_hours(24);

/// The modules of KVM on CPUs of a vendor.
pub fn kvm_modules(vendor: CpuVendor) -> impl Iterator<Item = &'static str> {
    KVM_MODULES.into_iter().chain([vendor.kvm().module])
}

/// A kernel ready to boot.
#[derive(Clone, Debug)]
pub struct Kernel {
    /// The name for messages.
    pub name: String,
    /// The bootable image.
    pub vmlinuz: PathBuf,
    /// A folder with its modules.
    pub modules: PathBuf,
}

/// A kernel to boot.
#[derive(Clone, Debug)]
pub enum KernelChoice {
    /// The latest point release of a Debian series such as `6.12`.
    Series(String),
    /// A kernel that was found before.
    Found(Kernel),
    /// A user's own kernel.
    Own {
        /// The bootable image.
        vmlinuz: PathBuf,
        /// The folder with its modules.
        modules: PathBuf,
    },
}

impl KernelChoice {
    /// Finds the kernel, fetching it if need be.
    pub fn resolve(&self) -> Result<Kernel> {
        match self {
            Self::Series(series) => fetch(series),
            Self::Found(kernel) => Ok(kernel.clone()),
            Self::Own { vmlinuz, modules } => {
                ensure!(vmlinuz.is_file(), "no kernel image at {}", vmlinuz.display());
                ensure!(modules.is_dir(), "no folder of modules at {}", modules.display());
                Ok(Kernel {
                    name: vmlinuz.display().to_string(),
                    vmlinuz: vmlinuz.clone(),
                    modules: modules.clone(),
                })
            }
        }
    }
}

/// An exact kernel in Debian's archive.
#[derive(Debug, PartialEq, Eq)]
struct KernelPackage {
    release: String,
    version: String,
    /// Newer kernels come in two packages.
    split: bool,
}

impl KernelPackage {
    fn names(&self) -> Vec<String> {
        let kinds: &[&str] = if self.split { &["binary", "modules"] } else { &["image"] };
        kinds.iter().map(|kind| format!("linux-{kind}-{}", self.release)).collect()
    }
}

fn fetch(series: &str) -> Result<Kernel> {
    let numeric = |part: &str| !part.is_empty() && part.bytes().all(|byte| byte.is_ascii_digit());
    ensure!(
        series.split('.').count() == 2 && series.split('.').all(numeric),
        "{series:?} is neither a kernel series, such as {}, nor a kernel image with --modules",
        kernels::names()
    );
    let cache = cache::dir()?;
    let shelf = cache.join("kernels").join(series);
    let _lock = cache::lock()?;
    if let Some(kernel) = recent(&shelf, series) {
        return Ok(kernel);
    }
    let wanted = Apt::open(&cache).and_then(|apt| Ok((resolve(&apt, series)?, apt)));
    match wanted {
        Ok((package, apt)) => {
            let home = shelf.join(&package.version);
            if !is_complete(&home)
                && let Err(error) = download(&apt, &package, &home)
            {
                let kernel = cached(&shelf).map_err(|_| anyhow!("{error:#}"))?;
                eprintln!("lab: using the cached {} ({error:#})", kernel.name);
                return Ok(kernel);
            }
            fs::write(shelf.join(LATEST), &package.version).context("noting the version")?;
            Ok(open(&home, series))
        }
        Err(error) => match cached(&shelf) {
            Ok(kernel) => {
                eprintln!("lab: using the cached {} ({error:#})", kernel.name);
                Ok(kernel)
            }
            Err(_) => Err(error),
        },
    }
}

/// The kernel that was the latest one at the last look, if that was not long ago.
fn recent(shelf: &Path, series: &str) -> Option<Kernel> {
    let note = shelf.join(LATEST);
    let age = fs::metadata(&note).and_then(|meta| meta.modified()).ok()?.elapsed().ok()?;
    let home = shelf.join(fs::read_to_string(note).ok()?.trim());
    (age < LATEST_LIFETIME && is_complete(&home)).then(|| open(&home, series))
}

fn open(home: &Path, series: &str) -> Kernel {
    let version = home.file_name().unwrap_or_default().to_string_lossy();
    Kernel {
        name: format!("kernel {series} (Debian {version})"),
        vmlinuz: home.join("vmlinuz"),
        modules: home.join("modules"),
    }
}

/// Whether a folder holds a kernel and every module, of which an older list may have had fewer. Debian
/// builds the transport into some kernels, and these into none.
fn is_complete(home: &Path) -> bool {
    let modules = home.join("modules");
    let vendors = CpuVendor::ALL.into_iter().map(|vendor| vendor.kvm().module);
    let mut needed = vendors.chain(["virtio_balloon", "brd"]);
    home.join("vmlinuz").is_file()
        && needed.all(|name| modules.join(format!("{name}.ko")).is_file())
}

/// The latest kernel of a series in the cache.
fn cached(shelf: &Path) -> Result<Kernel> {
    let series = shelf.file_name().unwrap_or_default().to_string_lossy();
    let entries = fs::read_dir(shelf).ok().into_iter().flatten().flatten();
    let latest = entries.map(|entry| entry.path()).filter(|path| is_complete(path)).reduce(
        |latest, path| {
            let name =
                |path: &Path| path.file_name().unwrap_or_default().to_string_lossy().into_owned();
            if is_newer(&name(&path), &name(&latest)) { path } else { latest }
        },
    );
    latest.map(|home| open(&home, &series)).context("no kernel of this series is cached")
}

fn resolve(apt: &Apt, series: &str) -> Result<KernelPackage> {
    let names = apt.package_names()?;
    let candidates = candidates(&names, series);
    ensure!(
        !candidates.is_empty(),
        "no kernel {series} in the Debian suites that this machine's mirror carries (an old suite \
         may have moved to the archive): give --kernel <vmlinuz> --modules <dir>"
    );
    let packages: Vec<&str> = candidates.iter().map(|(name, _)| *name).collect();
    latest(&candidates, &apt.versions(&packages)?)
        .with_context(|| format!("no kernel {series} can be downloaded"))
}

/// The (package, release) pairs of a series' plain kernels: no debug, cloud or real-time builds.
fn candidates<'a>(names: &'a [String], series: &str) -> Vec<(&'a str, &'a str)> {
    let found: Vec<(&str, &str)> = names
        .iter()
        .filter_map(|name| {
            let release = ["linux-binary-", "linux-image-"]
                .iter()
                .find_map(|prefix| name.strip_prefix(prefix))?;
            let rest = release.strip_prefix(series)?.strip_prefix('.')?;
            let flavour = rest.strip_suffix("-amd64")?;
            let plain = flavour.split(['.', '-', '+']).all(|part| {
                let digits = part.strip_prefix("deb").unwrap_or(part);
                !digits.is_empty() && digits.bytes().all(|byte| byte.is_ascii_digit())
            });
            plain.then_some((name.as_str(), release))
        })
        .collect();
    // Where the kernel is split, the image package is an empty one that pulls the parts in.
    let split: Vec<&str> = found
        .iter()
        .filter(|(name, _)| name.starts_with("linux-binary-"))
        .map(|(_, release)| *release)
        .collect();
    found
        .into_iter()
        .filter(|(name, release)| name.starts_with("linux-binary-") || !split.contains(release))
        .collect()
}

fn latest(candidates: &[(&str, &str)], versions: &[(String, String)]) -> Option<KernelPackage> {
    let (name, version) = versions
        .iter()
        .reduce(|latest, next| if is_newer(&next.1, &latest.1) { next } else { latest })?;
    let (name, release) = candidates.iter().find(|(candidate, _)| candidate == name)?;
    Some(KernelPackage {
        release: (*release).to_owned(),
        version: version.clone(),
        split: name.starts_with("linux-binary-"),
    })
}

/// Downloads a kernel and keeps the image and the modules that the lab needs.
fn download(apt: &Apt, package: &KernelPackage, home: &Path) -> Result<()> {
    eprintln!("lab: downloading kernel {} ({})", package.release, package.version);
    let work = home.with_extension("part");
    if work.exists() {
        fs::remove_dir_all(&work).with_context(|| format!("clearing {}", work.display()))?;
    }
    let unpacked = work.join("unpacked");
    fs::create_dir_all(&unpacked).with_context(|| format!("creating {}", unpacked.display()))?;
    apt.download(&package.names(), &package.version, &work)?;
    for entry in fs::read_dir(&work).context("listing the downloads")? {
        let path = entry.context("listing the downloads")?.path();
        if path.extension().is_some_and(|extension| extension == "deb") {
            unpack(&path, &unpacked)?;
            fs::remove_file(&path).context("removing a download")?;
        }
    }
    let vmlinuz = [
        format!("boot/vmlinuz-{}", package.release),
        format!("usr/lib/modules/{}/vmlinuz", package.release),
        format!("lib/modules/{}/vmlinuz", package.release),
    ];
    let vmlinuz = vmlinuz.iter().map(|path| unpacked.join(path)).find(|path| path.is_file());
    let vmlinuz = vmlinuz.context("the kernel's packages hold no image")?;
    fs::rename(vmlinuz, work.join("vmlinuz")).context("keeping the kernel image")?;

    let modules = work.join("modules");
    fs::create_dir(&modules).context("keeping the modules")?;
    let kvm: Vec<&str> = CpuVendor::ALL.into_iter().flat_map(kvm_modules).collect();
    let others = [TRANSPORT_MODULES, GUEST_MODULES, OPTIONAL_MODULES].concat();
    for module in ModuleTree::scan(&unpacked)?.closure(&kvm, &others)? {
        fs::write(modules.join(format!("{}.ko", module.name)), module.bytes)
            .context("keeping the modules")?;
    }
    fs::remove_dir_all(&unpacked).context("removing what is not needed")?;
    if home.exists() {
        fs::remove_dir_all(home).with_context(|| format!("clearing {}", home.display()))?;
    }
    fs::rename(&work, home).with_context(|| format!("keeping {}", home.display()))
}

/// Unpacks a Debian package into a folder, but for its documentation.
pub fn unpack(package: &Path, into: &Path) -> Result<()> {
    let mut deb = Command::new("dpkg-deb")
        .arg("--fsys-tarfile")
        .arg(package)
        .stdout(Stdio::piped())
        .spawn()
        .context("starting dpkg-deb")?;
    let tar = deb.stdout.take().context("dpkg-deb has no output")?;
    let extracted = Command::new("tar")
        .arg("-x")
        .arg("-C")
        .arg(into)
        .args(["--no-same-owner", "--exclude=./usr/share/doc", "--exclude=./usr/share/man"])
        .stdin(tar)
        .status()
        .context("starting tar")?;
    let read = deb.wait().context("waiting for dpkg-deb")?;
    ensure!(extracted.success() && read.success(), "cannot unpack {}", package.display());
    Ok(())
}

#[cfg(test)]
mod tests {
    use super::*;

    fn names(list: &[&str]) -> Vec<String> {
        list.iter().map(|name| (*name).to_owned()).collect()
    }

    #[test]
    fn only_plain_kernels_of_the_series() {
        let names = names(&[
            "linux-image-6.1-amd64",
            "linux-image-6.1.0-56-amd64",
            "linux-image-6.1.0-0.deb11.51-amd64",
            "linux-image-6.1.0-56-rt-amd64",
            "linux-image-6.1.0-56-cloud-amd64",
            "linux-image-6.1.0-56-amd64-dbg",
            "linux-image-6.1.0-56-amd64-unsigned",
            "linux-image-6.12.117+deb13.1-amd64",
            "linux-headers-6.1.0-56-amd64",
        ]);
        let releases = |series| {
            candidates(&names, series).into_iter().map(|(_, release)| release).collect::<Vec<_>>()
        };
        assert_eq!(releases("6.1"), ["6.1.0-56-amd64", "6.1.0-0.deb11.51-amd64"]);
        assert_eq!(releases("6.12"), ["6.12.117+deb13.1-amd64"]);
        assert!(releases("6.11").is_empty());
    }

    #[test]
    fn a_split_kernel_is_taken_from_its_parts() {
        let names = names(&["linux-image-7.3.4+deb13-amd64", "linux-binary-7.3.4+deb13-amd64"]);
        let candidates = candidates(&names, "7.3");
        let versions = [("linux-binary-7.3.4+deb13-amd64".to_owned(), "7.3.4-1".to_owned())];
        let package = latest(&candidates, &versions).unwrap();
        assert_eq!(
            package.names(),
            ["linux-binary-7.3.4+deb13-amd64", "linux-modules-7.3.4+deb13-amd64"]
        );
    }

    #[test]
    fn the_latest_version_wins() {
        let candidates = [("linux-image-a", "a"), ("linux-image-b", "b")];
        let versions = [
            ("linux-image-a".to_owned(), "6.1.99-1".to_owned()),
            ("linux-image-b".to_owned(), "6.1.192-2".to_owned()),
        ];
        let package = latest(&candidates, &versions).unwrap();
        assert_eq!((package.release.as_str(), package.split), ("b", false));
    }
}
