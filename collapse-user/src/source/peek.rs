//! Reading of kernel memory, by a program that user space runs itself.

use collapse_common::abi::{
    ANSWER, ANSWERED, Peeked,
    request::{Peek, Request},
};

use super::mapped::Mapped;
use crate::probe::Probe;

/// Kernel memory, as far as it can be read.
pub trait KernelMemory {
    /// Reads the bytes from `address` on. `None` if they cannot be read; `into` is then undefined.
    fn read(&self, address: u64, into: &mut [u8]) -> Option<()>;

    /// Reads a word.
    fn word(&self, address: u64) -> Option<u64> {
        let mut bytes = [0; 8];
        self.read(address, &mut bytes)?;
        Some(u64::from_le_bytes(bytes))
    }
}

/// The kernel's memory, through the program that serves [`Peek`].
pub struct Peeker<'a> {
    probe: &'a Probe,
    peeked: &'a Mapped<Peeked>,
}

impl<'a> Peeker<'a> {
    /// Reads by the programs of `probe`, which answers into `peeked`.
    pub fn new(probe: &'a Probe, peeked: &'a Mapped<Peeked>) -> Self {
        Self { probe, peeked }
    }
}

/// Runs the program that serves a request; whether it carried it out, as it says in `peeked`.
pub fn carried_out<R: Request>(probe: &Probe, peeked: &Mapped<Peeked>, request: &R) -> bool {
    if let Err(error) = probe.request(request) {
        log::debug!("{}", error.line());
        return false;
    }
    peeked.read_part::<u64>(0, 8 * ANSWER) == ANSWERED
}

impl KernelMemory for Peeker<'_> {
    fn read(&self, address: u64, into: &mut [u8]) -> Option<()> {
        let mut address = address;
        for part in into.chunks_mut(Peek::MOST as usize) {
            let request = Peek { address, len: part.len() as u32 };
            if !carried_out(self.probe, self.peeked, &request) {
                return None;
            }
            self.peeked.read_bytes(0, part);
            address = address.checked_add(part.len() as u64)?;
        }
        Some(())
    }
}
