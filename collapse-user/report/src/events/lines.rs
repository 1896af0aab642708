//! How lines are written.

use std::io::{self, Write};

use serde::Serialize;
use serde_json::Value;

/// A form of lines.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Lines {
    /// An object per line.
    Json,
    /// A table: a row per event, empty where a column does not apply. Without the first and the last
    /// line of the other.
    Csv,
}

/// Columns of the table: keys of the objects, and those of objects in them after a dot.
pub const COLUMNS: [&str; 37] = [
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
];

impl Lines {
    /// Writes what is at the beginning or the end only.
    pub(super) fn frame(self, out: &mut impl Write, line: &impl Serialize) -> io::Result<()> {
        match self {
            Self::Json => self.line(out, line),
            Self::Csv => Ok(()),
        }
    }

    /// Writes the names of the columns, if there are any.
    pub(super) fn columns(self, out: &mut impl Write) -> io::Result<()> {
        match self {
            Self::Json => Ok(()),
            Self::Csv => writeln!(out, "{}", COLUMNS.join(",")),
        }
    }

    /// Writes a line.
    pub(super) fn line(self, out: &mut impl Write, line: &impl Serialize) -> io::Result<()> {
        match self {
            Self::Json => serde_json::to_writer(&mut *out, line)?,
            Self::Csv => {
                let line = serde_json::to_value(line)?;
                for (at, column) in COLUMNS.iter().enumerate() {
                    if at > 0 {
                        out.write_all(b",")?;
                    }
                    cell(out, value(&line, column))?;
                }
            }
        }
        out.write_all(b"\n")
    }
}

fn value<'a>(line: &'a Value, column: &str) -> &'a Value {
    match column.split_once('.') {
        None => &line[column],
        Some(("pages", size)) => {
            let place = ["4k", "2m", "1g"].iter().position(|name| *name == size);
            place.map_or(&Value::Null, |place| &line["pages"][place])
        }
        Some((outer, inner)) => &line[outer][inner],
    }
}

/// Text that a spreadsheet would take for a formula is led by an apostrophe.
fn cell(out: &mut impl Write, value: &Value) -> io::Result<()> {
    match value {
        Value::Null => Ok(()),
        Value::String(text) => {
            let formula = text.starts_with(['=', '+', '-', '@', '\t', '\r']);
            let text = if formula { format!("'{text}") } else { text.clone() };
            if text.contains([',', '"', '\n', '\r']) {
                write!(out, "\"{}\"", text.replace('"', "\"\""))
            } else {
                out.write_all(text.as_bytes())
            }
        }
        Value::Array(names) => {
            let names: Vec<_> = names.iter().filter_map(Value::as_str).collect();
            out.write_all(names.join(";").as_bytes())
        }
        other => write!(out, "{other}"),
    }
}
