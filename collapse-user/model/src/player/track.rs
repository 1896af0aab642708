//! Where a recording that is played stands, for those who show it, and what they may ask of it.

/// The slowest and the fastest, as powers of two.
const SPEEDS: (i32, i32) = (-3, 10);

/// How much faster than it happened a recording is played: a power of two.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Speed(i32);

impl Speed {
    /// The factor.
    pub fn factor(self) -> f64 {
        2f64.powi(self.0)
    }

    /// Twice as fast, or half as fast.
    #[must_use]
    pub fn changed(self, faster: bool) -> Self {
        Self((self.0 + if faster { 1 } else { -1 }).clamp(SPEEDS.0, SPEEDS.1))
    }

    /// As in `×4` and `×1/2`.
    pub fn label(self) -> String {
        match self.0 {
            power @ 0.. => format!("×{}", 1 << power),
            power => format!("×1/{}", 1 << -power),
        }
    }
}

/// Motion of a player.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Motion {
    /// Time goes on.
    Playing,
    /// It stands still.
    Paused,
    /// The last reading is shown.
    Ended,
    /// It reads its way to the position that it was sent to.
    Seeking,
}

/// Where it stands.
#[derive(Clone, Copy, Debug)]
pub struct Track<'a> {
    /// Motion of the player.
    pub motion: Motion,
    /// How fast.
    pub speed: Speed,
    /// When the first reading was taken, `CLOCK_MONOTONIC` ns.
    pub start: u64,
    /// The time shown, ns since the first reading.
    pub position: u64,
    /// Time from the first reading to the last, ns.
    pub length: u64,
    /// From when to when dirty logging was on in any VM, `CLOCK_MONOTONIC` ns.
    pub logging: &'a [(u64, u64)],
    /// When it was recorded, ns since 1970.
    pub recorded: u64,
    /// In a word, how it ends before its end.
    pub early: Option<&'static str>,
}

/// Order to a player.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Order {
    /// To play, or to pause; at the end, to play from the beginning.
    Toggle,
    /// To go forward by this many ns, or back.
    By(i64),
    /// To go to this many ns after the first reading.
    To(u64),
    /// To go to the next reading and pause.
    NextReading,
    /// To go to the reading before and pause.
    PreviousReading,
    /// To go to where dirty logging goes on or off next.
    NextSwitch,
    /// To go to where it went on or off before.
    PreviousSwitch,
    /// To play twice as fast.
    Faster,
    /// To play half as fast.
    Slower,
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn speeds_are_told_and_bounded() {
        let mut speed = Speed::default();
        assert_eq!((speed.factor(), speed.label().as_str()), (1.0, "×1"));
        speed = speed.changed(true).changed(true);
        assert_eq!((speed.factor(), speed.label().as_str()), (4.0, "×4"));
        for _ in 0..50 {
            speed = speed.changed(false);
        }
        assert_eq!((speed.factor(), speed.label().as_str()), (0.125, "×1/8"));
    }
}
