//! The kernel's switches that silence probes which are attached.

use std::{
    fs,
    path::{Path, PathBuf},
};

/// A switch that was found off.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct SwitchedOff {
    /// What is off.
    pub what: &'static str,
    /// The command that switches it on.
    pub remedy: &'static str,
}

/// Each switch: a file below the root, and what is off where it holds 0. Kprobes on function entry are
/// made of ftrace.
const SWITCHES: [(&str, SwitchedOff); 2] = [
    (
        "proc/sys/kernel/ftrace_enabled",
        SwitchedOff { what: "ftrace", remedy: "sysctl -w kernel.ftrace_enabled=1" },
    ),
    (
        "sys/kernel/debug/kprobes/enabled",
        SwitchedOff { what: "kprobes", remedy: "echo 1 >/sys/kernel/debug/kprobes/enabled" },
    ),
];

/// The switches of the running kernel.
#[derive(Clone, Debug)]
pub struct ProbeSwitches {
    root: PathBuf,
}

impl ProbeSwitches {
    /// Those below `root`: `/`, unless in a test.
    pub fn below(root: &Path) -> Self {
        Self { root: root.to_owned() }
    }

    /// Returns the first that is off. One that cannot be read is taken for on, as where kprobes are not
    /// made of ftrace.
    pub fn off(&self) -> Option<SwitchedOff> {
        let is_off = |file: &str| {
            fs::read_to_string(self.root.join(file)).is_ok_and(|value| value.trim() == "0")
        };
        SWITCHES.iter().find(|(file, _)| is_off(file)).map(|(_, switch)| *switch)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_is_off_is_named() {
        let folder = tempfile::tempdir().unwrap();
        let switches = ProbeSwitches::below(folder.path());
        assert_eq!(switches.off(), None);
        for (file, switch) in SWITCHES {
            let path = folder.path().join(file);
            fs::create_dir_all(path.parent().unwrap()).unwrap();
            fs::write(&path, "1\n").unwrap();
            assert_eq!(switches.off(), None);
            fs::write(&path, "0\n").unwrap();
            assert_eq!(switches.off(), Some(switch));
            fs::write(&path, "1\n").unwrap();
        }
    }
}
