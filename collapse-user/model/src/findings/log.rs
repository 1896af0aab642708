//! The findings about one VM over time.

use super::Finding;

/// Every kind of finding that a VM had while it was watched, with when it last began and ended.
#[derive(Clone, Debug, Default)]
pub struct Findings {
    /// One for each kind, in the order in which they first appeared.
    kinds: Vec<Found>,
    /// Whether the VM ended.
    ended: bool,
}

/// A kind of finding that a VM had.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Found {
    /// The finding, as it was last found.
    pub finding: Finding,
    /// Times that it began.
    pub times: u64,
    /// When it ended last, or its VM did, `CLOCK_MONOTONIC` ns; `None` if it holds.
    pub until: Option<u64>,
}

/// A finding began or ended.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Turn {
    /// What was found.
    pub found: Found,
    /// When this was noticed, `CLOCK_MONOTONIC` ns.
    pub at: u64,
}

impl Findings {
    /// Every kind of finding so far, in the order in which they first appeared.
    pub fn kinds(&self) -> impl Iterator<Item = &Found> {
        self.kinds.iter()
    }

    /// The findings that hold.
    pub fn holding(&self) -> impl Iterator<Item = &Finding> {
        self.kinds.iter().filter(|found| found.until.is_none()).map(|found| &found.finding)
    }

    /// Whether nothing more is to be found, as the VM ended.
    pub(crate) fn has_ended(&self) -> bool {
        self.ended
    }

    /// Takes what holds at `at`; if the VM `ended`, for the last time. Returns what began and what ended.
    pub(crate) fn take(&mut self, at: u64, now: Vec<Finding>, ended: bool) -> Vec<Turn> {
        let mut turns = Vec::new();
        for found in self.kinds.iter_mut().filter(|found| found.until.is_none()) {
            let holds = now.iter().any(|finding| finding.name == found.finding.name);
            if !holds {
                found.until = Some(at);
                turns.push(Turn { found: found.clone(), at });
            }
        }
        for finding in now {
            let name = finding.name;
            match self.kinds.iter_mut().find(|found| found.finding.name == name) {
                Some(found) if found.until.is_none() => {
                    let since = found.finding.since.min(finding.since);
                    found.finding = Finding { since, ..finding };
                }
                Some(found) => {
                    *found = Found { finding, times: found.times + 1, until: None };
                    turns.push(Turn { found: found.clone(), at });
                }
                None => {
                    let found = Found { finding, times: 1, until: None };
                    turns.push(Turn { found: found.clone(), at });
                    self.kinds.push(found);
                }
            }
        }
        if ended {
            self.ended = true;
            for found in self.kinds.iter_mut().filter(|found| found.until.is_none()) {
                found.until = Some(at);
                turns.push(Turn { found: found.clone(), at });
            }
        }
        turns
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::findings::Confidence;

    fn finding(name: &'static str, since: u64) -> Finding {
        Finding {
            name,
            title: name,
            sentence: format!("since {since}"),
            evidence: Vec::new(),
            confidence: Confidence::Certain,
            cost: None,
            since,
            knobs: &[],
        }
    }

    fn names(turns: &[Turn]) -> Vec<(&'static str, bool)> {
        let turn = |turn: &Turn| (turn.found.finding.name, turn.found.until.is_none());
        turns.iter().map(turn).collect()
    }

    #[test]
    fn findings_begin_end_and_begin_again() {
        let mut log = Findings::default();
        assert_eq!(names(&log.take(10, vec![finding("a", 10)], false)), [("a", true)]);
        assert_eq!(log.take(20, vec![finding("a", 20)], false), []);
        let a = |log: &Findings| log.kinds[0].clone();
        assert_eq!((a(&log).finding.since, a(&log).finding.sentence.as_str()), (10, "since 20"));
        let turns = log.take(30, vec![finding("b", 30)], false);
        assert_eq!(names(&turns), [("a", false), ("b", true)]);
        assert_eq!((a(&log).until, a(&log).finding.sentence.as_str()), (Some(30), "since 20"));
        let turns = log.take(40, vec![finding("a", 40)], false);
        assert_eq!(names(&turns), [("b", false), ("a", true)]);
        assert_eq!((a(&log).until, a(&log).times, a(&log).finding.since), (None, 2, 40));
        assert_eq!(log.holding().map(|finding| finding.name).collect::<Vec<_>>(), ["a"]);
    }

    /// What a short-lived VM has at its end is a finding, and ends with it.
    #[test]
    fn findings_end_with_their_vm() {
        let mut log = Findings::default();
        assert_eq!(names(&log.take(10, vec![finding("a", 5)], true)), [("a", true), ("a", false)]);
        assert!(log.has_ended());
        assert_eq!(log.holding().count(), 0);
        assert_eq!(log.kinds[0].until, Some(10));
    }
}
