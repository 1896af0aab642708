//! What to do about a finding.

use std::fmt;

/// Something to do about a finding.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Knob {
    /// Whose users can do it.
    pub vmm: Vmm,
    /// What to do.
    pub what: &'static str,
}

/// A virtual machine monitor, or what manages it.
#[derive(
    Clone, Copy, Debug, PartialEq, Eq, serde::Serialize, serde::Deserialize, schemars::JsonSchema,
)]
#[serde(rename_all = "snake_case")]
pub enum Vmm {
    /// Any, as it concerns the host or the guest.
    Any,
    /// QEMU and libvirt.
    Qemu,
    /// Firecracker.
    Firecracker,
    /// Cloud Hypervisor.
    CloudHypervisor,
    /// `KubeVirt`.
    KubeVirt,
}

impl Vmm {
    /// Returns its name for display; `None` for any.
    pub fn label(self) -> Option<&'static str> {
        match self {
            Self::Any => None,
            Self::Qemu => Some("QEMU/libvirt"),
            Self::Firecracker => Some("Firecracker"),
            Self::CloudHypervisor => Some("cloud-hypervisor"),
            Self::KubeVirt => Some("KubeVirt"),
        }
    }
}

impl fmt::Display for Knob {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self.vmm.label() {
            None => f.write_str(self.what),
            Some(label) => write!(f, "{label}: {}", self.what),
        }
    }
}

/// Something that can be done whatever the VMM.
pub(super) const fn any(what: &'static str) -> Knob {
    Knob { vmm: Vmm::Any, what }
}

/// Something that users of QEMU and libvirt can do.
pub(super) const fn qemu(what: &'static str) -> Knob {
    Knob { vmm: Vmm::Qemu, what }
}

/// Something that users of Firecracker can do.
pub(super) const fn firecracker(what: &'static str) -> Knob {
    Knob { vmm: Vmm::Firecracker, what }
}

/// Something that users of Cloud Hypervisor can do.
pub(super) const fn cloud_hypervisor(what: &'static str) -> Knob {
    Knob { vmm: Vmm::CloudHypervisor, what }
}

/// Something that users of `KubeVirt` can do.
pub(super) const fn kubevirt(what: &'static str) -> Knob {
    Knob { vmm: Vmm::KubeVirt, what }
}
