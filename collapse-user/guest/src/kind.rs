//! Choices that a user of guests makes, with their names on the command line.

use clap::ValueEnum;
use serde::Serialize;

use crate::units::{GIB, HUGE, PAGE};

/// A kind of guest access.
#[derive(Clone, Copy, Debug, PartialEq, Eq, ValueEnum)]
pub enum Access {
    /// Stores one byte.
    Write,
    /// Loads one byte.
    Read,
    /// Executes one instruction.
    Exec,
}

/// Advice about host memory.
#[derive(Clone, Copy, Debug, PartialEq, Eq, ValueEnum)]
pub enum Advice {
    /// Drops the pages.
    Dontneed,
    /// Collapses small pages into huge ones at once.
    Collapse,
    /// Allows huge pages.
    Hugepage,
    /// Forbids new huge pages.
    Nohugepage,
    /// Drops one small page of every 2 MiB, which splits the huge page.
    Split,
    /// Lets the pages be merged with others of the same content.
    Mergeable,
    /// Lets the pages be dropped when memory is short.
    Free,
    /// Reclaims the pages, where there is swap.
    Pageout,
    /// Migrates the pages, as if their memory were failing.
    SoftOffline,
}

impl Advice {
    /// Whether there are kernels that do not know it.
    pub fn is_optional(self) -> bool {
        matches!(self, Self::Collapse | Self::Mergeable | Self::SoftOffline)
    }
}

/// Host access rights.
#[derive(Clone, Copy, Debug, PartialEq, Eq, ValueEnum)]
pub enum Protection {
    /// No access.
    None,
    /// Read only.
    Ro,
    /// Read and write.
    Rw,
}

/// A kind of host memory that backs a slot.
#[derive(Clone, Copy, Debug, PartialEq, Eq, ValueEnum, Serialize)]
#[serde(rename_all = "lowercase")]
pub enum Backing {
    /// Transparent huge pages, all of them huge before the guest starts.
    Thp,
    /// Small pages only.
    #[value(name = "4k")]
    #[serde(rename = "4k")]
    Small,
    /// 2 MiB pages of hugetlbfs.
    Hugetlb,
    /// 1 GiB pages of hugetlbfs.
    #[value(name = "hugetlb1g")]
    Hugetlb1G,
    /// Anonymous memory without advice: huge if the host makes it so.
    Plain,
    /// Small pages only, none of which is there until the guest touches it.
    Sparse,
    /// Shared memory (memfd) without advice: huge if the host makes it so.
    Shmem,
    /// Memory of a PCI device, mapped by frame numbers: an `ivshmem` of QEMU's.
    Device,
    /// A `guest_memfd`, all of it shared with the VMM (6.18 and later).
    #[serde(rename = "guest-memfd")]
    GuestMemfd,
}

/// A mode of write-protection for the dirty log.
#[derive(Clone, Copy, Debug, PartialEq, Eq, ValueEnum, Serialize)]
#[serde(rename_all = "kebab-case")]
pub enum LogProtect {
    /// Harvesting write-protects.
    Off,
    /// Clearing write-protects.
    Manual,
    /// Clearing write-protects, and logging starts with every page dirty.
    InitiallySet,
    /// A ring per vCPU instead of bitmaps; harvesting reads it, and its reset write-protects (5.11 and later).
    Ring,
}

impl Backing {
    /// Returns the page size that the size of a slot must be a multiple of, bytes.
    pub fn page_size(self) -> u64 {
        match self {
            Self::Small
            | Self::Plain
            | Self::Sparse
            | Self::Shmem
            | Self::Device
            | Self::GuestMemfd => PAGE,
            Self::Thp | Self::Hugetlb => HUGE,
            Self::Hugetlb1G => GIB,
        }
    }

    /// Whether its pages are reserved ones of hugetlbfs.
    pub fn is_hugetlb(self) -> bool {
        matches!(self, Self::Hugetlb | Self::Hugetlb1G)
    }
}
