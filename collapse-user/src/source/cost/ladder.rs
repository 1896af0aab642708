//! When to see less in order to cost less. Pure: it decides by nothing but the costs it is given.

use collapse_feed::DetailStep;

/// Windows in a row over the budget before less is seen.
const OVER: u32 = 2;

/// Share of the budget at which more may be seen again: one step costs at most as much again.
const CALM: f64 = 0.5;

/// Calm windows in a row before more is seen again, at first and at most. The number doubles each time
/// that it proves too small.
const PATIENCE: (u32, u32) = (3, 96);

/// Steps down while the cost is over the budget, and up again when there is room.
#[derive(Clone, Debug)]
pub struct Ladder {
    /// Percent of one core; `None` for no limit.
    budget: Option<f64>,
    step: DetailStep,
    over: u32,
    calm: u32,
    patience: u32,
    /// Whether the last step was up.
    tried: bool,
}

impl Ladder {
    /// Starts at full detail.
    pub fn new(budget: Option<f64>) -> Self {
        Self {
            budget,
            step: DetailStep::Full,
            over: 0,
            calm: 0,
            patience: PATIENCE.0,
            tried: false,
        }
    }

    /// Takes the cost of a window, in percent of one core, and returns how much to see from now on.
    pub fn window(&mut self, percent: f64) -> DetailStep {
        let Some(budget) = self.budget else { return self.step };
        if percent > budget {
            self.calm = 0;
            self.over += 1;
            if self.over == OVER {
                self.over = 0;
                if self.tried {
                    self.patience = (self.patience * 2).min(PATIENCE.1);
                }
                self.tried = false;
                self.step = self.step.less();
            }
            return self.step;
        }
        self.over = 0;
        self.calm = if percent <= budget * CALM { self.calm + 1 } else { 0 };
        if self.calm >= self.patience && self.step != DetailStep::Full {
            self.calm = 0;
            self.tried = true;
            self.step = self.step.more();
        } else if self.calm >= 2 * self.patience {
            // Full detail has room to spare for long.
            self.patience = PATIENCE.0;
        }
        self.step
    }
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    const BUDGET: f64 = 4.0;

    /// The cost on a step of a load that costs `load` in full, where each step halves it.
    fn cost(load: f64, step: DetailStep) -> f64 {
        load / f64::from(1 << step as u32)
    }

    /// Steps taken under a load, and the last.
    fn run(ladder: &mut Ladder, load: f64, windows: u32) -> (u32, DetailStep) {
        let (mut changes, mut step) = (0, ladder.step);
        for _ in 0..windows {
            let next = ladder.window(cost(load, step));
            changes += u32::from(next != step);
            step = next;
        }
        (changes, step)
    }

    #[test]
    fn a_budget_that_nothing_keeps_to_leaves_the_counters() {
        let mut ladder = Ladder::new(Some(BUDGET));
        assert_eq!(run(&mut ladder, 1000.0, 1), (0, DetailStep::Full));
        assert_eq!(run(&mut ladder, 1000.0, 1), (1, DetailStep::NoLatency));
        assert_eq!(run(&mut ladder, 1000.0, 4), (2, DetailStep::CountersOnly));
        assert_eq!(run(&mut ladder, 1000.0, 100), (0, DetailStep::CountersOnly));
    }

    #[test]
    fn a_load_that_is_too_much_in_full_is_tried_less_and_less_often() {
        let mut ladder = Ladder::new(Some(BUDGET));
        // Half of it is below the budget by more than a half.
        let (changes, _) = run(&mut ladder, 4.01, 100);
        let (later, _) = run(&mut ladder, 4.01, 100);
        assert!((1..=20).contains(&changes), "{changes}");
        assert!(later <= changes, "{later} after {changes}");
    }

    proptest! {
        #[test]
        fn without_a_budget_nothing_is_left_out(costs in prop::collection::vec(0.0..1e9, 0..50)) {
            let mut ladder = Ladder::new(None);
            for percent in costs {
                prop_assert_eq!(ladder.window(percent), DetailStep::Full);
            }
        }

        /// One step at a time, down only after two windows over the budget, up only after three that
        /// are calm.
        #[test]
        fn steps_have_reasons(costs in prop::collection::vec(0.0..8.0, 0..200)) {
            let mut ladder = Ladder::new(Some(BUDGET));
            let mut step = DetailStep::Full;
            for at in 0..costs.len() {
                let next = ladder.window(costs[at]);
                let last = |n: usize, all: &dyn Fn(&f64) -> bool| {
                    at + 1 >= n && costs[at + 1 - n..=at].iter().all(all)
                };
                if next > step {
                    prop_assert_eq!(next, step.less());
                    prop_assert!(last(2, &|percent| *percent > BUDGET));
                }
                if next < step {
                    prop_assert_eq!(next, step.more());
                    prop_assert!(last(3, &|percent| *percent <= BUDGET * CALM));
                }
                step = next;
            }
        }

        /// Whatever happened before, rest brings everything back.
        #[test]
        fn it_comes_back(costs in prop::collection::vec(0.0..8.0, 0..200)) {
            let mut ladder = Ladder::new(Some(BUDGET));
            for percent in costs {
                ladder.window(percent);
            }
            let (_, step) = run(&mut ladder, 0.0, 3 * PATIENCE.1);
            prop_assert_eq!(step, DetailStep::Full);
        }

        /// A load that some step keeps within the budget ends at one that does.
        #[test]
        fn the_budget_is_kept(load in 0.0..(8.0 * BUDGET)) {
            let mut ladder = Ladder::new(Some(BUDGET));
            run(&mut ladder, load, 20);
            let mut over = 0;
            for _ in 0..1000 {
                let percent = cost(load, ladder.step);
                over += u32::from(percent > BUDGET);
                ladder.window(percent);
            }
            prop_assert!(over <= 2 * 1000 / PATIENCE.1 + 16, "{over}");
        }
    }
}
