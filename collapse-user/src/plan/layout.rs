//! Where KVM keeps a VM's memslots and page tables.

use super::facts::offset;
use crate::kernel::inspect::{Fact, Inspected, Unknown};

/// Layout of what leads from a `struct kvm` to its memslots, offsets in bytes.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct SlotLayout {
    /// `kvm.memslots`: a pointer for each address space.
    pub memslots: u32,
    /// `kvm_memslots.generation`, which changes with every update.
    pub generation: u32,
    /// How the slots of an address space are found.
    pub index: SlotIndex,
    /// `sizeof(struct kvm_memory_slot)`
    pub size: u32,
    /// `kvm_memory_slot.base_gfn`
    pub base_gfn: u32,
    /// `kvm_memory_slot.npages`
    pub npages: u32,
    /// `kvm_memory_slot.flags`
    pub flags: u32,
    /// `kvm_memory_slot.id`
    pub id: u32,
    /// `kvm_memory_slot.as_id`
    pub as_id: u32,
    /// `kvm_memory_slot.userspace_addr`
    pub userspace_addr: u32,
}

/// How `struct kvm_memslots` holds the slots of an address space.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum SlotIndex {
    /// In an array, those in use first: up to 5.16.
    Array {
        /// `kvm_memslots.used_slots`
        used: u32,
        /// `kvm_memslots.memslots`
        first: u32,
    },
    /// In a red-black tree, one of two sets of nodes being in use: 5.17 and later.
    Tree {
        /// `kvm_memslots.gfn_tree`
        root: u32,
        /// `kvm_memslots.node_idx`: the set in use.
        set: u32,
        /// `kvm_memory_slot.gfn_node`: a node for each set.
        node: u32,
    },
}

impl SlotLayout {
    /// Fields that a kernel has all of, or it is of the other kind.
    pub(super) const FIELDS: &[&str] = &[
        "kvm.memslots",
        "kvm_memory_slot.gfn_node",
        "kvm_memory_slot.userspace_addr",
        "kvm_memslots.generation",
        "kvm_memslots.gfn_tree",
        "kvm_memslots.memslots",
        "kvm_memslots.node_idx",
        "kvm_memslots.used_slots",
    ];

    /// The type whose size is needed.
    pub(super) const SLOT: &str = "kvm_memory_slot";

    /// Returns the layout on a kernel, or what is not known of it.
    pub fn of(kernel: &Inspected) -> Fact<Self> {
        let at = |path| offset(kernel, path);
        let tree = || {
            Ok(SlotIndex::Tree {
                root: at("kvm_memslots.gfn_tree")?,
                set: at("kvm_memslots.node_idx")?,
                node: at("kvm_memory_slot.gfn_node")?,
            })
        };
        let array = || {
            Ok(SlotIndex::Array {
                used: at("kvm_memslots.used_slots")?,
                first: at("kvm_memslots.memslots")?,
            })
        };
        let not_looked_up = || Err(Unknown::Unclear("not looked up".to_owned()));
        Ok(Self {
            memslots: at("kvm.memslots")?,
            generation: at("kvm_memslots.generation")?,
            index: tree().or_else(|why: Unknown| array().map_err(|_: Unknown| why))?,
            size: kernel.sizes.get(Self::SLOT).cloned().unwrap_or_else(not_looked_up)?,
            base_gfn: at("kvm_memory_slot.base_gfn")?,
            npages: at("kvm_memory_slot.npages")?,
            flags: at("kvm_memory_slot.flags")?,
            id: at("kvm_memory_slot.id")?,
            as_id: at("kvm_memory_slot.as_id")?,
            userspace_addr: at("kvm_memory_slot.userspace_addr")?,
        })
    }
}

/// Layout of what leads from a `struct kvm` to the page tables of the TDP MMU, offsets in bytes.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct TdpLayout {
    /// `kvm.arch.tdp_mmu_roots`: a list of `kvm_mmu_page`.
    pub roots: u32,
    /// `kvm_mmu_page.link`
    pub link: u32,
    /// `kvm_mmu_page.role`
    pub role: u32,
    /// `kvm_mmu_page.spt`
    pub spt: u32,
}

impl TdpLayout {
    /// Fields that no signal depends on.
    pub(super) const FIELDS: &[&str] =
        &["kvm.arch.tdp_mmu_roots", "kvm_mmu_page.link", "kvm_mmu_page.spt"];

    /// Returns the layout on a kernel, or what is not known of it.
    pub fn of(kernel: &Inspected) -> Fact<Self> {
        let at = |path| offset(kernel, path);
        Ok(Self {
            roots: at("kvm.arch.tdp_mmu_roots")?,
            link: at("kvm_mmu_page.link")?,
            role: at("kvm_mmu_page.role")?,
            spt: at("kvm_mmu_page.spt")?,
        })
    }
}

/// Fields of a `struct kvm` that tell how it is set up, offsets in bytes; `None` where the kernel has no such field.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct VmFields {
    /// `kvm.dirty_ring_size`, 5.11 and later: not 0 if dirty pages are logged in rings.
    pub dirty_ring_size: Option<u32>,
    /// `kvm.manual_dirty_log_protect`: `KVM_DIRTY_LOG_*` flags.
    pub manual_dirty_log_protect: Option<u32>,
    /// `kvm.stat.nx_lpage_splits`: huge pages that are split for execution.
    pub nx_splits: Option<u32>,
    /// `kvm.stat.pages_4k`; the other two sizes follow it.
    pub pages: Option<u32>,
}

impl VmFields {
    /// Fields that no signal depends on.
    pub(super) const FIELDS: &[&str] =
        &["kvm.dirty_ring_size", "kvm.manual_dirty_log_protect", "kvm.stat.nx_lpage_splits"];

    /// Finds the fields on a kernel.
    pub fn of(kernel: &Inspected) -> Self {
        let at = |path| offset(kernel, path).ok();
        Self {
            dirty_ring_size: at("kvm.dirty_ring_size"),
            manual_dirty_log_protect: at("kvm.manual_dirty_log_protect"),
            nx_splits: at("kvm.stat.nx_lpage_splits"),
            pages: at("kvm.stat.pages_4k"),
        }
    }
}
