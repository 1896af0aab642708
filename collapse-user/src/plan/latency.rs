//! How many guest faults are timed.

use std::{fmt, str::FromStr};

/// One in how many guest faults is timed, or that none is.
///
/// Timing one takes two time stamps, and seeing it end takes a hook on every guest entry: 109
/// instructions on 6.12, as much as all else that a fault costs.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct FaultLatency(u32);

impl FaultLatency {
    /// None.
    pub const OFF: Self = Self(0);

    /// The longest distance between two that are timed.
    const MOST: u32 = 1 << 20;

    /// One in so many; 0 for none.
    pub fn one_in(self) -> u32 {
        self.0
    }
}

/// One in 128, of which the time stamps add 6 instructions to the average fault. What an ordinary
/// episode faults, some ten thousand times, gives a hundred samples.
impl Default for FaultLatency {
    fn default() -> Self {
        Self(128)
    }
}

impl FromStr for FaultLatency {
    type Err = String;

    fn from_str(text: &str) -> Result<Self, String> {
        let one_in = match text {
            "off" => 0,
            "all" => 1,
            _ => {
                let number = text.strip_prefix("1/").and_then(|number| number.parse().ok());
                number.filter(|one_in| (1..=Self::MOST).contains(one_in)).ok_or_else(|| {
                    format!("expected off, all, or 1/N with N up to {}", Self::MOST)
                })?
            }
        };
        Ok(Self(one_in))
    }
}

impl fmt::Display for FaultLatency {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self.0 {
            0 => write!(f, "off"),
            1 => write!(f, "all"),
            one_in => write!(f, "1/{one_in}"),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_is_said_is_what_is_timed() {
        let read = |text: &str| text.parse().map(FaultLatency::one_in);
        assert_eq!(["off", "all", "1/8", "1/100"].map(read), [Ok(0), Ok(1), Ok(8), Ok(100)]);
        for wrong in ["", "1", "8", "1/0", "1/", "2/8", "1/-1", "1/1048577"] {
            assert!(read(wrong).is_err(), "{wrong}");
        }
        for text in ["off", "all", "1/128"] {
            assert_eq!(text.parse::<FaultLatency>().unwrap().to_string(), text);
        }
    }
}
