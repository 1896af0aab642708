//! Addresses of symbols, looked up by a program that the kernel runs: 5.16 and later, for whom addresses
//! are not hidden. Printing `/proc/kallsyms`, where everybody else finds them, takes the kernel a hundred
//! times as many instructions, and more the more modules there are.

use std::{
    collections::BTreeMap,
    io,
    os::fd::{AsFd as _, OwnedFd},
};

use aya_obj::generated::bpf_insn;

use super::{Symbol, WantedFacts};
use crate::bpf;

/// Longest name with module and closing zero, a multiple of 8.
const NAME: usize = 64;

/// The program's context.
#[repr(C, align(8))]
struct Query {
    name: [u8; NAME],
    address: u64,
}

/// Looks up the wanted symbols, those of module `kvm` first. The list of traceable functions is not
/// consulted, and no name is taken to be there twice in one module.
///
/// # Errors
///
/// Where the kernel cannot look symbols up, or hides addresses from this process.
pub(super) fn symbols(wanted: &WantedFacts<'_>) -> io::Result<BTreeMap<String, Symbol>> {
    let lookup = Lookup::new()?;
    let functions = wanted.symbols.iter().map(|name| (name, true));
    let variables = wanted.variables.iter().map(|name| (name, false));
    let mut found = BTreeMap::new();
    for (&name, function) in functions.chain(variables) {
        let of_kvm = lookup.address(&format!("kvm:{name}"))?;
        let module = of_kvm.map(|_| "kvm".to_owned());
        let address = if of_kvm.is_some() { of_kvm } else { lookup.address(name)? };
        if let Some(address) = address {
            let symbol = Symbol { address, module, function, copies: 1, traceable: None };
            found.insert(name.to_owned(), symbol);
        }
    }
    Ok(found)
}

/// The loaded program.
struct Lookup(OwnedFd);

impl Lookup {
    fn new() -> io::Result<Self> {
        bpf::load_runnable(&program()).map(Self)
    }

    /// Returns the address of a symbol, `module:name` or `name`; `None` if there is none.
    fn address(&self, name: &str) -> io::Result<Option<u64>> {
        let mut query = Query { name: [0; NAME], address: 0 };
        let place = query.name.get_mut(..name.len()).filter(|place| place.len() < NAME);
        place.ok_or(io::ErrorKind::InvalidInput)?.copy_from_slice(name.as_bytes());
        match bpf::run(self.0.as_fd(), &mut query)? {
            0 => Ok(Some(query.address)),
            error if -error == libc::ENOENT => Ok(None),
            error => Err(io::Error::from_raw_os_error(-error)),
        }
    }
}

/// Returns the program: it copies the name to its stack, where a helper function may read it, calls
/// `bpf_kallsyms_lookup_name(name, NAME, 0, &address)`, and returns what that returns.
fn program() -> Vec<bpf_insn> {
    /// `BPF_FUNC_kallsyms_lookup_name`
    const HELPER: i32 = 179;
    const MOVE: u8 = 0xbf;
    const MOVE_NUMBER: u8 = 0xb7;
    const ADD_NUMBER: u8 = 0x07;
    const LOAD: u8 = 0x79;
    const STORE: u8 = 0x7b;
    const STORE_NUMBER: u8 = 0x7a;
    const CALL: u8 = 0x85;
    const EXIT: u8 = 0x95;
    /// The frame pointer.
    const FP: u8 = 10;
    let address = -8;
    let name = address - NAME as i16;
    let copied = (0..NAME as i16)
        .step_by(8)
        .flat_map(|at| [instruction(LOAD, 2, 6, at, 0), instruction(STORE, FP, 2, name + at, 0)]);
    let start = instruction(MOVE, 6, 1, 0, 0);
    let rest = [
        instruction(STORE_NUMBER, FP, 0, address, 0),
        instruction(MOVE, 1, FP, 0, 0),
        instruction(ADD_NUMBER, 1, 0, 0, name.into()),
        instruction(MOVE_NUMBER, 2, 0, 0, NAME as i32),
        instruction(MOVE_NUMBER, 3, 0, 0, 0),
        instruction(MOVE, 4, FP, 0, 0),
        instruction(ADD_NUMBER, 4, 0, 0, address.into()),
        instruction(CALL, 0, 0, 0, HELPER),
        instruction(LOAD, 2, FP, address, 0),
        instruction(STORE, 6, 2, NAME as i16, 0),
        instruction(EXIT, 0, 0, 0, 0),
    ];
    [start].into_iter().chain(copied).chain(rest).collect()
}

fn instruction(code: u8, to: u8, from: u8, offset: i16, number: i32) -> bpf_insn {
    let registers = bpf_insn::new_bitfield_1(to, from);
    bpf_insn { code, _bitfield_align_1: [], _bitfield_1: registers, off: offset, imm: number }
}
