//! The process that owns a VM, and the name that the VM is known by.

use serde::{Deserialize, Serialize};

/// The process that owns a VM.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct VmProcess {
    /// Process id, also called thread group id.
    pub pid: u32,
    /// Id of the thread that created the VM, or of another thread by which the process was found.
    pub tid: u32,
    /// The kernel's short name of the process (`comm`), made printable.
    pub comm: String,
    /// Name of the VM.
    pub name: VmName,
}

/// A VM's name.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct VmName {
    /// The name, made printable; never empty.
    pub text: String,
    /// Origin of the name.
    pub source: NameSource,
}

/// Origin of a VM's name.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, Serialize, Deserialize, schemars::JsonSchema)]
#[serde(rename_all = "snake_case")]
pub enum NameSource {
    /// QEMU's `-name`.
    Qemu,
    /// The name of the libvirt domain: QEMU's `-name` in a libvirt cgroup, or that cgroup.
    Libvirt,
    /// The namespace and name of a `KubeVirt` virtual machine, as `namespace/name`.
    KubeVirt,
    /// Firecracker's `--id`.
    Firecracker,
    /// The path of cloud-hypervisor's API socket.
    CloudHypervisor,
    /// crosvm's `--name`.
    Crosvm,
    /// kvmtool's `--name`.
    Kvmtool,
    /// The `--name` of the project's own guest workload.
    Workload,
    /// The uid of the Kubernetes pod that the process is in.
    Pod,
    /// The kernel's short name of the process (`comm`).
    Comm,
    /// The process id, if nothing else is known.
    Pid,
}
