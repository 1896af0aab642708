//! From where on something is reported.

/// From where on something is reported.
#[derive(Clone, Copy, Debug, PartialEq)]
pub struct Thresholds {
    /// Dirty logging on for longer, ns.
    pub logging_ns: u64,
    /// Regions still mapped small so long after dirty logging went off, ns.
    pub small_ns: u64,
    /// Fewer regions, splits or zaps are not reported.
    pub least: u64,
    /// Part of recovered regions that came back write-protected.
    pub read_only_share: f64,
    /// 4 KiB leaves that guest faults installed while the collapse routine ran.
    pub raced: u64,
    /// Part of hugetlb memory that is mapped by 4 KiB leaves.
    pub hugetlb_share: f64,
    /// Part of what is mapped that is mapped by 4 KiB leaves and was not huge while watched.
    pub never_huge_share: f64,
    /// Times that regions are taken by the host and faulted back, from the third time of each on.
    pub thrash: u64,
    /// Memslots deleted or moved.
    pub churn: u64,
    /// Times that dirty logging goes on.
    pub periodic: u64,
    /// A vCPU takes faults at one page of which none is resolved for so long, ns.
    pub stuck_ns: u64,
    /// Regions that reclaim or migration took their huge page from.
    pub taken: u64,
    /// A guest fault waits for `mmu_lock` for so long, ns.
    pub lock_ns: u64,
    /// Guest faults of which nothing came.
    pub retried: u64,
    /// Part of all guest faults that these are. Each write that breaks copy-on-write costs one, as the vCPU's own
    /// fault changes the host's mapping, and one that succeeds.
    pub retried_share: f64,
    /// The longest call that reads, clears or resets the log of dirty pages, ns.
    pub dirty_log_ns: u64,
}

impl Default for Thresholds {
    fn default() -> Self {
        Self {
            logging_ns: 600_000_000_000,
            small_ns: 10_000_000_000,
            least: 8,
            read_only_share: 0.25,
            raced: 512,
            hugetlb_share: 0.1,
            never_huge_share: 0.5,
            thrash: 32,
            churn: 8,
            periodic: 4,
            stuck_ns: 100_000_000,
            taken: 32,
            lock_ns: 100_000_000,
            retried: 1_000,
            retried_share: 0.5,
            dirty_log_ns: 100_000_000,
        }
    }
}
