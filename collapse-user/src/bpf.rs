//! The system call `bpf(2)` for what aya 0.14 has no type for: programs that only user space runs, and
//! links to many functions at once. `docs/ebpf.md` says what aya would need.
//!
//! Each command has its arguments as a struct: the beginning of its part of `union bpf_attr` in
//! `include/uapi/linux/bpf.h`, up to the last field in use. The kernel takes what follows as zero.

use std::{
    io,
    os::fd::{AsRawFd as _, BorrowedFd, FromRawFd as _, OwnedFd},
    ptr,
};

use aya_obj::generated::bpf_insn;

/// `BPF_PROG_LOAD`
const PROG_LOAD: libc::c_int = 5;
/// `BPF_LINK_CREATE`
const LINK_CREATE: libc::c_int = 28;
/// `BPF_PROG_TEST_RUN`, now called `BPF_PROG_RUN`
const PROG_RUN: libc::c_int = 10;

/// `BPF_PROG_TYPE_KPROBE`
const TYPE_KPROBE: u32 = 2;
/// `BPF_PROG_TYPE_SYSCALL`, 5.14 and later: a program that is never attached.
const TYPE_SYSCALL: u32 = 31;
/// `BPF_F_SLEEPABLE`, which the kernel demands of such a program.
const SLEEPABLE: u32 = 1 << 4;

/// `BPF_TRACE_KPROBE_MULTI`, 5.18 and later
const KPROBE_MULTI: u32 = 42;
/// `BPF_F_KPROBE_MULTI_RETURN`: at the functions' returns.
const AT_RETURN: u32 = 1;

/// Longest name of a program, with its closing zero: `BPF_OBJ_NAME_LEN`.
const NAME: usize = 16;

/// Arguments of `BPF_PROG_LOAD`.
#[repr(C)]
#[derive(Default)]
struct ProgLoad {
    prog_type: u32,
    insn_cnt: u32,
    insns: u64,
    license: u64,
    log_level: u32,
    log_size: u32,
    log_buf: u64,
    kern_version: u32,
    prog_flags: u32,
    prog_name: [u8; NAME],
    prog_ifindex: u32,
    expected_attach_type: u32,
}

impl ProgLoad {
    fn of(instructions: &[bpf_insn]) -> Self {
        Self {
            insn_cnt: instructions.len() as u32,
            insns: instructions.as_ptr() as u64,
            // As the object declares it.
            license: c"Dual MIT/GPL".as_ptr() as u64,
            ..Self::default()
        }
    }
}

/// Arguments of `BPF_LINK_CREATE` for kprobes.
#[repr(C)]
#[derive(Default)]
struct LinkCreate {
    prog_fd: u32,
    target_fd: u32,
    attach_type: u32,
    flags: u32,
    kprobe_multi_flags: u32,
    kprobe_multi_cnt: u32,
    kprobe_multi_syms: u64,
    kprobe_multi_addrs: u64,
    kprobe_multi_cookies: u64,
}

/// Arguments of `BPF_PROG_RUN`.
#[repr(C)]
#[derive(Default)]
struct ProgRun {
    prog_fd: u32,
    retval: u32,
    data_size_in: u32,
    data_size_out: u32,
    data_in: u64,
    data_out: u64,
    repeat: u32,
    duration: u32,
    ctx_size_in: u32,
    ctx_size_out: u32,
    ctx_in: u64,
    ctx_out: u64,
}

/// Loads a kprobe program for [`attach`].
///
/// # Errors
///
/// Where the kernel has no such links (before 5.18) or refuses the program.
pub fn load_kprobe(name: &str, instructions: &[bpf_insn]) -> io::Result<OwnedFd> {
    let mut attr = ProgLoad {
        prog_type: TYPE_KPROBE,
        expected_attach_type: KPROBE_MULTI,
        ..ProgLoad::of(instructions)
    };
    for (place, byte) in attr.prog_name[..NAME - 1].iter_mut().zip(name.bytes()) {
        *place = byte;
    }
    // SAFETY: the struct is the command's, and what it points to is alive and only read.
    unsafe { open(PROG_LOAD, &mut attr) }
}

/// Attaches a program that [`load_kprobe`] loaded to the entries of functions, or to their returns, for as
/// long as the link is open.
///
/// Each function has a cookie, of which no use is made: since 6.17 `bpf_kprobe_multi_show_fdinfo` reads them without
/// asking whether there are any, and a kernel without the fix (Debian's 6.18.15) dies as soon as somebody reads the
/// link's file in `/proc/PID/fdinfo`.
///
/// # Errors
///
/// Where one of the functions cannot be probed; the program is then attached to none.
pub fn attach(program: BorrowedFd<'_>, addresses: &[u64], at_return: bool) -> io::Result<OwnedFd> {
    let cookies = vec![0_u64; addresses.len()];
    let mut attr = LinkCreate {
        prog_fd: program.as_raw_fd() as u32,
        attach_type: KPROBE_MULTI,
        kprobe_multi_flags: if at_return { AT_RETURN } else { 0 },
        kprobe_multi_cnt: addresses.len() as u32,
        kprobe_multi_addrs: addresses.as_ptr() as u64,
        kprobe_multi_cookies: cookies.as_ptr() as u64,
        ..LinkCreate::default()
    };
    // SAFETY: the struct is the command's, and what it points to is alive and only read.
    unsafe { open(LINK_CREATE, &mut attr) }
}

/// Loads a program that only [`run`] runs.
///
/// # Errors
///
/// Where the kernel has no such programs (before 5.14) or refuses this one.
pub fn load_runnable(instructions: &[bpf_insn]) -> io::Result<OwnedFd> {
    let mut attr =
        ProgLoad { prog_type: TYPE_SYSCALL, prog_flags: SLEEPABLE, ..ProgLoad::of(instructions) };
    // SAFETY: the struct is the command's, and what it points to is alive and only read.
    unsafe { open(PROG_LOAD, &mut attr) }
}

/// Runs a program that [`load_runnable`] loaded with `context` as its argument, which it may change,
/// and returns its result.
///
/// # Errors
///
/// Where the kernel does not run it.
pub fn run<T>(program: BorrowedFd<'_>, context: &mut T) -> io::Result<i32> {
    let mut attr = ProgRun {
        prog_fd: program.as_raw_fd() as u32,
        ctx_size_in: size_of::<T>() as u32,
        ctx_in: ptr::from_mut(context) as u64,
        ..ProgRun::default()
    };
    // SAFETY: the struct is the command's; the context is alive, and the kernel writes no more than its
    // size to it.
    unsafe { call(PROG_RUN, &mut attr) }?;
    Ok(attr.retval.cast_signed())
}

/// Makes the system call, which returns a new file descriptor.
///
/// # Safety
///
/// As for [`call`], of a command that makes a file.
unsafe fn open<T>(command: libc::c_int, attr: &mut T) -> io::Result<OwnedFd> {
    // SAFETY: as the caller promises.
    let fd = unsafe { call(command, attr) }?;
    // SAFETY: the command made the file, and nobody else knows of it.
    Ok(unsafe { OwnedFd::from_raw_fd(fd) })
}

/// Makes the system call.
///
/// # Safety
///
/// `attr` must be the arguments of `command`, and all that it points to valid as the command needs it.
unsafe fn call<T>(command: libc::c_int, attr: &mut T) -> io::Result<libc::c_int> {
    // SAFETY: as the caller promises; the kernel reads and writes no more of `attr` than its size.
    let result =
        unsafe { libc::syscall(libc::SYS_bpf, command, ptr::from_mut(attr), size_of::<T>()) };
    match result {
        0.. => Ok(result as libc::c_int),
        _ => Err(io::Error::last_os_error()),
    }
}
