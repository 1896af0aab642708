//! The tests that are wanted.

use std::num::NonZero;

use clap::Args;
use lab::kernels;

/// Options of `cargo xtask test`.
#[derive(Args)]
pub struct TestOptions {
    /// `host` or `lab` for one part only, and what all names of the wanted tests have in them
    #[arg(value_name = "host|lab] [FILTER", num_args = 0..)]
    words: Vec<String>,
    /// Only lab tests on this kernel series
    #[arg(long, help = format!("Only lab tests on this kernel series ({})", kernels::names()))]
    kernel: Option<String>,
    /// The longer matrix, some hours: every MMU of every kernel, and more cases on every kernel
    ///
    /// Without it, failed migrations and all other scenarios run on every kernel with its default MMU and
    /// with those parameters of KVM that have shown differences; stacks, recordings, single changes and
    /// budgets run on one kernel for each way to see SPTE changes. With it, these run with every set of
    /// parameters, and on every kernel. xtask/lab/src/kernels/list.rs has both lists.
    #[arg(long)]
    all: bool,
    /// Machines of the lab at a time [default: one for each two CPUs, 2 to 4]
    #[arg(long, value_name = "N")]
    jobs: Option<NonZero<usize>>,
}

/// The tests that are wanted.
pub struct Selection {
    /// Whether those are wanted that need no lab.
    pub host: bool,
    /// Whether those of the lab are wanted.
    pub lab: bool,
    /// The only kernel series, if only one is wanted.
    pub kernel: Option<String>,
    filters: Vec<String>,
    /// Whether the longer matrix is wanted.
    pub all: bool,
    /// Machines of the lab at a time, if the user says.
    pub jobs: Option<NonZero<usize>>,
}

impl Selection {
    /// Reads the options.
    pub fn new(options: TestOptions) -> Self {
        let mut words = options.words.into_iter().peekable();
        let part = words.next_if(|word| word == "host" || word == "lab");
        let part = part.as_deref();
        Self {
            host: part != Some("lab") && options.kernel.is_none(),
            lab: part != Some("host"),
            kernel: options.kernel,
            filters: words.collect(),
            all: options.all,
            jobs: options.jobs,
        }
    }

    /// Whether a test of this name is wanted.
    pub fn wants(&self, name: &str) -> bool {
        self.filters.iter().all(|filter| name.contains(filter))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn selection(words: &[&str], kernel: Option<&str>) -> Selection {
        Selection::new(TestOptions {
            words: words.iter().map(|word| (*word).to_owned()).collect(),
            kernel: kernel.map(str::to_owned),
            all: false,
            jobs: None,
        })
    }

    #[test]
    fn parts_and_filters() {
        let all = selection(&[], None);
        assert!(all.host && all.lab && all.wants("anything"));
        let host = selection(&["host"], None);
        assert!(host.host && !host.lab);
        let lab = selection(&["lab", "split"], None);
        assert!(!lab.host && lab.lab && lab.wants("x split y") && !lab.wants("zap"));
        let filter = selection(&["split"], None);
        assert!(filter.host && filter.lab && !filter.wants("zap"));
        assert!(!selection(&[], Some("6.1")).host);
        let both = selection(&["lab", "split", "intel"], None);
        assert!(both.wants("intel: split") && !both.wants("split") && !both.wants("intel"));
    }
}
