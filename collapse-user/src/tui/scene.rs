//! What a frame shows: the model at one time, and how to look at it.

use super::{
    options::Options,
    spots::Spots,
    theme::{Role, Theme},
};
use collapse_feed::{Coverage, Machine};
use collapse_model::{Episode, Model, Outcome, Phase, Vm, player::Track};

/// The machine, as the first line tells it.
#[derive(Clone, Debug, Default)]
pub struct Facts {
    /// Name and kernel.
    pub machine: Machine,
    /// What the user calls what is shown, instead of the machine's name.
    pub title: Option<String>,
}

/// What a frame shows.
#[derive(Clone, Copy)]
pub struct Scene<'a> {
    /// Everything known, or everything that was when the view was frozen.
    pub model: &'a Model,
    /// What is seen.
    pub coverage: &'a Coverage,
    /// The machine.
    pub facts: &'a Facts,
    /// The time shown, `CLOCK_MONOTONIC` ns: that of the last reading, or one before.
    pub at: u64,
    /// Time between refreshes, ns.
    pub step: u64,
    /// Length of the time that charts show, ns.
    pub span: u64,
    /// What the terminal can show.
    pub theme: Theme,
    /// What the user set.
    pub options: &'a Options,
    /// Where views tell what the mouse does.
    pub spots: &'a Spots,
    /// The recording that is played, if it is one.
    pub track: Option<Track<'a>>,
    /// The part of a core that this program takes, once known.
    pub load: Option<f64>,
    /// Warnings of the program itself, oldest first.
    pub warnings: &'a [String],
    /// The latest of them, which the user has not looked at.
    pub unread: &'a [String],
}

impl Scene<'_> {
    /// The time that charts of so many columns show, ns: whole columns since boot, so that nothing
    /// flickers as time goes on.
    pub fn time(&self, columns: usize) -> (u64, u64) {
        let part = (self.span / columns.max(1) as u64).max(1);
        let to = self.at - self.at % part;
        (to.saturating_sub(part * columns as u64), to)
    }

    /// How far one goes in time at once, ns: a tenth of what charts show, but at least one reading.
    pub fn stride(&self) -> u64 {
        (self.span / 10).max(self.step)
    }

    /// How long ago something was, ns.
    pub fn ago(&self, at: u64) -> u64 {
        self.at.saturating_sub(at)
    }

    /// Why there is nothing to show.
    pub fn nothing(&self) -> &'static str {
        if self.track.is_some() {
            "No VM at this time of the recording."
        } else {
            "No VM yet: start one, and it appears here."
        }
    }

    /// Whether it shows another time than the last reading.
    pub fn is_past(&self) -> bool {
        self.at < self.model.now
    }
}

/// What a VM goes through.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub enum State {
    /// It went away.
    Ended,
    /// Nothing.
    Steady,
    /// Regions that it lost are coming back.
    Recovering,
    /// Dirty logging went off, and the collapse routine is yet to finish.
    Collapsing,
    /// Dirty logging is on.
    Logging,
    /// Regions stay mapped small although dirty logging is off.
    Stuck,
}

impl State {
    /// That of a VM at the time shown.
    pub fn of(vm: &Vm, scene: &Scene) -> Self {
        if scene.is_past() {
            return match vm.history.until(scene.at) {
                Some(sample) if sample.logging => Self::Logging,
                Some(sample) if sample.outstanding > 0 => Self::Recovering,
                _ => Self::Steady,
            };
        }
        if vm.gone {
            return Self::Ended;
        }
        match vm.episodes.kept().next_back() {
            Some(episode) if episode.phase == Phase::Logging => Self::Logging,
            Some(episode) if episode.phase == Phase::Collapsing => Self::Collapsing,
            Some(episode) if episode.phase == Phase::Recovering => {
                if is_stuck(episode, scene) {
                    Self::Stuck
                } else {
                    Self::Recovering
                }
            }
            _ => Self::Steady,
        }
    }

    /// In words.
    pub fn label(self) -> &'static str {
        match self {
            Self::Steady => "steady",
            Self::Ended => "ended",
            Self::Recovering => "recovering",
            Self::Collapsing => "collapsing",
            Self::Logging => "dirty logging",
            Self::Stuck => "stuck",
        }
    }

    /// A glyph.
    pub fn glyph(self) -> &'static str {
        match self {
            Self::Steady => "·",
            Self::Ended => "○",
            Self::Recovering => "▲",
            Self::Collapsing => "▼",
            Self::Logging => "●",
            Self::Stuck => "✗",
        }
    }

    /// Its colour.
    pub fn role(self) -> Role {
        match self {
            Self::Steady | Self::Ended => Role::Dim,
            Self::Recovering => Role::Good,
            Self::Collapsing => Role::Zap,
            Self::Logging => Role::Split,
            Self::Stuck => Role::Bad,
        }
    }
}

/// Whether regions that are mapped small have waited too long for the next recovery.
fn is_stuck(episode: &Episode, scene: &Scene) -> bool {
    let last = episode.last_recovery.max(episode.log_off).unwrap_or(episode.start);
    let small = episode.regions.refaulted_small + episode.regions.still_split;
    small > 0 && scene.ago(last) > scene.options.thresholds.small_ns
}

/// A VM's name, as far as it is known.
pub fn name(vm: &Vm) -> &str {
    vm.process.as_ref().map_or("VM of unknown process", |process| &process.name.text)
}

/// How far an episode is, in words, and its colour.
pub fn phase(phase: Phase) -> (&'static str, Role) {
    match phase {
        Phase::Logging => ("logging", Role::Split),
        Phase::Collapsing => ("collapsing", Role::Zap),
        Phase::Recovering => ("recovering", Role::Good),
        Phase::Ended => ("ended", Role::Dim),
    }
}

/// What an episode came to, in words, and its colour.
pub fn outcome(outcome: Outcome) -> (&'static str, Role) {
    match outcome {
        Outcome::Running => ("running", Role::Text),
        Outcome::NothingLost => ("nothing lost", Role::Good),
        Outcome::Unknown => ("unknown", Role::Dim),
        Outcome::Recovered => ("recovered", Role::Good),
        Outcome::Partly => ("partly", Role::Warn),
        Outcome::NotRecovered => ("not recovered", Role::Bad),
        Outcome::Untouched => ("untouched", Role::Dim),
        Outcome::Gone => ("gone", Role::Dim),
    }
}
