//! Reading of the running kernel's files.

use std::collections::BTreeMap;
use std::fs::{self, File};
use std::io::{self, BufReader};
use std::path::{Path, PathBuf};

use super::super::btf::{Btf, BtfError};
use super::lookup;
use super::text::{
    mark_traceable, parse_bool, parse_capabilities, parse_euid, parse_format, parse_kallsyms,
    parse_lockdown,
};
use super::{Fact, Inspected, Kvm, ModuleState, Privileges, Symbol, Tracepoint, Unknown, Vendor};

/// The facts to find out in addition to those that are always found out. All names are exact.
#[derive(Debug, Clone, Copy, Default)]
pub struct WantedFacts<'a> {
    /// Functions of the kernel or its modules, for their addresses.
    pub symbols: &'a [&'a str],
    /// Variables of the kernel or its modules, for theirs.
    pub variables: &'a [&'a str],
    /// Tracepoints, as `system:name`.
    pub tracepoints: &'a [&'a str],
    /// Fields, as `struct.field.field`.
    pub offsets: &'a [&'a str],
    /// Types, by name without `struct`.
    pub sizes: &'a [&'a str],
    /// Enumerators, of any enum.
    pub constants: &'a [&'a str],
    /// Functions, for their parameters.
    pub functions: &'a [&'a str],
    /// Whether to read the list of traceable functions. The kernel takes longer for it than for
    /// everything else: 0.6 G instructions on 6.12.
    pub traceable: bool,
}

pub(super) fn inspect(root: &Path, wanted: &WantedFacts<'_>) -> Inspected {
    let root = Root(root);
    let status = root.text("proc/self/status");
    let tracefs = root.tracefs();
    let mut symbols = root.symbols(wanted);
    let filter_functions = if wanted.traceable {
        root.mark_traceable(symbols.as_mut().unwrap_or(&mut BTreeMap::new()), &tracefs)
    } else {
        Err(Unknown::Unclear("not looked up".to_owned()))
    };
    let types = root.types();
    Inspected {
        release: root.text("proc/sys/kernel/osrelease"),
        build: root.build(),
        // The kernel has `(none)` until a name is set.
        hostname: root.text("proc/sys/kernel/hostname").ok().filter(|name| name != "(none)"),
        // The file exists from 6.1 on; a program for another architecture would not run at all.
        machine: root
            .text("proc/sys/kernel/arch")
            .unwrap_or_else(|_| std::env::consts::ARCH.to_owned()),
        privileges: Privileges {
            euid: parsed("proc/self/status", &status, parse_euid),
            effective: parsed("proc/self/status", &status, parse_capabilities),
        },
        lockdown: root.parse("sys/kernel/security/lockdown", parse_lockdown),
        perf_event_paranoid: root.number("proc/sys/kernel/perf_event_paranoid"),
        kptr_restrict: root.number("proc/sys/kernel/kptr_restrict"),
        ftrace_enabled: root.number("proc/sys/kernel/ftrace_enabled"),
        realtime: root.number("sys/kernel/realtime"),
        kprobes: root.kprobes(&tracefs),
        filter_functions,
        kvm: root.kvm(),
        vmlinux_btf: types.vmlinux.as_ref().map(|_| ()).map_err(Clone::clone),
        kvm_btf: types.kvm.as_ref().map(|_| ()).map_err(Clone::clone),
        symbols,
        tracepoints: collect(wanted.tracepoints, |name| root.tracepoint(name, &tracefs, &types)),
        offsets: collect(wanted.offsets, |path| types.ask(|btf| btf.field_offset(path))),
        sizes: collect(wanted.sizes, |name| types.ask(|btf| btf.size_of(name))),
        constants: collect(wanted.constants, |name| {
            types.btf()?.enum_value(None, name).ok_or_else(|| {
                Unknown::Unclear(format!("no enumerator `{name}`, or several that disagree"))
            })
        }),
        functions: collect(wanted.functions, |name| types.ask(|btf| btf.func_proto(name))),
        tracefs: tracefs.map(|path| Path::new("/").join(path)),
    }
}

fn collect<T>(names: &[&str], fact: impl Fn(&str) -> T) -> BTreeMap<String, T> {
    names.iter().map(|&name| (name.to_owned(), fact(name))).collect()
}

/// The types of vmlinux, and those that `kvm` adds to them.
struct Types {
    vmlinux: Fact<Btf>,
    kvm: Fact<Btf>,
}

impl Types {
    /// Returns the types of `kvm` if it has BTF of its own, or else those of vmlinux.
    fn btf(&self) -> Fact<&Btf> {
        self.kvm.as_ref().or(self.vmlinux.as_ref()).map_err(Clone::clone)
    }

    fn ask<T>(&self, question: impl Fn(&Btf) -> Result<T, BtfError>) -> Fact<T> {
        question(self.btf()?).map_err(|error| Unknown::Unclear(error.to_string()))
    }
}

/// The root of the file system that describes the kernel. Paths are relative to it, without a leading
/// slash.
struct Root<'a>(&'a Path);

impl Root<'_> {
    fn text(&self, path: impl AsRef<Path>) -> Fact<String> {
        let path = path.as_ref();
        let text = fs::read_to_string(self.0.join(path)).map_err(|error| unknown(path, &error))?;
        Ok(text.trim().to_owned())
    }

    /// Returns what the kernel says of its build, if anything.
    fn build(&self) -> Option<String> {
        let files = ["proc/sys/kernel/version", "proc/version_signature"];
        let said: Vec<_> = files.iter().filter_map(|path| self.text(path).ok()).collect();
        (!said.is_empty()).then(|| said.join("; "))
    }

    fn parse<T>(&self, path: &str, parse: impl Fn(&str) -> Option<T>) -> Fact<T> {
        parsed(path, &self.text(path), parse)
    }

    fn number(&self, path: &str) -> Fact<i32> {
        self.parse(path, |text| text.parse().ok())
    }

    fn exists(&self, path: impl AsRef<Path>) -> Fact<bool> {
        let path = path.as_ref();
        match fs::symlink_metadata(self.0.join(path)) {
            Ok(_) => Ok(true),
            Err(error) if error.kind() == io::ErrorKind::NotFound => Ok(false),
            Err(error) => Err(unknown(path, &error)),
        }
    }

    fn open(&self, path: impl AsRef<Path>) -> Fact<BufReader<File>> {
        let path = path.as_ref();
        let file = File::open(self.0.join(path)).map_err(|error| unknown(path, &error))?;
        Ok(BufReader::with_capacity(1 << 16, file))
    }

    /// Finds the path of tracefs, relative to the root.
    fn tracefs(&self) -> Fact<PathBuf> {
        let own = Path::new("sys/kernel/tracing");
        let in_debugfs = Path::new("sys/kernel/debug/tracing");
        if self.exists(own.join("events"))? {
            Ok(own.to_owned())
        } else if self.exists(in_debugfs.join("events"))? {
            Ok(in_debugfs.to_owned())
        } else {
            Err(absent(&own.join("events")))
        }
    }

    /// Returns whether kprobes are available. Attaching uses their perf event source, and every
    /// user may see it.
    fn kprobes(&self, tracefs: &Fact<PathBuf>) -> Fact<bool> {
        if self.text("sys/kernel/debug/kprobes/enabled").is_ok_and(|enabled| enabled == "0") {
            return Ok(false);
        }
        if self.exists("sys/bus/event_source/devices/kprobe/type")? {
            return Ok(true);
        }
        self.exists(tracefs.clone()?.join("kprobe_events"))
    }

    /// Has the kernel look up the wanted symbols, or else reads them from the list of all.
    ///
    /// Where KVM is no module, its names are among all others of the kernel, and only the list shows
    /// whether one is there twice.
    fn symbols(&self, wanted: &WantedFacts<'_>) -> Fact<BTreeMap<String, Symbol>> {
        if self.0 == Path::new("/") && self.module("kvm") == ModuleState::Loaded {
            match lookup::symbols(wanted) {
                Ok(symbols) => return Ok(symbols),
                Err(error) => log::debug!("the kernel looks up no symbols: {error}"),
            }
        }
        let path = "proc/kallsyms";
        let names = [wanted.symbols, wanted.variables].concat();
        parse_kallsyms(self.open(path)?, &names).map_err(|error| unknown(path, &error))
    }

    /// Sets which of the symbols are traceable.
    fn mark_traceable(
        &self,
        symbols: &mut BTreeMap<String, Symbol>,
        tracefs: &Fact<PathBuf>,
    ) -> Fact<()> {
        let path = tracefs.clone()?.join("available_filter_functions");
        let reader = self.open(&path)?;
        mark_traceable(reader, symbols).map_err(|error| {
            // Functions missing from an incomplete list may still be traceable.
            for symbol in symbols.values_mut() {
                symbol.traceable = None;
            }
            unknown(&path, &error)
        })
    }

    fn types(&self) -> Types {
        let read = |path: &str, parse: &dyn Fn(Vec<u8>) -> Result<Btf, BtfError>| {
            let bytes = fs::read(self.0.join(path)).map_err(|error| unknown(path, &error))?;
            parse(bytes).map_err(|error| Unknown::Unclear(format!("/{path}: {error}")))
        };
        let vmlinux = read("sys/kernel/btf/vmlinux", &Btf::parse);
        let kvm = vmlinux.clone().and_then(|vmlinux| {
            read("sys/kernel/btf/kvm", &|bytes| Btf::parse_split(&vmlinux, bytes))
        });
        Types { vmlinux, kvm }
    }

    fn tracepoint(&self, name: &str, tracefs: &Fact<PathBuf>, types: &Types) -> Tracepoint {
        let (system, event) = name.split_once(':').unwrap_or_default();
        let format = tracefs.clone().and_then(|tracefs| {
            self.text(tracefs.join("events").join(system).join(event).join("format"))
        });
        Tracepoint {
            fields: format.map(|text| parse_format(&text)),
            raw_args: types.ask(|btf| btf.func_proto(&format!("btf_trace_{event}"))),
        }
    }

    fn kvm(&self) -> Kvm {
        let vendor = self.vendor();
        let setting = |module: &str, name: &str| {
            self.parse(&format!("sys/module/{module}/parameters/{name}"), parse_bool)
        };
        let no_vendor = || Err(Unknown::Unclear("neither kvm_amd nor kvm_intel is loaded".into()));
        Kvm {
            core: self.module("kvm"),
            vendor,
            vendor_state: vendor.map_or(ModuleState::Absent, |vendor| self.module(vendor.module())),
            device: self.exists("dev/kvm") == Ok(true),
            tdp_mmu: setting("kvm", "tdp_mmu"),
            eager_page_split: setting("kvm", "eager_page_split"),
            nx_huge_pages: setting("kvm", "nx_huge_pages"),
            nested_paging: match vendor {
                Some(Vendor::Amd) => setting("kvm_amd", "npt"),
                Some(Vendor::Intel) => setting("kvm_intel", "ept"),
                None => no_vendor(),
            },
            accessed_dirty: match vendor {
                Some(Vendor::Amd) => Ok(true),
                Some(Vendor::Intel) => setting("kvm_intel", "eptad"),
                None => no_vendor(),
            },
            pml: match vendor {
                Some(Vendor::Amd) => Ok(false),
                Some(Vendor::Intel) => setting("kvm_intel", "pml"),
                None => no_vendor(),
            },
        }
    }

    fn vendor(&self) -> Option<Vendor> {
        let is_there = |vendor: Vendor| self.module(vendor.module()) != ModuleState::Absent;
        match (is_there(Vendor::Amd), is_there(Vendor::Intel)) {
            (true, false) => Some(Vendor::Amd),
            (false, true) => Some(Vendor::Intel),
            (false, false) => None,
            // Both are built in, and the CPU decides which of them is in use.
            (true, true) => {
                let cpu = self.text("proc/cpuinfo").unwrap_or_default();
                let svm = cpu.split_whitespace().any(|word| word == "svm");
                Some(if svm { Vendor::Amd } else { Vendor::Intel })
            }
        }
    }

    /// Reads the state of a module. A built-in one has a directory for its parameters, but no state
    /// file.
    fn module(&self, name: &str) -> ModuleState {
        let directory = Path::new("sys/module").join(name);
        if self.exists(directory.join("initstate")) == Ok(true) {
            ModuleState::Loaded
        } else if self.exists(directory) == Ok(true) {
            ModuleState::BuiltIn
        } else {
            ModuleState::Absent
        }
    }
}

fn parsed<T>(path: &str, text: &Fact<String>, parse: impl Fn(&str) -> Option<T>) -> Fact<T> {
    let text = text.as_ref().map_err(Clone::clone)?;
    parse(text).ok_or_else(|| Unknown::Unclear(format!("/{path} is not as expected")))
}

fn absent(path: &Path) -> Unknown {
    Unknown::Absent(shown(path))
}

fn unknown(path: impl AsRef<Path>, error: &io::Error) -> Unknown {
    let path = path.as_ref();
    match error.kind() {
        io::ErrorKind::NotFound => absent(path),
        io::ErrorKind::PermissionDenied => Unknown::Denied(shown(path)),
        _ => Unknown::Unclear(format!("{}: {error}", shown(path))),
    }
}

fn shown(path: &Path) -> String {
    Path::new("/").join(path).display().to_string()
}
