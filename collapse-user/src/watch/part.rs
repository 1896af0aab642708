//! The part of a recording that is asked for.

use std::{str::FromStr, time::Duration};

use crate::{
    settings::values::parse_duration,
    source::recording::{Clocks, Excerpt},
};

/// The part of a recording that is asked for; all of it by default.
#[derive(Clone, Copy, Debug, Default)]
pub struct Part {
    /// Its beginning; `None` for that of the recording.
    pub since: Option<Moment>,
    /// Its end; `None` for that of the recording.
    pub until: Option<Moment>,
}

/// A moment in a recording.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Moment {
    /// This long after its beginning.
    Into(Duration),
    /// At this time of a day, UTC.
    OfDay(Duration),
    /// At this time by the wall clock, ns since 1970.
    At(u64),
}

const DAY: u64 = 86_400_000_000_000;

impl Part {
    /// The part of a recording whose first update is of `start`, `CLOCK_MONOTONIC` ns.
    pub(super) fn excerpt(&self, clocks: Clocks, start: u64) -> Excerpt {
        let at = |moment: Moment| moment.monotonic(clocks, start);
        Excerpt::new(self.since.map_or(0, at), self.until.map_or(u64::MAX, at))
    }
}

impl Moment {
    /// `CLOCK_MONOTONIC` ns in a recording that begins at `start`.
    fn monotonic(self, clocks: Clocks, start: u64) -> u64 {
        let beginning = clocks.wall_at(start);
        let wall = match self {
            Self::Into(time) => return start.saturating_add(nanoseconds(time)),
            Self::At(wall) => wall,
            // Of the days there are, the one whose time is nearest to the beginning or after it.
            Self::OfDay(time) => {
                let wall = beginning - beginning % DAY + nanoseconds(time);
                if wall + DAY / 2 < beginning { wall + DAY } else { wall }
            }
        };
        start.saturating_add(wall).saturating_sub(beginning)
    }
}

impl FromStr for Moment {
    type Err = String;

    fn from_str(text: &str) -> Result<Self, String> {
        let wrong =
            || format!("'{text}' is no time: expected 12s, 10:02:11 or 2026-11-30T10:02:11Z");
        if text.contains('T') {
            let time = humantime::parse_rfc3339(text).map_err(|_| wrong())?;
            let since = time.duration_since(std::time::UNIX_EPOCH).map_err(|_| wrong())?;
            return Ok(Self::At(nanoseconds(since)));
        }
        if text.contains(':') {
            let day = humantime::parse_rfc3339(&format!("1970-01-01T{text}Z"));
            let time = day.ok().and_then(|day| day.duration_since(std::time::UNIX_EPOCH).ok());
            return time.map(Self::OfDay).ok_or_else(wrong);
        }
        if text.trim_end_matches(char::is_alphabetic) == "0" {
            return Ok(Self::Into(Duration::ZERO));
        }
        parse_duration(text).map(Self::Into).map_err(|_| wrong())
    }
}

fn nanoseconds(time: Duration) -> u64 {
    time.as_nanos().try_into().unwrap_or(u64::MAX)
}

#[cfg(test)]
mod tests {
    use super::*;

    const S: u64 = 1_000_000_000;

    fn at(text: &str) -> u64 {
        // The recording begins at 23:59:58 of some day, 100 s after boot.
        let clocks = Clocks { monotonic: 90 * S, wall: 10 * DAY - 12 * S };
        text.parse::<Moment>().unwrap().monotonic(clocks, 100 * S)
    }

    #[test]
    fn times_are_those_of_the_recording() {
        assert_eq!(at("0s"), 100 * S);
        assert_eq!(at("1500ms"), 101 * S + S / 2);
        assert_eq!(at("23:59:59"), 101 * S);
        assert_eq!(at("23:59:50"), 92 * S, "before its beginning, of the same day");
        assert_eq!(at("00:00:03.5"), 105 * S + S / 2, "of the next day");
        assert_eq!(at("1970-01-11T00:00:01Z"), 103 * S);
    }

    #[test]
    fn other_words_are_refused() {
        for text in ["", "soon", "25:00:00", "10:61:00", "1970-01-11T", "-1s"] {
            assert!(text.parse::<Moment>().unwrap_err().contains("no time"), "{text}");
        }
    }
}
