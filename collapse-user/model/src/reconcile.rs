//! Whether counts and KVM's own gauges agree, reading by reading.

/// KVM's gauges minus what the changes counted so far add up to, by size. Whatever it is at first,
/// it must stay so.
pub type Offset = [i64; 3];

/// How well counts and gauges agree.
#[derive(
    Clone,
    Copy,
    Debug,
    Default,
    PartialEq,
    Eq,
    serde::Serialize,
    serde::Deserialize,
    schemars::JsonSchema,
)]
#[serde(rename_all = "snake_case")]
pub enum Grade {
    /// To the last SPTE.
    Exact,
    /// They do not, but SPTEs were changing while they were read: not to be judged.
    Moving,
    /// They do not, although nothing changed while they were read: changes were missed or misread.
    Off,
    /// There are no gauges to compare with.
    #[default]
    Unknown,
}

/// Readings in a row after which a difference is no change on its way: half a second or so. In virtual machines, whose
/// CPUs are stopped anywhere, two in a row occur where SPTEs change all the time.
const CONFIRMED: u32 = 5;

/// The comparisons of one VM's counts and gauges.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Reconciliation {
    /// The first reading, and whether nothing changed during it.
    start: Option<(Offset, bool)>,
    /// The last reading during which nothing changed.
    settled: Option<Offset>,
    /// Later readings that disagreed with it, all alike, and how many. KVM moves its gauges some time before or
    /// after it reports the change, and a CPU may stand still between the two: only what [`CONFIRMED`] of them
    /// agree on is wrong.
    suspect: Option<(Offset, u32)>,
    /// Whether the last reading agreed with the first, and whether nothing changed during it.
    last: Option<(bool, bool)>,
    /// Intervals between two readings during which nothing changed.
    pub intervals: u64,
    /// Of `intervals`: counts and gauges moved alike, to the last SPTE.
    pub exact: u64,
    /// Of `intervals`: they did not.
    pub off: u64,
}

impl Reconciliation {
    /// Takes a reading. `settled` says that nothing changed while it was taken, `last` that nothing
    /// can have been on its way either.
    pub fn read(&mut self, offset: Offset, settled: bool, last: bool) {
        let (start, _) = *self.start.get_or_insert((offset, settled));
        let before = self.suspect.filter(|(suspect, _)| *suspect == offset);
        let readings = before.map_or(0, |(_, readings)| readings) + 1;
        let sure = last || readings >= CONFIRMED;
        self.last = Some((offset == start, settled && sure));
        if !settled {
            return;
        }
        match self.settled {
            Some(before) if before == offset => self.exact += 1,
            Some(_) if sure => self.off += 1,
            Some(_) => {
                self.suspect = Some((offset, readings));
                return;
            }
            None => {}
        }
        self.intervals = self.exact + self.off;
        self.suspect = None;
        self.settled = Some(offset);
    }

    /// The grade of the whole time. An interval that was off is not made good by a later one.
    pub fn grade(&self) -> Grade {
        match (self.start, self.last) {
            (Some(_), Some(_)) if self.off > 0 => Grade::Off,
            (Some(_), Some((true, _))) => Grade::Exact,
            (Some((_, true)), Some((false, true))) => Grade::Off,
            (Some(_), Some(_)) => Grade::Moving,
            _ => Grade::Unknown,
        }
    }
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    fn read(readings: &[(i64, bool)]) -> Reconciliation {
        let mut reconciliation = Reconciliation::default();
        for (small, settled) in readings {
            reconciliation.read([*small, 0, 0], *settled, false);
        }
        reconciliation
    }

    /// An offset at as many readings as it takes.
    fn confirmed(small: i64) -> Vec<(i64, bool)> {
        vec![(small, true); CONFIRMED as usize]
    }

    #[test]
    fn grades() {
        let grade = |readings: &[(i64, bool)]| read(readings).grade();
        assert_eq!(grade(&[]), Grade::Unknown);
        assert_eq!(grade(&[(5, true), (5, true)]), Grade::Exact);
        assert_eq!(grade(&[(5, true), (6, true)]), Grade::Moving);
        assert_eq!(grade(&[(5, true), (6, true), (6, true)]), Grade::Moving);
        assert_eq!(grade(&[vec![(5, true)], confirmed(6)].concat()), Grade::Off);
        assert_eq!(grade(&[(5, true), (6, false)]), Grade::Moving);
        assert_eq!(grade(&[(5, true), (6, false), (5, true)]), Grade::Exact);
    }

    #[test]
    fn a_change_on_its_way_is_no_miss() {
        let late = read(&[(0, true), (1, true), (0, true)]);
        assert_eq!((late.grade(), late.off, late.exact), (Grade::Exact, 0, 1));
        let again = read(&[(0, true), (1, true), (1, true), (0, true)]);
        assert_eq!((again.grade(), again.off, again.exact), (Grade::Exact, 0, 1));
    }

    #[test]
    fn an_interval_that_was_off_stays_so() {
        let twice = read(&[vec![(0, true)], confirmed(1), confirmed(0), vec![(0, true)]].concat());
        assert_eq!((twice.grade(), twice.off, twice.exact), (Grade::Off, 2, 1));
    }

    #[test]
    fn the_last_reading_is_final() {
        let mut ended = read(&[(0, true)]);
        ended.read([1, 0, 0], true, true);
        assert_eq!((ended.grade(), ended.off), (Grade::Off, 1));
    }

    proptest! {
        #[test]
        fn intervals_add_up(readings in prop::collection::vec((0i64..3, any::<bool>()), 0..20)) {
            let all = read(&readings);
            let settled = readings.iter().filter(|(_, settled)| *settled).count() as u64;
            prop_assert_eq!(all.intervals, all.exact + all.off);
            prop_assert!(all.intervals <= settled.saturating_sub(1));
            prop_assert_eq!(all.grade() == Grade::Unknown, readings.is_empty());
        }
    }
}
