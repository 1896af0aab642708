//! Writing lines, as JSON or as a table.

use std::{
    borrow::Cow,
    io::{self, Write},
};

use serde_json::Value;

use super::line::EventLine;
use crate::{keys::SIZES, table::harmless};

/// The form in which lines are written.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum LineFormat {
    /// One JSON object per line.
    Json,
    /// A table for spreadsheets: one row per line, with empty cells where a column does not apply. It has
    /// neither the first nor the last line, but a row of names.
    Csv,
}

/// Columns of the table: paths of keys. Of SPTEs only the raw value has columns, and of findings
/// what is in their sentence has none of its own.
pub const COLUMNS: [&str; 50] = [
    "ts_ns",
    "time",
    "kind",
    "vm.born_ns",
    "vm.pid",
    "vm.tid",
    "vm.fd",
    "vm.name",
    "tid",
    "level",
    "gfn",
    "count",
    "step",
    "as_id",
    "cause",
    "read_only",
    "old.raw",
    "new.raw",
    "regions.still_split",
    "regions.zapped",
    "regions.small",
    "regions.huge",
    "slot.id",
    "slot.as_id",
    "slot.base_gfn",
    "slot.npages",
    "episode",
    "span",
    "logging",
    "start_ns",
    "pages.4k",
    "pages.2m",
    "pages.1g",
    "since_ns",
    "way",
    "why",
    "stack",
    "finding.name",
    "finding.since_ns",
    "finding.until_ns",
    "finding.times",
    "finding.confidence",
    "finding.cost_ns",
    "finding.sentence",
    "vcpu",
    "address",
    "duration_ns",
    "faults",
    "invalidations_open",
    "invalidate_seq",
];

/// A writer of lines.
pub(super) enum LineWriter<W: Write> {
    Json(W),
    Csv(Box<csv::Writer<W>>),
}

impl<W: Write> LineWriter<W> {
    /// Writes the names of the columns, if there are any.
    pub(super) fn new(out: W, form: LineFormat) -> io::Result<Self> {
        match form {
            LineFormat::Json => Ok(Self::Json(out)),
            LineFormat::Csv => {
                let mut table = csv::Writer::from_writer(out);
                table.write_record(COLUMNS)?;
                Ok(Self::Csv(Box::new(table)))
            }
        }
    }

    /// Writes a line, if the form has such lines.
    pub(super) fn line(&mut self, line: &EventLine) -> io::Result<()> {
        match self {
            Self::Json(out) => {
                serde_json::to_writer(&mut *out, line)?;
                out.write_all(b"\n")
            }
            Self::Csv(_) if matches!(line, EventLine::Header(_) | EventLine::End(_)) => Ok(()),
            Self::Csv(table) => {
                let line = serde_json::to_value(line)?;
                let cells = COLUMNS.map(|column| cell(value(&line, column)));
                table.write_record(cells.iter().map(|cell| cell.as_bytes()))?;
                Ok(())
            }
        }
    }

    /// Passes on everything written so far.
    pub(super) fn flush(&mut self) -> io::Result<()> {
        match self {
            Self::Json(out) => out.flush(),
            Self::Csv(table) => table.flush(),
        }
    }
}

fn value<'a>(line: &'a Value, column: &str) -> &'a Value {
    match column.split_once('.') {
        None => &line[column],
        Some(("pages", size)) => {
            let place = SIZES.iter().position(|name| *name == size);
            place.map_or(&Value::Null, |place| &line["pages"][place])
        }
        Some((outer, inner)) => &line[outer][inner],
    }
}

/// The text of a cell; the functions of a stack are put in one.
fn cell(value: &Value) -> Cow<'_, str> {
    match value {
        Value::Null => Cow::Borrowed(""),
        Value::String(text) => harmless(text),
        Value::Array(names) => {
            let names: Vec<_> = names.iter().filter_map(Value::as_str).collect();
            Cow::Owned(harmless(&names.join(";")).into_owned())
        }
        other => Cow::Owned(other.to_string()),
    }
}
