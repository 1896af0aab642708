//! The share of guest faults that are timed.

use std::{fmt, str::FromStr};

use collapse_feed::Signal;

/// Signals that are seen by timing faults, and only while faults are timed.
pub const TIMED_SIGNALS: [Signal; 2] = [Signal::FaultLatency, Signal::Progress];

/// The share of guest faults that are timed: all, one in N, or none.
///
/// Timing a fault takes two time stamps, and detecting its end takes a hook on every guest entry: 109
/// instructions on 6.12, as much as everything else that a fault costs.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct FaultLatency(u32);

/// The text of a [`FaultLatency`] could not be parsed.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
#[error("expected off, all, or 1/N with N up to {}", FaultLatency::MAX_ONE_IN)]
pub struct FaultLatencyError;

impl FaultLatency {
    /// No guest fault is timed.
    pub const OFF: Self = Self(0);

    /// Maximum N.
    const MAX_ONE_IN: u32 = 1 << 20;

    /// Returns the number of guest faults of which one is timed; 0 if none is.
    pub fn one_in(self) -> u32 {
        self.0
    }
}

/// One in 128: time stamps then add 6 instructions to the average fault, and an ordinary episode, of
/// about ten thousand faults, gives a hundred samples.
impl Default for FaultLatency {
    fn default() -> Self {
        Self(128)
    }
}

impl FromStr for FaultLatency {
    type Err = FaultLatencyError;

    fn from_str(text: &str) -> Result<Self, FaultLatencyError> {
        let one_in = match text {
            "off" => 0,
            "all" => 1,
            _ => {
                let number = text.strip_prefix("1/").and_then(|number| number.parse().ok());
                number
                    .filter(|one_in| (1..=Self::MAX_ONE_IN).contains(one_in))
                    .ok_or(FaultLatencyError)?
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
    fn shares_are_parsed_and_printed() {
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
