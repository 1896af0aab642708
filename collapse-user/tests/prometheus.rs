//! A real Prometheus: it reads what is exported, and what it answers is what the report says.
//!
//! Run by `cargo xtask test`, which installs it.

mod exporter;

use std::{
    fs,
    net::TcpListener,
    path::{Path, PathBuf},
    process::{Child, Command, Stdio},
    thread,
    time::{Duration, Instant},
};

use exporter::{Exporter, answer, collapse, recorded};
use serde_json::Value;

const NEEDS: &str = "needs Debian's package prometheus";

/// Time for Prometheus to start, to scrape twice, and to have evaluated every rule.
const PATIENCE: Duration = Duration::from_mins(1);

fn contrib(path: &str) -> PathBuf {
    Path::new(env!("CARGO_MANIFEST_DIR")).join("../docs/contrib").join(path)
}

fn promtool(arguments: &[&str], input: Stdio) -> (bool, String) {
    let mut command = Command::new("promtool");
    let output = command.args(arguments).stdin(input).output().expect(NEEDS);
    let text = [output.stdout, output.stderr].concat();
    (output.status.success(), String::from_utf8_lossy(&text).into_owned())
}

#[test]
#[ignore = "needs Debian's package prometheus"]
fn promtool_has_nothing_to_say() {
    let folder = tempfile::tempdir().expect("a folder");
    for name in ["failed-migration.rec", "four-guests.rec", "nx-kept.rec", "pml.rec"] {
        let file = folder.path().join("collapse.prom");
        let path = file.to_str().expect("a path");
        let status = collapse(&["metrics", "--from", &recorded(name), "--textfile", path]).status();
        assert!(status.expect("running it").success());
        let input = fs::File::open(&file).expect("the file").into();
        let (passed, text) = promtool(&["check", "metrics"], input);
        assert!(passed && text.is_empty(), "{name}: {text}");
    }
    for arguments in
        [["check", "rules", "collapse.rules.yml"], ["test", "rules", "collapse.rules.test.yml"]]
    {
        let path = contrib("prometheus").join(arguments[2]);
        let path = path.to_str().expect("a path");
        let (passed, text) = promtool(&[arguments[0], arguments[1], path], Stdio::null());
        assert!(passed, "{arguments:?}: {text}");
    }
}

/// A Prometheus that scrapes an exporter every second, with our rules.
struct Prometheus {
    child: Child,
    address: String,
    folder: tempfile::TempDir,
}

impl Prometheus {
    fn of(exporter: &Exporter) -> Self {
        let folder = tempfile::tempdir().expect("a folder");
        let config = folder.path().join("prometheus.yml");
        let rules = contrib("prometheus/collapse.rules.yml");
        let text = format!(
            "global: {{scrape_interval: 1s, evaluation_interval: 1s}}\nrule_files: ['{}']\n\
             scrape_configs: [{{job_name: collapse, static_configs: [{{targets: ['{}']}}]}}]\n",
            rules.canonicalize().expect("the rules").display(),
            exporter.address
        );
        fs::write(&config, text).expect("writing");
        let free = TcpListener::bind("127.0.0.1:0").and_then(|listener| listener.local_addr());
        let address = free.expect("a free port").to_string();
        Self { child: Self::start(folder.path(), &address), address, folder }
    }

    /// Starts it on what is in the folder.
    fn start(folder: &Path, address: &str) -> Child {
        let path = |name: &str| folder.join(name).display().to_string();
        let mut command = Command::new("prometheus");
        command.arg(format!("--config.file={}", path("prometheus.yml")));
        command.arg(format!("--web.listen-address={address}"));
        command.arg(format!("--storage.tsdb.path={}", path("data")));
        let log = fs::File::create(path("log")).expect("a log");
        let child = command.stdin(Stdio::null()).stdout(Stdio::null()).stderr(log);
        child.spawn().expect(NEEDS)
    }

    /// Kills it and starts it again on what it had.
    fn restart(&mut self) {
        self.child.kill().expect("it runs");
        self.child.wait().expect("its end");
        self.child = Self::start(self.folder.path(), &self.address);
    }

    /// The result of a query: its series.
    fn query(&self, query: &str) -> Result<Vec<Value>, String> {
        let bytes = query.bytes().map(|byte| format!("%{byte:02x}"));
        let head = format!("GET /api/v1/query?query={} HTTP/1.0", bytes.collect::<String>());
        let stream = std::net::TcpStream::connect(&self.address).map_err(|e| e.to_string())?;
        let answer = answer(stream, &head);
        let (_, body) = answer.split_once("\r\n\r\n").ok_or("no answer")?;
        let body: Value = serde_json::from_str(body).map_err(|e| format!("{e}: {body}"))?;
        match (body["status"].as_str(), &body["data"]["result"]) {
            (Some("success"), Value::Array(series)) => Ok(series.clone()),
            _ => Err(body.to_string()),
        }
    }

    /// The number that a query comes to, once there is one.
    fn number(&self, query: &str) -> f64 {
        let value = |series: &[Value]| match series {
            [one] => one["value"][1].as_str()?.parse().ok(),
            _ => None,
        };
        self.wait_for(query, |series| value(series))
    }

    fn wait_for<T>(&self, query: &str, found: impl Fn(&[Value]) -> Option<T>) -> T {
        let begun = Instant::now();
        loop {
            let series = self.query(query);
            if let Some(found) = series.as_deref().ok().and_then(&found) {
                return found;
            }
            assert!(begun.elapsed() < PATIENCE, "{query}: {series:?}");
            thread::sleep(Duration::from_millis(100));
        }
    }
}

impl Drop for Prometheus {
    fn drop(&mut self) {
        // It may have ended.
        let _ = self.child.kill();
        let _ = self.child.wait();
    }
}

#[test]
#[ignore = "needs Debian's package prometheus"]
fn queries_give_the_report_s_numbers() {
    let exporter = Exporter::of("four-guests.rec");
    let prometheus = Prometheus::of(&exporter);
    let report = collapse(&["report", "--format", "json", "--from", &recorded("four-guests.rec")]);
    let report = { report }.output().expect("a report");
    let report: Value = serde_json::from_slice(&report.stdout).expect("JSON");
    let vms = report["vms"].as_array().expect("VMs");
    let mut compared = 0;
    for (query, path) in [
        ("collapse_vm_splits_total", "/splits/total"),
        ("collapse_vm_zaps_total", "/zaps/total"),
        ("collapse_vm_regions_lost_total", "/regions/lost"),
        ("collapse_vm_regions_recovered_total", "/recoveries/total"),
        ("collapse_vm_regions_outstanding", "/regions/outstanding"),
        ("collapse_vm_faults_total", "/faults/total"),
        (
            "collapse_vm_faults_by_cause_total{cause=\"guest_fault_logging\"}",
            "/faults/while_logging",
        ),
        ("collapse_vm_mapped_bytes{size=\"4k\"} / 4096", "/pages/end/4k"),
        ("collapse_vm_stall_seconds_total * 1e9", "/stall/total_ns"),
        ("collapse_vm_time_to_recover_seconds_count", "/time_to_recover/count"),
        ("collapse_vm_collapse_duration_seconds_count", "/collapse_runs"),
        ("collapse_vm_fault_latency_seconds_count", "/latency/total/count"),
        ("collapse_vm_recovery:ratio", "/recovery_rate"),
    ] {
        // One of our recording rules.
        let query = query.replace("collapse_vm_recovery:ratio", "collapse:vm_recovery:ratio");
        for vm in vms.iter().filter(|vm| vm["gone"] == false) {
            let (name, pid) = (vm["name"].as_str().expect("a name"), &vm["pid"]);
            let query =
                format!("({query}) and on(vm,pid) collapse_vm_info{{vm=\"{name}\",pid=\"{pid}\"}}");
            let expected = vm.pointer(path).and_then(Value::as_f64).expect("a number");
            let found = prometheus.number(&query);
            assert!(
                (found - expected).abs() <= expected * 1e-9,
                "{query}: {found}, not {expected}"
            );
            compared += 1;
        }
    }
    assert!(compared >= 13, "{compared} numbers");
    let lost: f64 =
        report["losses"].as_object().expect("losses").values().filter_map(Value::as_f64).sum();
    assert!((prometheus.number("sum(collapse_lost_total)") - lost).abs() < 0.5);

    dashboard(&prometheus);
    let silent = "ALERTS{alertname=~\"CollapseLosesEvents|CollapseCountsDisagree|CollapseDown\"}";
    assert_eq!(prometheus.query(silent), Ok(Vec::new()));
}

#[test]
#[ignore = "needs Debian's package prometheus"]
fn series_go_on_whoever_is_killed_and_starts_again() {
    const SPLITS: &str = "collapse_host_splits_total";
    let path = recorded("four-guests.rec");
    let exporter = Exporter::at(&path, "0");
    let address = exporter.address.clone();
    let mut prometheus = Prometheus::of(&exporter);
    let splits = prometheus.number(SPLITS);
    assert!(splits > 0.0);
    // Samples of the only series of this name.
    let samples = |prometheus: &Prometheus, at_least: f64| {
        let query = format!("count_over_time({SPLITS}[5m]) >= {at_least}");
        prometheus.number(&query)
    };
    let before = samples(&prometheus, 3.0);
    prometheus.restart();
    let after = samples(&prometheus, before + 2.0);

    exporter.kill();
    assert!(prometheus.number("up == 0").abs() < 0.5);
    let gone = "count({__name__=~\"collapse_.*\"}) or vector(0)";
    prometheus.wait_for(gone, |series| (series[0]["value"][1] == "0").then_some(()));
    let _exporter = Exporter::at(&path, &address);
    assert!((prometheus.number("up == 1") - 1.0).abs() < 0.5);
    samples(&prometheus, after + 2.0);
    // One that is starting has no numbers, rather than zeros.
    assert!(prometheus.number(&format!("resets({SPLITS}[5m])")).abs() < 0.5);
    assert!((prometheus.number(SPLITS) - splits).abs() < 0.5);
}

/// Every query of the dashboard gives series.
fn dashboard(prometheus: &Prometheus) {
    let text = fs::read_to_string(contrib("grafana/collapse.json")).expect("the dashboard");
    let dashboard: Value = serde_json::from_str(&text).expect("JSON");
    let panels = dashboard["panels"].as_array().expect("panels");
    let rows = panels.iter().filter(|panel| panel["type"] == "row");
    let rows: Vec<_> = rows.filter_map(|row| row["title"].as_str()).collect();
    assert_eq!(rows, ["Is it broken now?", "Why?", "Did it heal?", "What did it cost?"]);
    let mut ids: Vec<_> = panels.iter().map(|panel| panel["id"].as_u64()).collect();
    ids.dedup();
    assert_eq!(ids.len(), panels.len());
    let mut queries = 0;
    for target in panels.iter().filter_map(|panel| panel["targets"].as_array()).flatten() {
        let query = target["expr"].as_str().expect("a query");
        let filled = query
            .replace("$__rate_interval", "30s")
            .replace("$__range", "1m")
            .replace("$instance", ".*")
            .replace("$vm", ".*");
        assert!(!filled.contains('$'), "{filled}");
        prometheus.wait_for(&filled, |series| (!series.is_empty()).then_some(()));
        queries += 1;
    }
    assert!(queries > 20, "{queries} queries");
    for variable in dashboard["templating"]["list"].as_array().expect("variables") {
        let Some(query) = variable["definition"].as_str() else { continue };
        let metric = query.trim_start_matches("label_values(").split(['{', ',']).next();
        prometheus.wait_for(metric.expect("a metric"), |series| (!series.is_empty()).then_some(()));
    }
}
