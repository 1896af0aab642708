//! Regions that got their huge leaf back, until they lose it again.

use std::collections::HashMap;

use collapse_common::Cause;

use super::{Lost, Recovery, Region};

/// Regions remembered per VM at most; of further ones only counts are kept.
pub const RETURNED_KEPT: usize = 16_384;

/// A region that got its huge leaf back.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Returned {
    /// State of the region while it had no huge leaf.
    pub lost: Lost,
    /// `CLOCK_MONOTONIC` ns from which on it could have one.
    pub since: u64,
    /// `CLOCK_MONOTONIC` ns at which it came back.
    pub at: u64,
    /// In what operation.
    pub cause: Cause,
    /// How.
    pub how: Recovery,
    /// Whether write-protected.
    pub read_only: bool,
}

/// Those of one VM.
#[derive(Clone, Debug, Default)]
pub struct ReturnedRegions(HashMap<Region, Returned>);

impl ReturnedRegions {
    pub(super) fn insert(&mut self, region: Region, returned: Returned) {
        if self.0.len() < RETURNED_KEPT || self.0.contains_key(&region) {
            self.0.insert(region, returned);
        }
    }

    pub(super) fn remove(&mut self, region: Region) {
        self.0.remove(&region);
    }

    pub(super) fn retain(&mut self, keep: impl Fn(Region) -> bool) {
        self.0.retain(|region, _| keep(*region));
    }

    /// One of them.
    pub fn get(&self, region: Region) -> Option<&Returned> {
        self.0.get(&region)
    }

    /// All, in no order.
    pub fn iter(&self) -> impl Iterator<Item = (Region, &Returned)> {
        self.0.iter().map(|(region, returned)| (*region, returned))
    }
}
