//! The latest events.

use std::collections::VecDeque;

use collapse_feed::Event;

/// Events kept.
pub const EVENTS_KEPT: usize = 1024;

/// The latest events of all VMs, oldest first.
#[derive(Clone, Debug, Default)]
pub struct Recent {
    events: VecDeque<Event>,
    seen: u64,
}

impl Recent {
    /// Takes the events of a batch; only the end of a long one is kept.
    pub(super) fn extend(&mut self, events: &[Event]) {
        self.seen += events.len() as u64;
        let latest = &events[events.len().saturating_sub(EVENTS_KEPT)..];
        let old = (self.events.len() + latest.len()).saturating_sub(EVENTS_KEPT);
        self.events.drain(..old);
        self.events.extend(latest.iter().cloned());
    }

    /// Events taken so far, kept or not.
    pub fn seen(&self) -> u64 {
        self.seen
    }

    /// The events, oldest first.
    pub fn events(&self) -> impl DoubleEndedIterator<Item = &Event> {
        self.events.iter()
    }
}

#[cfg(test)]
mod tests {
    use collapse_common::abi::VmKey;

    use super::*;
    use collapse_feed::EventKind;

    #[test]
    fn only_the_latest_are_kept() {
        let events = |range: std::ops::Range<u64>| {
            let event = |ts| Event { ts, vm: VmKey::default(), tid: 1, kind: EventKind::VmSeen };
            range.map(event).collect::<Vec<_>>()
        };
        let mut recent = Recent::default();
        recent.extend(&events(0..10));
        recent.extend(&events(10..1_030));
        let times = |recent: &Recent| {
            let mut times = recent.events().map(|event| event.ts);
            (times.next(), times.next_back())
        };
        assert_eq!(times(&recent), (Some(6), Some(1_029)));
        recent.extend(&events(2_000..5_000));
        assert_eq!(times(&recent), (Some(3_976), Some(4_999)));
    }
}
