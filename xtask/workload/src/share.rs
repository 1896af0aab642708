//! Shares as people write them: `1000`, `10%`.

use std::str::FromStr;

use anyhow::{Context, Result, bail};

/// Some of a number of things: a count, or a percentage.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Share {
    /// This many, or all if there are fewer.
    Count(u64),
    /// This many of a hundred, rounded up.
    Percent(u64),
}

impl Share {
    /// This share of `total`.
    pub fn of(self, total: u64) -> u64 {
        match self {
            Self::Count(count) => count.min(total),
            Self::Percent(percent) => {
                let exact = (u128::from(total) * u128::from(percent)).div_ceil(100);
                u64::try_from(exact).unwrap_or(u64::MAX).min(total)
            }
        }
    }
}

impl FromStr for Share {
    type Err = anyhow::Error;

    fn from_str(text: &str) -> Result<Self> {
        let wrong = || format!("`{text}` is neither a count nor a percentage");
        match text.strip_suffix('%') {
            Some(percent) => match percent.parse().with_context(wrong)? {
                percent @ 0..=100 => Ok(Self::Percent(percent)),
                _ => bail!("`{text}` is more than 100%"),
            },
            None => Ok(Self::Count(text.parse().with_context(wrong)?)),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn shares_round_up_and_stop_at_the_whole() {
        assert_eq!("10%".parse::<Share>().unwrap().of(16384), 1639);
        assert_eq!("100%".parse::<Share>().unwrap().of(u64::MAX), u64::MAX);
        assert_eq!("9".parse::<Share>().unwrap().of(4), 4);
        assert!("101%".parse::<Share>().is_err());
        assert!("ten".parse::<Share>().is_err());
    }
}
