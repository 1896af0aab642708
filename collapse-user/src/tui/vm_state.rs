//! States of a VM.

use super::{scene::Scene, theme::Role};
use collapse_model::{Episode, MetricId, Phase, Vm};

/// State of a VM, in the order of sorting.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub enum VmState {
    /// The VM is gone.
    Ended,
    /// No episode is going on.
    Steady,
    /// Lost regions are being recovered.
    Recovering,
    /// Dirty logging was switched off and the collapse routine has not finished.
    Collapsing,
    /// Dirty logging is on.
    Logging,
    /// Regions stay mapped small although dirty logging is off.
    Stuck,
}

impl VmState {
    /// State of a VM at the time shown.
    pub fn of(vm: &Vm, scene: &Scene) -> Self {
        if scene.is_past() {
            return match vm.history.until(scene.at) {
                Some(sample) if sample.logging => Self::Logging,
                Some(sample) if sample.values[MetricId::Outstanding] > 0 => Self::Recovering,
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

    /// Name of the state.
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

    /// Glyph of the state.
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

    /// Colour of the state.
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

/// Whether small regions remain and the latest recovery is longer ago than the threshold.
fn is_stuck(episode: &Episode, scene: &Scene) -> bool {
    let last = episode.last_recovery.max(episode.log_off).unwrap_or(episode.start);
    let small = episode.regions.refaulted_small + episode.regions.still_split;
    small > 0 && scene.ago(last) > scene.options.thresholds.small_ns
}
