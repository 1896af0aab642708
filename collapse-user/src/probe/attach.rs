//! The programs of the object, and the hooks that they are attached to.

use std::collections::BTreeMap;

use aya::{
    Ebpf,
    maps::{HashMap, MapData, MapError},
    programs::{Program, ProgramError, raw_trace_point::RawTracePointLinkId},
};
use collapse_common::abi::{Function, map};

use super::error::HookError;
use crate::plan::{Hook, Plan};

/// The loaded object.
pub struct Programs {
    /// The object.
    pub ebpf: Ebpf,
    /// Addresses of functions.
    addresses: BTreeMap<&'static str, u64>,
    /// Links to raw tracepoints, by program.
    links: BTreeMap<&'static str, RawTracePointLinkId>,
}

impl Programs {
    /// Makes ready to attach the object's programs as planned.
    pub fn new(ebpf: Ebpf, plan: &Plan) -> Self {
        Self { ebpf, addresses: plan.addresses.clone(), links: BTreeMap::new() }
    }

    /// Loads the programs of a hook and attaches them.
    pub fn attach(&mut self, hook: &Hook) -> Result<(), HookError> {
        match *hook {
            Hook::Raw { program, tracepoint, .. } => {
                let name = tracepoint.split_once(':').map_or(tracepoint, |(_, name)| name);
                self.tracepoint(program, name)
            }
            Hook::Entry { program, function } => self.probe(program, function),
            Hook::Function { function, role, .. } => {
                self.publish(hook)?;
                // The return first: an operation seen to begin is then also seen to end.
                if role.returns() {
                    self.probe(Hook::RETURN, function)?;
                }
                self.probe(Hook::ENTRY, function)
            }
            Hook::Run { program, .. } | Hook::Read { program, .. } => self.load(program).map(drop),
        }
    }

    /// Detaches the programs of a raw tracepoint; other hooks stay.
    pub fn detach(&mut self, hook: &Hook) -> Result<(), HookError> {
        for program in hook.programs() {
            let link = self.links.remove(program);
            if let Some(link) = link
                && let Some(Program::RawTracePoint(raw)) = self.ebpf.program_mut(program)
            {
                raw.detach(link)
                    .map_err(|error| HookError::Detach { program, source: Box::new(error) })?;
            }
        }
        Ok(())
    }

    /// Loads a program unless it is loaded. What the verifier says of one that it refuses is logged at debug.
    pub fn load(&mut self, name: &'static str) -> Result<&mut Program, HookError> {
        let program = self.ebpf.program_mut(name).ok_or(HookError::NoProgram(name))?;
        if program.fd().is_err()
            && let Err(error) = load(program)
        {
            let error = HookError::Refused { program: name, source: Box::new(error) };
            if let Some(log) = error.verifier_log() {
                log::debug!("verifier log of program {name}:\n{log}");
            }
            return Err(error);
        }
        Ok(program)
    }

    /// Detaches everything, first what keeps KVM from being unloaded: taking probes back takes the kernel
    /// a while.
    pub fn detach_all(mut self) {
        for (_, program) in self.ebpf.programs_mut() {
            if let Program::RawTracePoint(raw) = program {
                // Fails where it was not loaded.
                let _ = raw.unload();
            }
        }
    }

    /// Returns how often a function that shares its programs was entered; `None` for other hooks.
    pub fn hits(&self, hook: &Hook) -> Option<u64> {
        hook.shared()?;
        let functions: HashMap<&MapData, u64, Function> =
            self.ebpf.map(map::FUNCTIONS)?.try_into().ok()?;
        let [first, last] = Function::keys(*self.addresses.get(hook.function()?)?);
        let of = |key| functions.get(&key, 0).ok().map(|function| function.hits);
        let other = if first == last { 0 } else { of(last)? };
        Some(of(first)? + other)
    }

    /// Loads a program and attaches it to a raw tracepoint.
    fn tracepoint(&mut self, program: &'static str, name: &str) -> Result<(), HookError> {
        let link = match self.load(program)? {
            Program::RawTracePoint(raw) => raw.attach(name),
            _ => Err(ProgramError::UnexpectedProgramType),
        };
        self.links.insert(program, link.map_err(attach_error(program))?);
        Ok(())
    }

    /// Loads a program and attaches it to the entry or the return of a function.
    fn probe(&mut self, program: &'static str, function: &str) -> Result<(), HookError> {
        let attached = match self.load(program)? {
            Program::KProbe(probe) => probe.attach(function, 0).map(drop),
            _ => Err(ProgramError::UnexpectedProgramType),
        };
        attached.map_err(attach_error(program))
    }

    /// Enters a function in the table by which shared programs find what to do.
    fn publish(&mut self, hook: &Hook) -> Result<(), HookError> {
        let address = hook.function().and_then(|function| self.addresses.get(function));
        let (Some(function), Some(&address)) = (hook.shared(), address) else { return Ok(()) };
        let error = |source: MapError| HookError::Map { name: map::FUNCTIONS, source };
        let table = self.ebpf.map_mut(map::FUNCTIONS);
        let table = table.ok_or(HookError::NoMap(map::FUNCTIONS))?;
        let mut table: HashMap<_, u64, Function> = table.try_into().map_err(error)?;
        Function::keys(address)
            .iter()
            .try_for_each(|key| table.insert(key, function, 0))
            .map_err(error)
    }
}

fn load(program: &mut Program) -> Result<(), ProgramError> {
    match program {
        Program::RawTracePoint(raw) => raw.load(),
        Program::KProbe(probe) => probe.load(),
        _ => Err(ProgramError::UnexpectedProgramType),
    }
}

fn attach_error(program: &'static str) -> impl Fn(ProgramError) -> HookError {
    move |error| HookError::Attach { program, source: Box::new(error) }
}
