//! Kernel functions that the shared programs are attached to.

use super::MarkKind;
use crate::ids;

ids! {
    /// The work of the shared programs at a function. Numbers are below 16, see
    /// [`super::Thread::roles`]; those that a mark reports the end of are numbered like that mark.
    ///
    /// The first argument is the VM, where nothing else is said.
    pub enum Role: u32 {
        /// An operation, which names the cause of the SPTE changes in it.
        Operation = 1,
        /// An operation that names the cause where no other encloses it.
        Outermost = 2,
        /// A notifier `(mn, range)`: an operation whose cause depends on the event of the range and on
        /// the thread.
        Invalidation = 3,
        /// The change of a memslot: an operation in which the collapse routine may run.
        SlotChange = 4,
        /// The collapse routine `(kvm, slot)`, an operation.
        Collapse = 5,
        /// The zap of all that is left when a VM ends, an operation.
        Flush = 6,
        /// The end of a VM, an operation: the VM's structure is free when it returns.
        Destruction = 7,
        /// Work on host memory, of any process: the notifiers that it calls have its cause.
        Host = 8,
        /// The creation of a VM.
        Creation = 9,
        /// An operation that is the body of a thread, and ends with it.
        Endless = 10,
        /// The publication of a memslot `(kvm, [mem,] old, new, change)`.
        Commit = 11,
        /// The rescheduling of a thread that holds a lock.
        Yield = 12,
        /// An operation whose first argument is a vCPU.
        OfVcpu = 13,
        /// The migration of pages, work on host memory whose sixth argument is the reason
        /// (`enum migrate_reason`): that of NUMA balancing has a cause of its own.
        Migration = 14,
    }
}

const _: () = {
    assert!(Role::Collapse as u32 == MarkKind::CollapseSpan as u32);
    assert!(Role::Flush as u32 == MarkKind::VmFlushed as u32);
    assert!(Role::Destruction as u32 == MarkKind::VmFreed as u32);
};

impl Role {
    /// Whether the function's return is seen, too.
    pub const fn returns(self) -> bool {
        !matches!(self, Self::Creation | Self::Endless | Self::Commit | Self::Yield)
    }
}

/// Knowledge of a function, for the programs that functions share.
#[repr(C)]
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Function {
    /// [`crate::Cause`] by number; 0 where there is none, or where the role gives it.
    pub cause: u32,
    /// [`Role`] by number.
    pub role: u32,
    /// Times that it was entered.
    pub hits: u64,
}

impl Function {
    /// Bytes from a function's first to the address that a program at its entry finds in the
    /// instruction pointer: a landing pad (4) and the call of the tracer (5) may lie between.
    const PROBED: u64 = 9;

    /// Returns the key of the function that a program runs in, from the instruction pointer.
    ///
    /// It depends on how the function is probed where in its first bytes that points to. Functions are
    /// aligned to 16 bytes by all but special builds.
    #[inline(always)]
    pub const fn key(ip: u64) -> u64 {
        ip & !15
    }

    /// Returns the first and the last key that a function at `address` may be found by: the same one
    /// if it is aligned.
    pub const fn keys(address: u64) -> [u64; 2] {
        [Self::key(address), Self::key(address + Self::PROBED)]
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn every_probed_address_of_a_function_has_a_key() {
        for address in (0x1000..0x1010).chain([u64::MAX - 31]) {
            let keys = Function::keys(address);
            for into in 0..=Function::PROBED {
                assert!(keys.contains(&Function::key(address + into)), "{address:x} + {into}");
            }
        }
        assert_eq!(Function::keys(0x1000), [0x1000; 2]);
    }

    #[test]
    fn roles_fit_the_stack_of_roles() {
        assert!(Role::ALL.iter().all(|role| (1..16).contains(&(*role as u32))));
    }

    #[test]
    fn only_what_a_thread_is_in_returns() {
        let once = [Role::Creation, Role::Endless, Role::Commit, Role::Yield];
        assert!(Role::ALL.iter().all(|role| role.returns() != once.contains(role)));
    }
}
