//! How much the programs may cost.

use std::{fmt, str::FromStr};

/// The most that the programs may cost, or no limit.
#[derive(Clone, Copy, Debug, PartialEq)]
pub struct Limit(Option<f64>);

impl Limit {
    /// No limit.
    pub const OFF: Self = Self(None);

    /// Returns percent of one core; `None` for no limit.
    pub fn percent(self) -> Option<f64> {
        self.0
    }
}

/// Some five million SPTE changes a second.
impl Default for Limit {
    fn default() -> Self {
        Self(Some(25.0))
    }
}

impl FromStr for Limit {
    type Err = String;

    fn from_str(text: &str) -> Result<Self, String> {
        if text == "off" {
            return Ok(Self::OFF);
        }
        let number = text.strip_suffix('%').unwrap_or(text).parse().ok();
        let percent = number.filter(|percent: &f64| percent.is_finite() && *percent > 0.0);
        let percent = percent.ok_or("expected off, or a percentage above 0 such as 1%")?;
        Ok(Self(Some(percent)))
    }
}

impl fmt::Display for Limit {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self.0 {
            None => write!(f, "off"),
            Some(percent) => write!(f, "{percent}%"),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn percentages() {
        let read = |text: &str| text.parse().map(Limit::percent).ok();
        assert_eq!(["off", "1%", "0.5"].map(read), [Some(None), Some(Some(1.0)), Some(Some(0.5))]);
        for wrong in ["", "0", "-1", "nan", "inf", "1 %", "%", "one"] {
            assert_eq!(read(wrong), None, "{wrong}");
        }
        assert_eq!(Limit::default().to_string(), "25%");
    }
}
