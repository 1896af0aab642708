//! Options of the libraries, as choices on the command line: they do not know `clap`.

use clap::{ValueEnum, builder::PossibleValue};
use collapse_report::{Format, Required};

/// A report's format.
#[derive(Clone, Copy, Debug)]
pub struct FormatChoice(pub Format);

impl ValueEnum for FormatChoice {
    fn value_variants<'a>() -> &'a [Self] {
        const ALL: [FormatChoice; Format::ALL.len()] = {
            let mut all = [FormatChoice(Format::Text); Format::ALL.len()];
            let mut at = 0;
            while at < all.len() {
                all[at] = FormatChoice(Format::ALL[at]);
                at += 1;
            }
            all
        };
        &ALL
    }

    fn to_possible_value(&self) -> Option<PossibleValue> {
        Some(PossibleValue::new(self.0.name()).help(self.0.help()))
    }
}

/// The coverage that is demanded.
#[derive(Clone, Copy, Debug)]
pub struct RequiredChoice(pub Required);

impl ValueEnum for RequiredChoice {
    fn value_variants<'a>() -> &'a [Self] {
        &[Self(Required::Full)]
    }

    fn to_possible_value(&self) -> Option<PossibleValue> {
        match self.0 {
            Required::Full => Some(PossibleValue::new("full").help("Every signal must be seen")),
        }
    }
}
