//! The guest kernel's console: kept for when something goes wrong.

use std::io::{Read, Write};

/// The end of the console that is kept, bytes.
const KEPT: usize = 256 * 1024;

/// The end of the kernel's messages.
#[derive(Clone, Debug, Default)]
pub struct Console(String);

impl Console {
    /// Reads to the end; with `show`, copies everything to stderr.
    pub fn collect(mut stream: impl Read, show: bool) -> Self {
        let mut kept = Vec::new();
        let mut buffer = [0; 4096];
        while let Ok(length @ 1..) = stream.read(&mut buffer) {
            kept.extend_from_slice(&buffer[..length]);
            if kept.len() > 2 * KEPT {
                kept.drain(..kept.len() - KEPT);
            }
            if show {
                // A closed stderr must not end the run.
                let _ = std::io::stderr().write_all(&buffer[..length]);
            }
        }
        Self(String::from_utf8_lossy(&kept).replace('\r', ""))
    }

    /// Returns the last `lines` lines; where the kernel complains before them, the lines from there on, at
    /// most four times as many.
    pub fn tail(&self, lines: usize) -> String {
        let all: Vec<&str> = self.0.lines().filter(|line| !line.trim().is_empty()).collect();
        let last = |lines| all.len().saturating_sub(lines);
        let complaint = all.iter().position(|line| complains(line)).unwrap_or(all.len());
        all[complaint.clamp(last(4 * lines), last(lines))..].join("\n")
    }

    /// Whether the kernel died of a breakpoint that the emulator executed although the kernel had
    /// already patched it away, or of coming back to one for ever. That is QEMU's fault, and no result of
    /// the command.
    pub fn emulator_artefact(&self) -> bool {
        ["Oops: int3", "int3: 0000 [#", "softlockup: hung tasks"]
            .iter()
            .any(|sign| self.0.contains(sign))
    }
}

fn complains(line: &str) -> bool {
    ["BUG: ", "Oops: ", "Kernel panic", "general protection fault"]
        .iter()
        .any(|sign| line.contains(sign))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn recognises_the_stale_breakpoint() {
        let console = |text: &str| Console(text.to_owned());
        assert!(
            console("x\n[  9.1] Oops: int3: 0000 [#1] PREEMPT SMP NOPTI\n").emulator_artefact()
        );
        assert!(console("[  9.1] int3: 0000 [#1] SMP NOPTI\n").emulator_artefact());
        assert!(
            console("Kernel panic - not syncing: softlockup: hung tasks\n").emulator_artefact()
        );
        assert!(
            !console("BUG: kernel NULL pointer dereference\nOops: 0002 [#1]\n").emulator_artefact()
        );
    }

    #[test]
    fn tail_skips_blank_lines() {
        assert_eq!(Console("a\n\nb\n \nc\n".to_owned()).tail(2), "b\nc");
        assert_eq!(Console::default().tail(5), "");
    }

    #[test]
    fn tail_begins_with_the_complaint() {
        let console = |lines: usize| {
            Console(format!(
                "up\n[  9.1] BUG: unable\n{}[  9.2] Kernel panic\n",
                "x\n".repeat(lines)
            ))
        };
        assert_eq!(console(2).tail(2).lines().count(), 4);
        assert_eq!(console(90).tail(2).lines().count(), 8);
    }
}
