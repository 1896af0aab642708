//! Choices of the user: view, VM, time, filters. Ids of views, tabs and places on the map.

use collapse_common::abi::VmKey;

use super::column::Column;

/// A view.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub enum View {
    /// All VMs.
    #[default]
    Overview,
    /// One VM over time.
    Vm,
    /// Episodes of dirty logging of one VM.
    Episodes,
    /// Guest frames of one VM.
    Map,
    /// The latest events.
    Events,
    /// Findings of all VMs.
    Findings,
    /// Hooks, lost events, diagnostics.
    Probes,
}

impl View {
    /// Every view, in the order of their keys.
    pub const ALL: [Self; 7] = [
        Self::Overview,
        Self::Vm,
        Self::Episodes,
        Self::Map,
        Self::Events,
        Self::Findings,
        Self::Probes,
    ];

    /// Title of the view.
    pub fn title(self) -> &'static str {
        match self {
            Self::Overview => "Overview",
            Self::Vm => "VM",
            Self::Episodes => "Episodes",
            Self::Map => "Map",
            Self::Events => "Events",
            Self::Findings => "Findings",
            Self::Probes => "Probes",
        }
    }
}

/// A tab of the view of one VM.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Tab {
    /// Mappings and rates over time.
    Charts,
    /// Changes by cause.
    Causes,
    /// Slots and their dirty logging.
    Slots,
    /// Runs of the collapse routine.
    Collapse,
    /// Durations of faults and of recovery.
    Latency,
    /// What took KVM time, and who waited for its lock.
    Times,
}

impl Tab {
    /// Every tab, in the order shown.
    pub const ALL: [Self; 6] =
        [Self::Charts, Self::Causes, Self::Slots, Self::Collapse, Self::Latency, Self::Times];

    /// The tab `by` places after this one, round the end.
    pub fn turned(self, by: isize) -> Self {
        let place = Self::ALL.iter().position(|tab| *tab == self).unwrap_or_default() as isize;
        Self::ALL[(place + by).rem_euclid(Self::ALL.len() as isize) as usize]
    }

    /// Title of the tab.
    pub fn title(self) -> &'static str {
        match self {
            Self::Charts => "charts",
            Self::Causes => "causes",
            Self::Slots => "slots",
            Self::Collapse => "collapse runs",
            Self::Latency => "latency",
            Self::Times => "times",
        }
    }
}

/// Cursor and zoom of the map.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct MapCursor {
    /// A guest frame in the cell of the cursor.
    pub gfn: u64,
    /// Times that the number of regions per cell was halved.
    pub zoom: u32,
}

impl MapCursor {
    /// Zooms in by one step, or out.
    #[must_use]
    pub fn zoomed(self, closer: bool) -> Self {
        let zoom = if closer { (self.zoom + 1).min(40) } else { self.zoom.saturating_sub(1) };
        Self { zoom, ..self }
    }
}

/// Choices of the user that a frame follows.
#[derive(Clone, Debug)]
pub struct Nav {
    /// View shown.
    pub view: View,
    /// Selected VM; `None` for the first one listed.
    pub vm: Option<VmKey>,
    /// Column that VMs are sorted by.
    pub sort: Column,
    /// Whether the usual order of that column is reversed.
    pub reversed: bool,
    /// Text that names of listed VMs contain.
    pub filter: String,
    /// Text that listed events contain.
    pub event_filter: String,
    /// Whether keys edit the filter of the view.
    pub typing: bool,
    /// Distance of the time shown from the latest reading, ns.
    pub back: u64,
    /// Time that charts span, ns; `None` until the user zooms.
    pub span: Option<u64>,
    /// Tab of the view of one VM.
    pub tab: Tab,
    /// Selected line of episodes, events, findings or hooks.
    pub line: usize,
    /// Cursor and zoom of the map.
    pub map: MapCursor,
    /// Whether events of all VMs are listed.
    pub all: bool,
    /// First line of the help shown; `None` if the help is closed.
    pub help: Option<usize>,
}

impl Default for Nav {
    fn default() -> Self {
        Self {
            view: View::default(),
            vm: None,
            sort: Column::State,
            reversed: false,
            filter: String::new(),
            event_filter: String::new(),
            typing: false,
            back: 0,
            span: None,
            tab: Tab::Charts,
            line: 0,
            map: MapCursor::default(),
            all: false,
            help: None,
        }
    }
}

impl Nav {
    /// Filter of the view.
    pub fn shown_filter(&self) -> &str {
        if self.view == View::Events { &self.event_filter } else { &self.filter }
    }

    /// Filter of the view, to be edited.
    pub fn shown_filter_mut(&mut self) -> &mut String {
        if self.view == View::Events { &mut self.event_filter } else { &mut self.filter }
    }
}
