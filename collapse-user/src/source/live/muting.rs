//! Rows whose changes the user does not want: they are counted, but not recorded.

use std::{collections::BTreeSet, rc::Rc};

use collapse_common::{Cause, abi::RowOwner};
use collapse_feed::VmProcess;

use super::{rows::Rows, vms::Vms};
use crate::source::maps::Maps;

/// Whether changes of a VM, of this process and file descriptor, by a cause are to be recorded.
pub type RowFilter = Rc<dyn Fn(&VmProcess, Option<u32>, Cause) -> bool>;

/// Decides once on each row in use, as soon as the process behind its VM is known.
pub struct Muting {
    /// `None` if all changes are recorded.
    wanted: Option<RowFilter>,
    /// Rows already judged: recorded or muted.
    judged: BTreeSet<u32>,
}

impl Muting {
    /// Mutes rows that are not `wanted`; none without a filter.
    pub fn new(wanted: Option<RowFilter>) -> Self {
        Self { wanted, judged: BTreeSet::new() }
    }

    /// Judges rows that became known.
    pub fn judge(&mut self, rows: &Rows, vms: &Vms, maps: &mut Maps) {
        let Some(wanted) = &self.wanted else { return };
        for (row, owner) in rows.used() {
            if self.judged.contains(&row) {
                continue;
            }
            let Some((process, fd)) = vms.process(owner.vm) else { continue };
            let cause = Cause::from_number(owner.cause as u8).unwrap_or(Cause::Unknown);
            let muted = !wanted(process, fd, cause);
            maps.owners.write(row as usize, &RowOwner { muted: muted.into(), ..*owner });
            self.judged.insert(row);
        }
    }

    /// Forgets a row that was given back.
    pub fn forget(&mut self, row: u32) {
        self.judged.remove(&row);
    }
}
