//! The running kernel as a plain value: what the hook plan is computed from.
//!
//! All reading happens in [`Inspected::of_running_kernel`]. The value goes through JSON
//! unchanged, so that plans for other kernels can be made and tested from recordings.

mod read;
#[cfg(test)]
mod tests;
mod text;

use std::collections::{BTreeMap, BTreeSet};
use std::io;
use std::path::{Path, PathBuf};

use collapse_feed::Machine;
use serde::{Deserialize, Serialize};

use super::btf::ParamType;

pub use read::Wanted;

/// Something about the kernel, or why it is not known.
pub type Fact<T> = Result<T, Unknown>;

/// Why something is not known.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize, thiserror::Error)]
#[serde(rename_all = "snake_case")]
pub enum Unknown {
    /// The file that would tell does not exist on this kernel.
    #[error("{0} does not exist")]
    Absent(String),
    /// The file that would tell may not be read by this process.
    #[error("no permission to read {0}")]
    Denied(String),
    /// What was read does not answer; says why.
    #[error("{0}")]
    Unclear(String),
}

/// Everything that is known about the running kernel.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Inspected {
    /// As `uname -r` shows it.
    pub release: Fact<String>,
    /// As `uname -n` shows it; `None` if it was never set.
    pub hostname: Option<String>,
    /// As `uname -m` shows it: `x86_64`.
    pub machine: String,
    /// What this process may do.
    pub privileges: Privileges,
    /// Mode of the lockdown LSM; absent without it, or where securityfs is not mounted.
    pub lockdown: Fact<Lockdown>,
    /// `kernel.perf_event_paranoid`; above 2, some distributions forbid perf to ordinary users.
    pub perf_event_paranoid: Fact<i32>,
    /// `kernel.kptr_restrict`; 2 hides kernel addresses from everyone.
    pub kptr_restrict: Fact<i32>,
    /// `kernel.ftrace_enabled`; 0 keeps kprobes at the begin of functions from running, although they
    /// can be attached. Absent without `CONFIG_FUNCTION_TRACER`.
    pub ftrace_enabled: Fact<i32>,
    /// Where tracefs is mounted.
    pub tracefs: Fact<PathBuf>,
    /// Whether kprobes are built in and not switched off.
    pub kprobes: Fact<bool>,
    /// Whether the list of traceable functions was read; if not, no symbol is known to be
    /// traceable or not.
    pub filter_functions: Fact<()>,
    /// State of KVM and its settings.
    pub kvm: Kvm,
    /// Whether `/sys/kernel/btf/vmlinux` can be read and is well-formed.
    pub vmlinux_btf: Fact<()>,
    /// Whether the BTF of the `kvm` module can be read and is well-formed. Absent on 5.10, and
    /// where KVM is built in: its types are then in that of vmlinux.
    pub kvm_btf: Fact<()>,
    /// The wanted symbols that exist, by exact name.
    pub symbols: Fact<BTreeMap<String, Symbol>>,
    /// Every wanted tracepoint, by `system:name`.
    pub tracepoints: BTreeMap<String, Tracepoint>,
    /// Byte offset of every wanted field, by path.
    pub offsets: BTreeMap<String, Fact<u32>>,
    /// Size in bytes of every wanted type.
    pub sizes: BTreeMap<String, Fact<u32>>,
    /// Value of every wanted enumerator.
    pub constants: BTreeMap<String, Fact<i64>>,
    /// Parameters of every wanted function.
    pub functions: BTreeMap<String, Fact<Vec<ParamType>>>,
}

/// What the inspecting process may do.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Privileges {
    /// Effective user id.
    pub euid: Fact<u32>,
    /// The capabilities that matter here and are effective.
    pub effective: Fact<BTreeSet<Capability>>,
}

impl Privileges {
    /// Whether the process runs as root.
    pub fn is_root(&self) -> bool {
        self.euid == Ok(0)
    }

    /// Whether `capability` is effective. `CAP_SYS_ADMIN` includes `CAP_BPF` and `CAP_PERFMON`,
    /// which were split off from it in 5.8.
    pub fn has(&self, capability: Capability) -> bool {
        self.effective.as_ref().is_ok_and(|effective| {
            effective.contains(&capability)
                || matches!(capability, Capability::Bpf | Capability::Perfmon)
                    && effective.contains(&Capability::SysAdmin)
        })
    }
}

/// A capability that loading and attaching, or reading what is needed for it, depends on.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize)]
#[serde(rename_all = "SCREAMING_SNAKE_CASE")]
pub enum Capability {
    /// Reading tracefs and debugfs as another user than root.
    DacReadSearch,
    /// Reading `/proc/<pid>/fd` of other users' processes.
    SysPtrace,
    /// Includes [`Self::Bpf`] and [`Self::Perfmon`].
    SysAdmin,
    /// Raising the limit of locked memory, which maps count towards up to 5.10.
    SysResource,
    /// Seeing addresses in kallsyms.
    Syslog,
    /// Attaching kprobes and tracepoints, and reading kernel memory from programs.
    Perfmon,
    /// Loading programs and maps.
    Bpf,
}

impl Capability {
    /// All of them.
    pub const ALL: [Self; 7] = [
        Self::DacReadSearch,
        Self::SysPtrace,
        Self::SysAdmin,
        Self::SysResource,
        Self::Syslog,
        Self::Perfmon,
        Self::Bpf,
    ];

    /// Position in the capability masks of `/proc/<pid>/status`.
    fn bit(self) -> u32 {
        match self {
            Self::DacReadSearch => 2,
            Self::SysPtrace => 19,
            Self::SysAdmin => 21,
            Self::SysResource => 24,
            Self::Syslog => 34,
            Self::Perfmon => 38,
            Self::Bpf => 39,
        }
    }

    /// As capabilities(7) spells it.
    pub fn name(self) -> &'static str {
        match self {
            Self::DacReadSearch => "CAP_DAC_READ_SEARCH",
            Self::SysPtrace => "CAP_SYS_PTRACE",
            Self::SysAdmin => "CAP_SYS_ADMIN",
            Self::SysResource => "CAP_SYS_RESOURCE",
            Self::Syslog => "CAP_SYSLOG",
            Self::Perfmon => "CAP_PERFMON",
            Self::Bpf => "CAP_BPF",
        }
    }
}

/// Mode of the lockdown LSM.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum Lockdown {
    /// Nothing is forbidden.
    None,
    /// The running kernel may not be changed.
    Integrity,
    /// Kernel memory may not be read either: no kprobes, and no `bpf_probe_read_kernel`.
    Confidentiality,
}

/// State and settings of KVM.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Kvm {
    /// `kvm` itself.
    pub core: ModuleState,
    /// The part for the CPU's vendor.
    pub vendor: Option<Vendor>,
    /// State of the vendor's part.
    pub vendor_state: ModuleState,
    /// Whether `/dev/kvm` exists.
    pub device: bool,
    /// `kvm.tdp_mmu`: page tables for nested paging are kept by the TDP MMU, not with rmaps.
    pub tdp_mmu: Fact<bool>,
    /// `kvm.eager_page_split`: huge pages are split when dirty logging goes on, not at faults.
    pub eager_page_split: Fact<bool>,
    /// `kvm.nx_huge_pages`: executable huge pages are split (iTLB multihit mitigation).
    pub nx_huge_pages: Fact<bool>,
    /// `kvm_amd.npt` or `kvm_intel.ept`: nested paging; without it, shadow paging.
    pub nested_paging: Fact<bool>,
    /// `kvm_intel.pml`: the CPU logs dirty pages; never on AMD.
    pub pml: Fact<bool>,
}

/// Whether a module is there.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum ModuleState {
    /// Neither loaded nor built in.
    Absent,
    /// Part of vmlinux.
    BuiltIn,
    /// Loaded, and can be unloaded again.
    Loaded,
}

/// The vendor-specific part of KVM in use.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum Vendor {
    /// `kvm_amd`: SVM with NPT.
    Amd,
    /// `kvm_intel`: VMX with EPT.
    Intel,
}

impl Vendor {
    /// Name of the module.
    pub fn module(self) -> &'static str {
        match self {
            Self::Amd => "kvm_amd",
            Self::Intel => "kvm_intel",
        }
    }
}

/// A function or variable of the kernel.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Symbol {
    /// Virtual address; 0 if this process may not see addresses.
    pub address: u64,
    /// The module that it belongs to; `None` for vmlinux.
    pub module: Option<String>,
    /// Whether it is a function.
    pub function: bool,
    /// How many symbols of the same name the same module has; with more than one, a kprobe by
    /// name is refused or lands on any of them.
    pub copies: u32,
    /// Whether a function can be probed at its entry; `None` if that is not known.
    pub traceable: Option<bool>,
}

/// A tracepoint.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Tracepoint {
    /// What its record holds, without the common fields; absent if the tracepoint is.
    pub fields: Fact<Vec<Field>>,
    /// The arguments that a raw tracepoint program gets.
    pub raw_args: Fact<Vec<ParamType>>,
}

/// A field of a tracepoint's record.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Field {
    /// Without array brackets.
    pub name: String,
    /// In bytes from the start of the record, common fields included.
    pub offset: u32,
    /// In bytes.
    pub size: u32,
    /// Whether numbers are signed.
    pub signed: bool,
}

impl From<&Inspected> for Machine {
    fn from(host: &Inspected) -> Self {
        Self { name: host.hostname.clone(), kernel: host.release() }
    }
}

impl Inspected {
    /// Reads what the kernel tells about itself below `root` (`/`, unless in a test).
    ///
    /// Never fails as a whole: what cannot be found out is recorded with the reason.
    pub fn of_running_kernel(root: &Path, wanted: &Wanted<'_>) -> Self {
        read::inspect(root, wanted)
    }

    /// Reads a recording made of the JSON form.
    pub fn from_file(path: &Path) -> io::Result<Self> {
        Ok(serde_json::from_slice(&std::fs::read(path)?)?)
    }

    /// As `uname -r` shows it, for people.
    pub fn release(&self) -> String {
        self.release.clone().unwrap_or_else(|_| "–".to_owned())
    }

    /// The symbol called exactly `name`, if it exists and symbols are known.
    pub fn symbol(&self, name: &str) -> Option<&Symbol> {
        self.symbols.as_ref().ok()?.get(name)
    }

    /// Whether a kprobe can be attached to the entry of the function called exactly `name`, as
    /// far as that is known beforehand. Not if several functions share the name: newer kernels
    /// refuse the probe, and older ones choose one of them.
    pub fn can_probe(&self, name: &str) -> bool {
        self.symbol(name).is_some_and(|symbol| {
            symbol.function && symbol.copies == 1 && symbol.traceable != Some(false)
        })
    }

    /// Whether the tracepoint `system:name` exists; `None` if that is not known.
    pub fn has_tracepoint(&self, name: &str) -> Option<bool> {
        let tracepoint = self.tracepoints.get(name)?;
        match &tracepoint.fields {
            Ok(_) => Some(true),
            Err(Unknown::Absent(_)) if self.tracefs.is_ok() => Some(false),
            Err(_) => tracepoint.raw_args.is_ok().then_some(true),
        }
    }

    /// Byte offset of a wanted field, if known.
    pub fn offset(&self, path: &str) -> Option<u32> {
        self.offsets.get(path)?.as_ref().ok().copied()
    }
}
