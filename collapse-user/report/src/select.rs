//! Selecting VMs by ids and names that people know, for reports, budgets and events alike.

use std::{convert::Infallible, str::FromStr};

use collapse_feed::VmProcess;

/// A selector of VMs: a process id, a name with `*` and `?`, or the name of a VM's folder in debugfs
/// (`TID-FD`).
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct VmSelect(String);

/// The ids and the name that a VM can be selected by, as far as they are known.
#[derive(Clone, Copy, Debug, Default)]
pub struct VmIdentity<'a> {
    /// Process id of the VMM.
    pub pid: Option<u32>,
    /// Thread that created the VM.
    pub tid: Option<u32>,
    /// File descriptor of the VM in that process.
    pub fd: Option<u32>,
    /// Name of the VM.
    pub name: Option<&'a str>,
}

impl<'a> VmIdentity<'a> {
    /// The identity of a VM of a process, with file descriptor `fd` there.
    pub fn of_process(process: Option<&'a VmProcess>, fd: Option<u32>) -> Self {
        Self {
            pid: process.map(|process| process.pid),
            tid: process.map(|process| process.tid),
            fd,
            name: process.map(|process| process.name.text.as_str()),
        }
    }
}

impl FromStr for VmSelect {
    type Err = Infallible;

    fn from_str(text: &str) -> Result<Self, Infallible> {
        Ok(Self::new(text))
    }
}

impl VmSelect {
    /// Takes any text: every text selects by something.
    pub fn new(text: &str) -> Self {
        Self(text.to_owned())
    }

    /// The selector as it was given.
    pub fn text(&self) -> &str {
        &self.0
    }

    /// Whether it selects a VM.
    pub fn selects(&self, vm: VmIdentity) -> bool {
        let debugfs = || Some(format!("{}-{}", vm.tid?, vm.fd?));
        vm.pid.is_some_and(|pid| pid.to_string() == self.0)
            || debugfs().is_some_and(|name| name == self.0)
            || vm.name.is_some_and(|name| matches(&self.0, name))
    }
}

/// Whether a pattern with `*` (any text) and `?` (any character) matches the whole of a text. Takes time
/// proportional to the product of their lengths at most.
fn matches(pattern: &str, text: &str) -> bool {
    let (pattern, text): (Vec<_>, Vec<_>) = (pattern.chars().collect(), text.chars().collect());
    let (mut p, mut t) = (0, 0);
    // The place of the last star, and the end of the text that it stands for so far.
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
