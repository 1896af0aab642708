use std::fs;

use proptest::prelude::*;
use tempfile::TempDir;
use unicode_width::{UnicodeWidthChar, UnicodeWidthStr};

use collapse_feed::MAX_COLUMNS;

use super::*;

fn named_in(cgroup: &str, cmdline: &str) -> (String, NameSource) {
    let cmdline: Vec<_> = cmdline.split_whitespace().map(|arg| arg.as_bytes().to_vec()).collect();
    let name = name_from(42, &cmdline, cgroup, b"comm");
    (name.text, name.source)
}

fn named(cmdline: &str) -> (String, NameSource) {
    named_in("0::/user.slice/user-0.slice/session-1.scope\n", cmdline)
}

#[test]
fn qemu() {
    let qemu = |name: &str| (name.to_owned(), NameSource::Qemu);
    let comm = ("comm".to_owned(), NameSource::Comm);
    assert_eq!(named("/usr/bin/qemu-system-x86_64 -name guest=web,debug-threads=on"), qemu("web"));
    assert_eq!(named("/usr/libexec/qemu-kvm -m 1G -name web"), qemu("web"));
    assert_eq!(named("kvm --name web,process=web-qemu"), qemu("web"));
    assert_eq!(named("qemu-system-x86_64 -name debug-threads=on,guest=web"), qemu("web"));
    assert_eq!(named("qemu-system-x86_64 -name guest=a,,b,,,debug-threads=on"), qemu("a,b,"));
    assert_eq!(named("qemu-system-x86_64 -name first -name guest=last"), qemu("last"));
    assert_eq!(named("qemu-system-x86_64 -name process=web"), comm);
    assert_eq!(named("qemu-system-x86_64 -name guest="), comm);
    assert_eq!(named("qemu-system-x86_64 -name"), comm);
    assert_eq!(named("qemu-system-x86_64"), comm);
}

#[test]
fn libvirt() {
    let libvirt = |name: &str| (name.to_owned(), NameSource::Libvirt);
    let scope = r"0::/machine.slice/machine-qemu\x2d1\x2dmy\x2dweb.scope/libvirt/emulator";
    assert_eq!(named_in(scope, "qemu-system-x86_64 -name guest=my-web!"), libvirt("my-web!"));
    assert_eq!(named_in(scope, "renamed"), libvirt("my-web"));
    assert_eq!(named_in("4:memory:/machine/qemu-7-web.libvirt-qemu", "renamed"), libvirt("web"));
    assert_eq!(named_in(r"0::/machine-qemu\x2d1\x2d\x1b.scope", ""), libvirt("␛"));
    for other in
        [r"0::/machine-qemu\x2dweb.scope", "0::/machine-debian.scope", r"0::/machine-\x.scope"]
    {
        assert_eq!(named_in(other, "renamed").1, NameSource::Comm, "{other}");
    }
}

#[test]
fn kubevirt() {
    let systemd = "0::/kubepods.slice/kubepods-burstable.slice/\
        kubepods-burstable-pod0a1b2c3d_0000_4111_8222_abcdefabcdef.slice/cri-containerd-ff.scope";
    let cgroupfs = "3:cpu:/x\n4:memory:/kubepods/burstable/pod0a1b2c3d-0000/ff";
    let guest = "qemu-kvm -name guest=default_web,debug-threads=on";
    let pod = |uid: &str| (uid.to_owned(), NameSource::Pod);
    assert_eq!(named_in(systemd, guest), ("default/web".into(), NameSource::KubeVirt));
    assert_eq!(named_in(systemd, "qemu-kvm -name web"), ("web".into(), NameSource::Qemu));
    assert_eq!(named_in(systemd, "vmm"), pod("0a1b2c3d-0000-4111-8222-abcdefabcdef"));
    assert_eq!(named_in(cgroupfs, "vmm"), pod("0a1b2c3d-0000"));
    assert_eq!(named_in("0::/podman/pod12", "vmm").1, NameSource::Comm);
}

#[test]
fn other_vmms() {
    let cases = [
        ("/usr/bin/firecracker --id web --api-sock /x", "web", NameSource::Firecracker),
        ("firecracker-v1.7.0-x86_64 --id=web", "web", NameSource::Firecracker),
        ("cloud-hypervisor --api-socket /run/web.sock", "web", NameSource::CloudHypervisor),
        (
            "cloud-hypervisor --api-socket path=/run/web/api.sock",
            "web",
            NameSource::CloudHypervisor,
        ),
        ("cloud-hypervisor --api-socket fd=3", "comm", NameSource::Comm),
        ("crosvm run --name web --mem 512", "web", NameSource::Crosvm),
        ("lkvm run --name=web", "web", NameSource::Kvmtool),
        ("./workload --name web first-touch", "web", NameSource::Workload),
        ("unrelated --name web", "comm", NameSource::Comm),
        ("lkvm run --name", "comm", NameSource::Comm),
    ];
    for (cmdline, name, source) in cases {
        assert_eq!(named(cmdline), (name.to_owned(), source), "{cmdline}");
    }
}

#[test]
fn uuids() {
    let uuid = |cmdline: &str| {
        let cmdline: Vec<_> = cmdline.split(' ').map(|arg| arg.as_bytes().to_vec()).collect();
        uuid_from(&cmdline, b"comm").map(|uuid| uuid.to_string())
    };
    let known = "0a1b2c3d-0000-4111-8222-abcdefabcdef";
    let other = "11111111-2222-4333-8444-555555555555";
    for cmdline in [
        format!("/usr/bin/qemu-system-x86_64 -name guest=web -uuid {known} -m 1G"),
        format!("qemu-kvm --uuid {}", known.to_uppercase()),
        format!("kvm -uuid {other} -uuid {known}"),
        format!("cloud-hypervisor --platform num_pci_segments=1,uuid={known} --cpus boot=1"),
    ] {
        assert_eq!(uuid(&cmdline).as_deref(), Some(known), "{cmdline}");
    }
    for cmdline in ["qemu-kvm -uuid", "qemu-kvm -uuid web", "qemu-kvm", "cloud-hypervisor", "", "x"]
    {
        assert_eq!(uuid(cmdline), None, "{cmdline}");
    }
    assert_eq!(uuid(&format!("firecracker --id web -uuid {known}")), None);
}

#[test]
fn without_anything_else_the_pid_is_the_name() {
    let name = name_from(42, &[], "", b"");
    assert_eq!(name, VmName { text: "42".into(), source: NameSource::Pid });
}

#[test]
fn names_of_debugfs_directories() {
    assert_eq!(parse_debugfs_name("160-5"), Some((160, 5)));
    for name in ["160", "160-", "-5", "160-5-1", "160-+5", " 160-5", "160-vcpu0", "4294967296-1"] {
        assert_eq!(parse_debugfs_name(name), None, "{name}");
    }
}

fn proc_with(files: &[(&str, &[u8])]) -> (TempDir, Proc) {
    let root = TempDir::new().unwrap();
    for (path, content) in files {
        let path = root.path().join(path);
        fs::create_dir_all(path.parent().unwrap()).unwrap();
        fs::write(path, content).unwrap();
    }
    let proc = Proc::at(root.path());
    (root, proc)
}

#[test]
fn a_thread_leads_to_its_process() {
    let (_root, proc) = proc_with(&[
        ("162/status", b"Name:\tCPU 0/KVM\nTgid:\t160\nPid:\t162\n"),
        ("160/comm", b"qemu\x1b\n"),
        ("160/cmdline", b"qemu-system-x86_64\0-name\0guest=my web\0"),
        ("160/cgroup", b"0::/\n"),
        ("160/task/162/comm", b""),
        ("163/status", b"Name:\tx\n"),
        ("164/cmdline", b"qemu-kvm\0-uuid\0aa1b2c3d-0000-4111-8222-abcdefabcdef\0"),
    ]);
    let expected = VmProcess {
        pid: 160,
        tid: 162,
        comm: "qemu␛".into(),
        name: VmName { text: "my web".into(), source: NameSource::Qemu },
    };
    assert_eq!(proc.process_of_thread(162).unwrap(), expected);
    assert!(proc.has_thread(160, 162));
    assert!(!proc.has_thread(160, 163));
    assert_eq!(proc.uuid(160).unwrap(), None);
    let uuid = proc.uuid(164).unwrap().map(|uuid| uuid.to_string());
    assert_eq!(uuid.as_deref(), Some("aa1b2c3d-0000-4111-8222-abcdefabcdef"));
    assert!(proc.uuid(165).is_err());
    assert!(proc.process_of_thread(163).is_err());
    assert!(proc.process_of_thread(164).is_err());
}

#[test]
fn the_own_process_is_found() {
    let pid = std::process::id();
    let process = process_of_thread(pid).unwrap();
    assert_eq!((process.pid, process.tid), (pid, pid));
    assert!(thread_exists(pid, pid));
}

fn assert_harmless(text: &str) {
    assert!(text.chars().all(|char| !char.is_control()), "{text:?}");
    assert!(text.width() <= MAX_COLUMNS, "{text:?}");
    assert!(text.chars().map(|char| char.width().unwrap_or(0)).sum::<usize>() <= MAX_COLUMNS);
    assert!(text.chars().count() <= MAX_COLUMNS);
}

proptest! {
    #[test]
    fn printable_is_harmless(bytes in prop::collection::vec(any::<u8>(), 0..300)) {
        assert_harmless(&printable(&bytes));
    }

    #[test]
    fn printable_is_harmless_for_valid_text(text in "\\PC{0,200}|[\\x00-\\x{10ffff}]{0,200}") {
        let shown = printable(text.as_bytes());
        assert_harmless(&shown);
        prop_assert_eq!(printable(shown.as_bytes()), shown);
    }

    #[test]
    fn plain_text_is_unchanged(text in "[ -~]{0,128}") {
        prop_assert_eq!(printable(text.as_bytes()), text);
    }

    #[test]
    fn names_are_harmless(
        program in prop::sample::select(vec!["qemu-kvm", "firecracker", "cloud-hypervisor", "crosvm", "x"]),
        args in prop::collection::vec(
            prop_oneof![
                Just(b"-name".to_vec()), Just(b"--name".to_vec()), Just(b"--id".to_vec()),
                Just(b"--api-socket".to_vec()), prop::collection::vec(any::<u8>(), 0..200),
            ],
            0..6,
        ),
        cgroup in r"(0::/machine-qemu\\x2d1\\x2d)?.{0,40}(\.scope)?",
        comm in prop::collection::vec(any::<u8>(), 0..16),
    ) {
        let mut cmdline = vec![program.as_bytes().to_vec()];
        cmdline.extend(args);
        let name = name_from(1, &cmdline, &cgroup, &comm);
        assert_harmless(&name.text);
        prop_assert!(!name.text.is_empty());
    }

    #[test]
    fn names_survive_qemu_escaping(name in "[a-z,=]{0,20}") {
        let option = format!("guest={},debug-threads=on", name.replace(',', ",,"));
        let cmdline = [b"qemu-kvm".to_vec(), b"-name".to_vec(), option.into_bytes()];
        let expected = if name.is_empty() { "comm" } else { &name };
        prop_assert_eq!(name_from(1, &cmdline, "", b"comm").text, expected);
    }
}
