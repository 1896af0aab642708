//! A list of all that can be exported.

use std::fmt::Write as _;

use crate::{
    exposition::{VM_LABELS, families},
    family::Kind,
    format::PREFIX,
};

/// What can be exported under one name.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Entry {
    /// Name as queries have it.
    pub name: String,
    /// Type.
    pub kind: Kind,
    /// Labels, those that tell VMs apart among them.
    pub labels: Vec<&'static str>,
    /// Meaning, as part of a sentence.
    pub help: String,
}

/// Everything that can be exported, in the order of the exposition.
pub fn catalogue() -> Vec<Entry> {
    let entry = |(family, per_vm): (crate::family::Family, bool)| {
        let unit = family.unit.suffix().map(|unit| format!("_{unit}")).unwrap_or_default();
        let name = format!("{PREFIX}_{}{unit}{}", family.name, family.kind.suffix());
        let own = VM_LABELS.into_iter().filter(|_| per_vm);
        let labels = own.chain(family.labels.iter().copied()).collect();
        Entry { name, kind: family.kind, labels, help: family.help.into_owned() }
    };
    families().map(entry).collect()
}

/// The catalogue as a table in Markdown.
pub fn markdown() -> String {
    let mut text = "| name | type | labels | meaning |\n|---|---|---|---|\n".to_owned();
    for Entry { name, kind, labels, help } in catalogue() {
        let labels: Vec<_> = labels.iter().map(|label| format!("`{label}`")).collect();
        // Writing to a string cannot fail.
        let _ = writeln!(text, "| `{name}` | {} | {} | {help} |", kind.name(), labels.join(", "));
    }
    text
}

#[cfg(test)]
mod tests {
    use std::collections::BTreeSet;

    use super::*;

    #[test]
    fn names_are_unique_and_as_the_formats_have_them() {
        let entries = catalogue();
        let names: BTreeSet<_> = entries.iter().map(|entry| &entry.name).collect();
        assert_eq!(names.len(), entries.len());
        for entry in &entries {
            let valid = |c: char| c.is_ascii_lowercase() || c.is_ascii_digit() || c == '_';
            assert!(entry.name.chars().all(valid), "{}", entry.name);
            assert_eq!(entry.name.ends_with("_total"), entry.kind == Kind::Counter);
            assert!(!entry.help.contains(['\n', '\\', '|']), "{}", entry.help);
        }
    }
}
