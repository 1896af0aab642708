//! What the user chose to look at.

use collapse_common::abi::VmKey;

use super::{
    column::Column,
    keys::View,
    views::{map, vm::Tab},
};

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
    pub map: map::Place,
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
            map: map::Place::default(),
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
