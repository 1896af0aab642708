//! The rights that the process gives up once it watches.
//!
//! What it reads and whom it serves is the work of others, so it keeps no right that it has no use for: programs may have
//! to be attached again, when KVM is loaded again, and processes of VMs are looked at. A command that it runs was started
//! before that, and keeps its rights.

mod calls;

use std::io;

use caps::{CapSet, CapsHashSet, errors::CapsError};

use crate::kernel::inspect::Capability;

/// Work that is still to be done.
#[derive(Clone, Copy, Debug, Default)]
pub struct StillToDo {
    /// Replacing files, in folders that may be somebody else's.
    pub replace_files: bool,
    /// Passing signals on to a command, which may run as another user.
    pub signal_command: bool,
}

impl StillToDo {
    /// The capabilities for it, where the thread has them.
    fn capabilities(self) -> CapsHashSet {
        let attaching =
            Capability::ALL.iter().filter_map(|capability| capability.name().parse().ok());
        let files = [caps::Capability::CAP_DAC_OVERRIDE, caps::Capability::CAP_FOWNER];
        let files = files.into_iter().filter(|_| self.replace_files);
        let signals = self.signal_command.then_some(caps::Capability::CAP_KILL);
        attaching.chain(files).chain(signals).collect()
    }
}

/// Gives up what the calling thread and what it starts later need no more. What was started before keeps its rights.
pub fn give_up_all_but(work: StillToDo) {
    give_up(&work.capabilities());
}

/// Gives up every right of the calling thread.
pub fn give_up_all() {
    give_up(&CapsHashSet::new());
}

fn give_up(kept: &CapsHashSet) {
    if let Err(error) = keep_only(kept) {
        log::info!("rights that are not needed were kept: {error}");
    }
    // SAFETY: a plain system call on the calling thread.
    if unsafe { libc::prctl(libc::PR_SET_NO_NEW_PRIVS, 1, 0, 0, 0) } != 0 {
        log::info!("programs may give new rights: {}", io::Error::last_os_error());
    }
    if let Err(error) = calls::deny() {
        log::info!("calls that are not needed were not denied: {error}");
    }
}

/// What is not permitted any more cannot be had again.
fn keep_only(kept: &CapsHashSet) -> Result<(), CapsError> {
    for set in [CapSet::Inheritable, CapSet::Effective, CapSet::Permitted] {
        let had = caps::read(None, set)?;
        caps::set(None, set, &had.intersection(kept).copied().collect())?;
    }
    Ok(())
}

#[cfg(test)]
mod tests {
    use std::thread;

    use super::*;

    #[test]
    fn every_capability_is_known_by_its_name() {
        assert_eq!(StillToDo::default().capabilities().len(), Capability::ALL.len());
        let more = StillToDo { replace_files: true, signal_command: true }.capabilities();
        assert_eq!(more.len(), Capability::ALL.len() + 3);
    }

    /// In a thread of its own, as the others of the test keep theirs.
    #[test]
    fn what_is_given_up_is_gone() {
        let work = StillToDo { replace_files: true, ..StillToDo::default() };
        let gone = thread::spawn(move || {
            let before = caps::read(None, CapSet::Permitted).unwrap();
            give_up_all_but(work);
            let kept = caps::read(None, CapSet::Effective).unwrap();
            assert!(kept.is_subset(&work.capabilities()));
            let permitted = caps::read(None, CapSet::Permitted).unwrap();
            assert_eq!(permitted, before.intersection(&work.capabilities()).copied().collect());
            give_up_all();
            caps::read(None, CapSet::Permitted).unwrap()
        });
        assert!(gone.join().unwrap().is_empty());
    }
}
