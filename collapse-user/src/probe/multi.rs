//! The programs that functions share, each attached to all of them by one link: `kprobe.multi`, 5.18 and
//! later. Attaching one by one, the kernel goes through all functions that it can trace each time.
//!
//! aya has neither the program type nor the link, and keeps the instructions of programs to itself. So the
//! object is read again for them, and their maps are those that aya made.

use std::{
    collections::BTreeMap,
    fs, io, mem,
    os::fd::{AsFd as _, AsRawFd as _, OwnedFd, RawFd},
};

use aya::{
    Ebpf,
    maps::Map,
    programs::{KProbe, ProbeKind, Program, ProgramError, loaded_programs},
};
use aya_obj::{Object, generated::bpf_insn};

use super::OBJECT;
use crate::{bpf, plan::Hook};

/// Why functions are not attached all at once.
#[derive(Debug, thiserror::Error)]
pub enum MultiError {
    /// The object is not as expected.
    #[error("cannot read the object")]
    Object(#[from] aya_obj::ParseError),
    /// The object refers to something that is not in it.
    #[error("cannot relocate the object")]
    Relocation(#[from] aya_obj::relocation::EbpfRelocationError),
    /// The kernel has no such programs or links, refuses a program, or cannot probe a function.
    #[error("the kernel attaches no program to many functions")]
    Refused(#[from] io::Error),
    /// The kernel does not describe a program that it accepted.
    #[error("cannot describe a program")]
    Program(#[from] ProgramError),
}

/// The shared programs as instructions.
pub struct Instructions(BTreeMap<&'static str, Vec<bpf_insn>>);

impl Instructions {
    /// Reads them from the object. The maps that they use are those of `ebpf`.
    pub fn read(ebpf: &Ebpf) -> Result<Self, MultiError> {
        let mut object = Object::parse(OBJECT)?;
        let maps = mem::take(&mut object.maps);
        let fds = maps.iter().filter_map(|(name, map)| Some((&**name, fd(ebpf.map(name)?)?, map)));
        let sections = object.functions.keys().map(|(section, _)| *section).collect();
        object.programs.retain(|name, _| [Hook::ENTRY, Hook::RETURN].contains(&name.as_str()));
        object.relocate_maps(fds, &sections)?;
        object.relocate_calls(&sections)?;
        let instructions = |name: &'static str| {
            let function = object.functions.get(&object.programs.get(name)?.function_key())?;
            Some((name, function.instructions.clone()))
        };
        Ok(Self([Hook::ENTRY, Hook::RETURN].into_iter().filter_map(instructions).collect()))
    }
}

/// Programs attached to many functions at once, until it is dropped.
#[derive(Default)]
pub struct Multi {
    programs: BTreeMap<&'static str, Program>,
    links: Vec<OwnedFd>,
}

impl Multi {
    /// Loads a program and attaches it to the entries of functions, or to their returns.
    pub fn attach(
        &mut self,
        instructions: &Instructions,
        name: &'static str,
        functions: &[u64],
    ) -> Result<(), MultiError> {
        let program = instructions.0.get(name).map_or(&[][..], Vec::as_slice);
        let program = bpf::load_kprobe(name, program)?;
        self.links.push(bpf::attach(program.as_fd(), functions, name == Hook::RETURN)?);
        self.programs.insert(name, handle(name, &program)?);
        Ok(())
    }

    /// Returns a program by name.
    pub fn program(&self, name: &str) -> Option<&Program> {
        self.programs.get(name)
    }

    /// Iterates over the programs.
    pub fn programs(&self) -> impl Iterator<Item = (&str, &Program)> {
        self.programs.iter().map(|(name, program)| (*name, program))
    }
}

/// Returns aya's handle of a program, for what the kernel says of it.
fn handle(name: &'static str, program: &OwnedFd) -> Result<Program, MultiError> {
    let info = fs::read_to_string(format!("/proc/self/fdinfo/{}", program.as_raw_fd()))?;
    let id = info.lines().find_map(|line| line.strip_prefix("prog_id:")?.trim().parse().ok());
    let is_it = |info: &aya::programs::ProgramInfo| Some(info.id()) == id;
    let info = loaded_programs().filter_map(Result::ok).find(is_it);
    let info = info.ok_or(io::Error::from(io::ErrorKind::NotFound))?;
    // SAFETY: the kind is of use only for attaching, which the handle is not used for.
    let program = unsafe { KProbe::from_program_info(info, name.into(), ProbeKind::Entry) }?;
    Ok(Program::KProbe(program))
}

/// Returns the file descriptor of a map, of those kinds that the object has.
fn fd(map: &Map) -> Option<RawFd> {
    match map {
        Map::Array(data)
        | Map::HashMap(data)
        | Map::Queue(data)
        | Map::RingBuf(data)
        | Map::StackTraceMap(data) => Some(data.fd().as_fd().as_raw_fd()),
        _ => None,
    }
}
