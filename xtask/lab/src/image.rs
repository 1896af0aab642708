//! The initramfs of a lab machine.

use std::{
    ffi::{OsStr, OsString},
    fmt::Write as _,
    fs,
    os::unix::ffi::OsStrExt,
    path::PathBuf,
};

use anyhow::{Context, Result, bail, ensure};

use crate::{
    cpio::Archive,
    emulator::Emulator,
    kernel::{Kernel, OPTIONAL_MODULES, kvm_modules},
    modules::{Module, ModuleTree},
    terminal::WindowSize,
};

/// The program without libraries that provides the guest's shell and tools.
pub const BUSYBOX: &str = "/bin/busybox";
const FOLDERS: [&str; 11] =
    ["bin", "dev", "etc", "lab", "lab/modules", "lib", "lib64", "proc", "sys", "root", "tmp"];
const PASSWD: &[u8] = b"root::0:0:root:/root:/bin/sh\nnobody:x:65534:65534:nobody:/:/bin/sh\n";
const GROUP: &[u8] = b"root:x:0:\nnogroup:x:65534:\n";
/// Environment variables that are passed on to the command.
const PASSED_ON: [&str; 4] = ["RUST_BACKTRACE", "RUST_LOG", "NO_COLOR", "COLUMNS"];

/// A parameter for KVM's modules: the one that has it gets it.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct KvmParameter {
    name: String,
    value: String,
}

impl std::str::FromStr for KvmParameter {
    type Err = anyhow::Error;

    fn from_str(text: &str) -> Result<Self> {
        let (name, value) = text.split_once('=').context("expected PARAMETER=VALUE")?;
        let plain = |text: &str| {
            !text.is_empty() && !text.contains(|c: char| c.is_whitespace() || c.is_control())
        };
        ensure!(plain(name) && plain(value), "expected PARAMETER=VALUE without spaces");
        Ok(Self { name: name.to_owned(), value: value.to_owned() })
    }
}

/// A file to put into the image.
#[derive(Clone, Debug)]
pub struct ImageFile {
    /// Absolute path inside; its folder must be one that the image has, such as `/bin`.
    pub path: String,
    /// Permission bits.
    pub permissions: u32,
    /// The content.
    pub content: Vec<u8>,
}

/// The task of a lab machine, and everything for it.
pub struct Image<'a> {
    /// The emulator that will boot it.
    pub emulator: &'a dyn Emulator,
    /// The kernel whose modules it takes.
    pub kernel: &'a Kernel,
    /// Parameters for kvm's modules.
    pub parameters: &'a [KvmParameter],
    /// Programs for `/bin`.
    pub binaries: &'a [PathBuf],
    /// Further files.
    pub files: &'a [ImageFile],
    /// The command and its arguments.
    pub command: &'a [OsString],
    /// The size of the terminal to run it on, if it is to have one.
    pub terminal: Option<WindowSize>,
    /// The bytes that end a stream.
    pub mark: &'a str,
    /// Whether the command reads our stdin.
    pub stdin: bool,
}

impl Image<'_> {
    /// Builds the archive.
    pub fn build(&self) -> Result<Vec<u8>> {
        let mut archive = Archive::default();
        for folder in FOLDERS {
            archive.directory(folder)?;
        }
        let busybox = fs::read(BUSYBOX).with_context(|| format!("reading {BUSYBOX}"))?;
        archive.file("bin/busybox", 0o755, &busybox)?;
        archive.symlink("bin/sh", "busybox")?;
        archive.file("init", 0o755, include_bytes!("../guest/init.sh"))?;
        archive.file("lab/ports", 0o644, self.emulator.guest_script())?;
        archive.file("bin/kvm-load", 0o755, include_bytes!("../guest/kvm-load.sh"))?;
        archive.file("bin/kvm-unload", 0o755, include_bytes!("../guest/kvm-unload.sh"))?;
        archive.file("etc/passwd", 0o644, PASSWD)?;
        archive.file("etc/group", 0o644, GROUP)?;
        for path in self.binaries {
            let name = path.file_name().and_then(OsStr::to_str).context("a binary has no name")?;
            let content = fs::read(path).with_context(|| format!("reading {}", path.display()))?;
            archive.file(&format!("bin/{name}"), 0o755, &content)?;
        }

        self.modules(&mut archive)?;
        archive.file("lab/settings", 0o644, self.settings().as_bytes())?;
        archive.file("lab/command", 0o755, &script(self.command))?;
        for file in self.files {
            archive.file(&file.path, file.permissions, &file.content)?;
        }
        archive.finish()
    }

    /// Adds modules, and the lists by which the guest loads them.
    fn modules(&self, archive: &mut Archive) -> Result<()> {
        let vendor = self.emulator.vendor();
        let tree = ModuleTree::scan(&self.kernel.modules)?;
        let transport = tree.closure(&[], self.emulator.transport())?;
        let kvm = tree
            .closure(&kvm_modules(vendor).collect::<Vec<_>>(), &[])
            .with_context(|| format!("the lab needs {} with KVM as modules", self.kernel.name))?;
        let optional = tree.closure(&[], OPTIONAL_MODULES)?;
        for module in transport.iter().chain(&kvm).chain(&optional) {
            let bytes =
                if self.emulator.signed_modules() { &module.bytes } else { module.unsigned() };
            archive.file(&format!("lab/modules/{}.ko", module.name), 0o644, bytes)?;
        }
        let names: String =
            transport.iter().flat_map(|module| [module.name.as_str(), "\n"]).collect();
        archive.file("lab/transport", 0o644, names.as_bytes())?;
        archive.file("lab/kvm", 0o644, route(&kvm, self.parameters)?.as_bytes())?;
        let about = vendor.kvm();
        let about =
            format!("VENDOR_MODULE={}\nSHADOW_PAGING={}\n", about.module, about.shadow_paging);
        archive.file("lab/vendor", 0o644, about.as_bytes())
    }

    fn settings(&self) -> String {
        let mut text = format!("STDIN={} MARK='{}'\n", u8::from(self.stdin), self.mark);
        if let Some(WindowSize { rows, columns }) = self.terminal {
            let variable = |name| std::env::var_os(name).unwrap_or_default();
            let quoted = |name| String::from_utf8_lossy(&quote(&variable(name))).into_owned();
            // Writing to a String cannot fail.
            let _ = writeln!(text, "TERMINAL=1 ROWS={rows} COLUMNS={columns}");
            let _ = writeln!(text, "TERM={} COLORTERM={}", quoted("TERM"), quoted("COLORTERM"));
        }
        text
    }
}

/// The modules in loading order, each with those parameters that are its own.
fn route(modules: &[Module], parameters: &[KvmParameter]) -> Result<String> {
    let mut lines: Vec<String> = modules.iter().map(|module| module.name.clone()).collect();
    for KvmParameter { name, value } in parameters {
        let owner = modules
            .iter()
            .position(|module| module.name.starts_with("kvm") && module.parameters.contains(name));
        let Some(owner) = owner else {
            let known = modules.iter().filter(|module| module.name.starts_with("kvm"));
            let mut known: Vec<&str> =
                known.flat_map(|module| &module.parameters).map(String::as_str).collect();
            known.sort_unstable();
            bail!("this kernel's kvm has no parameter {name}; it has {}", known.join(", "));
        };
        lines[owner] = format!("{} {name}={value}", lines[owner]);
    }
    Ok(lines.into_iter().map(|line| line + "\n").collect())
}

/// A script that becomes the command, argument by argument.
fn script(command: &[OsString]) -> Vec<u8> {
    let mut script = b"#!/bin/sh\ncd /root\n".to_vec();
    for name in PASSED_ON {
        if let Some(value) = std::env::var_os(name) {
            script.extend_from_slice(format!("export {name}=").as_bytes());
            script.extend(quote(&value));
            script.push(b'\n');
        }
    }
    script.extend_from_slice(b"exec");
    for word in command {
        script.push(b' ');
        script.extend(quote(word));
    }
    script.push(b'\n');
    script
}

/// One word for a shell, whatever is in it.
fn quote(word: &OsStr) -> Vec<u8> {
    let mut quoted = vec![b'\''];
    for byte in word.as_bytes() {
        match byte {
            b'\'' => quoted.extend_from_slice(br"'\''"),
            _ => quoted.push(*byte),
        }
    }
    quoted.push(b'\'');
    quoted
}

#[cfg(test)]
mod tests {
    use std::process::Command;

    use super::*;

    #[test]
    fn arguments_survive_the_shell() {
        let words =
            ["printf", "%s|", "a b", "", "it's", "$HOME `id` \"\\", "*", "-n", "line\nbreak"];
        let command: Vec<OsString> = words.iter().map(OsString::from).collect();
        let text = String::from_utf8(script(&command)).unwrap().replace("cd /root\n", "");
        let output = Command::new("sh").arg("-c").arg(text).output().unwrap();
        let expected: String = words[2..].join("|") + "|";
        assert_eq!(String::from_utf8(output.stdout).unwrap(), expected);
    }

    #[test]
    fn parameters_are_name_and_value() {
        assert!("tdp_mmu=N".parse::<KvmParameter>().is_ok());
        for bad in ["tdp_mmu", "=N", "tdp_mmu=", "a=b c", "a=b\nkvm"] {
            assert!(bad.parse::<KvmParameter>().is_err(), "{bad:?}");
        }
    }
}
