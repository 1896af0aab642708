//! The explanation: why guests are not huge, as one value. JSON is this value; the text is made from it.

mod reason;
#[cfg(test)]
mod tests;
mod text;

use schemars::{JsonSchema, Schema};
use serde::Serialize;
use serde_json::{Value, json};

use collapse_model::wording;

pub use reason::{Reason, SlotFacts, debt, why};
pub use text::render;

use crate::{
    BudgetReport, Host, PagesBySize, VmIdentity, gate::Budget, keys::Name, schema::published,
};

/// Name and version of the format.
pub const SCHEMA: &str = "collapse.explain/1";

/// The JSON Schema (2020-12) of an explanation.
pub fn schema() -> Schema {
    published::<Explanation>(SCHEMA)
}

/// What there is to say about all VMs at one moment.
#[derive(Clone, Debug, Serialize, JsonSchema)]
pub struct Explanation {
    /// Name and version of this format: `collapse.explain/1`.
    pub schema: Name,
    /// Version of this program.
    pub version: Name,
    /// The machine.
    pub host: Host,
    /// The host's settings.
    pub settings: Settings,
    /// How long it took to find out, ns.
    pub took_ns: u64,
    /// Verdicts on budgets; empty if there were none.
    pub budgets: Vec<BudgetReport>,
    /// VMs in the order in which they were created.
    pub vms: Vec<VmExplanation>,
}

/// Settings of the host that decide on huge pages. `None` where the kernel has no such setting.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, JsonSchema)]
pub struct Settings {
    /// `transparent_hugepage/enabled`: `always`, `madvise` or `never`.
    pub thp: Option<String>,
    /// `transparent_hugepage/shmem_enabled`, for memfd and other shared memory.
    pub shmem_thp: Option<String>,
    /// Whether KVM splits huge pages that the guest executes (`kvm.nx_huge_pages`).
    pub nx_huge_pages: Option<bool>,
}

/// One VM.
#[derive(Clone, Debug, Default, Serialize, JsonSchema)]
pub struct VmExplanation {
    /// Process id of the VMM.
    pub pid: Option<u32>,
    /// Thread that created the VM.
    pub tid: Option<u32>,
    /// File descriptor of the VM in that process.
    pub fd: Option<u32>,
    /// Name of the VM.
    pub name: Option<String>,
    /// Leaves by size, by KVM's own gauges; `None` where the kernel has none (5.10).
    pub pages: Option<PagesBySize>,
    /// Memory that is mapped huge, as a part of all that is mapped; `None` if nothing is.
    pub huge_share: Option<f64>,
    /// Memory that is mapped by 2 MiB leaves, as a part of all that is mapped.
    pub huge_share_2m: Option<f64>,
    /// Memory that is mapped by 1 GiB leaves, as a part of all that is mapped.
    pub huge_share_1g: Option<f64>,
    /// Memory that is huge in the host and could be huge for the guest, but is not, bytes.
    pub debt_bytes: Option<u64>,
    /// Huge pages that are split because the guest executes them.
    pub nx_splits: Option<u64>,
    /// Why it is not known what is mapped of each slot; `None` if it is.
    pub slots_unknown: Option<String>,
    /// Memslots, the largest first; `None` if they could not be read.
    #[schemars(extend("x-count-by" = "reason"))]
    pub slots: Option<Vec<SlotExplanation>>,
}

/// One memslot.
#[derive(Clone, Debug, Serialize, JsonSchema)]
pub struct SlotExplanation {
    /// Slot id.
    pub id: u16,
    /// Address space; 1 is SMM.
    pub as_id: u16,
    /// First guest frame.
    pub base_gfn: u64,
    /// Size, bytes.
    pub bytes: u64,
    /// Where its memory begins in the VMM; `None` if it is not known, or if addresses were not asked for.
    pub userspace_addr: Option<u64>,
    /// Whether the guest may only read it.
    pub read_only: bool,
    /// How writes are logged; `None` if they are not.
    pub logging: Option<Logging>,
    /// Memory behind it; `None` if it is not known.
    pub backing: Option<Backing>,
    /// What the host has of it; `None` if it is not known.
    pub host: Option<HostMemory>,
    /// Leaves by size, from KVM's page tables; `None` if it is not known.
    pub pages: Option<PagesBySize>,
    /// Memory that is mapped huge, as a part of what is mapped; `None` if nothing is, or if it is not known.
    pub huge_share: Option<f64>,
    /// Memory that is huge in the host and could be huge for the guest, but is not, bytes.
    pub debt_bytes: Option<u64>,
    /// Why it is not huge; `None` if it is.
    #[schemars(extend("enum" = reasons()))]
    pub reason: Option<Reason>,
    /// The reason with its evidence.
    pub evidence: Option<String>,
    /// What to do about it.
    pub remedy: Option<Name>,
}

/// Schema of the reasons, and of none.
fn reasons() -> Value {
    let names = Reason::ALL.iter().map(|reason| json!(reason));
    names.chain([Value::Null]).collect()
}

/// How a slot's writes are logged.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, JsonSchema)]
pub struct Logging {
    /// Where the log is.
    pub log: Log,
    /// Whether the CPU logs (PML); otherwise a guest fault does, at the first write to each page.
    pub by_cpu: Option<bool>,
}

/// Where dirty pages are logged.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, JsonSchema)]
#[serde(rename_all = "snake_case")]
pub enum Log {
    /// In a bitmap, which is write-protected again as it is read.
    Bitmap,
    /// In a bitmap, which is write-protected again as it is cleared.
    ManualBitmap,
    /// As before, and all pages are dirty at first.
    InitiallySetBitmap,
    /// In rings.
    Ring,
}

/// Memory behind a slot.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, JsonSchema)]
pub struct Backing {
    /// Kind.
    pub kind: BackingKind,
    /// Size of the pages, bytes, for hugetlb.
    pub page_bytes: Option<u64>,
    /// Whether the VMM asked for huge pages (`MADV_HUGEPAGE`).
    pub advised: bool,
    /// Whether the VMM forbade huge pages (`MADV_NOHUGEPAGE`).
    pub forbidden: bool,
    /// Whether it is registered with userfaultfd.
    pub userfaultfd: bool,
}

/// Kinds of memory.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, JsonSchema)]
#[serde(rename_all = "snake_case")]
pub enum BackingKind {
    /// Anonymous.
    Anonymous,
    /// Shared memory: memfd, tmpfs, System V.
    Shared,
    /// hugetlbfs.
    Hugetlb,
    /// A file of another file system.
    File,
    /// Frames without `struct page` of their own: device memory, as by VFIO.
    PfnMap,
    /// `guest_memfd`, with shared memory beside it.
    GuestMemfd,
}

/// What the host has in its page tables, bytes.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, JsonSchema)]
pub struct HostMemory {
    /// Present.
    pub present: u64,
    /// Of that, mapped huge: transparent huge pages that are mapped by single pages are not.
    pub huge: u64,
}

impl VmExplanation {
    /// Ids and name, to select it by.
    pub fn identity(&self) -> VmIdentity<'_> {
        VmIdentity { pid: self.pid, tid: self.tid, fd: self.fd, name: self.name.as_deref() }
    }

    /// Name and process, for people.
    pub fn label(&self) -> String {
        wording::vm_label(self.name.as_deref(), self.pid)
    }

    /// Sets what follows from the slots and the gauges.
    pub fn sum_up(&mut self) {
        let slots = self.slots.as_deref().unwrap_or_default();
        let twins: Vec<_> = slots.iter().map(|slot| slot.of_smm(slots)).collect();
        for (slot, twin) in self.slots.iter_mut().flatten().zip(twins) {
            if let Some(id) = twin {
                slot.evidence =
                    Some(format!("the memory of slot {id} for SMM, which does not use it"));
            }
        }
        self.huge_share = self.pages.and_then(PagesBySize::huge_share);
        self.huge_share_2m = self.pages.and_then(PagesBySize::share_2m);
        self.huge_share_1g = self.pages.and_then(PagesBySize::share_1g);
        let debts = self.slots.as_ref().map(|slots| slots.iter().map(|slot| slot.debt_bytes));
        self.debt_bytes = debts.and_then(Iterator::sum);
    }
}

impl SlotExplanation {
    /// The slot whose memory this one shows to system management mode, which has not touched it; `None` if it is
    /// another one.
    fn of_smm(&self, slots: &[Self]) -> Option<u16> {
        let place = |slot: &Self| (slot.base_gfn, slot.bytes, slot.userspace_addr);
        let is_same = |slot: &&Self| slot.as_id == 0 && place(slot) == place(self);
        let unused = self.as_id != 0 && self.reason == Some(Reason::NotTouched);
        slots.iter().find(is_same).filter(|_| unused).map(|slot| slot.id)
    }
}

impl Explanation {
    /// Holds every VM against budgets.
    pub fn judge(&mut self, budgets: &[Budget]) {
        let vms = self.vms.iter().map(|vm| (vm.identity(), vm.label(), vm));
        let vms: Vec<_> = vms.collect();
        self.budgets = budgets.iter().map(|budget| budget.check_each(&vms)).collect();
    }

    /// Leaves out where the memory of slots is in the VMM, which reveals how its memory is laid out.
    pub fn leave_out_addresses(&mut self) {
        let slots = self.vms.iter_mut().flat_map(|vm| vm.slots.iter_mut().flatten());
        slots.for_each(|slot| slot.userspace_addr = None);
    }

    /// Whether every budget was kept.
    pub fn keeps_budgets(&self) -> bool {
        self.budgets.iter().all(|budget| budget.ok)
    }
}
