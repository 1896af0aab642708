//! `collapse metrics --otlp` on recordings: what a collector receives, and what becomes of a missing one.

#![cfg(feature = "otlp")]

mod exporter;

use std::{net::TcpListener, thread};

use exporter::{collapse, recorded};

#[test]
fn a_collector_gets_what_a_recording_has() {
    let listener = TcpListener::bind("127.0.0.1:0").expect("a port");
    let url = format!("http://{}", listener.local_addr().expect("an address"));
    let collector = thread::spawn(move || collector::receive(&listener, "200 OK"));
    let from = recorded("failed-migration.rec");
    let output =
        collapse(&["metrics", "--from", &from, "--otlp", &url]).output().expect("running it");
    assert!(output.status.success() && output.stderr.is_empty(), "{output:?}");
    let received = collector.join().expect("it ends").expect("a request");
    let head = received.head.join("\n");
    assert!(head.starts_with("post /v1/metrics http/1.1\n"), "{head}");
    assert!(head.contains("\ncontent-type: application/x-protobuf"), "{head}");

    let numbers = received.numbers().expect("a message");
    let text =
        collapse(&["metrics", "--from", &from, "--textfile", "-"]).output().expect("running it");
    let text = String::from_utf8(text.stdout).expect("text");
    let n = text
        .lines()
        .find_map(|line| line.strip_prefix("collapse_host_splits_total ")?.parse().ok());
    assert!(n.is_some_and(|n| n > 0), "{text}");
    assert_eq!(numbers.get("collapse_host_splits").copied(), n);
}

#[test]
fn a_collector_that_is_missing_is_one_line_with_its_own_code() {
    let from = recorded("failed-migration.rec");
    // Nobody listens there any more.
    let listener = TcpListener::bind("127.0.0.1:0").expect("a port");
    let url = format!("http://{}", listener.local_addr().expect("an address"));
    drop(listener);
    for (url, code, says) in [
        (url.as_str(), 120, "cannot send metrics"),
        ("https://127.0.0.1:4318", 2, "there is no TLS"),
        ("http://collector:4318", 2, "is no IP address"),
    ] {
        let output = collapse(&["metrics", "--from", &from, "--otlp", url]).output();
        let output = output.expect("running it");
        let stderr = String::from_utf8_lossy(&output.stderr);
        assert_eq!(output.status.code(), Some(code), "{url}: {stderr}");
        assert!(stderr.contains(says) && (code == 2 || stderr.lines().count() == 1), "{stderr}");
    }
}
