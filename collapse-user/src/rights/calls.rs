//! System calls that fail from some time on, as a filter of seccomp.
//!
//! Whoever took the program over could do less with it. What is needed is not listed, as libraries and kernels differ in
//! it: what would be of use to such a one, and never is to us, is denied.

use std::{collections::BTreeMap, env};

use seccompiler::{
    BpfProgram, SeccompAction, SeccompCmpArgLen as Length, SeccompCmpOp as Compare,
    SeccompCondition as Condition, SeccompFilter, SeccompRule as Rule, apply_filter,
};

/// Calls that are denied whatever their arguments are.
const DENIED: [libc::c_long; 52] = [
    // Other programs.
    libc::SYS_execve,
    libc::SYS_execveat,
    // Other processes.
    libc::SYS_ptrace,
    libc::SYS_process_vm_readv,
    libc::SYS_process_vm_writev,
    libc::SYS_process_madvise,
    libc::SYS_pidfd_getfd,
    libc::SYS_kcmp,
    // Mounts, namespaces and roots.
    libc::SYS_mount,
    libc::SYS_umount2,
    libc::SYS_move_mount,
    libc::SYS_open_tree,
    libc::SYS_fsopen,
    libc::SYS_fsconfig,
    libc::SYS_fsmount,
    libc::SYS_fspick,
    libc::SYS_mount_setattr,
    libc::SYS_pivot_root,
    libc::SYS_chroot,
    libc::SYS_setns,
    libc::SYS_unshare,
    // Other code in the kernel, or another kernel.
    libc::SYS_init_module,
    libc::SYS_finit_module,
    libc::SYS_delete_module,
    libc::SYS_kexec_load,
    libc::SYS_kexec_file_load,
    libc::SYS_reboot,
    // The machine.
    libc::SYS_swapon,
    libc::SYS_swapoff,
    libc::SYS_acct,
    libc::SYS_quotactl,
    libc::SYS_quotactl_fd,
    libc::SYS_sethostname,
    libc::SYS_setdomainname,
    libc::SYS_settimeofday,
    libc::SYS_clock_settime,
    libc::SYS_clock_adjtime,
    libc::SYS_adjtimex,
    libc::SYS_iopl,
    libc::SYS_ioperm,
    libc::SYS_mknod,
    libc::SYS_mknodat,
    libc::SYS_open_by_handle_at,
    // Keys.
    libc::SYS_add_key,
    libc::SYS_request_key,
    libc::SYS_keyctl,
    // Interfaces of the kernel in which much was found that others could use.
    libc::SYS_userfaultfd,
    libc::SYS_io_uring_setup,
    libc::SYS_io_uring_enter,
    libc::SYS_io_uring_register,
    libc::SYS_modify_ldt,
    libc::SYS_personality,
];

/// Families of sockets that may be made: those of the exporter, and of the service manager.
const FAMILIES: [libc::c_int; 3] = [libc::AF_UNIX, libc::AF_INET, libc::AF_INET6];

/// Flags of `clone` that make a namespace.
const NAMESPACES: [libc::c_int; 7] = [
    libc::CLONE_NEWNS,
    libc::CLONE_NEWCGROUP,
    libc::CLONE_NEWUTS,
    libc::CLONE_NEWIPC,
    libc::CLONE_NEWUSER,
    libc::CLONE_NEWPID,
    libc::CLONE_NEWNET,
];

/// Denies those calls to the calling thread and to what it starts later.
pub fn deny() -> seccompiler::Result<()> {
    for program in programs()? {
        apply_filter(&program)?;
    }
    Ok(())
}

/// A program for each error that calls fail with.
fn programs() -> seccompiler::Result<[BpfProgram; 2]> {
    let mut denied: BTreeMap<_, _> = DENIED.map(|call| (call, Vec::new())).into();
    denied.insert(libc::SYS_socket, vec![other_families()?]);
    denied.insert(libc::SYS_clone, namespaces()?);
    // Its flags are in memory, where no filter sees them. C libraries take it for missing, and clone.
    let missing = BTreeMap::from([(libc::SYS_clone3, Vec::new())]);
    Ok([program(denied, libc::EPERM)?, program(missing, libc::ENOSYS)?])
}

fn program(
    rules: BTreeMap<libc::c_long, Vec<Rule>>,
    error: libc::c_int,
) -> seccompiler::Result<BpfProgram> {
    let fail = SeccompAction::Errno(error.unsigned_abs());
    let architecture = env::consts::ARCH.try_into()?;
    Ok(SeccompFilter::new(rules, SeccompAction::Allow, fail, architecture)?.try_into()?)
}

fn other_families() -> Result<Rule, seccompiler::BackendError> {
    let is_other =
        |family: libc::c_int| Condition::new(0, Length::Dword, Compare::Ne, family as u64);
    Rule::new(FAMILIES.map(is_other).into_iter().collect::<Result<_, _>>()?)
}

/// A rule for each flag.
fn namespaces() -> Result<Vec<Rule>, seccompiler::BackendError> {
    let has = |flag: libc::c_int| {
        let flag = u64::from(flag.cast_unsigned());
        let set = Condition::new(0, Length::Qword, Compare::MaskedEq(flag), flag)?;
        Rule::new(vec![set])
    };
    NAMESPACES.into_iter().map(has).collect()
}

#[cfg(test)]
mod tests {
    use std::{io, net::TcpListener, process::Command, thread};

    use super::*;

    /// Runs in a thread of its own, as filters stay.
    fn denied<T: Send + 'static>(work: impl FnOnce() -> T + Send + 'static) -> T {
        let thread = thread::spawn(|| {
            deny().unwrap();
            work()
        });
        thread.join().unwrap()
    }

    fn error(result: libc::c_long) -> Option<i32> {
        (result < 0).then(|| io::Error::last_os_error().raw_os_error().unwrap())
    }

    #[test]
    fn no_other_program_is_executed() {
        let run = || Command::new("true").status().map_err(|error| error.raw_os_error());
        assert!(run().unwrap().success());
        assert_eq!(denied(run).unwrap_err(), Some(libc::EPERM));
    }

    #[test]
    fn calls_of_no_use_are_denied() {
        let errors = || {
            // SAFETY: with such arguments none has an effect.
            DENIED.map(|call| error(unsafe { libc::syscall(call, -1, -1, -1, -1, -1, -1) }))
        };
        assert_eq!(denied(errors), DENIED.map(|_| Some(libc::EPERM)));
    }

    #[test]
    fn sockets_are_of_some_families() {
        let socket = |family: libc::c_int| {
            // SAFETY: makes a descriptor at most, which stays until the test ends.
            error(unsafe { libc::syscall(libc::SYS_socket, family, libc::SOCK_DGRAM, 0) })
        };
        let made = move || [libc::AF_UNIX, libc::AF_INET, libc::AF_NETLINK].map(socket);
        assert_eq!(made(), [None; 3]);
        assert_eq!(denied(made), [None, None, Some(libc::EPERM)]);
    }

    #[test]
    fn threads_can_be_started_but_no_namespaces() {
        let clone = || {
            let flags = libc::CLONE_NEWUSER | libc::CLONE_FS;
            // SAFETY: a new namespace with a shared root directory is refused, so that nothing is started.
            error(unsafe { libc::syscall(libc::SYS_clone, flags, 0, 0, 0, 0) })
        };
        assert_eq!(clone(), Some(libc::EINVAL));
        assert_eq!(denied(clone), Some(libc::EPERM));
        assert_eq!(denied(|| thread::spawn(|| 7).join().unwrap()), 7);
    }

    #[test]
    fn what_is_needed_goes_on() {
        let bpf = || {
            // SAFETY: no command has this number, and there are no attributes.
            error(unsafe { libc::syscall(libc::SYS_bpf, -1, 0, 0) })
        };
        let before = bpf();
        assert_eq!(denied(bpf), before, "programs are attached again when KVM is loaded again");
        let served = denied(|| TcpListener::bind("127.0.0.1:0").map(drop));
        assert!(served.is_ok());
        assert!(denied(|| std::fs::read("/proc/self/status")).is_ok());
    }
}
