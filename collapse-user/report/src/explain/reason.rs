//! Why a memslot is not huge for the guest. Pure: the reason follows from facts alone.

use schemars::JsonSchema;
use serde::Serialize;

use super::{Backing, BackingKind, HostMemory, Settings};
use crate::PagesBySize;
use collapse_feed::Slot;
use collapse_model::{
    fit::{GUEST_MEMFD, holds},
    wording::bytes,
};

/// Share from which on a slot counts as huge.
const HUGE: f64 = 0.95;

/// Sizes of huge pages, bytes.
const MIB_2: u64 = 2 << 20;
const GIB_1: u64 = 1 << 30;

/// What decides on one slot.
#[derive(Clone, Debug)]
pub struct SlotFacts<'a> {
    /// The slot.
    pub slot: Slot,
    /// Memory behind it; `None` if it is not known.
    pub backing: Option<&'a Backing>,
    /// What the host has of it.
    pub host: Option<HostMemory>,
    /// What is mapped of it; `None` if it is not known.
    pub pages: Option<PagesBySize>,
    /// What is mapped of the VM.
    pub vm_pages: Option<PagesBySize>,
    /// Huge pages of the VM that are split because the guest executes them.
    pub nx_splits: u64,
    /// Whether the process may have no transparent huge pages (`PR_SET_THP_DISABLE`).
    pub thp_disabled: bool,
    /// The host's settings.
    pub settings: &'a Settings,
}

macro_rules! reasons {
    ($($(#[$doc:meta])* $name:ident: $remedy:expr,)*) => {
        /// The reason why a slot is not huge.
        #[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, JsonSchema)]
        #[serde(rename_all = "snake_case")]
        pub enum Reason {
            $($(#[$doc])* $name,)*
        }

        impl Reason {
            /// Every reason.
            pub const ALL: &[Self] = &[$(Self::$name,)*];

            /// What to do about it.
            pub const fn remedy(self) -> &'static str {
                match self {
                    $(Self::$name => $remedy,)*
                }
            }
        }
    };
}

reasons! {
    /// Nothing of it is mapped.
    NotTouched: "nothing to do: it is mapped when the guest touches it",
    /// Dirty logging is on: KVM maps by 4 KiB what it logs.
    Logged: "end the migration or the dirty-rate measurement, or have the VMM not track dirty pages from the \
        start",
    /// Its memory is a `guest_memfd`, private and shared.
    GuestMemfd: "kernels map guest_memfd by 4 KiB so far, and conversions between private and shared split what \
        is huge",
    /// Its memory is mapped by frame numbers: device memory.
    PfnMap: "huge mappings of device memory need Linux 6.12 or later, a device that supports them, and a BAR \
        that VMM and firmware align to its size",
    /// Guest and host addresses differ modulo 2 MiB.
    Misaligned: "have the VMM map the memory so that guest and host addresses are equal modulo 2 MiB",
    /// It holds no whole 2 MiB.
    TooSmall: "nothing to do: it holds no aligned 2 MiB",
    /// Guest and host addresses differ modulo 1 GiB, and 1 GiB pages are behind it.
    #[serde(rename = "misaligned_1g")]
    Misaligned1G: "have the VMM map the memory so that guest and host addresses are equal modulo 1 GiB",
    /// It is registered with userfaultfd.
    Userfaultfd: "end the restore or the post-copy migration; then MADV_COLLAPSE or khugepaged makes it huge",
    /// The VMM may have no transparent huge pages.
    ThpDisabled: "start the VMM without PR_SET_THP_DISABLE",
    /// The VMM forbade huge pages.
    Nohugepage: "have the VMM not call MADV_NOHUGEPAGE, or MADV_HUGEPAGE after it",
    /// Transparent huge pages are off.
    ThpNever: "echo madvise >/sys/kernel/mm/transparent_hugepage/enabled, or use hugetlbfs",
    /// Transparent huge pages are for those who ask, and the VMM did not.
    ThpMadvise: "have the VMM call MADV_HUGEPAGE, or echo always >/sys/kernel/mm/transparent_hugepage/enabled",
    /// Shared memory has no huge pages.
    ShmemNever: "echo advise >/sys/kernel/mm/transparent_hugepage/shmem_enabled (the switch 'enabled' is not \
        about shared memory), or use hugetlbfs",
    /// Shared memory has huge pages for those who ask, and the VMM did not.
    ShmemAdvise: "have the VMM call MADV_HUGEPAGE on it, or echo always \
        >/sys/kernel/mm/transparent_hugepage/shmem_enabled",
    /// Its memory is a file without huge pages.
    File: "use anonymous memory, memfd or hugetlbfs instead of a file",
    /// The host may give huge pages and has none.
    HostSmall: "MADV_COLLAPSE in the VMM, or khugepaged in time; memory may be too fragmented (compact_memory)",
    /// The guest executes it, and KVM splits for that.
    Nx: "kvm.nx_huge_pages=off, if no CPU has the iTLB multihit bug or the guests are trusted",
    /// It is huge in the host, and mapped small for the guest.
    Debt: "have KVM map it again: dirty logging going on and off, unless the guest may only read it; or deleting the \
        memslot and adding it again",
    /// It is mapped by 2 MiB although 1 GiB pages are behind it.
    #[serde(rename = "small_1g")]
    Small1G: "dirty logging or execution split it; dirty logging going on and off on Linux 6.13 or later, or \
        deleting the memslot and adding it again, brings it back",
    /// Too little is known.
    Unknown: "run as root, on a kernel whose page tables can be read",
}

/// Returns why a slot is not huge, with the evidence; `None` if it is.
pub fn why(facts: &SlotFacts) -> Option<(Reason, String)> {
    let pages = match (facts.pages, facts.vm_pages) {
        (Some(pages), _) => Some(pages),
        // Of a VM that is huge as a whole, every large slot is that is huge in the host.
        (None, pages) => pages.filter(|pages| {
            pages.huge_share().is_some_and(is_huge) && facts.host.is_none_or(is_huge_in_host)
        }),
    };
    if pages.is_some_and(|pages| pages.bytes() == 0) || facts.host.is_some_and(is_empty) {
        return Some((Reason::NotTouched, "the guest has not touched it yet".to_owned()));
    }
    if pages.and_then(PagesBySize::huge_share).is_some_and(is_huge) {
        return below_1g(facts, pages);
    }
    let slot = &facts.slot;
    if slot.is_logging() {
        let what = "dirty logging is on, so that KVM maps it by 4 KiB";
        return Some((Reason::Logged, what.to_owned()));
    }
    if slot.flags & GUEST_MEMFD != 0 {
        let what = "guest_memfd has no huge pages, or private and shared memory are mixed";
        return Some((Reason::GuestMemfd, what.to_owned()));
    }
    let kind = facts.backing.map(|backing| backing.kind);
    if kind == Some(BackingKind::PfnMap) {
        return Some((Reason::PfnMap, "device memory, mapped by frame numbers".to_owned()));
    }
    if let Some(offset) = slot.offset(MIB_2).filter(|offset| *offset > 0) {
        let what = misaligned(slot, offset, "2 MiB");
        // Where both stand in the way, neither remedy helps alone.
        let also = facts.backing.and_then(|backing| in_host(facts, backing));
        let also = also.filter(|(reason, _)| *reason != Reason::HostSmall);
        let also = also.map(|(_, also)| format!("; besides, {also}")).unwrap_or_default();
        return Some((Reason::Misaligned, what + &also));
    }
    if !holds(slot, MIB_2) {
        return Some((Reason::TooSmall, "it holds no aligned 2 MiB".to_owned()));
    }
    if let Some(found) = facts.backing.and_then(|backing| in_host(facts, backing)) {
        return Some(found);
    }
    if facts.nx_splits > 0 {
        let n = facts.nx_splits;
        let what = format!("{n} huge pages of this VM are split for execution");
        return Some((Reason::Nx, what));
    }
    match (facts.host, facts.pages) {
        (Some(host), Some(pages)) if host.huge > 0 => Some((
            Reason::Debt,
            format!(
                "{} of it are huge in the host, and {} are mapped small",
                bytes(host.huge),
                bytes(pages.small.saturating_mul(4096))
            ),
        )),
        (Some(host), None) if host.huge > 0 && facts.vm_pages.is_some() => Some((
            Reason::Debt,
            format!("{} of it are huge in the host, and the VM is not", bytes(host.huge)),
        )),
        _ => Some((Reason::Unknown, "too little is known of it".to_owned())),
    }
}

/// Memory that is huge in the host and could be huge for the guest, but is not, bytes.
pub fn debt(facts: &SlotFacts) -> Option<u64> {
    if facts.slot.offset(MIB_2).is_some_and(|offset| offset > 0) {
        return Some(0);
    }
    let (host, pages) = (facts.host?, facts.pages?);
    let small = pages.small.saturating_mul(4096);
    let huge = pages.bytes().saturating_sub(small);
    Some(host.huge.saturating_sub(huge).min(small))
}

fn is_huge(share: f64) -> bool {
    share >= HUGE
}

fn is_huge_in_host(host: HostMemory) -> bool {
    host.huge as f64 >= HUGE * host.present as f64
}

fn is_empty(host: HostMemory) -> bool {
    host.present == 0
}

fn misaligned(slot: &Slot, offset: u64, unit: &str) -> String {
    format!(
        "guest address {:#x} is {} beyond that of its memory in the VMM, modulo {unit}",
        slot.base_gfn.saturating_mul(4096),
        bytes(offset),
    )
}

/// Why a slot that is huge is not as huge as its memory.
fn below_1g(facts: &SlotFacts, pages: Option<PagesBySize>) -> Option<(Reason, String)> {
    let giant = facts.backing.is_some_and(|backing| backing.page_bytes == Some(GIB_1));
    let pages = pages.filter(|_| giant && holds(&facts.slot, GIB_1))?;
    if pages.giant > 0 {
        return None;
    }
    match facts.slot.offset(GIB_1) {
        Some(offset) if offset > 0 => {
            Some((Reason::Misaligned1G, misaligned(&facts.slot, offset, "1 GiB")))
        }
        _ => Some((
            Reason::Small1G,
            format!("1 GiB pages are behind it, and {} × 2M are mapped", pages.huge),
        )),
    }
}

/// Why the host's memory is not huge; `None` if that is not the reason.
fn in_host(facts: &SlotFacts, backing: &Backing) -> Option<(Reason, String)> {
    let host = facts.host?;
    let mapped = facts.pages.map_or(host.present, PagesBySize::bytes);
    // As much of it is huge in the host as is mapped for the guest.
    if host.huge as f64 >= HUGE * mapped.min(host.present) as f64 {
        return None;
    }
    let small = host.present.saturating_sub(host.huge);
    let is = |setting: &Option<String>, word: &str| setting.as_deref() == Some(word);
    let Settings { thp, shmem_thp, .. } = facts.settings;
    let found = match backing.kind {
        BackingKind::Hugetlb | BackingKind::PfnMap | BackingKind::GuestMemfd => return None,
        _ if backing.userfaultfd => (Reason::Userfaultfd, "registered with userfaultfd"),
        _ if facts.thp_disabled => (Reason::ThpDisabled, "the VMM has PR_SET_THP_DISABLE"),
        _ if backing.forbidden => (Reason::Nohugepage, "the VMM called MADV_NOHUGEPAGE"),
        BackingKind::Anonymous if is(thp, "never") => {
            (Reason::ThpNever, "transparent_hugepage/enabled is never")
        }
        BackingKind::Anonymous if is(thp, "madvise") && !backing.advised => {
            (Reason::ThpMadvise, "transparent_hugepage/enabled is madvise")
        }
        BackingKind::Shared if is(shmem_thp, "never") || is(shmem_thp, "deny") => {
            (Reason::ShmemNever, "shared memory, and shmem_enabled is never or deny")
        }
        BackingKind::Shared if is(shmem_thp, "advise") && !backing.advised => {
            (Reason::ShmemAdvise, "shared memory, and shmem_enabled is advise")
        }
        BackingKind::File => (Reason::File, "a file of a file system without huge pages"),
        BackingKind::Anonymous | BackingKind::Shared => {
            (Reason::HostSmall, "the host may give huge pages, and has not")
        }
    };
    let (reason, what) = found;
    Some((reason, format!("{} are small in the host: {what}", bytes(small))))
}
