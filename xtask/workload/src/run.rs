//! Carries out a plan.

use std::collections::BTreeMap;
use std::process;
use std::time::Duration;

use anyhow::{Context, Result, bail, ensure};
use kvm_ioctls::Kvm;
use serde_json::{Map, Value, json};

use crate::act;
use crate::cli::{Options, Plan};
use crate::clock::monotonic_ns;
use crate::fork::{self, Role, Shadow};
use crate::host::{self, MmuParameters};
use crate::report::{Header, Moment, Report, SCHEMA, Summary};
use crate::scenario::{self, Action, Phase, Step, VmPick};
use crate::signal;
use crate::vm::Vm;

/// Runs a plan from the first line to the last.
pub fn start(plan: &Plan) -> Result<()> {
    signal::install();
    if let Some(name) = &plan.options.name {
        host::set_process_name(name)?;
    }
    if !plan.options.processes {
        return Runner::new(plan, 0, plan.options.vms)?.run();
    }
    match fork::per_vm(plan.options.vms)? {
        Role::Vm(index) => Runner::new(plan, index, 1)?.run(),
        Role::Parent => Ok(()),
    }
}

struct Runner<'a> {
    plan: &'a Plan,
    kvm: Kvm,
    vms: BTreeMap<usize, Vm>,
    next_vm: usize,
    vms_at_once: usize,
    vms_created: usize,
    shadows: Vec<Shadow>,
    report: Report,
    iteration: u64,
}

impl<'a> Runner<'a> {
    fn new(plan: &'a Plan, first_vm: usize, vms_at_once: usize) -> Result<Self> {
        let kvm = Kvm::new().context("cannot open /dev/kvm (is kvm_amd or kvm_intel loaded?)")?;
        Ok(Self {
            plan,
            kvm,
            vms: BTreeMap::new(),
            next_vm: first_vm,
            vms_at_once,
            vms_created: 0,
            shadows: Vec::new(),
            report: Report::new(plan.options.quiet),
            iteration: 0,
        })
    }

    fn options(&self) -> &'a Options {
        &self.plan.options
    }

    fn run(mut self) -> Result<()> {
        let t_start_ns = monotonic_ns();
        let outcome = self.scenario();
        // Whatever happened, the VMs end in an orderly way and are reported.
        let outcome = outcome.and(self.destroy(VmPick::All, &Map::new()));
        let interrupted = signal::stopping();
        let summary = Summary {
            schema: SCHEMA,
            kind: "summary",
            pid: process::id(),
            iterations: self.iteration,
            phases: self.report.phases(),
            vms_created: self.vms_created,
            interrupted,
            error: outcome.as_ref().err().map(|error| format!("{error:#}")),
            t_start_ns,
            t_end_ns: monotonic_ns(),
        };
        self.report.line(&summary)?;
        outcome?;
        let as_planned = self.options().endless || signal::has_reader_left();
        ensure!(as_planned || !interrupted, "interrupted before the scenario's end");
        Ok(())
    }

    fn scenario(&mut self) -> Result<()> {
        let mut begun = Vec::new();
        if !scenario::begins_without_vms(&self.plan.steps) {
            for _ in 0..self.vms_at_once {
                begun.push((monotonic_ns(), self.create()?));
            }
        }
        let header = self.header()?;
        self.report.line(&header)?;
        for (at, index) in begun {
            self.report_created(at, index, &Map::new())?;
        }
        while !signal::stopping()
            && (self.options().endless || self.iteration < self.options().iterations)
        {
            self.steps(&self.plan.steps)?;
            if !signal::stopping() {
                self.iteration += 1;
            }
        }
        signal::sleep(Duration::from_millis(self.options().hold));
        Ok(())
    }

    fn header(&self) -> Result<Header<'a>> {
        let vms = self.vms.values().map(|vm| {
            let (tid, fd) = vm.name_in_debugfs();
            let mut about = vm.describe()?;
            about["vm"] = json!(vm.index);
            about["tid"] = json!(tid);
            about["fd"] = json!(fd);
            Ok(about)
        });
        Ok(Header {
            schema: SCHEMA,
            kind: "header",
            pid: process::id(),
            kernel: host::kernel_release(),
            scenario: &self.plan.scenario,
            text: &self.plan.text,
            options: &self.plan.options,
            mmu: MmuParameters::read(),
            vms: vms.collect::<Result<_>>()?,
        })
    }

    fn steps(&mut self, steps: &[Step]) -> Result<()> {
        for step in steps {
            if signal::stopping() {
                break;
            }
            match step {
                Step::Repeat(count, body) => {
                    for _ in (0..*count).take_while(|_| !signal::stopping()) {
                        self.steps(body)?;
                    }
                }
                Step::Phase(phase) => {
                    self.phase(phase).with_context(|| format!("phase `{}`", phase.name))?;
                    signal::sleep(Duration::from_millis(self.options().pause));
                }
            }
        }
        Ok(())
    }

    fn phase(&mut self, phase: &Phase) -> Result<()> {
        match &phase.action {
            Action::Create(count) => {
                for _ in 0..count.unwrap_or(self.vms_at_once) {
                    let at = monotonic_ns();
                    let index = self.create()?;
                    self.report_created(at, index, &phase.args)?;
                }
                Ok(())
            }
            Action::Destroy => self.destroy(phase.vm, &phase.args),
            Action::Hold(time) => self.for_all_at_once(phase, |_| {
                signal::sleep(*time);
                Ok(json!({}))
            }),
            Action::ForkCow => self.for_all_at_once(phase, |runner| {
                runner.shadows.push(Shadow::new()?);
                Ok(json!({}))
            }),
            Action::ForkEnd => self.for_all_at_once(phase, |runner| {
                let ended = std::mem::take(&mut runner.shadows).len();
                Ok(json!({ "ended": ended }))
            }),
            _ => self.for_each(phase),
        }
    }

    /// Carries out a phase on one VM after the other, with a line for each.
    fn for_each(&mut self, phase: &Phase) -> Result<()> {
        let picked = self.pick(phase.vm)?;
        ensure!(!picked.is_empty(), "there is no VM (`create` one)");
        for index in picked {
            let options = self.options();
            let vm = self.vms.get_mut(&index).with_context(|| format!("VM {index} is gone"))?;
            let begun = Moment::of(vm);
            let did = act::on_vm(vm, phase, options).with_context(|| format!("VM {index}"))?;
            self.line(phase, &begun, did)?;
        }
        Ok(())
    }

    /// Carries out a phase that concerns all VMs at once, with a line for each.
    fn for_all_at_once(
        &mut self,
        phase: &Phase,
        act: impl FnOnce(&mut Self) -> Result<Value>,
    ) -> Result<()> {
        let picked = self.pick(phase.vm)?;
        let mut begun: Vec<Moment> =
            picked.iter().filter_map(|index| self.vms.get(index)).map(Moment::of).collect();
        if begun.is_empty() {
            begun.push(Moment::without_vm());
        }
        let did = act(self)?;
        begun.iter().try_for_each(|begun| self.line(phase, begun, did.clone()))
    }

    fn line(&mut self, phase: &Phase, begun: &Moment, did: Value) -> Result<()> {
        self.report.phase(&phase.name, &phase.args, self.iteration, begun, did)
    }

    fn pick(&self, pick: VmPick) -> Result<Vec<usize>> {
        let living = self.vms.keys().copied();
        Ok(match pick {
            VmPick::All => living.collect(),
            VmPick::First => living.take(1).collect(),
            VmPick::Last => living.last().into_iter().collect(),
            VmPick::Index(index) if self.vms.contains_key(&index) => vec![index],
            VmPick::Index(index) => bail!("there is no VM {index}"),
        })
    }

    fn create(&mut self) -> Result<usize> {
        let index = self.next_vm;
        let vm = Vm::new(&self.kvm, index, self.options())
            .with_context(|| format!("cannot make VM {index}"))?;
        self.vms.insert(index, vm);
        self.next_vm += 1;
        self.vms_created += 1;
        Ok(index)
    }

    fn report_created(&mut self, at: u64, index: usize, args: &Map<String, Value>) -> Result<()> {
        let vm = self.vms.get(&index).with_context(|| format!("VM {index} is gone"))?;
        let begun = Moment::before(vm, at);
        self.report.phase("create", args, self.iteration, &begun, vm.describe()?)
    }

    fn destroy(&mut self, pick: VmPick, args: &Map<String, Value>) -> Result<()> {
        // A forked process holds on to the VMs that existed when it was made.
        self.shadows.clear();
        for index in self.pick(pick)? {
            let Some(mut vm) = self.vms.remove(&index) else { continue };
            let begun = Moment::of(&vm);
            let stopped = act::quiesce(&mut vm).with_context(|| format!("VM {index}"));
            drop(vm);
            self.report.phase("destroy", args, self.iteration, &begun, json!({}))?;
            stopped?;
        }
        Ok(())
    }
}
