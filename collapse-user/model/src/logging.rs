//! How KVM learns which pages a guest writes to while dirty logging is on.

use collapse_common::{Cause, Transition, counter::index};

use crate::totals::Totals;

/// How KVM learns which pages a guest writes to while dirty logging is on. It is the same for every memslot of a
/// VM.
#[derive(
    Clone, Copy, Debug, PartialEq, Eq, serde::Serialize, serde::Deserialize, schemars::JsonSchema,
)]
#[serde(rename_all = "snake_case")]
pub enum LoggedBy {
    /// The CPU logs them (PML): KVM clears dirty bits.
    Pml,
    /// Their first write faults: KVM write-protects small leaves.
    WriteFaults,
    /// The CPU logs them, but for some: what a guest of the guest maps is write-protected.
    PmlAndWriteFaults,
}

impl LoggedBy {
    /// Judges by whether the CPU logs dirty pages, if that is known, and by how many small leaves dirty logging
    /// write-protected.
    pub fn of(pml: Option<bool>, protected: u64) -> Option<Self> {
        Some(match (pml?, protected) {
            (true, 0) => Self::Pml,
            (true, _) => Self::PmlAndWriteFaults,
            (false, _) => Self::WriteFaults,
        })
    }

    /// It in words, after *logged by*.
    pub fn label(self) -> &'static str {
        match self {
            Self::Pml => "PML",
            Self::WriteFaults => "write faults",
            Self::PmlAndWriteFaults => "PML, and by write faults where it cannot",
        }
    }
}

/// Operations of dirty logging that write-protect pages where the CPU does not log them.
const LOGGING: [Cause; 4] =
    [Cause::LogProtect, Cause::GetDirtyLog, Cause::ClearDirtyLog, Cause::ResetDirtyRing];

/// Leaves of 4 KiB that dirty logging write-protected. With PML, it does that to larger ones only, for them to be
/// split.
pub(crate) fn protected(totals: &Totals) -> u64 {
    let rows = LOGGING.iter().filter_map(|cause| totals.row(*cause));
    rows.map(|row| row[index(Transition::WriteProtect, 1)]).sum()
}

#[cfg(test)]
mod tests {
    use collapse_common::counter::COUNTERS;

    use super::*;

    #[test]
    fn only_small_leaves_that_dirty_logging_protects_say_that_writes_fault() {
        let mut totals = Totals::default();
        let mut protects = |cause, level| {
            let mut row = Box::new([0; COUNTERS]);
            row[index(Transition::WriteProtect, level)] = 8;
            totals.set(cause, row);
            protected(&totals)
        };
        assert_eq!(protects(Cause::LogProtect, 2), 0);
        assert_eq!(protects(Cause::NotifierKsm, 1), 0);
        assert_eq!(protects(Cause::GetDirtyLog, 1), 8);
        let by = |pml| [0, 8].map(|protected| LoggedBy::of(pml, protected));
        assert_eq!(by(None), [None; 2]);
        assert_eq!(by(Some(false)), [Some(LoggedBy::WriteFaults); 2]);
        assert_eq!(by(Some(true)), [LoggedBy::Pml, LoggedBy::PmlAndWriteFaults].map(Some));
    }
}
