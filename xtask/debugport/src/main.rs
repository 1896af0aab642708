//! `debugport FIFO...`: copies what is written to the FIFOs, in frames, to the debug port 0xE9 of the
//! emulator that this machine runs in. A FIFO's place among the arguments is its stream's number.

use std::{
    arch::asm,
    fs::{File, OpenOptions},
    io::{self, Read},
    os::fd::AsRawFd,
};

use anyhow::{Context, Result};
use debugport::{START, header};

/// The port, whose bytes Bochs writes to its stdout.
const PORT: u16 = 0xe9;

/// As many bytes as a FIFO holds.
const BUFFER: usize = 32 * 1024;

fn main() -> Result<()> {
    // SAFETY: takes and returns plain integers.
    if unsafe { libc::iopl(3) } != 0 {
        return Err(io::Error::last_os_error()).context("asking for access to ports");
    }
    let mut fifos = Vec::new();
    for path in std::env::args().skip(1) {
        // For writing, too: it then never comes to an end.
        let fifo = OpenOptions::new().read(true).write(true).open(&path);
        fifos.push(fifo.with_context(|| format!("opening {path}"))?);
    }
    write(START);
    let mut buffer = vec![0; BUFFER];
    loop {
        for (stream, mut fifo) in readable(&fifos)? {
            let length = fifo.read(&mut buffer).context("reading a FIFO")?;
            write(&header(u8::try_from(stream)?, u16::try_from(length)?));
            write(&buffer[..length]);
        }
    }
}

/// Waits for FIFOs that have something to read, and returns them with their places.
fn readable(fifos: &[File]) -> Result<impl Iterator<Item = (usize, &File)>> {
    let watch =
        |fifo: &File| libc::pollfd { fd: fifo.as_raw_fd(), events: libc::POLLIN, revents: 0 };
    let mut watched: Vec<_> = fifos.iter().map(watch).collect();
    // SAFETY: the pointer and the length are those of one vector.
    let ready = unsafe { libc::poll(watched.as_mut_ptr(), watched.len() as libc::nfds_t, -1) };
    if ready < 0 {
        return Err(io::Error::last_os_error()).context("waiting for FIFOs");
    }
    let ready = fifos.iter().enumerate().zip(watched);
    Ok(ready.filter(|(_, watched)| watched.revents & libc::POLLIN != 0).map(|(fifo, _)| fifo))
}

fn write(bytes: &[u8]) {
    // SAFETY: access to ports was granted, and the instruction reads the slice from its begin to its end.
    unsafe {
        asm!("rep outsb", in("dx") PORT, inout("rsi") bytes.as_ptr() => _, inout("rcx") bytes.len() => _,
            options(readonly, nostack, preserves_flags));
    }
}
