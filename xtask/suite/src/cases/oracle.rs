//! The recording of a run by tracefs, counted independently of `collapse`.

use std::{fs, path::Path};

use anyhow::{Context, Result, ensure};

/// SPTE changes and faults of a run. Arrays are by level: 4 KiB, 2 MiB.
#[derive(Debug, Default, PartialEq, Eq)]
pub struct Oracle {
    /// Leaves installed.
    pub installs: [u64; 2],
    /// Leaves zapped, the zaps that are half of a two-step split included.
    pub zaps: [u64; 2],
    /// Huge leaves replaced by a page table in one step.
    pub splits: u64,
    /// Page tables replaced by a huge leaf in one step.
    pub recovers: u64,
    /// Leaves write-protected in place.
    pub write_protects: [u64; 2],
    /// Leaves whose dirty bit was cleared in place, and nothing else that matters.
    pub dirty_clears: [u64; 2],
    /// Guest faults.
    pub faults: u64,
    /// Of those: resolved by the fast path, or found resolved.
    pub fast_faults: u64,
    /// Exits of vCPUs whose dirty ring is full.
    pub rings_full: u64,
    /// Exits for a full log of dirty pages.
    pub pml_full_exits: u64,
    /// Waits for `mmu_lock`; `None` where the kernel does not tell.
    pub lock_waits: Option<u64>,
    /// Calls of `drop_spte`.
    pub drop_spte: u64,
    /// Runs of the collapse routine.
    pub collapse_runs: u64,
    /// Leaves installed by other tasks while the collapse routine ran.
    pub raced_installs: [u64; 2],
    /// The task that is in the collapse routine, if one is.
    collapsing: Option<String>,
    /// Whether SPTEs and error codes are those of EPT.
    ept: bool,
}

impl Oracle {
    /// Reads `trace`, `stats`, `ept` and `rwlocks` in a folder. Fails if events were lost: then nothing can be
    /// compared.
    pub fn read(folder: &Path) -> Result<Self> {
        let ept = fs::read_to_string(folder.join("ept")).context("reading whether EPT is on")?;
        let stats = fs::read_to_string(folder.join("stats")).context("reading the ring's stats")?;
        for line in stats.lines() {
            let lost = ["overrun:", "dropped events:"].iter().any(|key| line.starts_with(key));
            ensure!(!lost || line.ends_with(" 0"), "the independent recording lost events: {line}");
        }
        let trace = fs::read_to_string(folder.join("trace")).context("reading the trace")?;
        let lock_waits = fs::read_to_string(folder.join("rwlocks")).ok();
        let lock_waits = lock_waits.map(|text| lock_waits_in(&text)).transpose()?;
        let mut oracle = Self { ept: ept.trim() == "Y", lock_waits, ..Self::default() };
        for line in trace.lines().filter(|line| !line.starts_with('#')) {
            oracle.event(line).with_context(|| format!("trace line {line:?}"))?;
        }
        Ok(oracle)
    }

    /// Takes a line of `trace`: `task-pid [cpu] flags time: event: fields`.
    fn event(&mut self, line: &str) -> Result<()> {
        let task = line.split_once('[').map_or("", |(task, _)| task.trim());
        let others = self.collapsing.as_ref().is_some_and(|collapsing| collapsing != task);
        let installs = self.installs;
        self.count(line, task)?;
        if others {
            for (at, raced) in self.raced_installs.iter_mut().enumerate() {
                *raced += self.installs[at] - installs[at];
            }
        }
        Ok(())
    }

    fn count(&mut self, line: &str, task: &str) -> Result<()> {
        let Some((event, fields)) =
            line.split_once(": ").and_then(|(_, rest)| rest.split_once(": "))
        else {
            return Ok(());
        };
        if UNPREEMPTIBLE.contains(&event) {
            ensure!(!is_preemptible(line), "{event} can be preempted");
        }
        match event {
            "kvm_tdp_mmu_spte_changed" => self.change(
                word_after(fields, "level")?.parse()?,
                hex(word_after(fields, "old_spte")?)?,
                hex(word_after(fields, "new_spte")?)?,
            ),
            // A kprobe, where there is no tracepoint.
            "changed" => self.change(
                value(fields, "level")?.parse()?,
                hex(value(fields, "old")?)?,
                hex(value(fields, "new")?)?,
            ),
            "clear" => {
                let old = hex(value(fields, "old")?)?;
                self.change(level_of(old), old, 0);
            }
            "update" => {
                let (old, new) = (hex(value(fields, "old")?)?, hex(value(fields, "new")?)?);
                self.change(level_of(new), old, new);
            }
            "drop" => self.drop_spte += 1,
            "kvm_pml_full" => self.pml_full_exits += 1,
            "collapse_begin" => {
                self.collapse_runs += 1;
                self.collapsing = Some(task.to_owned());
            }
            "collapse_end" => self.collapsing = None,
            "kvm_page_fault" => {
                let error_code = hex(word_after(fields, "error_code")?)?;
                // An access to a device, which KVM does not count. Under EPT it is no violation, and the
                // bit means that the page was readable.
                let device = !self.ept && error_code & PFERR_RSVD != 0;
                self.faults += u64::from(!device);
            }
            "kvm_dirty_ring_exit" => self.rings_full += 1,
            "fast_page_fault" => {
                let tried = fields.ends_with("spurious 0 fixed 0");
                self.fast_faults += u64::from(!tried);
            }
            _ => {}
        }
        Ok(())
    }

    fn change(&mut self, level: usize, old: u64, new: u64) {
        let leaf = |spte| is_present(spte) && (level == 1 || spte & PS != 0);
        let table = |spte| is_present(spte) && !leaf(spte);
        let Some(at) = level.checked_sub(1).filter(|at| *at < 2) else { return };
        match (old, new) {
            _ if leaf(new) && !is_present(old) => self.installs[at] += 1,
            _ if leaf(old) && !is_present(new) => self.zaps[at] += 1,
            _ if leaf(old) && table(new) => self.splits += 1,
            _ if table(old) && leaf(new) => self.recovers += 1,
            _ if leaf(old) && leaf(new) && old & W != 0 && new & W == 0 => {
                // Without accessed bits, ageing takes every permission from a page, and dirty logging that to write.
                self.write_protects[at] += u64::from(new & R != 0);
            }
            _ if leaf(old) && leaf(new) && (old ^ new) & W == 0 => {
                let dirty = if self.ept { EPT_DIRTY } else { DIRTY };
                self.dirty_clears[at] += u64::from(old & dirty != 0 && new & dirty == 0);
            }
            _ => {}
        }
    }
}

/// Sums up a histogram of waits for rwlocks by address. `mmu_lock` is the first field of `struct kvm`, which has pages
/// of its own, other than the few rwlocks besides.
fn lock_waits_in(histogram: &str) -> Result<u64> {
    let lines = histogram.lines().filter(|line| line.starts_with('{'));
    let mmu_lock =
        lines.filter(|line| line.split(',').next().is_some_and(|key| key.ends_with("000")));
    let hits = mmu_lock.map(|line| {
        let hits = line.rsplit(':').next().unwrap_or_default().trim();
        hits.parse::<u64>().with_context(|| format!("histogram line {line:?}"))
    });
    hits.sum()
}

/// A reserved bit was set in the page's entry, as KVM does for devices.
const PFERR_RSVD: u64 = 1 << 3;

/// Tracepoints whose programs must not be preempted: they write what a CPU knows of the thread that it runs.
const UNPREEMPTIBLE: [&str; 3] = ["kvm_tdp_mmu_spte_changed", "kvm_mmu_set_spte", "kvm_entry"];

/// Whether the task of a line could have been preempted at its event: its flags show neither that
/// interrupts were off, first, nor how often preemption was disabled, fourth.
fn is_preemptible(line: &str) -> bool {
    let flags = line.split_once("] ").and_then(|(_, rest)| rest.split_whitespace().next());
    let flags = flags.unwrap_or_default().as_bytes();
    flags.first() == Some(&b'.') && flags.get(3) == Some(&b'.')
}

const R: u64 = 1 << 0;
const W: u64 = 1 << 1;
const DIRTY: u64 = 1 << 6;
const EPT_DIRTY: u64 = 1 << 9;
const PS: u64 = 1 << 7;
const MMU_PRESENT: u64 = 1 << 11;

/// Whether an SPTE is present: by bit 11 from 5.12 on. 5.10 sets bit 11 in leaves that the MMU may make
/// writable, and has neither frozen nor non-zero empty values: there, any but zero and MMIO is present.
fn is_present(spte: u64) -> bool {
    spte & MMU_PRESENT != 0 || spte != 0 && spte >> 52 & 3 != 3 && spte & 1 != 0
}

fn level_of(spte: u64) -> usize {
    if spte & PS == 0 { 1 } else { 2 }
}

/// The word after a key in `key value key value …`.
fn word_after<'a>(fields: &'a str, key: &str) -> Result<&'a str> {
    let mut words = fields.split_whitespace();
    words
        .by_ref()
        .find(|word| *word == key)
        .and_then(|_| words.next())
        .with_context(|| format!("no {key}"))
}

/// The value of a key in `key=value key=value …`.
fn value<'a>(fields: &'a str, key: &str) -> Result<&'a str> {
    fields
        .split_whitespace()
        .find_map(|word| word.strip_prefix(key)?.strip_prefix('='))
        .with_context(|| format!("no {key}"))
}

fn hex(text: &str) -> Result<u64> {
    Ok(u64::from_str_radix(text.strip_prefix("0x").unwrap_or(text), 16)?)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn lines_of_real_traces() -> Result<()> {
        let mut oracle = Oracle::default();
        for line in [
            " vcpu0-181 [001] ...1. 11.2: kvm_tdp_mmu_spte_changed: as id 0 gfn 40000 level 2 \
             old_spte 8000000000000000 new_spte 60000009e000ee7",
            " workload-176 [000] ...1. 12.1: kvm_tdp_mmu_spte_changed: as id 0 gfn 40000 level 2 \
             old_spte 60000009e000ee7 new_spte 106b1827",
            " workload-176 [000] ...1. 12.2: kvm_tdp_mmu_spte_changed: as id 0 gfn 40001 level 1 \
             old_spte 60000009e001e67 new_spte 80000000000005a0",
            " vcpu0-181 [001] ...1. 13.2: clear: (mmu_spte_clear_track_bits+0x0/0x1d0 [kvm]) \
             old=0x60000009e000ee7",
            " vcpu0-181 [001] ...1. 13.9: fast_page_fault: vcpu 0 gva 40000000 error_code W \
             sptep 00 old 0x60000009e001e65 new 60000009e001e67 spurious 0 fixed 1",
            " vcpu0-181 [001] ...1. 13.9: fast_page_fault: vcpu 0 gva 40000000 error_code W \
             sptep 00 old 0x60000009e001e67 new 60000009e001e67 spurious 1 fixed 0",
            " vcpu0-181 [001] ...1. 14.0: fast_page_fault: vcpu 0 gva 40000000 error_code W \
             sptep 00 old 0x8000000000000000 new 0 spurious 0 fixed 0",
            " vcpu0-181 [001] ...1. 14.1: kvm_page_fault: vcpu 0 rip 0x10 address 0x40000000 \
             error_code 0x100000006",
            " vcpu0-181 [001] ...1. 14.2: kvm_page_fault: vcpu 0 rip 0x10 address 0xfed00000 \
             error_code 0x10000000e",
            " vcpu0-181 [001] ..... 14.3: kvm_dirty_ring_exit: vcpu 0",
        ] {
            oracle.event(line)?;
        }
        let expected = Oracle {
            installs: [0, 1],
            zaps: [1, 1],
            splits: 1,
            faults: 1,
            fast_faults: 2,
            rings_full: 1,
            ..Oracle::default()
        };
        assert_eq!(oracle, expected);
        Ok(())
    }

    #[test]
    fn lines_of_real_traces_under_ept() -> Result<()> {
        let mut oracle = Oracle { ept: true, ..Oracle::default() };
        for line in [
            " workload-176 [000] ...1. 12.2: kvm_tdp_mmu_spte_changed: as id 0 gfn 40001 level 1 \
             old_spte 60000009e002b77 new_spte 60000009e002977",
            " vcpu0-181 [000] ...1. 14.1: kvm_page_fault: vcpu 0 rip 0x10 address 0x40000000 \
             error_code 0x5aa",
            " vcpu0-181 [000] ...1. 14.2: kvm_pml_full: vcpu 0: PML full",
        ] {
            oracle.event(line)?;
        }
        let expected = Oracle {
            dirty_clears: [1, 0],
            faults: 1,
            pml_full_exits: 1,
            ept: true,
            ..Oracle::default()
        };
        assert_eq!(oracle, expected);
        Ok(())
    }
}
