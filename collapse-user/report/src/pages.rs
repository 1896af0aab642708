//! KVM's own gauges, mappings by size, and whether our counts agree with them.

use collapse_common::abi::Pages;
use schemars::JsonSchema;
use serde::{Deserialize, Serialize};

use collapse_model::{Grade, Reconciliation, Vm, wording};

/// KVM's own gauges, and whether our counts agree.
#[derive(Clone, Debug, Serialize, Deserialize, JsonSchema)]
pub struct PagesReport {
    /// At the start of the window; zero for a VM created inside it.
    pub start: Option<PagesBySize>,
    /// At its end, or just before teardown.
    pub end: Option<PagesBySize>,
    /// Change of the gauges minus what the counted changes add up to, when both were last read together. Zero if
    /// it adds up.
    pub residual: Option<ResidualBySize>,
    /// When that was, `CLOCK_MONOTONIC` ns.
    #[serde(default)]
    #[schemars(extend("x-sum" = false))]
    pub compared_ns: Option<u64>,
}

/// Mappings by size.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
pub struct PagesBySize {
    /// 4 KiB.
    #[serde(rename = "4k")]
    pub small: u64,
    /// 2 MiB.
    #[serde(rename = "2m")]
    pub huge: u64,
    /// 1 GiB.
    #[serde(rename = "1g")]
    pub giant: u64,
}

/// Residual by size.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
pub struct ResidualBySize {
    /// 4 KiB.
    #[serde(rename = "4k")]
    pub small: i64,
    /// 2 MiB.
    #[serde(rename = "2m")]
    pub huge: i64,
    /// 1 GiB.
    #[serde(rename = "1g")]
    pub giant: i64,
}

/// Whether counts and gauges agree, over intervals between two readings during which nothing changed.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
pub struct ReconciliationReport {
    /// Over the whole time.
    pub grade: Grade,
    /// Intervals judged.
    pub intervals: u64,
    /// Checks that agreed to the last SPTE.
    pub exact: u64,
    /// Checks that did not.
    pub off: u64,
}

impl PagesReport {
    pub(super) fn new(vm: &Vm) -> Self {
        let residual = |[small, huge, giant]: [i64; 3]| ResidualBySize { small, huge, giant };
        Self {
            start: vm.pages_at_start.map(PagesBySize::from),
            end: vm.pages().map(PagesBySize::from),
            residual: vm.residual().map(residual),
            compared_ns: vm.compared_at(),
        }
    }
}

impl ReconciliationReport {
    pub(super) fn new(reconciliation: &Reconciliation) -> Self {
        let &Reconciliation { intervals, exact, off, .. } = reconciliation;
        Self { grade: reconciliation.grade(), intervals, exact, off }
    }
}

impl From<Pages> for PagesBySize {
    fn from([small, huge, giant]: Pages) -> Self {
        Self { small, huge, giant }
    }
}

impl PagesBySize {
    /// Memory that is mapped, bytes.
    pub fn bytes(self) -> u64 {
        wording::mapped_sum(self.into())
    }

    /// Memory that is mapped huge, as a part of what is mapped; `None` if nothing is.
    pub fn huge_share(self) -> Option<f64> {
        wording::huge_share(self.into())
    }

    /// Memory that is mapped by 2 MiB leaves, as a part of what is mapped; `None` if nothing is.
    pub fn share_2m(self) -> Option<f64> {
        Some(wording::mapped_shares(self.into())?[1])
    }

    /// Memory that is mapped by 1 GiB leaves, as a part of what is mapped; `None` if nothing is.
    pub fn share_1g(self) -> Option<f64> {
        Some(wording::mapped_shares(self.into())?[2])
    }
}

impl From<PagesBySize> for Pages {
    fn from(PagesBySize { small, huge, giant }: PagesBySize) -> Self {
        [small, huge, giant]
    }
}

impl From<ResidualBySize> for [i64; 3] {
    fn from(ResidualBySize { small, huge, giant }: ResidualBySize) -> Self {
        [small, huge, giant]
    }
}

/// A part of a whole; `None` if there is nothing.
pub(super) fn ratio(part: u64, whole: u64) -> Option<f64> {
    (whole > 0).then(|| part as f64 / whole as f64)
}
