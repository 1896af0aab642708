//! `cargo xtask test`: the host's tests and the lab's, one line each, and one line of summary.

mod cases;
mod host;
mod matrix;
mod readme;

use std::time::{Duration, Instant};

use anyhow::{Result, bail};
use clap::Args;
use lab::kernels;

/// Options of `cargo xtask test`.
#[derive(Args)]
pub struct TestOptions {
    /// `host` or `lab` for one part only, and a part of the names of the wanted tests
    #[arg(value_name = "host|lab] [FILTER", num_args = 0..=2)]
    words: Vec<String>,
    /// Only lab tests on this kernel series
    #[arg(long, help = format!("Only lab tests on this kernel series ({})", kernels::names()))]
    kernel: Option<String>,
    /// The longer matrix, some hours: every MMU of every kernel, and every case on every kernel
    ///
    /// Without it, failed migrations and all other scenarios run on every kernel with its default MMU and
    /// with those parameters of KVM that have shown differences; stacks, recordings, single changes and
    /// budgets run on one kernel for each way to see SPTE changes. With it, these run with every set of
    /// parameters, and on every kernel. xtask/lab/src/kernels/list.rs has both lists.
    #[arg(long)]
    all: bool,
}

/// The tests that are wanted.
struct Selection {
    host: bool,
    lab: bool,
    kernel: Option<String>,
    filter: String,
    all: bool,
}

impl Selection {
    fn new(options: TestOptions) -> Result<Self> {
        let mut words = options.words.into_iter().peekable();
        let part = words.next_if(|word| word == "host" || word == "lab");
        let filter = words.next().unwrap_or_default();
        if let Some(extra) = words.next() {
            bail!("unexpected argument {extra:?}");
        }
        let part = part.as_deref();
        Ok(Self {
            host: part != Some("lab") && options.kernel.is_none(),
            lab: part != Some("host"),
            kernel: options.kernel,
            filter,
            all: options.all,
        })
    }

    fn wants(&self, name: &str) -> bool {
        name.contains(&self.filter)
    }
}

/// Results so far; each is printed on a line as it comes.
#[derive(Default)]
struct TestReport {
    passed: usize,
    failures: Vec<(String, anyhow::Error)>,
}

impl TestReport {
    fn add(&mut self, name: &str, result: Result<()>, took: Duration, note: &str) {
        let word = if result.is_ok() { "ok" } else { "FAILED" };
        println!("{word:6} {name:<60} {:6.1} s{note}", took.as_secs_f32());
        match result {
            Ok(()) => self.passed += 1,
            Err(error) => self.failures.push((name.to_owned(), error)),
        }
    }

    fn timed(&mut self, name: &str, test: impl FnOnce() -> Result<()>) {
        let started = Instant::now();
        let result = test();
        self.add(name, result, started.elapsed(), "");
    }

    /// Prints failures and the summary; returns the exit code.
    fn finish(self) -> i32 {
        for (name, error) in &self.failures {
            println!("\n---- {name}\n{error:#}");
        }
        println!("{} passed, {} failed", self.passed, self.failures.len());
        i32::from(!self.failures.is_empty())
    }
}

/// Runs the tests and returns the exit code.
pub fn run(options: TestOptions) -> Result<i32> {
    let selection = Selection::new(options)?;
    let mut report = TestReport::default();
    if selection.host {
        host::run(&selection, &mut report);
    }
    if selection.lab && selection.kernel.is_none() {
        readme::run(&selection, &mut report);
    }
    if selection.lab {
        matrix::run(&selection, &mut report);
    }
    if report.passed == 0 && report.failures.is_empty() {
        bail!("no test of that name");
    }
    Ok(report.finish())
}

#[cfg(test)]
mod tests {
    use super::*;

    fn selection(words: &[&str], kernel: Option<&str>) -> Result<Selection> {
        Selection::new(TestOptions {
            words: words.iter().map(|word| (*word).to_owned()).collect(),
            kernel: kernel.map(str::to_owned),
            all: false,
        })
    }

    #[test]
    fn parts_and_filters() {
        let all = selection(&[], None).unwrap();
        assert!(all.host && all.lab && all.wants("anything"));
        let host = selection(&["host"], None).unwrap();
        assert!(host.host && !host.lab);
        let lab = selection(&["lab", "split"], None).unwrap();
        assert!(!lab.host && lab.lab && lab.wants("x split y") && !lab.wants("zap"));
        let filter = selection(&["split"], None).unwrap();
        assert!(filter.host && filter.lab && !filter.wants("zap"));
        assert!(!selection(&[], Some("6.1")).unwrap().host);
        assert!(selection(&["a", "b"], None).is_err());
    }
}
