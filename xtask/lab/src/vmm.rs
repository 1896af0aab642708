//! A real VMM for the lab's machines: Debian's QEMU, whose guests boot the machine's own kernel with a small
//! initramfs. The program `qemu-guest` starts it.

use std::{fs, str::FromStr};

use anyhow::{Context, Result};

use crate::{
    Archive, ImageFile,
    foreign::ForeignPrograms,
    image::BUSYBOX,
    kernel::{GUEST_MODULES, Kernel},
    modules::ModuleTree,
};

/// A release of QEMU.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum QemuRelease {
    /// 7.2, of Debian 12.
    Qemu7,
    /// 10.0, of Debian 13.
    Qemu10,
}

const QEMU: [(&str, &str); 1] = [("qemu-system-x86", "qemu-system-x86_64")];
/// The firmware, what loads a kernel, and what the firmware of a CPU's local APIC needs.
const FIRMWARE: [&str; 3] = [
    "usr/share/seabios/bios-256k.bin",
    "usr/share/qemu/linuxboot_dma.bin",
    "usr/share/qemu/kvmvapic.bin",
];

impl QemuRelease {
    /// All releases, oldest first.
    pub const ALL: [Self; 2] = [Self::Qemu7, Self::Qemu10];

    /// The version on command lines and in names of tests.
    pub fn name(self) -> &'static str {
        match self {
            Self::Qemu7 => "7.2",
            Self::Qemu10 => "10.0",
        }
    }

    /// What a machine with this kernel needs for it. Fetches QEMU if need be.
    pub fn files(self, kernel: &Kernel) -> Result<Vec<ImageFile>> {
        let release = match self {
            Self::Qemu7 => "bookworm",
            Self::Qemu10 => "trixie",
        };
        let qemu = ForeignPrograms { shelf: "qemu", release, programs: &QEMU, data: &FIRMWARE };
        let mut files = qemu.fetch()?.files;
        let file = |name: &str, content| ImageFile {
            path: format!("/lab/{name}"),
            permissions: 0o644,
            content,
        };
        let vmlinuz = fs::read(&kernel.vmlinuz)
            .with_context(|| format!("reading {}", kernel.vmlinuz.display()))?;
        files.push(file("guest-kernel", vmlinuz));
        files.push(file("guest-initramfs", initramfs(kernel).context("the guest's initramfs")?));
        Ok(files)
    }
}

impl FromStr for QemuRelease {
    type Err = String;

    fn from_str(text: &str) -> Result<Self, String> {
        let named = Self::ALL.into_iter().find(|release| release.name() == text);
        named.ok_or_else(|| format!("expected {}", Self::ALL.map(Self::name).join(" or ")))
    }
}

/// The initramfs of QEMU's guests: busybox, the balloon's driver, and a script.
fn initramfs(kernel: &Kernel) -> Result<Vec<u8>> {
    let mut archive = Archive::default();
    for folder in ["bin", "dev", "modules", "proc", "sys", "memory"] {
        archive.directory(folder)?;
    }
    let busybox = fs::read(BUSYBOX).with_context(|| format!("reading {BUSYBOX}"))?;
    archive.file("bin/busybox", 0o755, &busybox)?;
    archive.symlink("bin/sh", "busybox")?;
    archive.file("init", 0o755, include_bytes!("../guest/qemu-guest.sh"))?;
    let modules = ModuleTree::scan(&kernel.modules)?.closure(&[], GUEST_MODULES)?;
    for module in &modules {
        archive.file(&format!("modules/{}.ko", module.name), 0o644, &module.bytes)?;
    }
    let order: String = modules.iter().flat_map(|module| [module.name.as_str(), "\n"]).collect();
    archive.file("modules/order", 0o644, order.as_bytes())?;
    archive.finish()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn releases_are_known_by_their_versions() {
        for release in QemuRelease::ALL {
            assert_eq!(release.name().parse(), Ok(release));
        }
        assert_eq!("9.2".parse::<QemuRelease>(), Err("expected 7.2 or 10.0".to_owned()));
    }
}
