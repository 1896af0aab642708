//! A collector of OpenTelemetry for tests: takes metrics by OTLP over HTTP, one request after the other.

use std::{
    collections::BTreeMap,
    io::{BufRead as _, BufReader, Read as _, Write as _},
    net::TcpListener,
};

use anyhow::{Context as _, Result, ensure};
use opentelemetry_proto::tonic::{
    collector::metrics::v1::ExportMetricsServiceRequest,
    metrics::v1::{Metric, metric::Data, number_data_point::Value},
};
use prost::Message as _;

/// A request.
pub struct Received {
    /// Its lines before the message, in lower case.
    pub head: Vec<String>,
    /// The message.
    pub message: Vec<u8>,
}

/// Takes the next request and answers it with a status, such as `200 OK`.
pub fn receive(listener: &TcpListener, status: &str) -> Result<Received> {
    let (stream, _) = listener.accept()?;
    let mut reader = BufReader::new(&stream);
    let mut head = Vec::new();
    loop {
        let mut line = String::new();
        ensure!(reader.read_line(&mut line)? > 0, "the head of a request ends early");
        match line.trim() {
            "" => break,
            line => head.push(line.to_ascii_lowercase()),
        }
    }
    let size = head.iter().find_map(|line| line.strip_prefix("content-length: "));
    let mut message = vec![0; size.context("a request without a length")?.parse()?];
    reader.read_exact(&mut message)?;
    write!(&stream, "HTTP/1.1 {status}\r\nContent-Length: 0\r\n\r\n")?;
    Ok(Received { head, message })
}

impl Received {
    /// Whole numbers by the names of metrics that have one point and no labels, as those of the host.
    pub fn numbers(&self) -> Result<BTreeMap<String, i64>> {
        let request = ExportMetricsServiceRequest::decode(&*self.message)?;
        let scopes =
            request.resource_metrics.into_iter().flat_map(|resource| resource.scope_metrics);
        let metrics = scopes.flat_map(|scope| scope.metrics);
        Ok(metrics.filter_map(|metric| Some((metric.name.clone(), number(metric)?))).collect())
    }
}

fn number(metric: Metric) -> Option<i64> {
    let points = match metric.data? {
        Data::Sum(sum) => sum.data_points,
        Data::Gauge(gauge) => gauge.data_points,
        _ => return None,
    };
    match &points[..] {
        [point] if point.attributes.is_empty() => match point.value? {
            Value::AsInt(n) => Some(n),
            Value::AsDouble(_) => None,
        },
        _ => None,
    }
}
