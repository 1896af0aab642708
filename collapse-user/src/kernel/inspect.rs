//! A kernel's description as a plain value, which the hook plan is computed from.
//!
//! All reading happens in [`Inspected::of_running_kernel`]. The value survives a round trip through
//! JSON, so that plans for other kernels can be computed and tested from recorded values.

mod lookup;
mod read;
#[cfg(test)]
mod tests;
mod text;

use std::collections::{BTreeMap, BTreeSet};
use std::path::{Path, PathBuf};

use collapse_feed::Machine;
pub use collapse_feed::Vendor;
use serde::{Deserialize, Serialize};

use super::btf::ParamType;

pub use read::WantedFacts;

/// A fact about the kernel, or the reason why it is unknown.
pub type Fact<T> = Result<T, Unknown>;

/// Reason why a fact is unknown.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize, thiserror::Error)]
#[serde(rename_all = "snake_case")]
pub enum Unknown {
    /// The file that contains it does not exist on this kernel.
    #[error("{0} does not exist")]
    Absent(String),
    /// This process may not read the file that contains it.
    #[error("no permission to read {0}")]
    Denied(String),
    /// The fact does not follow from what was read; the text gives the reason.
    #[error("{0}")]
    Unclear(String),
}

/// The description of a kernel and of this process's rights on it.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Inspected {
    /// Kernel release, as `uname -r` prints it.
    pub release: Fact<String>,
    /// What else the kernel says of its version: `uname -v`, where Debian has the release that it is built
    /// from, and Ubuntu's `/proc/version_signature`. `None` in values that were recorded without it.
    #[serde(default)]
    pub build: Option<String>,
    /// Host name, as `uname -n` prints it; `None` if it was never set.
    pub hostname: Option<String>,
    /// Architecture, as `uname -m` prints it: `x86_64`.
    pub machine: String,
    /// Privileges of this process.
    pub privileges: Privileges,
    /// Mode of the lockdown LSM; absent without it, or where securityfs is not mounted.
    pub lockdown: Fact<Lockdown>,
    /// `kernel.perf_event_paranoid`; above 2, some distributions forbid perf to ordinary users.
    pub perf_event_paranoid: Fact<i32>,
    /// `kernel.kptr_restrict`; 2 hides kernel addresses from everyone.
    pub kptr_restrict: Fact<i32>,
    /// `kernel.ftrace_enabled`; with 0, kprobes on function entry can be attached but never fire. Absent
    /// without `CONFIG_FUNCTION_TRACER`.
    pub ftrace_enabled: Fact<i32>,
    /// `/sys/kernel/realtime`: 1 on `PREEMPT_RT`, else absent.
    pub realtime: Fact<i32>,
    /// Path at which tracefs is mounted.
    pub tracefs: Fact<PathBuf>,
    /// Whether kprobes are built in and not switched off.
    pub kprobes: Fact<bool>,
    /// Whether the list of traceable functions was read; without it, [`Symbol::traceable`] is
    /// unknown.
    pub filter_functions: Fact<()>,
    /// State of KVM and its settings.
    pub kvm: Kvm,
    /// Whether `/sys/kernel/btf/vmlinux` can be read and is well-formed.
    pub vmlinux_btf: Fact<()>,
    /// Whether the BTF of the `kvm` module can be read and is well-formed. Absent on 5.10, and
    /// where KVM is built in: its types are then in the BTF of vmlinux.
    pub kvm_btf: Fact<()>,
    /// Wanted symbols that exist, by exact name.
    pub symbols: Fact<BTreeMap<String, Symbol>>,
    /// Wanted tracepoints, by `system:name`.
    pub tracepoints: BTreeMap<String, Tracepoint>,
    /// Byte offsets of the wanted fields, by path.
    pub offsets: BTreeMap<String, Fact<u32>>,
    /// Sizes of the wanted types, bytes.
    pub sizes: BTreeMap<String, Fact<u32>>,
    /// Values of the wanted enumerators.
    pub constants: BTreeMap<String, Fact<i64>>,
    /// Parameters of the wanted functions.
    pub functions: BTreeMap<String, Fact<Vec<ParamType>>>,
}

/// The privileges of this process.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Privileges {
    /// Effective user id.
    pub euid: Fact<u32>,
    /// Effective capabilities, of those in [`Capability`].
    pub effective: Fact<BTreeSet<Capability>>,
}

impl Privileges {
    /// Returns whether the process runs as root.
    pub fn is_root(&self) -> bool {
        self.euid == Ok(0)
    }

    /// Returns whether `capability` is effective. `CAP_SYS_ADMIN` includes `CAP_BPF` and
    /// `CAP_PERFMON`, which were split off from it in 5.8.
    pub fn has(&self, capability: Capability) -> bool {
        self.effective.as_ref().is_ok_and(|effective| {
            effective.contains(&capability)
                || matches!(capability, Capability::Bpf | Capability::Perfmon)
                    && effective.contains(&Capability::SysAdmin)
        })
    }
}

/// A capability that loading, attaching or inspecting depends on.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize)]
#[serde(rename_all = "SCREAMING_SNAKE_CASE")]
pub enum Capability {
    /// Reading tracefs and debugfs without being root.
    DacReadSearch,
    /// Reading `/proc/<pid>/fd` of other users' processes.
    SysPtrace,
    /// Includes [`Self::Bpf`] and [`Self::Perfmon`].
    SysAdmin,
    /// Raising the limit of locked memory, which includes BPF maps up to 5.10.
    SysResource,
    /// Seeing addresses in kallsyms.
    Syslog,
    /// Attaching kprobes and tracepoints, and reading kernel memory from programs.
    Perfmon,
    /// Loading programs and maps.
    Bpf,
}

impl Capability {
    /// Every capability.
    pub const ALL: [Self; 7] = [
        Self::DacReadSearch,
        Self::SysPtrace,
        Self::SysAdmin,
        Self::SysResource,
        Self::Syslog,
        Self::Perfmon,
        Self::Bpf,
    ];

    /// Returns the position in the capability masks of `/proc/<pid>/status`.
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

    /// Returns the name as in capabilities(7).
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
    /// State of the module `kvm`.
    pub core: ModuleState,
    /// Vendor module in use.
    pub vendor: Option<Vendor>,
    /// State of the vendor module.
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
    /// `kvm_intel.eptad`: page tables have accessed and dirty bits; true on AMD.
    pub accessed_dirty: Fact<bool>,
    /// `kvm_intel.pml`: the CPU logs dirty pages; false on AMD.
    pub pml: Fact<bool>,
}

/// The state of a kernel module.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum ModuleState {
    /// Neither loaded nor built in.
    Absent,
    /// Built into vmlinux.
    BuiltIn,
    /// Loaded as a module, which can be unloaded.
    Loaded,
}

/// A function or variable of the kernel.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Symbol {
    /// Virtual address; 0 if this process may not see addresses.
    pub address: u64,
    /// Module that it belongs to; `None` for vmlinux.
    pub module: Option<String>,
    /// Whether it is a function; where the kernel looked the symbol up, whether it was wanted as one.
    pub function: bool,
    /// Number of symbols of this name in this module; with more than one, a kprobe by name is refused
    /// or attaches to any of them. 1 where the kernel looked the symbol up, which does not count them.
    pub copies: u32,
    /// Whether a function can be probed at its entry; `None` if that is unknown.
    pub traceable: Option<bool>,
}

/// The format of a tracepoint.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Tracepoint {
    /// Fields of its record, without the common ones; absent if the tracepoint does not exist.
    pub fields: Fact<Vec<Field>>,
    /// Arguments that a raw tracepoint program gets.
    pub raw_args: Fact<Vec<ParamType>>,
}

/// A field of a tracepoint's record.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Field {
    /// Name, without array brackets.
    pub name: String,
    /// Offset from the start of the record, common fields included, bytes.
    pub offset: u32,
    /// Size, bytes.
    pub size: u32,
    /// Whether the field is a signed number.
    pub signed: bool,
}

impl From<&Inspected> for Machine {
    fn from(host: &Inspected) -> Self {
        Self { name: host.hostname.clone(), kernel: host.release() }
    }
}

impl Inspected {
    /// Reads the kernel's description of itself below `root` (`/`, unless in a test).
    ///
    /// It never fails as a whole: each fact that is unknown has its reason in the value.
    pub fn of_running_kernel(root: &Path, wanted: &WantedFacts<'_>) -> Self {
        read::inspect(root, wanted)
    }

    /// Reads a recorded value.
    #[cfg(test)]
    pub fn from_file(path: &Path) -> std::io::Result<Self> {
        Ok(serde_json::from_slice(&std::fs::read(path)?)?)
    }

    /// Returns the kernel release for display, `–` if it is unknown.
    pub fn release(&self) -> String {
        self.release.clone().unwrap_or_else(|_| "–".to_owned())
    }

    /// Returns the symbol of exactly this name, if it exists and symbols are known.
    pub fn symbol(&self, name: &str) -> Option<&Symbol> {
        self.symbols.as_ref().ok()?.get(name)
    }

    /// Returns whether a kprobe can be attached to the entry of the function of exactly this name, as
    /// far as that is known beforehand. It cannot if several functions share the name: newer kernels
    /// refuse the probe, and older ones choose one of the functions.
    pub fn can_probe(&self, name: &str) -> bool {
        self.symbol(name).is_some_and(|symbol| {
            symbol.function && symbol.copies == 1 && symbol.traceable != Some(false)
        })
    }

    /// Returns whether the tracepoint `system:name` exists; `None` if that is unknown.
    pub fn has_tracepoint(&self, name: &str) -> Option<bool> {
        let tracepoint = self.tracepoints.get(name)?;
        match &tracepoint.fields {
            Ok(_) => Some(true),
            Err(Unknown::Absent(_)) if self.tracefs.is_ok() => Some(false),
            Err(_) => tracepoint.raw_args.is_ok().then_some(true),
        }
    }

    /// Returns the byte offset of a wanted field, if it is known.
    pub fn offset(&self, path: &str) -> Option<u32> {
        self.offsets.get(path)?.as_ref().ok().copied()
    }
}
