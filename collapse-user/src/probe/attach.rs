//! The programs of the object, and the hooks that they are attached to.

use std::{
    collections::{BTreeMap, BTreeSet},
    sync::{Mutex, PoisonError},
    thread,
};

use aya::{
    Ebpf,
    maps::{HashMap, MapData, MapError},
    programs::{Program, ProgramError, raw_trace_point::RawTracePointLinkId},
};
use collapse_common::abi::{Function, map};

use super::{
    error::{HookError, chain},
    multi::{Instructions, Multi, MultiError},
};
use crate::plan::{Hook, Plan};

/// Most threads that load programs: more do not make the largest program quicker.
const LOADERS: usize = 4;

/// The loaded object.
pub struct Programs {
    /// The object.
    pub ebpf: Ebpf,
    /// Addresses of functions.
    addresses: BTreeMap<&'static str, u64>,
    /// Links to raw tracepoints, by program.
    links: BTreeMap<&'static str, RawTracePointLinkId>,
    /// The programs that functions share, until they are attached.
    instructions: Option<Instructions>,
    /// The programs that functions share, attached to all of them at once.
    multi: Multi,
    /// These functions; none where they are attached one by one.
    together: BTreeSet<&'static str>,
}

impl Programs {
    /// Makes ready to attach the object's programs as planned. All maps must still be in the object.
    pub fn new(ebpf: Ebpf, plan: &Plan) -> Self {
        let instructions = Instructions::read(&ebpf);
        Self {
            instructions: instructions.inspect_err(log_why).ok(),
            multi: Multi::default(),
            together: BTreeSet::new(),
            ebpf,
            addresses: plan.addresses.clone(),
            links: BTreeMap::new(),
        }
    }

    /// Attaches at once all of the hooks that share programs, where the kernel can do that.
    /// [`Self::attach`] then finds them attached, or attaches them one by one.
    pub fn attach_together(&mut self, hooks: &[Hook]) {
        let Some(instructions) = self.instructions.take() else { return };
        let address = |hook: &Hook| self.addresses.get(hook.function()?).copied();
        let entered: BTreeMap<_, _> = hooks
            .iter()
            .filter(|hook| hook.shared().is_some())
            .filter_map(|hook| Some((address(hook)?, hook)))
            .collect();
        if entered.values().any(|hook| self.publish(hook).is_err()) {
            return;
        }
        let returns = |hook: &Hook| matches!(hook, Hook::Function { role, .. } if role.returns());
        let left: Vec<_> =
            entered.iter().filter(|(_, hook)| returns(hook)).map(|(at, _)| *at).collect();
        let functions = entered.values().filter_map(|hook| hook.function()).collect();
        let entered: Vec<_> = entered.into_keys().collect();
        let mut multi = Multi::default();
        // The return first: an operation seen to begin is then also seen to end.
        let attached = multi
            .attach(&instructions, Hook::RETURN, &left)
            .and_then(|()| multi.attach(&instructions, Hook::ENTRY, &entered));
        match attached {
            Ok(()) => (self.together, self.multi) = (functions, multi),
            Err(error) => log_why(&error),
        }
    }

    /// Loads the programs of a hook and attaches them.
    pub fn attach(&mut self, hook: &Hook) -> Result<(), HookError> {
        match *hook {
            Hook::Raw { program, tracepoint, .. } => {
                let name = tracepoint.split_once(':').map_or(tracepoint, |(_, name)| name);
                self.tracepoint(program, name)
            }
            Hook::Entry { program, function } => self.probe(program, function),
            Hook::Function { function, .. } if self.together.contains(function) => Ok(()),
            Hook::Function { function, role, .. } => {
                self.publish(hook)?;
                // The return first, as above.
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

    /// Loads the programs of the hooks on several threads: the kernel verifies one beside the other. What
    /// it refuses is left to [`Self::load`], which has the reason.
    pub fn load_ahead(&mut self, hooks: &[Hook]) {
        let threads = thread::available_parallelism().map_or(1, |cpus| cpus.get().min(LOADERS));
        if threads == 1 {
            return;
        }
        let left =
            hooks.iter().filter(|hook| !hook.function().is_some_and(|f| self.together.contains(f)));
        let wanted: BTreeSet<_> = left.flat_map(Hook::programs).collect();
        let programs = self.ebpf.programs_mut().filter(|(name, _)| wanted.contains(name));
        let programs = Mutex::new(programs);
        let next = || programs.lock().unwrap_or_else(PoisonError::into_inner).next();
        thread::scope(|scope| {
            for _ in 0..threads {
                scope.spawn(|| {
                    while let Some((_, program)) = next() {
                        let _ = load(program);
                    }
                });
            }
        });
    }

    /// Returns a program by name.
    pub fn get(&self, name: &str) -> Option<&Program> {
        self.multi.program(name).or_else(|| self.ebpf.program(name))
    }

    /// Iterates over the programs by name; some of them are not loaded.
    pub fn all(&self) -> impl Iterator<Item = (&str, &Program)> {
        self.ebpf.programs().chain(self.multi.programs())
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
        drop(self.multi);
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

fn log_why(error: &MultiError) {
    log::debug!("functions are attached one by one: {}", chain(error));
}

fn attach_error(program: &'static str) -> impl Fn(ProgramError) -> HookError {
    move |error| HookError::Attach { program, source: Box::new(error) }
}
