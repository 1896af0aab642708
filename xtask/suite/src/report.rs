//! The results of a run of tests.

use std::time::{Duration, Instant};

use anyhow::Result;

/// Results so far; each is printed on a line as it comes.
#[derive(Default)]
pub struct TestReport {
    passed: usize,
    failures: Vec<(String, anyhow::Error)>,
}

impl TestReport {
    /// Adds the result of a test that took some time; `note` follows on its line.
    pub fn add(&mut self, name: &str, result: Result<()>, took: Duration, note: &str) {
        let word = if result.is_ok() { "ok" } else { "FAILED" };
        println!("{word:6} {name:<60} {:6.1} s{note}", took.as_secs_f32());
        match result {
            Ok(()) => self.passed += 1,
            Err(error) => self.failures.push((name.to_owned(), error)),
        }
    }

    /// Runs a test and adds its result.
    pub fn timed(&mut self, name: &str, test: impl FnOnce() -> Result<()>) {
        let started = Instant::now();
        let result = test();
        self.add(name, result, started.elapsed(), "");
    }

    /// Whether no test was run.
    pub fn is_empty(&self) -> bool {
        self.passed == 0 && self.failures.is_empty()
    }

    /// Prints failures and the summary; returns the exit code.
    pub fn finish(self) -> i32 {
        for (name, error) in &self.failures {
            println!("\n---- {name}\n{error:#}");
        }
        println!("{} passed, {} failed", self.passed, self.failures.len());
        i32::from(!self.failures.is_empty())
    }
}
