//! Kernel modules: finding them, their dependencies and their parameters.

use std::{
    collections::{BTreeMap, BTreeSet},
    fs,
    path::{Path, PathBuf},
    process::Command,
};

use anyhow::{Context, Result};
use base::CommandExt;
use object::{Endianness, Object, ObjectSection, read::elf::ElfFile64};

/// A module, decompressed.
pub struct Module {
    /// The name, with `_` where the file name may have `-`.
    pub name: String,
    /// The ELF object.
    pub bytes: Vec<u8>,
    /// Names of the parameters.
    pub parameters: Vec<String>,
    depends: Vec<String>,
}

impl Module {
    fn read(path: &Path) -> Result<Self> {
        let bytes = decompress(path)?;
        let info = modinfo(&bytes)
            .with_context(|| format!("{} has no readable .modinfo", path.display()))?;
        let values = |key: &str| {
            info.split(|byte| *byte == 0)
                .filter_map(|entry| std::str::from_utf8(entry).ok()?.split_once('='))
                .filter(|(name, _)| *name == key)
                .map(|(_, value)| value.to_owned())
                .collect::<Vec<_>>()
        };
        let depends = values("depends");
        let depends =
            depends.iter().flat_map(|list| list.split(',')).filter(|name| !name.is_empty());
        let parameters = values("parmtype");
        let parameters = parameters.iter().filter_map(|value| Some(value.split_once(':')?.0));
        Ok(Self {
            name: module_name(path).context("not a module's file name")?,
            depends: depends.map(normal).collect(),
            parameters: parameters.map(str::to_owned).collect(),
            bytes,
        })
    }
}

/// The end of a signed module. Before it is the signature's description, whose last four bytes are the
/// signature's length, and before that the signature: `struct module_signature` of the kernel.
const SIGNED: &[u8] = b"~Module signature appended~\n";
const SIGNATURE_DESCRIPTION: usize = 12;

impl Module {
    /// The ELF object without its signature.
    pub fn unsigned(&self) -> &[u8] {
        let unsigned = || {
            let (rest, description) =
                self.bytes.strip_suffix(SIGNED)?.split_last_chunk::<SIGNATURE_DESCRIPTION>()?;
            let (_, length) = description.split_last_chunk::<4>()?;
            rest.len().checked_sub(u32::from_be_bytes(*length) as usize).map(|end| &rest[..end])
        };
        unsigned().unwrap_or(&self.bytes)
    }
}

/// The module files below one folder.
pub struct ModuleTree(BTreeMap<String, PathBuf>);

impl ModuleTree {
    /// Finds every module below `root`.
    pub fn scan(root: &Path) -> Result<Self> {
        let mut files = BTreeMap::new();
        let mut folders = vec![root.to_path_buf()];
        while let Some(folder) = folders.pop() {
            let entries = fs::read_dir(&folder)
                .with_context(|| format!("reading the modules in {}", folder.display()))?;
            for entry in entries {
                let entry = entry.with_context(|| format!("reading {}", folder.display()))?;
                let path = entry.path();
                // Links such as `build` lead out of the tree.
                if entry.file_type().is_ok_and(|kind| kind.is_dir()) {
                    folders.push(path);
                } else if let Some(name) = module_name(&path) {
                    files.insert(name, path);
                }
            }
        }
        Ok(Self(files))
    }

    /// Reads the wanted modules and all that they depend on, in loading order. A module
    /// of `optional` that is absent is taken to be built into the kernel.
    pub fn closure(&self, required: &[&str], optional: &[&str]) -> Result<Vec<Module>> {
        let present = optional.iter().map(|name| normal(name)).filter(|n| self.0.contains_key(n));
        let mut ordered = Vec::new();
        let mut seen = BTreeSet::new();
        for name in present.chain(required.iter().map(|name| normal(name))) {
            self.visit(&name, &mut seen, &mut ordered)?;
        }
        Ok(ordered)
    }

    fn visit(
        &self,
        name: &str,
        seen: &mut BTreeSet<String>,
        ordered: &mut Vec<Module>,
    ) -> Result<()> {
        if !seen.insert(name.to_owned()) {
            return Ok(());
        }
        let path = self.0.get(name).with_context(|| format!("module {name} is missing"))?;
        let module = Module::read(path)?;
        for dependency in &module.depends {
            self.visit(dependency, seen, ordered).with_context(|| format!("needed by {name}"))?;
        }
        ordered.push(module);
        Ok(())
    }
}

/// The kernel takes `-` and `_` in module names as one.
fn normal(name: &str) -> String {
    name.replace('-', "_")
}

fn module_name(path: &Path) -> Option<String> {
    let (stem, suffix) = path.file_name()?.to_str()?.split_once(".ko")?;
    matches!(suffix, "" | ".xz" | ".zst" | ".gz").then(|| normal(stem))
}

fn decompress(path: &Path) -> Result<Vec<u8>> {
    let program = match path.extension().and_then(|extension| extension.to_str()) {
        Some("xz") => "xz",
        Some("zst") => "zstd",
        Some("gz") => "gzip",
        _ => return fs::read(path).with_context(|| format!("reading {}", path.display())),
    };
    Command::new(program)
        .arg("-dc")
        .arg(path)
        .read()
        .with_context(|| format!("decompressing {} (is {program} installed?)", path.display()))
}

/// The `.modinfo` section of a 64-bit ELF object.
fn modinfo(elf: &[u8]) -> Result<&[u8]> {
    let object = ElfFile64::<Endianness>::parse(elf)?;
    let section = object.section_by_name(".modinfo").context("no .modinfo section")?;
    Ok(section.data()?)
}

#[cfg(test)]
mod tests {
    use super::*;

    /// An ELF object with a string table and a `.modinfo`, and nothing else.
    fn object(modinfo: &str) -> Vec<u8> {
        let strings = b"\0.modinfo\0";
        let mut elf = b"\x7fELF\x02\x01\x01".to_vec();
        elf.resize(64, 0);
        elf[0x28] = 64;
        elf[0x34] = 64;
        elf[0x3a] = 64;
        elf[0x3c] = 3;
        elf[0x3e] = 1;
        elf.resize(128, 0);
        let data = 64 + 3 * 64;
        for (name, kind, at, length) in
            [(0, 3, data, strings.len()), (1, 1, data + strings.len(), modinfo.len())]
        {
            let mut header = [0; 64];
            header[0] = name;
            header[4] = kind;
            header[0x18..0x1c].copy_from_slice(&(at as u32).to_le_bytes());
            header[0x20..0x24].copy_from_slice(&(length as u32).to_le_bytes());
            elf.extend_from_slice(&header);
        }
        elf.extend_from_slice(strings);
        elf.extend_from_slice(modinfo.as_bytes());
        elf
    }

    fn tree(name: &str, modules: &[(&str, &str)]) -> (PathBuf, ModuleTree) {
        let root = std::env::temp_dir().join(format!("lab-{name}-{}", std::process::id()));
        fs::create_dir_all(root.join("kernel")).unwrap();
        for (file, modinfo) in modules {
            fs::write(root.join("kernel").join(file), object(modinfo)).unwrap();
        }
        let tree = ModuleTree::scan(&root).unwrap();
        (root, tree)
    }

    #[test]
    fn dependencies_come_first() {
        let (root, tree) = tree(
            "order",
            &[
                ("kvm-amd.ko", "depends=kvm,ccp\0parmtype=npt:bool\0parm=npt:text\0"),
                ("kvm.ko", "depends=irqbypass\0parmtype=tdp_mmu:bool\0parmtype=x:int\0"),
                ("irqbypass.ko", "depends=\0"),
                ("ccp.ko", "depends=rng-core\0"),
                ("rng-core.ko", "license=GPL\0"),
                ("other.ko", "depends=\0"),
            ],
        );
        let modules = tree.closure(&["kvm-amd"], &["virtio_console"]).unwrap();
        let names: Vec<_> = modules.iter().map(|module| module.name.as_str()).collect();
        assert_eq!(names, ["irqbypass", "kvm", "rng_core", "ccp", "kvm_amd"]);
        assert_eq!(modules[1].parameters, ["tdp_mmu", "x"]);
        assert_eq!(modules[4].parameters, ["npt"]);
        fs::remove_dir_all(root).unwrap();
    }

    #[test]
    fn signatures_come_off() {
        let module = |bytes: Vec<u8>| Module {
            name: String::new(),
            bytes,
            parameters: Vec::new(),
            depends: Vec::new(),
        };
        let signature = |length: u8| {
            [b"object", &b"signature"[..], &[0, 0, 2, 0, 0, 0, 0, 0, 0, 0, 0, length], SIGNED]
                .concat()
        };
        assert_eq!(module(signature(9)).unsigned(), b"object");
        for odd in [b"object".to_vec(), SIGNED.to_vec(), signature(99)] {
            assert_eq!(module(odd.clone()).unsigned(), odd);
        }
    }

    #[test]
    fn a_missing_dependency_is_named() {
        let (root, tree) = tree("missing", &[("kvm.ko", "depends=irqbypass\0")]);
        let error = format!("{:#}", tree.closure(&["kvm"], &[]).err().unwrap());
        assert_eq!(error, "needed by kvm: module irqbypass is missing");
        fs::remove_dir_all(root).unwrap();
    }

    #[test]
    fn damaged_objects_are_errors() {
        let good = object("depends=\0");
        assert!(modinfo(&good).is_ok());
        for length in 0..good.len() - 1 {
            assert!(modinfo(&good[..length]).is_err());
        }
        let mut wild = good;
        wild[0x28..0x30].fill(0xff);
        assert!(modinfo(&wild).is_err());
    }

    #[test]
    fn module_names() {
        let name = |file: &str| module_name(Path::new(file));
        assert_eq!(name("/a/kvm-amd.ko.xz").as_deref(), Some("kvm_amd"));
        assert_eq!(name("kvm.ko").as_deref(), Some("kvm"));
        assert_eq!(name("kvm.ko.sig"), None);
        assert_eq!(name("modules.dep"), None);
    }
}
