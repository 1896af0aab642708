//! Carries out a plan.

use std::collections::BTreeMap;
use std::process;
use std::time::Duration;

use anyhow::{Context, Result, bail, ensure};
use collapse_guest::clock::monotonic_ns;
use collapse_guest::vm::{self, GuestVm, SlotMode};
use collapse_guest::{Kvm, stop};
use serde_json::{Map, Value, json};

use crate::act;
use crate::cli::Plan;
use crate::fork::{self, Role, Shadow};
use crate::host::{self, MmuParameters};
use crate::options::WorkloadOptions;
use crate::report::{Begun, Header, PhaseReport, SCHEMA, Summary};
use crate::scenario::{self, Action, Phase, ScenarioStep, VmPick};
use crate::signal;
use crate::slots;

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
    vms: BTreeMap<usize, GuestVm>,
    next_vm: usize,
    vms_at_once: usize,
    vms_created: usize,
    shadows: Vec<Shadow>,
    report: PhaseReport,
    iteration: u64,
}

impl<'a> Runner<'a> {
    fn new(plan: &'a Plan, first_vm: usize, vms_at_once: usize) -> Result<Self> {
        let kvm = vm::open_kvm()?;
        Ok(Self {
            plan,
            kvm,
            vms: BTreeMap::new(),
            next_vm: first_vm,
            vms_at_once,
            vms_created: 0,
            shadows: Vec::new(),
            report: PhaseReport::new(plan.options.quiet),
            iteration: 0,
        })
    }

    fn options(&self) -> &'a WorkloadOptions {
        &self.plan.options
    }

    fn run(mut self) -> Result<()> {
        let t_start_ns = monotonic_ns();
        let outcome = self.scenario();
        // Whatever happened, the VMs end in an orderly way and are reported.
        let outcome = outcome.and(self.destroy(VmPick::All, &Map::new()));
        let interrupted = stop::requested();
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
        while !stop::requested()
            && (self.options().endless || self.iteration < self.options().iterations)
        {
            self.steps(&self.plan.steps)?;
            if !stop::requested() {
                self.iteration += 1;
            }
        }
        stop::sleep(Duration::from_millis(self.options().hold));
        Ok(())
    }

    fn header(&self) -> Result<Header<'a>> {
        let vms = self.vms.iter().map(|(index, vm)| {
            let (tid, fd) = vm.name_in_debugfs();
            let mut about = slots::describe(vm)?;
            about["vm"] = json!(index);
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

    fn steps(&mut self, steps: &[ScenarioStep]) -> Result<()> {
        for step in steps {
            if stop::requested() {
                break;
            }
            match step {
                ScenarioStep::Repeat(count, body) => {
                    for _ in (0..*count).take_while(|_| !stop::requested()) {
                        self.steps(body)?;
                    }
                }
                ScenarioStep::Phase(phase) => {
                    self.phase(phase).with_context(|| format!("phase `{}`", phase.name))?;
                    stop::sleep(Duration::from_millis(self.options().pause));
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
                stop::sleep(*time);
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
            let begun = Begun::of(index, vm);
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
        let mut begun: Vec<Begun> = picked
            .iter()
            .filter_map(|index| Some(Begun::of(*index, self.vms.get(index)?)))
            .collect();
        if begun.is_empty() {
            begun.push(Begun::without_vm());
        }
        let did = act(self)?;
        begun.iter().try_for_each(|begun| self.line(phase, begun, did.clone()))
    }

    fn line(&mut self, phase: &Phase, begun: &Begun, did: Value) -> Result<()> {
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
        let vm = self.new_vm().with_context(|| format!("cannot make VM {index}"))?;
        self.vms.insert(index, vm);
        self.next_vm += 1;
        self.vms_created += 1;
        Ok(index)
    }

    fn new_vm(&self) -> Result<GuestVm> {
        let WorkloadOptions { vcpus, log_protect, slots, size, backing, .. } = *self.options();
        let mut vm = GuestVm::new(&self.kvm, vcpus, log_protect)?;
        for id in 1..=slots {
            vm.add_slot(id, size.0, backing, SlotMode::default())?;
        }
        Ok(vm)
    }

    fn report_created(&mut self, at: u64, index: usize, args: &Map<String, Value>) -> Result<()> {
        let vm = self.vms.get(&index).with_context(|| format!("VM {index} is gone"))?;
        let begun = Begun::before(index, vm, at);
        self.report.phase("create", args, self.iteration, &begun, slots::describe(vm)?)
    }

    fn destroy(&mut self, pick: VmPick, args: &Map<String, Value>) -> Result<()> {
        // A forked process holds on to the VMs that existed when it was made.
        self.shadows.clear();
        for index in self.pick(pick)? {
            let Some(mut vm) = self.vms.remove(&index) else { continue };
            let begun = Begun::of(index, &vm);
            let stopped = act::quiesce(&mut vm).with_context(|| format!("VM {index}"));
            drop(vm);
            self.report.phase("destroy", args, self.iteration, &begun, json!({}))?;
            stopped?;
        }
        Ok(())
    }
}
