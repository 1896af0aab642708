//! Choosing VMs by what people know them by.

use std::{convert::Infallible, str::FromStr};

use schemars::JsonSchema;
use serde::{Deserialize, Serialize};

use super::VmReport;

/// A process id, a name with `*` and `?`, or the name of a VM's folder in debugfs (`TID-FD`).
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct VmSelect(String);

/// What was selected.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
pub struct SelectionReport {
    /// The selector.
    pub select: String,
    /// VMs that it selects.
    pub vms: u64,
}

impl FromStr for VmSelect {
    type Err = Infallible;

    fn from_str(text: &str) -> Result<Self, Infallible> {
        Ok(Self(text.to_owned()))
    }
}

impl VmSelect {
    /// Whether it selects a VM.
    pub fn selects(&self, vm: &VmReport) -> bool {
        self.selects_ids(vm.pid, vm.tid, vm.fd, vm.name.as_deref())
    }

    /// Whether it selects a VM of these ids and name.
    pub(crate) fn selects_ids(
        &self,
        pid: Option<u32>,
        tid: Option<u32>,
        fd: Option<u32>,
        name: Option<&str>,
    ) -> bool {
        let debugfs = || Some(format!("{}-{}", tid?, fd?));
        pid.is_some_and(|pid| pid.to_string() == self.0)
            || debugfs().is_some_and(|name| name == self.0)
            || name.is_some_and(|name| matches(&self.0, name))
    }
}

/// Keeps the VMs that any of the selectors selects, and tells what each selected. Without selectors,
/// keeps all.
pub fn select(vms: &mut Vec<VmReport>, selectors: &[VmSelect]) -> Vec<SelectionReport> {
    if selectors.is_empty() {
        return Vec::new();
    }
    let found = |select: &VmSelect| SelectionReport {
        select: collapse_feed::printable(select.0.as_bytes()),
        vms: vms.iter().filter(|vm| select.selects(vm)).count() as u64,
    };
    let found = selectors.iter().map(found).collect();
    vms.retain(|vm| selectors.iter().any(|select| select.selects(vm)));
    found
}

/// Whether a pattern with `*` (any text) and `?` (any character) matches all of a text. Takes time
/// proportional to the product of their lengths at most.
fn matches(pattern: &str, text: &str) -> bool {
    let (pattern, text): (Vec<_>, Vec<_>) = (pattern.chars().collect(), text.chars().collect());
    let (mut p, mut t) = (0, 0);
    // Where the last star was, and the text that it has taken so far ends.
    let mut star = None;
    while t < text.len() {
        match pattern.get(p) {
            Some('*') => {
                star = Some((p, t));
                p += 1;
            }
            Some(c) if *c == '?' || *c == text[t] => {
                p += 1;
                t += 1;
            }
            _ => {
                let Some((at, taken)) = star else { return false };
                star = Some((at, taken + 1));
                p = at + 1;
                t = taken + 1;
            }
        }
    }
    pattern[p..].iter().all(|c| *c == '*')
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    #[test]
    fn patterns() {
        for (pattern, text) in [
            ("db", "db"),
            ("d*", "db"),
            ("*", ""),
            ("*b*", "abc"),
            ("?b", "db"),
            ("a*b*c", "axbxbc"),
        ] {
            assert!(matches(pattern, text), "{pattern} {text}");
        }
        for (pattern, text) in [("db", "db2"), ("?", ""), ("a*b", "ac"), ("", "a"), ("*?", "")] {
            assert!(!matches(pattern, text), "{pattern} {text}");
        }
    }

    /// The definition, in exponential time.
    fn naive(pattern: &[char], text: &[char]) -> bool {
        match pattern.split_first() {
            None => text.is_empty(),
            Some(('*', rest)) => (0..=text.len()).any(|n| naive(rest, &text[n..])),
            Some((c, rest)) => text
                .split_first()
                .is_some_and(|(first, text)| (*c == '?' || c == first) && naive(rest, text)),
        }
    }

    proptest! {
        #[test]
        fn matching_is_as_defined(pattern in "[ab?*]{0,8}", text in "[ab]{0,10}") {
            let chars = |text: &str| text.chars().collect::<Vec<_>>();
            prop_assert_eq!(matches(&pattern, &text), naive(&chars(&pattern), &chars(&text)));
        }
    }
}
