//! Both ends of the run-length records: how the kernel side extends and closes runs, and how user
//! space takes each recorded change exactly once, from full blocks and from open ones.

use core::sync::atomic::{Ordering, compiler_fence};

use crate::{
    abi::{BLOCK_RUNS, Block, RECORD_BLOCK, Run, RunKey, RunList},
    counter::transition_at,
    spte::frames,
};

impl RunList {
    /// Records one change: extends the open run if it goes on with the next guest frame, else
    /// closes it and opens another. `now` is asked once per run, `send` gets each full block.
    ///
    /// A time stamp and a ring-buffer record per change would each cost as much as all the rest of
    /// the program (79 and 171 instructions); here both are paid once per run and once per block.
    #[inline(always)]
    pub fn record(
        &mut self,
        key: RunKey,
        tid: u32,
        gfn: u64,
        step: u64,
        now: impl FnOnce() -> u64,
        send: impl FnOnce(&mut Self),
    ) {
        // A key is never 0, and so equals that of no run.
        if self.open.key == key && self.next_gfn == gfn && self.open.tid == tid {
            self.open.count += 1;
            self.next_gfn = gfn + step;
            return;
        }
        self.begun += 1;
        compiler_fence(Ordering::SeqCst);
        if self.open.count != 0 {
            let len = self.len as usize & (BLOCK_RUNS - 1);
            self.block.runs[len] = self.open;
            if len + 1 < BLOCK_RUNS {
                self.len = len as u32 + 1;
            } else {
                self.block.record = RECORD_BLOCK;
                send(self);
                self.len = 0;
                self.block.number += 1;
            }
        }
        self.open = Run { ts: now(), gfn, key, tid, count: 1 };
        self.next_gfn = gfn + step;
        compiler_fence(Ordering::SeqCst);
        self.ended += 1;
    }

    /// Whether this copy was taken while the run list was being changed.
    pub fn is_torn(&self) -> bool {
        self.begun != self.ended
    }
}

/// User space's place in one run list.
#[derive(Clone, Copy, Debug, Default)]
pub struct Cursor {
    /// Block being read.
    number: u64,
    /// Run of that block being read.
    run: usize,
    /// Changes of that run already taken.
    taken: u32,
    /// Changes of that block already taken.
    taken_of_block: u64,
    /// When the last open block was read, ns: what a run gained since is younger.
    read_at: u64,
    salvaged: u64,
}

impl Cursor {
    /// Takes what is new in a full block.
    pub fn block(&mut self, block: &Block, mut take: impl FnMut(Run)) {
        self.advance_to(block.number);
        for run in &block.runs[self.run.min(BLOCK_RUNS)..] {
            self.rest(run, &mut take);
            self.taken = 0;
        }
        self.taken_of_block = 0;
        self.advance_to(block.number + 1);
    }

    /// Takes what is new in a copy of a run list made at `at` ns, which must not be torn. Blocks
    /// that left that CPU before the copy was made must have been taken before.
    pub fn open(&mut self, list: &RunList, at: u64, mut take: impl FnMut(Run)) {
        if list.block.number < self.number {
            // The block was filled, sent and taken since the copy was made.
            return;
        }
        self.advance_to(list.block.number);
        let len = (list.len as usize).min(BLOCK_RUNS);
        for run in &list.block.runs[self.run.min(len)..len] {
            self.rest(run, &mut take);
            self.run += 1;
            self.taken = 0;
        }
        self.rest(&list.open, &mut take);
        self.taken = list.open.count;
        self.read_at = at;
    }

    /// Returns the number of changes that were taken while their block was open, and whose block was then
    /// lost: the kernel side counts them as lost with the block, wrongly.
    pub fn salvaged(&self) -> u64 {
        self.salvaged
    }

    /// Leaves blocks before `number` behind. Those never read were lost in a full ring.
    fn advance_to(&mut self, number: u64) {
        if number != self.number {
            let salvaged = self.salvaged + self.taken_of_block;
            *self = Self { number, read_at: self.read_at, salvaged, ..Self::default() };
        }
    }

    fn rest(&mut self, run: &Run, take: &mut impl FnMut(Run)) {
        if run.count <= self.taken {
            return;
        }
        let count = run.count - self.taken;
        self.taken_of_block += u64::from(count);
        let step = transition_at(run.key.counter()).map_or(1, |(_, level)| frames(level));
        let ts = if self.taken == 0 { run.ts } else { run.ts.max(self.read_at) };
        take(Run { ts, gfn: run.gfn + u64::from(self.taken) * step, count, ..*run });
    }
}

#[cfg(test)]
mod tests {
    extern crate std;
    use std::{vec, vec::Vec};

    use proptest::prelude::*;

    use super::*;
    use crate::{Transition, counter::index};

    const EMPTY: RunList = RunList {
        ended: 0,
        open: Run { ts: 0, gfn: 0, key: RunKey::new(0, 0, 0, false, 0), tid: 0, count: 0 },
        next_gfn: 0,
        len: 0,
        pad: 0,
        block: Block {
            record: 0,
            list: 0,
            number: 0,
            runs: [Run { ts: 0, gfn: 0, key: RunKey::new(0, 0, 0, false, 0), tid: 0, count: 0 };
                BLOCK_RUNS],
        },
        begun: 0,
    };

    /// What happens on a CPU: changes of `count` consecutive frames from `gfn`, or user space reads.
    #[derive(Clone, Debug)]
    enum Step {
        Changes {
            gfn: u64,
            tid: u32,
            row: u32,
            count: u64,
        },
        /// `late` changes happen between the copy of the state and the reading of the ring.
        Read {
            drop_blocks: bool,
            late: u64,
        },
    }

    fn steps() -> impl Strategy<Value = Vec<Step>> {
        let changes = (0..4u64, 0..2u32, 1..3u32, 1..600u64)
            .prop_map(|(gfn, tid, row, count)| Step::Changes { gfn, tid, row, count });
        let scattered =
            (0..1000u64).prop_map(|gfn| Step::Changes { gfn: gfn * 7, tid: 1, row: 1, count: 1 });
        let read = (any::<bool>(), 0..70u64)
            .prop_map(|(drop_blocks, late)| Step::Read { drop_blocks, late });
        prop::collection::vec(prop_oneof![2 => changes, 8 => scattered, 1 => read], 1..300)
    }

    fn expand(run: Run, into: &mut Vec<(u32, u32, u64)>) {
        for i in 0..u64::from(run.count) {
            into.push((run.key.row(), run.tid, run.gfn + i));
        }
    }

    proptest! {
        /// Every change is delivered once and in order, or is in a block that was dropped.
        #[test]
        fn each_change_is_taken_once(steps in steps(), may_drop: bool) {
            let mut cpu = EMPTY;
            let mut cursor = Cursor::default();
            let mut ring = vec![];
            let (mut produced, mut taken, mut lost) = (vec![], vec![], 0u64);
            let mut clock = 0;
            for step in steps.into_iter().chain([Step::Read { drop_blocks: false, late: 0 }]) {
                match step {
                    Step::Changes { gfn, tid, row, count } => for gfn in gfn..gfn + count {
                        clock += 1;
                        produced.push((row, tid, gfn));
                        let key = RunKey::new(row, index(Transition::Zap, 1), 0, false, 0);
                        cpu.record(key, tid, gfn, 1, || clock, |cpu| ring.push(cpu.block));
                    },
                    Step::Read { drop_blocks, late } => {
                        let copy = cpu;
                        prop_assert!(!copy.is_torn());
                        for gfn in 0..late {
                            clock += 1;
                            produced.push((3, 3, gfn * 3));
                            let key = RunKey::new(3, index(Transition::Zap, 1), 0, false, 0);
                            cpu.record(key, 3, gfn * 3, 1, || clock, |cpu| ring.push(cpu.block));
                        }
                        for block in ring.drain(..) {
                            if may_drop && drop_blocks {
                                lost += block.runs.iter().map(|r| u64::from(r.count)).sum::<u64>();
                            } else {
                                cursor.block(&block, |run| expand(run, &mut taken));
                            }
                        }
                        cursor.open(&copy, clock, |run| expand(run, &mut taken));
                    }
                }
            }
            prop_assert_eq!(taken.len() as u64 + lost - cursor.salvaged(), produced.len() as u64);
            if lost == 0 {
                prop_assert_eq!(taken, produced);
            }
        }
    }
}
