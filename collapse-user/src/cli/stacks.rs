//! `--stacks`

use clap::{Args, ValueEnum};
use collapse_common::Selection;
use collapse_model::metric::LeafChange;

#[derive(Clone, Debug, Args)]
pub(super) struct StackArgs {
    /// Record the kernel's stack with every split and zap, or with one of the two; implies --each
    ///
    /// Costs about a microsecond per change. `collapse export --format folded` turns a recording's
    /// stacks into input for a flame graph.
    #[arg(long, value_enum, value_delimiter = ',', num_args = 0..=1, require_equals = true,
        default_missing_value = "split,zap", value_name = "KIND,…")]
    stacks: Vec<StackedKind>,
}

/// Changes whose stack can be recorded.
#[derive(Clone, Copy, Debug, PartialEq, Eq, ValueEnum)]
enum StackedKind {
    Split,
    Zap,
}

impl StackArgs {
    /// Adds the stacks that are asked for to a selection.
    pub(super) fn of(&self, selection: Selection) -> Selection {
        let transitions = |kind: &StackedKind| match kind {
            StackedKind::Split => LeafChange::Split.transitions(),
            StackedKind::Zap => LeafChange::Zap.transitions(),
        };
        let wanted = self.stacks.iter().flat_map(transitions);
        let stacks = wanted.fold(0, |all, transition| all | 1 << *transition as u32);
        let each = if stacks == 0 { selection.each } else { 1 };
        Selection { each, stacks, ..selection }
    }
}

#[cfg(test)]
mod tests {
    use clap::Parser;
    use collapse_common::Transition;

    use super::*;

    #[derive(Parser)]
    struct Line {
        #[command(flatten)]
        stacks: StackArgs,
        #[arg(last = true)]
        command: Vec<String>,
    }

    fn selection(args: &[&str]) -> Selection {
        let line = Line::try_parse_from([&["collapse"], args, &["--", "true"]].concat()).unwrap();
        assert_eq!(line.command, ["true"]);
        line.stacks.of(Selection::DEFAULT)
    }

    #[test]
    fn both_kinds_or_one() {
        let (split, zap) = (selection(&["--stacks=split"]), selection(&["--stacks=zap"]));
        let relink = 1 << Transition::SplitRelink as u32;
        assert_eq!(zap.stacks, 1 << Transition::Zap as u32);
        assert_eq!(split.stacks, 1 << Transition::Split as u32 | relink);
        let both = Selection { each: 1, stacks: split.stacks | zap.stacks, ..Selection::DEFAULT };
        assert_eq!(selection(&["--stacks"]), both);
        assert_eq!(selection(&["--stacks=zap,split"]), both);
        assert_eq!(selection(&[]), Selection::DEFAULT);
    }
}
