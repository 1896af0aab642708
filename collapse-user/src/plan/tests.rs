//! Plans for kernels that were recorded.

mod compatibility;
mod missing;

use collapse_feed::Signal;
use std::collections::{BTreeMap, HashSet};
use std::fs;
use std::path::PathBuf;

use collapse_common::{Cause, SpteLayout};

use super::*;
use crate::kernel::inspect::{Fact, Symbol, Unknown, Vendor};

const KERNELS: [&str; 5] = ["5.10", "6.1", "6.12", "6.18", "7.3"];

/// Records the kernels again, to be run whenever plans depend on something new. It needs copies of
/// the files that real kernels describe themselves in: a folder with one tree per series.
///
/// ```sh
/// COLLAPSE_KERNEL_TREES=<folder> cargo test -p collapse-user record_kernels -- --ignored
/// ```
#[test]
#[ignore = "needs trees of real kernels in $COLLAPSE_KERNEL_TREES"]
fn record_kernels() {
    let trees = PathBuf::from(std::env::var_os("COLLAPSE_KERNEL_TREES").unwrap());
    for series in KERNELS {
        let kernel = inspect(&trees.join(series), InspectionDepth::Thorough);
        assert!(kernel.release().starts_with(series), "{series}: {:?}", kernel.release);
        let mut json = serde_json::to_string_pretty(&kernel).unwrap();
        json.push('\n');
        fs::write(recording(series), json).unwrap();
    }
}

fn recording(series: &str) -> PathBuf {
    let folder = concat!(env!("CARGO_MANIFEST_DIR"), "/tests/fixtures/kernels");
    PathBuf::from(format!("{folder}/{series}.json"))
}

fn planned(kernel: &Inspected) -> Plan {
    Plan::new(kernel, FaultLatency::default())
}

/// Reads the recorded value of a kernel.
pub fn kernel(series: &str) -> Inspected {
    Inspected::from_file(&recording(series)).unwrap()
}

/// Symbols cannot be compared: a recording does not list those that its kernel lacks.
#[test]
fn recordings_answer_all_that_is_wanted() {
    for series in KERNELS {
        let kernel = kernel(series);
        let outdated = format!("{series}: the recording is outdated, see record_kernels");
        assert!(kernel.offsets.keys().eq(facts::offsets()), "{outdated}");
        assert!(kernel.tracepoints.keys().eq(tracepoints()), "{outdated}");
        assert!(kernel.sizes.keys().eq(facts::SIZES), "{outdated}");
        assert!(kernel.constants.keys().eq(facts::CONSTANTS), "{outdated}");
        assert!(kernel.functions.keys().eq(facts::FUNCTIONS), "{outdated}");
    }
}

/// The hooks of each signal. A kernel that is not listed has those of the one before it.
const EXPECTED: &str = "
vm_created
  5.10  enter as Creation at kprobe:kvm_arch_init_vm
vm_destroyed
  5.10  enter, leave as Destruction for teardown at kprobe+kretprobe:kvm_destroy_vm
        enter, leave as Flush for teardown at kprobe+kretprobe:kvm_arch_flush_shadow_all
memslots
  5.10  enter, leave as SlotChange for slot_change at kprobe+kretprobe:kvm_set_memslot
dirty_logging
  5.10  enter as Commit at kprobe:kvm_arch_commit_memory_region
eager_split
  5.10  enter, leave as Operation for log_protect at kprobe+kretprobe:kvm_mmu_slot_remove_write_access
  6.1   enter, leave as Operation for eager_split at kprobe+kretprobe:kvm_mmu_slot_try_split_huge_pages
        enter, leave as Operation for log_protect at kprobe+kretprobe:kvm_mmu_slot_remove_write_access
clear_dirty_bits
  5.10  enter, leave as Operation for log_protect at kprobe+kretprobe:kvm_mmu_slot_leaf_clear_dirty
        enter, leave as Operation for log_protect at kprobe+kretprobe:kvm_mmu_slot_largepage_remove_write_access
  6.1   enter, leave as Operation for log_protect at kprobe+kretprobe:kvm_mmu_slot_leaf_clear_dirty
dirty_log_harvest
  5.10  enter, leave as Operation for get_dirty_log at kprobe+kretprobe:kvm_get_dirty_log_protect
        enter, leave as Operation for clear_dirty_log at kprobe+kretprobe:kvm_clear_dirty_log_protect
  6.1   enter, leave as Operation for get_dirty_log at kprobe+kretprobe:kvm_get_dirty_log_protect
        enter, leave as Operation for clear_dirty_log at kprobe+kretprobe:kvm_clear_dirty_log_protect
        enter, leave as Operation for reset_dirty_ring at kprobe+kretprobe:kvm_dirty_ring_reset
        ring_full at raw_tp:kvm:kvm_dirty_ring_exit
collapse
  5.10  enter, leave as Collapse for collapse at kprobe+kretprobe:kvm_mmu_zap_collapsible_sptes
  6.18  enter, leave as Collapse for collapse at kprobe+kretprobe:kvm_mmu_recover_huge_pages
notifier
  5.10  enter, leave as Invalidation at kprobe+kretprobe:kvm_mmu_notifier_invalidate_range_start
notifier_callers
  5.10  enter, leave as Host for notifier_reclaim at kprobe+kretprobe:try_to_free_pages
        enter, leave as Host for notifier_reclaim at kprobe+kretprobe:try_to_free_mem_cgroup_pages
        enter, leave as Host for notifier_reclaim at kprobe+kretprobe:reclaim_pages
        enter, leave as Migration at kprobe+kretprobe:migrate_pages
        enter, leave as Host for notifier_numa at kprobe+kretprobe:change_prot_numa
  6.1   enter, leave as Host for notifier_reclaim at kprobe+kretprobe:try_to_free_pages
        enter, leave as Host for notifier_reclaim at kprobe+kretprobe:try_to_free_mem_cgroup_pages
        enter, leave as Host for notifier_reclaim at kprobe+kretprobe:reclaim_pages
        enter, leave as Migration at kprobe+kretprobe:migrate_pages
        enter, leave as Host for notifier_numa at kprobe+kretprobe:change_prot_numa
        enter, leave as Host for notifier_thp_collapse at kprobe+kretprobe:madvise_collapse
lock_yields
  5.10  missing: no function __cond_resched_rwlock_read
        missing: no function __cond_resched_rwlock_write
  6.1   enter as Yield at kprobe:__cond_resched_rwlock_read
        enter as Yield at kprobe:__cond_resched_rwlock_write
slot_deleted
  5.10  enter, leave as Operation for slot_deleted at kprobe+kretprobe:kvm_arch_flush_shadow_memslot
zap_all
  5.10  enter, leave as Outermost for zap_all at kprobe+kretprobe:kvm_mmu_zap_all_fast
  6.12  enter, leave as Outermost for zap_all at kprobe+kretprobe:__kvm_mmu_zap_all_fast_front_half
        enter, leave as Outermost for zap_all at kprobe+kretprobe:kvm_tdp_mmu_zap_invalidated_roots
  6.18  enter, leave as Outermost for zap_all at kprobe+kretprobe:kvm_mmu_zap_all_fast
  7.3   enter, leave as Outermost for zap_all at kprobe+kretprobe:__kvm_mmu_zap_all_fast_front_half
        enter, leave as Outermost for zap_all at kprobe+kretprobe:kvm_tdp_mmu_zap_invalidated_roots
zap_range
  5.10  enter, leave as Operation for zap_range at kprobe+kretprobe:kvm_zap_gfn_range
  6.12  enter, leave as Operation for zap_range at kprobe+kretprobe:kvm_zap_gfn_range
        enter, leave as Operation for memory_attributes at kprobe+kretprobe:kvm_arch_pre_set_memory_attributes
nx_recovery
  5.10  enter as Endless for nx_recovery at kprobe:kvm_nx_lpage_recovery_worker
  6.1   enter as Endless for nx_recovery at kprobe:kvm_nx_lpage_recovery_worker
        enter, leave as Operation for nx_recovery at kprobe+kretprobe:kvm_tdp_mmu_zap_sp
  6.12  enter, leave as Operation for nx_recovery at kprobe+kretprobe:kvm_nx_huge_page_recovery_worker
faults
  5.10  mmu_page_fault at kprobe:kvm_mmu_page_fault
        entry at raw_tp:kvm:kvm_entry
  6.1   vcpu_destroyed at kprobe:kvm_arch_vcpu_destroy
        pending_faults at read:kvm_vcpu.stat.pf_taken
        pending_faults at read:kvm_vcpu.stat.pf_fast
        entry at raw_tp:kvm:kvm_entry
  6.12  vcpu_destroyed at kprobe:kvm_arch_vcpu_destroy
        pending_faults at read:kvm_vcpu.stat.pf_taken
        pending_faults at read:kvm_vcpu.stat.pf_fast
        entry at raw_tp:kvm:kvm_entry
        enter, leave as OfVcpu for pre_fault at kprobe+kretprobe:kvm_arch_vcpu_pre_fault_memory
fast_faults
  5.10  fast_page_fault_of_6 at raw_tp:kvmmmu:fast_page_fault
  6.1   vcpu_destroyed at kprobe:kvm_arch_vcpu_destroy
        pending_faults at read:kvm_vcpu.stat.pf_taken
        pending_faults at read:kvm_vcpu.stat.pf_fast
        entry at raw_tp:kvm:kvm_entry
fault_latency
  5.10  mmu_page_fault at kprobe:kvm_mmu_page_fault
        entry at raw_tp:kvm:kvm_entry
        userspace_exit at raw_tp:kvm:kvm_userspace_exit
  6.1   vcpu_destroyed at kprobe:kvm_arch_vcpu_destroy
        pending_faults at read:kvm_vcpu.stat.pf_taken
        pending_faults at read:kvm_vcpu.stat.pf_fast
        entry at raw_tp:kvm:kvm_entry
        page_fault at raw_tp:kvm:kvm_page_fault
        userspace_exit at raw_tp:kvm:kvm_userspace_exit
tdp_changes
  5.10  handle_changed_spte at kprobe:__handle_changed_spte
  6.1   spte_changed at raw_tp:kvmmmu:kvm_tdp_mmu_spte_changed
rmap_changes
  5.10  walk at run:walk(page_offset_base)
        walk at run:walk(vmemmap_base)
        clear_track_bits at kprobe:mmu_spte_clear_track_bits
        spte_update at kprobe:mmu_spte_update
drop_spte
  5.10  drop_spte at kprobe:drop_spte
vm_list
  5.10  walk at run:walk(vm_list)
gauges
  5.10  missing: kvm.stat.pages_4k: `kvm.stat` has no field `pages_4k`
  6.1   walk at run:walk(vm_list)
progress
  5.10  missing: kvm_vcpu.stat.pf_emulate: `kvm_vcpu.stat` has no field `pf_emulate`
  6.1   vcpu_destroyed at kprobe:kvm_arch_vcpu_destroy
        pending_faults at read:kvm_vcpu.stat.pf_taken
        pending_faults at read:kvm_vcpu.stat.pf_fast
        entry at raw_tp:kvm:kvm_entry
        page_fault at raw_tp:kvm:kvm_page_fault
        userspace_exit at raw_tp:kvm:kvm_userspace_exit
lock_waits
  5.10  missing: kvm.mmu_lock.raw_lock: `kvm.mmu_lock` has no field `raw_lock`
  6.1   lock_wait at raw_tp:lock:contention_begin
        lock_taken at raw_tp:lock:contention_end
";

#[test]
fn every_kernel_is_seen_as_expected() {
    let plans = KERNELS.map(|series| (series, planned(&kernel(series))));
    let mut found = vec![String::new()];
    for signal in SIGNALS.iter().filter(|signal| signal.only.is_none()) {
        found.push(signal.signal.name().to_owned());
        let mut before = Vec::new();
        for (series, plan) in &plans {
            let now = seen_by(plan, signal.signal);
            if now != before {
                for (line, hook) in now.iter().enumerate() {
                    let series = if line == 0 { series } else { "" };
                    found.push(format!("  {series:<6}{hook}"));
                }
            }
            before = now;
        }
    }
    for (found, expected) in found.iter().zip(EXPECTED.lines()) {
        assert_eq!(found, expected);
    }
    assert_eq!(found.len(), EXPECTED.lines().count());
}

/// A line for each hook, or for each reason why there is none.
fn seen_by(plan: &Plan, signal: Signal) -> Vec<String> {
    let hooks = plan.hooks.iter().find(|(of, _)| *of == signal).map(|(_, hooks)| *hooks);
    let status = status(plan, signal);
    assert_eq!(hooks.is_some(), status.is_seen(), "{status:?}");
    match (hooks, &status.reason) {
        (Some(hooks), None) => hooks
            .iter()
            .map(|hook| format!("{}{} at {hook}", hook.programs().join(", "), work(hook)))
            .collect(),
        (None, Some(reason)) => {
            reason.split("; ").map(|reason| format!("missing: {reason}")).collect()
        }
        _ => panic!("{signal:?}: either hooks or a reason, not {status:?}"),
    }
}

fn status(plan: &Plan, signal: Signal) -> &SignalStatus {
    let mut all = plan.coverage.signals.iter();
    all.find(|status| status.signal == signal).unwrap()
}

/// The work of the shared programs.
fn work(hook: &Hook) -> String {
    match *hook {
        Hook::Function { role, cause: Cause::Unknown, .. } => format!(" as {role:?}"),
        Hook::Function { role, cause, .. } => format!(" as {role:?} for {}", cause.name()),
        _ => String::new(),
    }
}

#[test]
fn facts_of_every_kernel() {
    type Get = fn(&Kernel) -> u32;
    const NONE: u32 = Kernel::UNKNOWN;
    // On 6.12.117, the later fields of `struct kvm` are elsewhere than on 6.12.107.
    let expected: [(&str, Get, [u32; 5]); 31] = [
        ("kvm_vcpu.kvm", |k| k.vcpu_kvm, [0; 5]),
        ("kvm_vcpu.stat.pf_taken", |k| k.vcpu_taken, [NONE, 6184, 6112, 6264, 6088]),
        ("kvm_vcpu.stat.pf_fast", |k| k.vcpu_fast, [NONE, 6216, 6144, 6296, 6120]),
        ("kvm_vcpu.stat.pf_fixed", |k| k.vcpu_fixed, [168, 6192, 6120, 6272, 6096]),
        ("kvm_vcpu.stat.pf_emulate", |k| k.vcpu_emulated, [NONE, 6200, 6128, 6280, 6104]),
        ("kvm.mmu_invalidate_in_progress", |k| k.kvm_invalidating, [NONE, 39560, 6864, 6872, 6800]),
        ("kvm.mmu_invalidate_seq", |k| k.kvm_invalidate_seq, [NONE, 39552, 6856, 6864, 6792]),
        ("kvm_vcpu.vcpu_id", |k| k.vcpu_id, [36; 5]),
        ("kvm.mmu_notifier", |k| k.kvm_mmu_notifier, [86784, 39496, 6800, 6808, 6736]),
        ("kvm.vm_list", |k| k.kvm_vm_list, [2384, 4472, 4472, 4472, 4456]),
        ("kvm.userspace_pid", |k| k.kvm_userspace_pid, [187_576, 40408, 6976, 6984, 6936]),
        ("kvm.debugfs_dentry", |k| k.kvm_debugfs_dentry, [86888, 39608, 6912, 6920, 6856]),
        ("dentry.d_name.name", |k| k.dentry_name, [40; 5]),
        ("kvm.stat.pages_4k", |k| k.kvm_pages, [NONE, 4712, 4712, 4720, 4696]),
        ("kvm_memory_slot.base_gfn", |k| k.slot_base_gfn, [0, 176, 176, 176, 176]),
        ("kvm_memory_slot.npages", |k| k.slot_npages, [8, 184, 184, 184, 184]),
        ("kvm_memory_slot.flags", |k| k.slot_flags, [80, 256, 256, 256, 256]),
        ("kvm_memory_slot.id", |k| k.slot_id, [84, 260, 260, 260, 260]),
        ("kvm_memory_slot.as_id", |k| k.slot_as_id, [86, 262, 262, 262, 262]),
        ("mmu_notifier_range.event", |k| k.range_event, [36, 36, 28, 28, 28]),
        ("page.private", |k| k.page_private, [40; 5]),
        ("sizeof page", |k| k.page_size, [64; 5]),
        ("kvm_mmu_page.role", |k| k.sp_role, [52, 36, 36, 36, 36]),
        ("kvm_mmu_page.gfn", |k| k.sp_gfn, [56, 40, 40, 40, 40]),
        ("kvm_mmu_page.shadowed_translation", |k| k.sp_translation, [72, 56, 56, 56, 56]),
        ("bits below a translation's frame", |k| k.translation_shift, [0, 12, 12, 12, 12]),
        ("argument `old` of commit", |k| k.commit_old_arg, [2, 1, 1, 1, 1]),
        ("RET_PF_INVALID", |k| k.ret_pf_invalid, [2, 3, 4, 4, 4]),
        ("mmu_spte_clear_track_bits takes kvm", |k| k.clear_takes_kvm, [0, 1, 1, 1, 1]),
        ("SPTE present", |k| k.spte.present as u32, [0, 1 << 11, 1 << 11, 1 << 11, 1 << 11]),
        ("SPTE dirty", |k| k.spte.dirty as u32, [1 << 6; 5]),
    ];
    let facts = KERNELS.map(|series| facts::facts(&kernel(series)));
    for (what, get, values) in expected {
        assert_eq!(facts.each_ref().map(get), values, "{what}");
    }
    for facts in facts {
        let addresses = [facts.vm_list, facts.page_offset_base, facts.vmemmap_base];
        assert_eq!(addresses.iter().filter(|&&address| address >> 32 == 0xffff_ffff).count(), 3);
        assert_eq!(addresses.iter().collect::<HashSet<_>>().len(), 3, "{addresses:x?}");
    }
}

#[test]
fn the_mmu_follows_from_parameters() {
    let defaults = KERNELS.map(|series| planned(&kernel(series)).coverage.mmu);
    assert_eq!(defaults, [Mmu::Rmap, Mmu::Tdp, Mmu::Tdp, Mmu::Tdp, Mmu::Tdp]);
    for series in KERNELS {
        for (nested_paging, tdp_mmu, mmu) in [
            (Ok(true), Ok(true), Mmu::Tdp),
            (Ok(true), Ok(false), Mmu::Rmap),
            (Ok(true), unreadable(), Mmu::Unknown),
            (Ok(false), Ok(true), Mmu::Shadow),
            (Ok(false), Ok(false), Mmu::Shadow),
            (Ok(false), unreadable(), Mmu::Shadow),
            (unreadable(), Ok(true), Mmu::Unknown),
        ] {
            let mut kernel = kernel(series);
            kernel.kvm.nested_paging = nested_paging;
            kernel.kvm.tdp_mmu = tdp_mmu;
            let coverage = planned(&kernel).coverage();
            assert_eq!(coverage.mmu, mmu, "{series}");
            assert!(coverage.sees(mmu.essential_signal()), "{series}: {mmu:?}");
            assert_eq!(
                coverage.sees(Signal::ShadowInstalls),
                mmu == Mmu::Shadow,
                "{series}: {mmu:?}"
            );
        }
    }
}

fn unreadable<T>() -> Fact<T> {
    Err(Unknown::Denied("/some/file".into()))
}

#[test]
fn intel_has_its_own_spte_layout_where_it_uses_ept() {
    for series in KERNELS {
        let layout = |vendor, nested_paging| {
            let mut kernel = kernel(series);
            kernel.kvm.vendor = vendor;
            kernel.kvm.nested_paging = nested_paging;
            facts::facts(&kernel).spte
        };
        let adapted = |layout: SpteLayout| match series {
            "5.10" => layout.without_present_bit(),
            _ => layout,
        };
        let (ept, npt) = (adapted(SpteLayout::EPT), adapted(SpteLayout::NPT));
        assert_eq!(layout(Some(Vendor::Intel), Ok(true)), ept, "{series}");
        assert_eq!(layout(Some(Vendor::Intel), unreadable()), ept, "{series}");
        assert_eq!(layout(Some(Vendor::Intel), Ok(false)), npt, "{series}");
        assert_eq!(layout(Some(Vendor::Amd), Ok(true)), npt, "{series}");
        assert_eq!(layout(None, unreadable()), npt, "{series}");
    }
}

/// The hooks are those of AMD, as KVM's MMU is the module that both share, but for those of a CPU that logs.
#[test]
fn a_recorded_intel_host_is_planned_for() {
    let host = kernel("6.12-intel");
    let plan = planned(&host);
    let paging =
        Paging { vendor: Some(Vendor::Intel), accessed_dirty: Some(true), pml: Some(true) };
    assert_eq!((plan.coverage().mmu, plan.coverage().paging), (Mmu::Tdp, paging));
    assert_eq!(plan.coverage().label(), "TDP MMU on Intel with PML");
    assert_eq!((plan.kernel.spte, plan.kernel.ept), (SpteLayout::EPT, 1));
    let others: Vec<_> =
        plan.hooks.iter().filter(|(signal, _)| *signal != Signal::PmlFull).copied().collect();
    assert!(others == planned(&kernel("6.12")).hooks);
    let hooks = seen_by(&plan, Signal::PmlFull);
    assert_eq!(
        hooks,
        [
            "pml_full at raw_tp:kvm:kvm_pml_full",
            "entry at raw_tp:kvm:kvm_entry",
            "userspace_exit at raw_tp:kvm:kvm_userspace_exit",
        ]
    );
    assert_eq!(plan.coverage().missing().count(), 0);
    assert!(obstacles(&host).is_empty());
}

/// Exits for a full log are looked for where the CPU logs, or may.
#[test]
fn pml_is_watched_where_it_is_on() {
    for series in KERNELS {
        let watched = |pml| {
            let mut kernel = kernel(series);
            kernel.kvm.pml = pml;
            planned(&kernel).coverage().sees(Signal::PmlFull)
        };
        assert_eq!([Ok(true), unreadable(), Ok(false)].map(watched), [true, true, false]);
    }
}

#[test]
fn signals_are_well_formed() {
    assert!(SIGNALS.iter().map(|row| row.signal).eq(Signal::ALL.iter().copied()), "a row each");
    for row in SIGNALS {
        assert!(!row.hook_sets.is_empty(), "{:?}", row.signal);
        assert!(row.hook_sets.iter().all(|hooks| !hooks.is_empty()), "{:?}", row.signal);
    }
}

#[test]
fn latency_is_left_out_if_it_is_not_wanted() {
    let kernel = kernel("6.12");
    let off = Plan::new(&kernel, FaultLatency::OFF);
    assert_eq!(
        seen_by(&off, Signal::FaultLatency),
        ["missing: switched off (--fault-latency off)"]
    );
    assert_eq!((off.kernel.time_faults, off.coverage.timed_faults), (0, 0));
    let all = Plan::new(&kernel, "all".parse().unwrap());
    assert_eq!((all.kernel.time_faults, all.coverage.timed_faults), (1, 1));
}
