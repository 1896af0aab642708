//! Expectations compared with a report.

use std::fmt::Write as _;

use serde::Serialize;
use serde_json::{Value, json};

use super::expect::{Check, Want};
use crate::report::{Host, Report, Style};

/// Name and version of the JSON format.
const SCHEMA: &str = "collapse.selftest/1";

/// The outcome of all checks.
#[derive(Clone, Debug, Serialize)]
pub struct Verdict {
    schema: &'static str,
    /// Version of this program.
    version: &'static str,
    /// The machine.
    host: Host,
    /// Checks that came out right.
    pub passed: usize,
    /// Checks that came out wrong.
    pub failed: usize,
    /// Checks that could not be made.
    pub skipped: usize,
    /// The checks.
    pub checks: Vec<Checked>,
}

/// The outcome of one check.
#[derive(Clone, Debug, Serialize)]
pub struct Checked {
    name: &'static str,
    status: Status,
    /// The measured value; `None` if it is unknown.
    got: Option<Value>,
    /// The correct value, in words; `None` if the check was skipped.
    expected: Option<String>,
    /// Reason if it was skipped.
    reason: Option<String>,
}

/// How one check came out.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize)]
#[serde(rename_all = "snake_case")]
enum Status {
    Ok,
    Fail,
    Skip,
}

impl Verdict {
    /// Compares the subject with the checks.
    pub fn new(checks: &[Check], subject: &Value, host: Host) -> Self {
        let checks: Vec<_> = checks.iter().map(|check| Checked::new(check, subject)).collect();
        let count = |status| checks.iter().filter(|check| check.status == status).count();
        Self {
            schema: SCHEMA,
            version: env!("CARGO_PKG_VERSION"),
            host,
            passed: count(Status::Ok),
            failed: count(Status::Fail),
            skipped: count(Status::Skip),
            checks,
        }
    }

    /// The outcome for people.
    pub fn text(&self, style: Style) -> String {
        let (kernel, mmu) = (&self.host.kernel, self.host.mmu_label());
        let head = format!("collapse selftest: kernel {kernel}, {mmu}");
        let mut out = bold(&head, style) + "\n";
        for check in &self.checks {
            // Writing to a string cannot fail.
            let _ = writeln!(out, "{}", check.line(style));
        }
        let Self { passed, failed, skipped, .. } = self;
        let _ = writeln!(out, "{passed} ok, {failed} failed, {skipped} skipped");
        out
    }
}

impl Checked {
    fn new(check: &Check, subject: &Value) -> Self {
        let (got, right, expected) = match &check.want {
            Want::Skip(reason) => {
                return Self {
                    name: check.name,
                    status: Status::Skip,
                    got: None,
                    expected: None,
                    reason: Some(reason.clone()),
                };
            }
            Want::Count(range) => {
                let sum: Option<u64> = check.paths.iter().map(|path| count(subject, path)).sum();
                let (least, most) = (*range.start(), *range.end());
                let expected = match (least, most) {
                    (least, u64::MAX) => format!("at least {least}"),
                    (least, most) if least == most => most.to_string(),
                    (least, most) => format!("{least} to {most}"),
                };
                let right = sum.is_some_and(|sum| range.contains(&sum));
                (sum.map(Value::from), right, expected)
            }
            Want::Is(wanted) => {
                let got = check.paths.iter().find_map(|path| subject.pointer(path));
                let got = got.filter(|got| !got.is_null()).cloned();
                let right = got.as_ref() == Some(wanted);
                (got, right, wanted.to_string())
            }
        };
        let status = if right { Status::Ok } else { Status::Fail };
        Self { name: check.name, status, got, expected: Some(expected), reason: None }
    }

    fn line(&self, style: Style) -> String {
        let name = self.name;
        let got = self.got.as_ref().map_or_else(|| "unknown".to_owned(), Value::to_string);
        let expected = self.expected.as_deref().unwrap_or_default();
        let reason = self.reason.as_deref().unwrap_or_default();
        match self.status {
            Status::Ok => format!("  ok    {name:<26} {got}"),
            Status::Fail => bold(&format!("  FAIL  {name:<26} {got}, expected {expected}"), style),
            Status::Skip => dim(&format!("  skip  {name:<26} ({reason})"), style),
        }
    }
}

/// The report's VM, with the known losses; empty if it has none. `missed` events are expected to be
/// missed and count as no loss.
pub fn subject(report: &Report, missed: u64) -> Value {
    let mut subject = json!(report.vms.first());
    if let Some(fields) = subject.as_object_mut() {
        let lost = report.losses.values().sum::<u64>().saturating_sub(missed);
        fields.insert("lost".to_owned(), lost.into());
    }
    subject
}

/// A count; `None` if it is unknown. Reports list only the levels and causes that occurred.
fn count(subject: &Value, path: &str) -> Option<u64> {
    if let Some(value) = subject.pointer(path) {
        return value.as_u64();
    }
    let (parent, _) = path.rsplit_once('/')?;
    let listing = parent.ends_with("/by_level") || parent.ends_with("/by_cause");
    subject.pointer(parent).filter(|parent| listing && parent.is_object()).map(|_| 0)
}

fn bold(text: &str, style: Style) -> String {
    set(text, "1", style)
}

fn dim(text: &str, style: Style) -> String {
    set(text, "2", style)
}

fn set(text: &str, code: &str, style: Style) -> String {
    match style {
        Style::Plain => text.to_owned(),
        Style::Ansi => format!("\x1b[{code}m{text}\x1b[0m"),
    }
}
