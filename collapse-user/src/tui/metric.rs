//! The rates that are shown: name, unit, width and format of each, declared here only.

use super::{column::Column, format, scene::Scene, theme::Role};
use collapse_feed::Signal;
use collapse_model::{Flows, History};

/// Something that is counted over time.
pub struct Metric {
    /// Its name.
    pub name: &'static str,
    /// What comes after its value.
    pub unit: &'static str,
    /// Title of its column.
    pub title: &'static str,
    /// What it says, for the help.
    pub help: &'static str,
    /// Columns of its value.
    pub width: usize,
    /// Its colour.
    pub role: Role,
    /// The signal without which it is unknown; `None` if that depends on the MMU.
    signal: Option<Signal>,
    pick: fn(&Flows) -> u64,
    format: fn(f64) -> String,
}

/// Splits of huge leaves.
pub const SPLITS: Metric = Metric {
    name: "splits",
    unit: "/s",
    title: "SPLIT/s",
    help: "huge SPTEs that became page tables",
    width: 7,
    role: Role::Split,
    signal: None,
    pick: |flows| flows.splits,
    format: format::rate,
};

/// Zaps of leaves.
pub const ZAPS: Metric = Metric {
    name: "zaps",
    unit: "/s",
    title: "ZAP/s",
    help: "SPTEs that were removed",
    width: 6,
    role: Role::Zap,
    signal: None,
    pick: |flows| flows.zaps,
    format: format::rate,
};

/// Installs of leaves.
pub const INSTALLS: Metric = Metric {
    name: "installs",
    unit: "/s",
    title: "INST/s",
    help: "SPTEs that were installed",
    width: 6,
    role: Role::Small,
    signal: None,
    pick: |flows| flows.installs,
    format: format::rate,
};

/// Recoveries of regions.
pub const RECOVERIES: Metric = Metric {
    name: "recoveries",
    unit: "/s",
    title: "RECOV/s",
    help: "regions that are huge again",
    width: 7,
    role: Role::Huge,
    signal: None,
    pick: |flows| flows.recovered,
    format: format::rate,
};

/// Guest faults.
pub const FAULTS: Metric = Metric {
    name: "faults",
    unit: "/s",
    title: "FAULT/s",
    help: "guest faults",
    width: 7,
    role: Role::Fault,
    signal: Some(Signal::Faults),
    pick: |flows| flows.faults,
    format: format::rate,
};

/// Time that faults take from vCPUs.
pub const STALL: Metric = Metric {
    name: "vCPU time lost",
    unit: "",
    title: "vCPU",
    help: "time lost to faults; 100% is one vCPU",
    width: 6,
    role: Role::Fault,
    signal: Some(Signal::FaultLatency),
    pick: |flows| flows.stall_ns,
    format: format::busy,
};

/// All of them, as help lists them.
pub const METRICS: [&Metric; 6] = [&SPLITS, &ZAPS, &INSTALLS, &RECOVERIES, &FAULTS, &STALL];

impl Metric {
    /// Its rate now; `None` if unknown.
    pub fn now(&self, scene: &Scene, history: &History) -> Option<f64> {
        let from = scene.at.saturating_sub(scene.step);
        self.over(scene, history, (from, scene.at), 1).pop().flatten()
    }

    /// Its rates over the time that charts show.
    pub fn charted(&self, scene: &Scene, history: &History, parts: usize) -> Vec<Option<f64>> {
        self.over(scene, history, scene.time(parts), parts)
    }

    /// Shown.
    pub fn shown(&self, rate: Option<f64>) -> String {
        format::known(rate, self.format)
    }

    fn over(
        &self,
        scene: &Scene,
        history: &History,
        (from, to): (u64, u64),
        parts: usize,
    ) -> Vec<Option<f64>> {
        let signal = self.signal.unwrap_or_else(|| scene.coverage.mmu.essential_signal());
        if scene.coverage.sees(signal) {
            history.rates(from, to, parts, self.pick)
        } else {
            vec![None; parts]
        }
    }
}

impl Column {
    /// The rate in it, if it has one.
    pub(super) fn metric(self) -> Option<&'static Metric> {
        Some(match self {
            Self::Splits => &SPLITS,
            Self::Zaps => &ZAPS,
            Self::Recoveries => &RECOVERIES,
            Self::Faults => &FAULTS,
            Self::Stall => &STALL,
            _ => return None,
        })
    }

    /// Its title.
    pub(super) fn title(self) -> &'static str {
        match self {
            Self::Name => "VM",
            Self::Pid => "PID",
            Self::State => "STATE",
            Self::Mapped => "MAPPED",
            Self::Back => "RECOVERED",
            _ => self.metric().map_or("", |metric| metric.title),
        }
    }

    /// Its least width.
    pub(super) fn width(self) -> usize {
        match self {
            Self::Name => 9,
            Self::Pid => 7,
            Self::State => 15,
            Self::Mapped | Self::Back => 14,
            _ => self.metric().map_or(0, |metric| metric.width),
        }
    }
}
