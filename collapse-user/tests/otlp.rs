//! `collapse metrics --otlp` on recordings: what a collector receives, and what becomes of a missing one.

#![cfg(feature = "otlp")]

mod exporter;

use std::{
    io::{BufRead as _, BufReader, Read as _, Write as _},
    net::TcpListener,
    thread,
};

use exporter::{collapse, recorded};
use opentelemetry_proto::tonic::{
    collector::metrics::v1::ExportMetricsServiceRequest,
    metrics::v1::{metric::Data, number_data_point::Value},
};
use prost::Message as _;

/// Takes one request, and returns its head and its message.
fn receive(listener: &TcpListener) -> (String, Vec<u8>) {
    let (stream, _) = listener.accept().expect("a connection");
    let mut reader = BufReader::new(&stream);
    let mut head = String::new();
    while !head.ends_with("\r\n\r\n") {
        assert!(reader.read_line(&mut head).expect("a line") > 0, "{head}");
    }
    let size = head.to_ascii_lowercase();
    let size = size.lines().find_map(|line| line.strip_prefix("content-length: ")?.parse().ok());
    let mut message = vec![0; size.expect("a length")];
    reader.read_exact(&mut message).expect("a message");
    write!(&stream, "HTTP/1.1 200 OK\r\nContent-Length: 0\r\n\r\n").expect("an answer");
    (head, message)
}

#[test]
fn a_collector_gets_what_a_recording_has() {
    let listener = TcpListener::bind("127.0.0.1:0").expect("a port");
    let url = format!("http://{}", listener.local_addr().expect("an address"));
    let collector = thread::spawn(move || receive(&listener));
    let from = recorded("failed-migration.rec");
    let output =
        collapse(&["metrics", "--from", &from, "--otlp", &url]).output().expect("running it");
    assert!(output.status.success() && output.stderr.is_empty(), "{output:?}");
    let (head, message) = collector.join().expect("a request");
    assert!(head.starts_with("POST /v1/metrics HTTP/1.1\r\n"), "{head}");
    assert!(
        head.to_ascii_lowercase().contains("\r\ncontent-type: application/x-protobuf\r\n"),
        "{head}"
    );

    let request = ExportMetricsServiceRequest::decode(&message[..]).expect("a message");
    let metrics = &request.resource_metrics[0].scope_metrics[0].metrics;
    let splits = metrics.iter().find(|metric| metric.name == "collapse_host_splits");
    let Some(Data::Sum(splits)) = splits.and_then(|metric| metric.data.as_ref()) else {
        panic!("no splits in {metrics:?}");
    };
    let text =
        collapse(&["metrics", "--from", &from, "--textfile", "-"]).output().expect("running it");
    let text = String::from_utf8(text.stdout).expect("text");
    let n = text
        .lines()
        .find_map(|line| line.strip_prefix("collapse_host_splits_total ")?.parse().ok());
    assert!(n.is_some_and(|n| n > 0), "{text}");
    assert_eq!(splits.data_points[0].value, n.map(Value::AsInt));
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
