use std::fs;

use tempfile::TempDir;

use super::*;

const STATUS: &str = "\
Name:\tcollapse
Uid:\t1000\t0\t1000\t1000
CapEff:\t000000c000200000
";

const KALLSYMS: &str = "\
ffffffff81000000 T _text
ffffffff82000010 D page_offset_base
ffffffff81000100 t drop_spte
ffffffffc0a00000 t handle_changed_spte.cold\t[kvm]
ffffffffc0a00100 t handle_changed_spte\t[kvm]
ffffffffc0a00200 t drop_spte\t[kvm]
ffffffffc0a00300 t twice\t[kvm]
ffffffffc0a00400 t twice\t[kvm]
ffffffffc0a00500 t tdp_mmu_set_spte_atomic\t[kvm]
ffffffffc0a00600 d vm_list\t[kvm]
ffffffffc0b00000 t handle_changed_spte\t[other]
not a line
";

const FUNCTIONS: &str = "\
drop_spte
handle_changed_spte [kvm]
twice [kvm]
";

const FORMAT: &str = "\
name: kvm_tdp_mmu_spte_changed
ID: 1234
format:
\tfield:unsigned short common_type;\toffset:0;\tsize:2;\tsigned:0;
\tfield:int common_pid;\toffset:4;\tsize:4;\tsigned:1;

\tfield:u64 gfn;\toffset:8;\tsize:8;\tsigned:0;
\tfield:u64 * sptep;\toffset:16;\tsize:8;\tsigned:0;
\tfield:int errno;\toffset:24;\tsize:4;\tsigned:1;
\tfield:char name[16];\toffset:28;\tsize:16;\tsigned:0;

print fmt: \"as id %d\", REC->as_id
";

const WANTED: WantedFacts<'static> = WantedFacts {
    symbols: &[
        "handle_changed_spte",
        "drop_spte",
        "twice",
        "tdp_mmu_set_spte_atomic",
        "__handle_changed_spte",
    ],
    variables: &["vm_list", "page_offset_base"],
    tracepoints: &["kvmmmu:kvm_tdp_mmu_spte_changed", "kvm:absent"],
    offsets: &["kvm.userspace_pid"],
    sizes: &["kvm"],
    constants: &["RET_PF_FIXED"],
    functions: &["kvm_tdp_page_fault"],
    traceable: true,
};

fn root(files: &[(&str, &str)]) -> TempDir {
    let root = TempDir::new().unwrap();
    for (path, content) in files {
        let path = root.path().join(path);
        fs::create_dir_all(path.parent().unwrap()).unwrap();
        fs::write(path, content).unwrap();
    }
    root
}

/// Makes the files of an AMD machine: all that is read, except BTF.
fn complete() -> TempDir {
    root(&[
        ("proc/self/status", STATUS),
        ("proc/kallsyms", KALLSYMS),
        ("proc/sys/kernel/osrelease", "6.12.107+deb13-amd64\n"),
        ("proc/sys/kernel/hostname", "web7\n"),
        ("proc/sys/kernel/arch", "x86_64\n"),
        ("proc/sys/kernel/perf_event_paranoid", "-1\n"),
        ("proc/sys/kernel/kptr_restrict", "0\n"),
        ("proc/sys/kernel/ftrace_enabled", "1\n"),
        ("sys/kernel/security/lockdown", "none [integrity] confidentiality\n"),
        ("sys/kernel/tracing/available_filter_functions", FUNCTIONS),
        ("sys/kernel/tracing/kprobe_events", ""),
        ("sys/kernel/tracing/events/kvmmmu/kvm_tdp_mmu_spte_changed/format", FORMAT),
        ("sys/module/kvm/initstate", "live\n"),
        ("sys/module/kvm/parameters/tdp_mmu", "Y\n"),
        ("sys/module/kvm/parameters/nx_huge_pages", "never\n"),
        ("sys/module/kvm_amd/initstate", "live\n"),
        ("sys/module/kvm_amd/parameters/npt", "1\n"),
        ("dev/kvm", ""),
    ])
}

fn absent<T>(path: &str) -> Fact<T> {
    Err(Unknown::Absent(path.to_owned()))
}

#[test]
fn settings_and_privileges() {
    let root = complete();
    let found = Inspected::of_running_kernel(root.path(), &WANTED);
    assert_eq!(found.release.as_deref(), Ok("6.12.107+deb13-amd64"));
    assert_eq!(found.hostname.as_deref(), Some("web7"));
    assert_eq!(found.machine, "x86_64");
    assert!(found.privileges.is_root());
    assert_eq!(
        found.privileges.effective,
        Ok([Capability::SysAdmin, Capability::Perfmon, Capability::Bpf].into())
    );
    assert!(!found.privileges.has(Capability::SysResource));
    assert_eq!(found.lockdown, Ok(Lockdown::Integrity));
    assert_eq!(found.perf_event_paranoid, Ok(-1));
    assert_eq!(found.ftrace_enabled, Ok(1));
    assert!(matches!(found.realtime, Err(Unknown::Absent(_))), "{:?}", found.realtime);
    assert_eq!(found.tracefs, Ok("/sys/kernel/tracing".into()));
    assert_eq!(found.kprobes, Ok(true));
    assert_eq!(
        found.kvm,
        Kvm {
            core: ModuleState::Loaded,
            vendor: Some(Vendor::Amd),
            vendor_state: ModuleState::Loaded,
            device: true,
            tdp_mmu: Ok(true),
            eager_page_split: absent("/sys/module/kvm/parameters/eager_page_split"),
            nx_huge_pages: Ok(false),
            nested_paging: Ok(true),
            accessed_dirty: Ok(true),
            pml: Ok(false),
        }
    );
}

#[test]
fn symbols_are_exact_and_prefer_kvm() {
    let root = complete();
    let found = Inspected::of_running_kernel(root.path(), &WANTED);
    let symbol = |address, module: Option<&str>, function, copies, traceable| Symbol {
        address,
        module: module.map(str::to_owned),
        function,
        copies,
        traceable,
    };
    let expected = [
        ("drop_spte", symbol(0xffff_ffff_c0a0_0200, Some("kvm"), true, 1, Some(false))),
        ("handle_changed_spte", symbol(0xffff_ffff_c0a0_0100, Some("kvm"), true, 1, Some(true))),
        ("page_offset_base", symbol(0xffff_ffff_8200_0010, None, false, 1, None)),
        (
            "tdp_mmu_set_spte_atomic",
            symbol(0xffff_ffff_c0a0_0500, Some("kvm"), true, 1, Some(false)),
        ),
        ("twice", symbol(0xffff_ffff_c0a0_0300, Some("kvm"), true, 2, Some(true))),
        ("vm_list", symbol(0xffff_ffff_c0a0_0600, Some("kvm"), false, 1, None)),
    ];
    assert_eq!(found.symbols, Ok(expected.map(|(name, symbol)| (name.to_owned(), symbol)).into()));
    assert!(found.can_probe("handle_changed_spte"));
    assert!(!found.can_probe("twice"), "two functions, one name");
    assert!(!found.can_probe("tdp_mmu_set_spte_atomic"));
    assert!(!found.can_probe("vm_list"));
    assert!(!found.can_probe("__handle_changed_spte"));
}

#[test]
fn tracepoint_fields() {
    let root = complete();
    let found = Inspected::of_running_kernel(root.path(), &WANTED);
    let field =
        |name: &str, offset, size, signed| Field { name: name.to_owned(), offset, size, signed };
    assert_eq!(
        found.tracepoints["kvmmmu:kvm_tdp_mmu_spte_changed"].fields,
        Ok(vec![
            field("gfn", 8, 8, false),
            field("sptep", 16, 8, false),
            field("errno", 24, 4, true),
            field("name", 28, 16, false),
        ])
    );
    assert_eq!(found.has_tracepoint("kvmmmu:kvm_tdp_mmu_spte_changed"), Some(true));
    assert_eq!(found.has_tracepoint("kvm:absent"), Some(false));
    assert_eq!(found.has_tracepoint("kvm:not_wanted"), None);
}

#[test]
fn a_host_name_that_was_never_set_is_none() {
    let root = root(&[("proc/sys/kernel/hostname", "(none)\n")]);
    assert_eq!(Inspected::of_running_kernel(root.path(), &WANTED).hostname, None);
}

#[test]
fn an_empty_system_gives_reasons_and_no_failure() {
    let root = root(&[]);
    let found = Inspected::of_running_kernel(root.path(), &WANTED);
    assert_eq!(found.release, absent("/proc/sys/kernel/osrelease"));
    assert_eq!(found.symbols, absent("/proc/kallsyms"));
    assert_eq!(found.tracefs, absent("/sys/kernel/tracing/events"));
    assert_eq!(found.filter_functions, absent("/sys/kernel/tracing/events"));
    assert_eq!(found.kvm.core, ModuleState::Absent);
    assert_eq!(found.kvm.vendor, None);
    assert!(found.kvm.nested_paging.is_err());
    assert_eq!(found.vmlinux_btf, absent("/sys/kernel/btf/vmlinux"));
    assert_eq!(found.offsets["kvm.userspace_pid"], absent("/sys/kernel/btf/vmlinux"));
    assert_eq!(found.functions["kvm_tdp_page_fault"], absent("/sys/kernel/btf/vmlinux"));
    assert_eq!(found.has_tracepoint("kvm:absent"), None, "tracefs may not be mounted");
}

#[test]
fn malformed_files_give_reasons_and_no_failure() {
    let root = root(&[
        ("proc/self/status", "Uid:\tmany\nCapEff:\tzz\n"),
        ("proc/kallsyms", "\u{0}\n  \nzz t drop_spte\n"),
        ("proc/sys/kernel/kptr_restrict", "two"),
        ("sys/kernel/btf/vmlinux", "not BTF, and long enough for a header"),
        ("sys/kernel/security/lockdown", "none ]integrity["),
        ("sys/kernel/tracing/events/kvmmmu/kvm_tdp_mmu_spte_changed/format", "field:;;offset"),
    ]);
    let found = Inspected::of_running_kernel(root.path(), &WANTED);
    assert!(found.privileges.euid.is_err());
    assert!(!found.privileges.is_root());
    assert!(found.privileges.effective.is_err());
    assert_eq!(found.symbols, Ok(BTreeMap::new()));
    assert!(found.kptr_restrict.is_err());
    assert!(found.lockdown.is_err());
    let error = found.vmlinux_btf.unwrap_err().to_string();
    assert!(error.starts_with("/sys/kernel/btf/vmlinux: not little-endian BTF"), "{error}");
    assert_eq!(found.tracepoints["kvmmmu:kvm_tdp_mmu_spte_changed"].fields, Ok(vec![]));
}

#[test]
fn built_in_kvm_is_not_loaded_and_the_cpu_decides_the_vendor() {
    let root = root(&[
        ("proc/cpuinfo", "flags\t: fpu vmx\n"),
        ("sys/module/kvm/parameters/tdp_mmu", "N"),
        ("sys/module/kvm_amd/parameters/npt", "Y"),
        ("sys/module/kvm_intel/parameters/ept", "N"),
        ("sys/module/kvm_intel/parameters/eptad", "N"),
        ("sys/module/kvm_intel/parameters/pml", "Y"),
    ]);
    let kvm = Inspected::of_running_kernel(root.path(), &WANTED).kvm;
    assert_eq!(kvm.core, ModuleState::BuiltIn);
    assert_eq!(kvm.vendor, Some(Vendor::Intel));
    assert_eq!((kvm.tdp_mmu, kvm.nested_paging), (Ok(false), Ok(false)));
    assert_eq!((kvm.accessed_dirty, kvm.pml), (Ok(false), Ok(true)));
}

#[test]
fn recordings_are_read_back_unchanged() {
    for root in [complete(), root(&[])] {
        let found = Inspected::of_running_kernel(root.path(), &WANTED);
        let file = root.path().join("inspected.json");
        fs::write(&file, serde_json::to_vec_pretty(&found).unwrap()).unwrap();
        assert_eq!(Inspected::from_file(&file).unwrap(), found);
    }
}

/// Needs copies of the files that real kernels describe themselves in: a folder with one tree per
/// series.
#[test]
#[ignore = "needs trees of real kernels in $COLLAPSE_KERNEL_TREES"]
fn real_kernels() {
    let trees = PathBuf::from(std::env::var_os("COLLAPSE_KERNEL_TREES").unwrap());
    // Checked by dereferencing on running kernels. Point releases have moved the later fields of
    // struct kvm, but none of these.
    let expected: [(&str, [Option<u32>; 5]); 8] = [
        ("kvm.stat.pages_4k", [None, Some(4712), Some(4712), Some(4720), Some(4696)]),
        ("kvm_vcpu.kvm", [Some(0); 5]),
        ("kvm_memory_slot.flags", [Some(80), Some(256), Some(256), Some(256), Some(256)]),
        ("kvm_page_fault.goal_level", [None, Some(23), Some(28), Some(28), Some(28)]),
        ("kvm_mmu_page.role", [None, Some(36), Some(36), Some(36), Some(36)]),
        ("tdp_iter.old_spte", [None, Some(88), Some(88), Some(96), Some(96)]),
        ("mmu_notifier_range.event", [Some(36), Some(36), Some(28), Some(28), Some(28)]),
        ("dentry.d_name.name", [Some(40); 5]),
    ];
    let wanted = WantedFacts { offsets: &expected.map(|(path, _)| path), ..WANTED };
    for (index, series) in ["5.10", "6.1", "6.12", "6.18", "7.3"].into_iter().enumerate() {
        let found = Inspected::of_running_kernel(&trees.join(series), &wanted);
        assert!(found.release().starts_with(series), "{series}: {:?}", found.release);
        for (path, offsets) in expected {
            assert_eq!(found.offset(path), offsets[index], "{series}: {path}");
        }
        let change = ["handle_changed_spte", "__handle_changed_spte"];
        assert_eq!(change.into_iter().filter(|name| found.can_probe(name)).count(), 1, "{series}");
        assert!(!found.can_probe("tdp_mmu_set_spte_atomic"), "{series}");
        let args = &found.tracepoints["kvmmmu:kvm_tdp_mmu_spte_changed"].raw_args;
        match args {
            Ok(args) => assert_eq!(args.len(), 5, "{series}"),
            Err(_) => assert_eq!(series, "5.10"),
        }
    }
}
