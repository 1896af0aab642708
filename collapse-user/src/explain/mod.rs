//! `collapse explain`: why guests are not huge, at one moment, with nothing attached and no page faulted in.

mod pagemap;
mod process;
mod smaps;

use std::time::{Duration, Instant};

use anyhow::anyhow;
use collapse_common::abi::Pages;
use collapse_feed::{Mmu, Slot, VmReading};
use collapse_report::{
    Host, PagesBySize, VmIdentity, VmSelect,
    explain::{
        Explanation, Log, Logging, Reason, SCHEMA, Settings, SlotExplanation, SlotFacts,
        VmExplanation, debt, why,
    },
};

use crate::{
    exit::{Exit, Failure, OrExit as _},
    kernel::inspect::{Fact, Inspected},
    plan::{FaultLatency, InspectionDepth, Plan, SlotLayout, TdpLayout, VmFields, obstacles},
    source::{
        idle::Idle,
        memslots,
        peek::{KernelMemory, Peeker},
        tdp::Tables,
    },
};
use process::VmmProcess;

/// `KVM_MEM_READONLY`
const READ_ONLY: u32 = 2;

/// `KVM_DIRTY_LOG_MANUAL_PROTECT_ENABLE` and `KVM_DIRTY_LOG_INITIALLY_SET`
const MANUAL_PROTECT: u64 = 1;
const INITIALLY_SET: u64 = 2;

/// Explains the VMs that the selectors select, or all. No VM takes longer than `limit`: what is not found out by then
/// is unknown.
pub fn explain(selectors: &[VmSelect], limit: Duration) -> Result<Explanation, Failure> {
    let began = Instant::now();
    let (plan, kernel) = Plan::for_running_kernel(FaultLatency::OFF, InspectionDepth::Quick);
    if let Some(obstacle) = obstacles(&kernel).into_iter().find(|obstacle| obstacle.fatal) {
        return Err(Failure { exit: Exit::CannotMeasure, error: anyhow!(obstacle.to_string()) });
    }
    let idle = Idle::load(&plan).or_exit(Exit::CannotMeasure)?;
    let settings = process::settings(kernel.kvm.nx_huge_pages.clone().ok());
    let explainer = Explainer::new(&plan, &kernel, &idle, &settings, limit);
    let is_selected = |reading: &VmReading| {
        let identity = VmIdentity::of_process(reading.process.as_ref(), reading.fd);
        selectors.is_empty() || selectors.iter().any(|select| select.selects(identity))
    };
    let vms = idle.vms().into_iter().filter(|(_, reading)| is_selected(reading));
    let vms = vms.map(|(kvm, reading)| explainer.vm(kvm, &reading)).collect();
    Ok(Explanation {
        schema: SCHEMA.into(),
        version: env!("CARGO_PKG_VERSION").into(),
        host: Host::new((&kernel).into(), &plan.coverage()),
        settings,
        took_ns: began.elapsed().as_nanos() as u64,
        budgets: Vec::new(),
        vms,
    })
}

/// What all VMs have in common.
struct Explainer<'a> {
    memory: Peeker<'a>,
    slots: &'a Fact<SlotLayout>,
    /// Why what is mapped of each slot is not known, if it is not.
    tables: Result<Tables<Peeker<'a>>, String>,
    fields: VmFields,
    by_cpu: Option<bool>,
    settings: &'a Settings,
    limit: Duration,
}

/// A VM and its process, when it is all there.
struct Vm<'a> {
    kvm: u64,
    pages: Option<PagesBySize>,
    nx_splits: u64,
    process: Option<&'a VmmProcess>,
}

impl<'a> Explainer<'a> {
    fn new(
        plan: &'a Plan,
        kernel: &Inspected,
        idle: &'a Idle,
        settings: &'a Settings,
        limit: Duration,
    ) -> Self {
        Self {
            memory: idle.memory(),
            slots: &plan.slots,
            tables: tables(plan, kernel, idle),
            fields: VmFields::of(kernel),
            by_cpu: plan.coverage().paging.pml,
            settings,
            limit,
        }
    }

    fn vm(&self, kvm: u64, reading: &VmReading) -> VmExplanation {
        let process = reading.process.as_ref();
        let nx_splits = self.fields.nx_splits.and_then(|at| self.word(kvm, at));
        let pages = reading.pages.map(PagesBySize::from);
        let mut explanation = VmExplanation {
            pid: process.map(|process| process.pid),
            tid: process.map(|process| process.tid),
            fd: reading.fd,
            name: process.map(|process| process.name.text.clone()),
            pages,
            nx_splits,
            ..VmExplanation::default()
        };
        let layout = self.slots.as_ref().ok();
        let slots = layout.and_then(|layout| memslots::read(&self.memory, layout, kvm));
        if let Some(slots) = slots {
            let until = Instant::now() + self.limit;
            let go_on = || Instant::now() < until;
            let process = process.map(|process| VmmProcess::read(process.pid, &slots, &go_on));
            let vm = Vm {
                kvm,
                pages,
                nx_splits: nx_splits.unwrap_or_default(),
                process: process.as_ref(),
            };
            let leaves = self.leaves(kvm, &slots, &go_on);
            explanation.slots_unknown = leaves.as_ref().err().cloned();
            let mut described: Vec<_> = slots
                .iter()
                .enumerate()
                .map(|(at, slot)| {
                    let leaves = leaves.as_ref().ok().map(|leaves| PagesBySize::from(leaves[at]));
                    self.slot(&vm, slot, leaves, &go_on)
                })
                .collect();
            described.sort_by_key(|slot| std::cmp::Reverse(slot.bytes));
            explanation.slots = Some(described);
        }
        explanation.sum_up();
        explanation
    }

    /// The leaves of each slot, or why they are not known.
    fn leaves(
        &self,
        kvm: u64,
        slots: &[Slot],
        go_on: &dyn Fn() -> bool,
    ) -> Result<Vec<Pages>, String> {
        let tables = self.tables.as_ref().map_err(Clone::clone)?;
        let gauges = || {
            let at = self.fields.pages?;
            let mut pages = [0; 3];
            for (page, size) in pages.iter_mut().zip(0..) {
                *page = self.word(kvm, at + 8 * size)?;
            }
            Some(pages)
        };
        tables.leaves(kvm, slots, gauges, go_on).map_err(|error| error.to_string())
    }

    fn slot(
        &self,
        vm: &Vm,
        slot: &Slot,
        pages: Option<PagesBySize>,
        go_on: &dyn Fn() -> bool,
    ) -> SlotExplanation {
        let backing = vm.process.and_then(|process| process.backing(slot));
        let host = vm.process.and_then(|process| process.host_memory(slot, go_on));
        let facts = SlotFacts {
            slot: *slot,
            backing: backing.as_ref(),
            host,
            pages,
            vm_pages: vm.pages,
            nx_splits: vm.nx_splits,
            thp_disabled: vm.process.is_some_and(|process| process.thp_disabled),
            settings: self.settings,
        };
        let (reason, evidence) = why(&facts).unzip();
        SlotExplanation {
            id: slot.id,
            as_id: slot.as_id,
            base_gfn: slot.base_gfn,
            bytes: slot.npages.saturating_mul(4096),
            userspace_addr: slot.userspace_addr,
            read_only: slot.flags & READ_ONLY != 0,
            logging: slot.is_logging().then(|| self.logging(vm.kvm)),
            huge_share: pages.and_then(PagesBySize::huge_share),
            debt_bytes: debt(&facts),
            pages,
            host,
            reason,
            evidence,
            remedy: reason.map(Reason::remedy).map(Into::into),
            backing,
        }
    }

    fn logging(&self, kvm: u64) -> Logging {
        let field = |at: Option<u32>| at.and_then(|at| self.word(kvm, at)).unwrap_or_default();
        // An `int`.
        let ring = field(self.fields.dirty_ring_size) as u32;
        let manual = field(self.fields.manual_dirty_log_protect);
        let log = match (ring, manual) {
            (1.., _) => Log::Ring,
            (0, flags) if flags & INITIALLY_SET != 0 => Log::InitiallySetBitmap,
            (0, flags) if flags & MANUAL_PROTECT != 0 => Log::ManualBitmap,
            (0, _) => Log::Bitmap,
        };
        Logging { log, by_cpu: self.by_cpu }
    }

    fn word(&self, kvm: u64, offset: u32) -> Option<u64> {
        self.memory.word(kvm.wrapping_add(offset.into()))
    }
}

fn tables<'a>(
    plan: &Plan,
    kernel: &Inspected,
    idle: &'a Idle,
) -> Result<Tables<Peeker<'a>>, String> {
    if plan.coverage().mmu != Mmu::Tdp {
        return Err("KVM does not use the TDP MMU".to_owned());
    }
    let layout = TdpLayout::of(kernel).map_err(|why| why.to_string())?;
    let base = plan.kernel.page_offset_base;
    let direct_map = (base != 0).then(|| idle.memory().word(base)).flatten();
    let direct_map = direct_map.ok_or("where the kernel maps its memory is not known")?;
    Ok(Tables { memory: idle.memory(), layout, spte: plan.kernel.spte, direct_map })
}
