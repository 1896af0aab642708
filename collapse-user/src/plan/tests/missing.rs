//! Plans for kernels on which something is missing.

use super::*;

fn symbols_of(kernel: &mut Inspected) -> &mut BTreeMap<String, Symbol> {
    kernel.symbols.as_mut().unwrap()
}

#[test]
fn without_a_function_the_next_hook_set_is_used() {
    let mut kernel = kernel("6.12");
    symbols_of(&mut kernel).remove("kvm_nx_huge_page_recovery_worker");
    assert_eq!(
        seen_by(&planned(&kernel), Signal::NxRecovery),
        ["enter, leave as Operation for nx_recovery at kprobe+kretprobe:kvm_tdp_mmu_zap_sp"]
    );
    symbols_of(&mut kernel).remove("kvm_tdp_mmu_zap_sp");
    let plan = planned(&kernel);
    let reasons = seen_by(&plan, Signal::NxRecovery);
    for function in ["kvm_nx_huge_page_recovery_worker", "kvm_tdp_mmu_zap_sp"] {
        assert!(reasons.contains(&format!("missing: no function {function}")), "{reasons:?}");
    }
    let missing: Vec<_> = plan.coverage.missing().map(|status| status.signal).collect();
    assert_eq!(missing, [Signal::NxRecovery], "nothing else depends on it");
}

#[test]
fn a_hook_set_needs_all_of_its_hooks() {
    let mut kernel = kernel("6.12");
    symbols_of(&mut kernel).remove("kvm_clear_dirty_log_protect");
    assert_eq!(
        seen_by(&planned(&kernel), Signal::DirtyLogHarvest),
        ["missing: no function kvm_clear_dirty_log_protect"]
    );
}

#[test]
fn functions_that_cannot_be_probed_are_as_good_as_missing() {
    let reason = ["missing: kvm_set_memslot cannot be probed"];
    let with = |change: fn(&mut Symbol)| {
        let mut kernel = kernel("6.12");
        change(symbols_of(&mut kernel).get_mut("kvm_set_memslot").unwrap());
        seen_by(&planned(&kernel), Signal::Memslots)
    };
    assert_eq!(with(|symbol| symbol.traceable = Some(false)), reason);
    assert_eq!(with(|symbol| symbol.copies = 2), reason);
    let unknown = with(|symbol| symbol.traceable = None);
    assert_eq!(
        unknown,
        ["enter, leave as SlotChange for slot_change at kprobe+kretprobe:kvm_set_memslot"]
    );
}

#[test]
fn without_a_tracepoint() {
    let absent = || Err(Unknown::Absent("format".into()));
    let mut kernel = kernel("6.12");
    kernel.tracepoints.get_mut("kvm:kvm_page_fault").unwrap().fields = absent();
    let by_kprobe =
        ["mmu_page_fault at kprobe:kvm_mmu_page_fault", "entry at raw_tp:kvm:kvm_entry"];
    let plan = planned(&kernel);
    assert_eq!(seen_by(&plan, Signal::FaultLatency)[..2], by_kprobe);
    // KVM still counts the faults.
    assert_eq!(
        seen_by(&plan, Signal::Faults),
        seen_by(&planned(&self::kernel("6.12")), Signal::Faults)
    );
    assert_eq!(plan.kernel.vcpu_taken, 6112);
    kernel.tracepoints.get_mut("kvmmmu:kvm_tdp_mmu_spte_changed").unwrap().fields = absent();
    assert_eq!(
        seen_by(&planned(&kernel), Signal::TdpChanges),
        [
            "missing: no tracepoint kvmmmu:kvm_tdp_mmu_spte_changed",
            "missing: no function __handle_changed_spte",
        ]
    );
}

#[test]
fn tracepoints_are_tried_where_tracefs_cannot_be_read() {
    let mut kernel = kernel("6.12");
    let before = planned(&kernel);
    kernel.tracefs = unreadable();
    for tracepoint in kernel.tracepoints.values_mut() {
        tracepoint.fields = unreadable();
    }
    for arguments_known in [true, false] {
        if !arguments_known {
            for tracepoint in kernel.tracepoints.values_mut() {
                tracepoint.raw_args = unreadable();
            }
        }
        let plan = planned(&kernel);
        assert_eq!(plan.kernel, before.kernel);
        assert!(plan.coverage.missing().next().is_none(), "{plan:?}");
        for signal in [Signal::Faults, Signal::FastFaults, Signal::TdpChanges] {
            assert_eq!(seen_by(&plan, signal), seen_by(&before, signal));
        }
    }
}

#[test]
fn faults_that_kvm_does_not_count_are_counted_here() {
    let mut kernel = kernel("6.12");
    kernel.offsets.remove("kvm_vcpu.stat.pf_fast");
    let plan = planned(&kernel);
    let by_kprobe =
        ["mmu_page_fault at kprobe:kvm_mmu_page_fault", "entry at raw_tp:kvm:kvm_entry"];
    assert_eq!(seen_by(&plan, Signal::Faults), by_kprobe);
    // Or their times would be taken twice.
    assert_eq!(seen_by(&plan, Signal::FaultLatency)[..2], by_kprobe);
    assert_eq!(
        seen_by(&plan, Signal::FastFaults),
        ["fast_page_fault at raw_tp:kvmmmu:fast_page_fault"]
    );
    // Otherwise they would be counted twice.
    assert_eq!(plan.kernel.vcpu_taken, Kernel::UNKNOWN);
    assert_eq!(planned(&self::kernel("6.12")).kernel.vcpu_taken, 6112);
}

#[test]
fn a_tracepoint_with_other_arguments_is_left_alone() {
    let mut kernel = kernel("6.12");
    kernel.offsets.remove("kvm_vcpu.stat.pf_fast");
    let args = &mut kernel.tracepoints.get_mut("kvmmmu:fast_page_fault").unwrap().raw_args;
    args.as_mut().unwrap().pop();
    assert_eq!(
        seen_by(&planned(&kernel), Signal::FastFaults),
        [
            "missing: kvm_vcpu.stat.pf_fast: not looked up",
            "missing: tracepoint kvmmmu:fast_page_fault has 4 arguments",
        ]
    );
}

#[test]
fn without_an_offset_its_signals_are_missing() {
    let mut kernel = kernel("6.12");
    let unclear = Unknown::Unclear("`kvm` has no field `mmu_notifier`".into());
    kernel.offsets.insert("kvm.mmu_notifier".into(), Err(unclear));
    let plan = planned(&kernel);
    assert_eq!(
        seen_by(&plan, Signal::Notifier),
        ["missing: kvm.mmu_notifier: `kvm` has no field `mmu_notifier`"]
    );
    assert_eq!(plan.coverage.missing().count(), 1);
    assert_eq!(plan.kernel.kvm_mmu_notifier, Kernel::UNKNOWN);
    kernel.offsets.remove("kvm_vcpu.kvm");
    assert_eq!(
        seen_by(&planned(&kernel), Signal::Faults),
        ["missing: kvm_vcpu.kvm: not looked up"]
    );
}

/// The fixed offsets are valid only for kernels like 5.10.
#[test]
fn newer_kernels_need_module_btf_for_the_rmap_mmu() {
    let mut kernel = kernel("6.12");
    let unclear = || Unknown::Unclear("no definition of `kvm_mmu_page`".into());
    for (path, offset) in &mut kernel.offsets {
        if path.starts_with("kvm_mmu_page.") {
            *offset = Err(unclear());
        }
    }
    assert_eq!(
        seen_by(&planned(&kernel), Signal::RmapChanges),
        ["missing: kvm_mmu_page.gfn: no definition of `kvm_mmu_page`"]
    );
}

#[test]
fn optional_offsets_cost_no_signal() {
    let mut kernel = kernel("6.12");
    kernel.offsets.insert("kvm.debugfs_dentry".into(), unreadable());
    let plan = planned(&kernel);
    assert!(plan.coverage.missing().next().is_none());
    assert_eq!(plan.kernel.kvm_debugfs_dentry, Kernel::UNKNOWN);
}

fn missing(plan: &Plan) -> Vec<Signal> {
    plan.coverage.missing().map(|status| status.signal).collect()
}

/// The signals with hooks that start from a variable, or whose programs find by the address which
/// function they are in.
fn needs_addresses() -> Vec<Signal> {
    let needs = |hook: &Hook| matches!(hook, Hook::Run { .. } | Hook::Function { .. });
    let always = |row: &&SignalHooks| row.hook_sets.iter().all(|set| set.iter().any(needs));
    let rows = SIGNALS.iter().filter(always);
    rows.map(|row| row.signal).collect()
}

#[test]
fn hidden_addresses_cost_what_starts_from_variables() {
    let mut kernel = kernel("6.12");
    for symbol in symbols_of(&mut kernel).values_mut() {
        symbol.address = 0;
    }
    let plan = planned(&kernel);
    assert_eq!(missing(&plan), needs_addresses());
    assert_eq!(
        seen_by(&plan, Signal::Memslots),
        ["missing: the address of kvm_set_memslot is hidden (kernel.kptr_restrict)"]
    );
    assert_eq!(
        seen_by(&plan, Signal::Gauges),
        ["missing: the address of vm_list is hidden (kernel.kptr_restrict)"]
    );
    symbols_of(&mut kernel).remove("vm_list");
    assert_eq!(seen_by(&planned(&kernel), Signal::Gauges), ["missing: no variable vm_list"]);
}

#[test]
fn functions_are_tried_where_symbols_are_unknown() {
    for series in KERNELS {
        let mut kernel = kernel(series);
        kernel.symbols = Err(Unknown::Denied("/proc/kallsyms".into()));
        let plan = planned(&kernel);
        let mut expected = needs_addresses();
        // Nowhere to be seen on 5.10.
        let later = [Signal::Progress, Signal::LockWaits, Signal::RetriedFaults];
        expected.extend(later.into_iter().filter(|_| series == "5.10"));
        assert_eq!(missing(&plan), expected, "{series}");
        assert_eq!(
            seen_by(&plan, Signal::VmList),
            ["missing: the address of vm_list is not known: no permission to read /proc/kallsyms"]
        );
    }
}
