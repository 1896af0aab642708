//! Detection of reloads of KVM.

use std::{fs, os::unix::fs::MetadataExt as _, path::Path};

use super::inspect::Vendor;

/// A loaded KVM: one load of `kvm` and one of its vendor module.
///
/// sysfs never uses the inode number of a folder twice. Comparing them distinguishes one load from
/// the next however quickly it follows, and costs a handful of system calls.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Instance {
    core: u64,
    vendor: u64,
}

impl Instance {
    /// Finds the KVM that VMs can be created with, below `root` (`/`, unless in a test); `None` if
    /// none is loaded, or one is still being loaded or already being unloaded.
    pub fn loaded(root: &Path) -> Option<Self> {
        let vendors = [Vendor::Amd, Vendor::Intel];
        let vendor = vendors.into_iter().find_map(|vendor| number(root, vendor.module()))?;
        Some(Self { core: number(root, "kvm")?, vendor })
    }
}

/// Returns the inode number of a module's folder, if the module is live.
fn number(root: &Path, module: &str) -> Option<u64> {
    let folder = root.join("sys/module").join(module);
    let number = fs::metadata(&folder).ok()?.ino();
    // Built-in modules have no state.
    let state = fs::read_to_string(folder.join("initstate"));
    state.map_or(true, |state| state.trim() == "live").then_some(number)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn is_another_after_a_reload() {
        let root = tempfile::tempdir().unwrap();
        let modules = root.path().join("sys/module");
        assert_eq!(Instance::loaded(root.path()), None);
        let load = |name: &str, state: &str| {
            fs::create_dir_all(modules.join(name)).unwrap();
            fs::write(modules.join(name).join("initstate"), state).unwrap();
        };
        load("kvm", "live\n");
        assert_eq!(Instance::loaded(root.path()), None);
        load("kvm_amd", "coming\n");
        assert_eq!(Instance::loaded(root.path()), None);
        load("kvm_amd", "live\n");
        let first = Instance::loaded(root.path());
        assert!(first.is_some() && first == Instance::loaded(root.path()));
        fs::rename(modules.join("kvm_amd"), root.path().join("gone")).unwrap();
        assert_eq!(Instance::loaded(root.path()), None);
        load("kvm_amd", "live\n");
        assert_ne!(Instance::loaded(root.path()), first);
    }

    #[test]
    fn built_in_is_loaded() {
        let root = tempfile::tempdir().unwrap();
        for name in ["kvm", "kvm_intel"] {
            fs::create_dir_all(root.path().join("sys/module").join(name)).unwrap();
        }
        assert!(Instance::loaded(root.path()).is_some());
    }
}
