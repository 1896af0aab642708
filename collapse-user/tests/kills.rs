//! `collapse metrics`, killed in the middle of what it does: nobody is misled, and it can start again at once.

mod exporter;

use std::{
    fs,
    io::{Read as _, Write as _},
    os::unix::process::ExitStatusExt as _,
    path::Path,
    process::Command,
};

use collapse_common::abi::VmKey;
use collapse_feed::{
    Batch, Machine, Mmu, NameSource, Update, VmName, VmProcess, VmReading,
    fixtures::full_coverage,
    recording::{self, Recorder, SizeLimits},
};
use exporter::{Exporter, collapse, recorded};

/// More text than the buffers of two sockets hold.
const MUCH: usize = 12 << 20;

/// Records a host with as many VMs as get series of their own, of long names.
fn crowd(path: &Path) {
    let coverage = full_coverage(Mmu::Tdp);
    let file = recording::create(path).expect("a file");
    let recorder = Recorder::new(file, path, Machine::default(), &coverage, SizeLimits::default());
    let vm = |number: u32| VmReading {
        vm: VmKey { kvm: 0x1000 * u64::from(number), born: number.into() },
        pages: Some([0, 1, 0]),
        process: Some(VmProcess {
            pid: number,
            tid: number,
            comm: "vmm".to_owned(),
            name: VmName {
                text: format!("{number}-{}", "x".repeat(800)),
                source: NameSource::Qemu,
            },
        }),
        fd: None,
    };
    let batch =
        |at| Batch { at, settled: true, vms: (1..=256).map(vm).collect(), ..Batch::default() };
    let mut recorder = recorder.expect("a recorder");
    for at in [1, 2] {
        recorder.update(&Update::Batch(batch(at)), &coverage).expect("a file");
    }
    recorder.finish(None).expect("a file");
}

#[test]
fn a_scrape_that_is_cut_short_is_seen_to_be() {
    let folder = tempfile::tempdir().expect("a folder");
    let path = folder.path().join("crowd.rec");
    crowd(&path);
    let path = path.to_str().expect("a path");
    let exporter = Exporter::at(path, "0");
    let address = exporter.address.clone();
    let mut slow = exporter.connect();
    let accept = "application/openmetrics-text";
    write!(slow, "GET /metrics HTTP/1.1\r\nHost: localhost\r\nAccept: {accept}\r\n\r\n")
        .expect("sent");
    let mut answer = vec![0; 1 << 10];
    slow.read_exact(&mut answer).expect("a beginning");
    exporter.kill();
    // An error of the connection says it as well.
    let _ = slow.read_to_end(&mut answer);
    let answer = String::from_utf8_lossy(&answer);
    let (head, body) = answer.split_once("\r\n\r\n").expect("a head");
    let head = head.to_ascii_lowercase();
    let size = head.lines().find_map(|line| line.strip_prefix("content-length: ")?.parse().ok());
    let size: usize = size.expect("a length");
    assert!(size > MUCH, "{size} bytes fit into buffers");
    assert!(body.len() < size && !body.ends_with("# EOF\n"), "{} of {size} bytes", body.len());

    let again = Exporter::at(path, &address);
    assert_eq!(again.address, address);
    assert!(again.ask("GET /healthz HTTP/1.1").starts_with("HTTP/1.1 200 "));
}

#[test]
fn a_file_that_was_being_written_is_still_the_one_before() {
    let folder = tempfile::tempdir().expect("a folder");
    let file = folder.path().join("collapse.prom");
    let path = file.to_str().expect("a path");
    let (before, after) = (recorded("failed-migration.rec"), recorded("four-guests.rec"));
    let write = |from: &str| collapse(&["metrics", "--from", from, "--textfile", path]).status();
    assert!(write(&before).expect("running it").success());
    let whole = fs::read_to_string(&file).expect("the file");

    // The kernel kills it at the first byte beyond this size, in 512 bytes.
    let mut killed = Command::new("sh");
    killed.args(["-c", "ulimit -c 0; ulimit -f 8; exec \"$@\"", "sh"]);
    killed.args([env!("CARGO_BIN_EXE_collapse"), "metrics", "--from", &after, "--textfile", path]);
    let status = killed.status().expect("running it");
    assert_eq!(status.signal(), Some(libc::SIGXFSZ), "{status}");
    assert_eq!(fs::read_to_string(&file).expect("the file"), whole);
    let left = fs::read_dir(folder.path()).expect("the folder").map(|entry| {
        let entry = entry.expect("an entry");
        (entry.path(), entry.metadata().expect("a file").len())
    });
    let left: Vec<_> = left.filter(|(path, _)| *path != file).collect();
    // The node exporter reads what ends in .prom.
    let is_read = |path: &Path| path.extension().is_some_and(|end| end == "prom");
    assert!(matches!(&left[..], [(path, 4096)] if !is_read(path)), "{left:?}");

    assert!(write(&after).expect("running it").success());
    assert!(fs::read_to_string(&file).expect("the file").len() > whole.len());
}
