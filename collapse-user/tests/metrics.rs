//! `collapse metrics` on recordings: what is served, and what is refused.

mod exporter;

use std::{
    fs,
    io::{Read as _, Write as _},
    os::unix::net::UnixStream,
    thread,
    time::{Duration, Instant},
};

use exporter::{Exporter, answer, collapse, recorded};

fn head_and_body(answer: &str) -> (&str, &str) {
    answer.split_once("\r\n\r\n").expect("a head")
}

#[test]
fn a_recording_is_served_in_the_format_that_is_asked_for() {
    let exporter = Exporter::of("four-guests.rec");
    let plain = exporter.ask("GET /metrics HTTP/1.1");
    let (head, body) = head_and_body(&plain);
    assert!(head.starts_with("HTTP/1.1 200 ") && head.contains("version=0.0.4"), "{head}");
    assert!(body.contains("\ncollapse_host_splits_total "), "{body}");
    let folder = tempfile::tempdir().expect("a folder");
    let file = folder.path().join("collapse.prom");
    let file = file.to_str().expect("a path");
    let from = recorded("four-guests.rec");
    let written = collapse(&["metrics", "--from", &from, "--textfile", file]).output();
    let written = written.expect("running it");
    assert!(written.status.success() && written.stderr.is_empty() && written.stdout.is_empty());
    assert!(fs::read_to_string(file).expect("the file") == body, "the file has the same");
    let stdout = collapse(&["metrics", "--from", &from, "--textfile", "-"]).output();
    assert!(stdout.expect("running it").stdout == body.as_bytes(), "stdout has the same");

    let open = exporter.ask("GET /metrics HTTP/1.1\nAccept: application/openmetrics-text");
    let (head, body) = head_and_body(&open);
    assert!(head.contains("application/openmetrics-text; version=1.0.0"), "{head}");
    assert!(body.ends_with("\n# EOF\n"), "{body}");
    assert_eq!(exporter.end(), Some(0));
}

#[test]
fn there_are_three_pages_to_be_read() {
    let exporter = Exporter::of("failed-migration.rec");
    for (request, status) in [
        ("GET /healthz", "200"),
        ("GET /", "200"),
        ("GET /metrics?name=x", "200"),
        ("GET /metrics/", "404"),
        ("GET /../etc/passwd", "404"),
        ("POST /metrics", "405"),
        ("DELETE /", "405"),
        ("HEAD /metrics", "200"),
    ] {
        let answer = exporter.ask(&format!("{request} HTTP/1.1"));
        assert!(answer.starts_with(&format!("HTTP/1.1 {status} ")), "{request}: {answer}");
    }
    let endless = format!("GET / HTTP/1.1\nX-Long: {}", "x".repeat(1 << 16));
    let mut stream = exporter.connect();
    // It may hang up before it has all.
    let _ = stream.write_all(endless.replace('\n', "\r\n").as_bytes());
    let mut answer = String::new();
    let _ = stream.read_to_string(&mut answer);
    assert!(answer.is_empty() || answer.starts_with("HTTP/1.1 431 "), "{answer}");
    assert!(exporter.ask("GET /healthz HTTP/1.1").starts_with("HTTP/1.1 200 "));
}

#[test]
fn whoever_says_nothing_is_hung_up_on_and_keeps_nobody_out_for_long() {
    let exporter = Exporter::of("failed-migration.rec");
    let begun = Instant::now();
    // More than are served at a time.
    let mut silent: Vec<_> = (0..40).map(|_| exporter.connect()).collect();
    assert!(exporter.ask("GET /healthz HTTP/1.1").starts_with("HTTP/1.1 200 "));
    for stream in &mut silent {
        assert_eq!(stream.read(&mut [0; 16]).ok().filter(|n| *n > 0), None, "it says nothing");
    }
    assert!(begun.elapsed() < Duration::from_secs(20), "{:?}", begun.elapsed());
}

#[test]
fn a_hundred_scrapes_a_second_are_answered() {
    let exporter = Exporter::of("four-guests.rec");
    let begun = Instant::now();
    for _ in 0..100 {
        assert!(exporter.ask("GET /metrics HTTP/1.1").starts_with("HTTP/1.1 200 "));
    }
    // The text is written once, so that this holds in a debug build, too.
    assert!(begun.elapsed() < Duration::from_secs(5), "{:?}", begun.elapsed());
}

#[test]
fn a_unix_socket_goes_with_its_server() {
    let folder = tempfile::tempdir().expect("a folder");
    let path = folder.path().join("socket");
    let listen = format!("unix:{}", path.display());
    let from = recorded("failed-migration.rec");
    let arguments = ["metrics", "--from", &from, "--listen", &listen, "--duration", "3s"];
    let mut server = collapse(&arguments).spawn().expect("collapse");
    let begun = Instant::now();
    let stream = loop {
        match UnixStream::connect(&path) {
            Ok(stream) => break stream,
            Err(error) => assert!(begun.elapsed() < Duration::from_secs(20), "{error}"),
        }
        thread::sleep(Duration::from_millis(20));
    };
    assert!(answer(stream, "GET /metrics HTTP/1.1").contains("collapse_vms_ended_total 1\n"));
    assert!(server.wait().expect("its end").success());
    assert!(!path.exists());
}

#[test]
fn what_cannot_be_is_one_line_with_its_own_code() {
    let from = recorded("failed-migration.rec");
    for (arguments, code, says) in [
        (&["--listen", "0.0.0.0:0"][..], 2, "can be reached from other machines"),
        (&["--listen", "nowhere"], 2, "expected an address and a port"),
        (&["--textfile", "/nonexistent/a.prom"], 120, "cannot write /nonexistent/a.prom"),
        (&["--listen", "unix:/nonexistent/a"], 120, "cannot listen on /nonexistent/a"),
        (&[], 2, "--listen"),
    ] {
        let output = collapse(&[&["metrics", "--from", &from], arguments].concat()).output();
        let output = output.expect("running it");
        let stderr = String::from_utf8_lossy(&output.stderr);
        assert_eq!(output.status.code(), Some(code), "{arguments:?}: {stderr}");
        assert!(stderr.contains(says), "{arguments:?}: {stderr}");
    }
    let live = collapse(&["metrics", "--textfile", "-"]).output().expect("running it");
    assert_eq!(live.status.code(), Some(2));
}
