//! What the user chose to look at.

use collapse_common::abi::VmKey;

use super::column::Column;

/// What is looked at.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub enum View {
    /// All VMs.
    #[default]
    Overview,
    /// One VM over time.
    Vm,
    /// Its episodes.
    Episodes,
    /// Its guest frames.
    Map,
    /// The latest events.
    Events,
    /// What is worth a look.
    Findings,
    /// What is seen and by which hooks.
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

    /// Its title.
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

/// A tab.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Tab {
    /// Mappings and rates over time.
    Charts,
    /// What changed why.
    Causes,
    /// Slots and their dirty logging.
    Slots,
    /// Runs of the collapse routine.
    Collapse,
    /// How long things take.
    Latency,
}

impl Tab {
    /// Every tab, in the order shown.
    pub const ALL: [Self; 5] =
        [Self::Charts, Self::Causes, Self::Slots, Self::Collapse, Self::Latency];

    /// The tab so many after it.
    pub fn turned(self, by: isize) -> Self {
        let place = Self::ALL.iter().position(|tab| *tab == self).unwrap_or_default() as isize;
        Self::ALL[(place + by).rem_euclid(Self::ALL.len() as isize) as usize]
    }

    /// The title of the tab.
    pub fn title(self) -> &'static str {
        match self {
            Self::Charts => "charts",
            Self::Causes => "causes",
            Self::Slots => "slots",
            Self::Collapse => "collapse runs",
            Self::Latency => "latency",
        }
    }
}

/// Where the cursor is, and how close one looks.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct MapCursor {
    /// A guest frame in the cell of the cursor.
    pub gfn: u64,
    /// How often the regions per cell were halved.
    pub zoom: u32,
}

impl MapCursor {
    /// Closer, or farther.
    #[must_use]
    pub fn zoomed(self, closer: bool) -> Self {
        let zoom = if closer { (self.zoom + 1).min(40) } else { self.zoom.saturating_sub(1) };
        Self { zoom, ..self }
    }
}

/// What the user chose to look at.
#[derive(Clone, Debug)]
pub struct Nav {
    /// The view.
    pub view: View,
    /// The VM.
    pub vm: Option<VmKey>,
    /// The column that VMs are sorted by.
    pub sort: Column,
    /// Whether the other way round than is usual for it.
    pub reversed: bool,
    /// What names of VMs have to contain.
    pub filter: String,
    /// What events have to contain.
    pub event_filter: String,
    /// Whether keys go into the filter of the view.
    pub typing: bool,
    /// How long before the last reading the time shown is, ns.
    pub back: u64,
    /// Length of the time that charts show, ns, once the user zoomed.
    pub span: Option<u64>,
    /// The tab of the VM view.
    pub tab: Tab,
    /// The selected line of episodes, events, findings or probes.
    pub line: usize,
    /// Where on the map.
    pub map: MapCursor,
    /// Whether events of all VMs are listed.
    pub all: bool,
    /// The first line of the help, if it is shown.
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
    /// The filter that matters to the view.
    pub fn shown_filter(&self) -> &str {
        if self.view == View::Events { &self.event_filter } else { &self.filter }
    }

    /// The same, to be changed.
    pub fn shown_filter_mut(&mut self) -> &mut String {
        if self.view == View::Events { &mut self.event_filter } else { &mut self.filter }
    }
}
