//! Regions by what became of them, in numbers.

/// Regions that lost their huge leaf, by what became of them.
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
pub struct RegionCounts {
    /// Times a region lost its huge leaf, to a split or a zap.
    pub lost: u64,
    /// Times a region got it back.
    pub recovered: u64,
    /// Of `recovered`: by a fault that installed a huge leaf where nothing was mapped.
    pub recovered_by_refault: u64,
    /// Of `recovered`: in place, by the collapse routine or at a fault, without a zap of the table.
    pub recovered_in_place: u64,
    /// Of `recovered_in_place`: at a guest fault.
    pub recovered_by_promotion: u64,
    /// Of `recovered_in_place`: came back write-protected.
    pub recovered_read_only: u64,
    /// Regions whose VM or memslot went away while they were outstanding.
    pub gone: u64,
    /// Of `gone`: mapped small again by then.
    pub gone_refaulted_small: u64,
    /// Regions that have not got it back.
    pub outstanding: u64,
    /// Of `outstanding`: mapped small again since.
    pub refaulted_small: u64,
    /// Of `outstanding`: not touched since.
    pub untouched: u64,
    /// Of `untouched`: still mapped by the page table of the split.
    pub still_split: u64,
}

/// How an outstanding region is mapped.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Mapping {
    /// By the page table that its split made.
    StillSplit,
    /// Not at all.
    None,
    /// By small leaves installed since the loss or the zap after it: KVM did not give it the huge one.
    Small,
}

/// How a region got its huge leaf back.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Recovery {
    /// A fault installed it where nothing was mapped.
    Refault,
    /// In place, outside guest faults: the collapse routine of 6.13 and later.
    InPlace,
    /// In place of a page table, at a guest fault.
    Promotion,
}

/// One step in the life of one region.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Step {
    /// The region lost its huge leaf.
    Lost(Mapping),
    /// The region is mapped differently than before.
    Remapped(Mapping, Mapping),
    /// The region got its huge leaf back, having been mapped like this.
    Recovered {
        /// How it was mapped.
        from: Mapping,
        /// How it got it.
        how: Recovery,
        /// Whether it came back write-protected.
        read_only: bool,
    },
    /// The VM or slot went away while the region was mapped like this.
    Gone(Mapping),
}

impl RegionCounts {
    /// Takes a step.
    pub fn step(&mut self, step: Step) {
        match step {
            Step::Lost(mapping) => {
                self.lost += 1;
                self.outstanding(mapping, 1);
            }
            Step::Remapped(from, to) => {
                self.outstanding(from, -1);
                self.outstanding(to, 1);
            }
            Step::Recovered { from, how, read_only } => {
                self.outstanding(from, -1);
                self.recovered += 1;
                self.recovered_read_only += u64::from(read_only);
                self.recovered_by_refault += u64::from(how == Recovery::Refault);
                self.recovered_in_place += u64::from(how != Recovery::Refault);
                self.recovered_by_promotion += u64::from(how == Recovery::Promotion);
            }
            Step::Gone(from) => {
                self.outstanding(from, -1);
                self.gone += 1;
                self.gone_refaulted_small += u64::from(from == Mapping::Small);
            }
        }
    }

    fn outstanding(&mut self, mapping: Mapping, by: i64) {
        let add = |n: &mut u64| *n = n.saturating_add_signed(by);
        add(&mut self.outstanding);
        add(if mapping == Mapping::Small {
            &mut self.refaulted_small
        } else {
            &mut self.untouched
        });
        if mapping == Mapping::StillSplit {
            add(&mut self.still_split);
        }
    }
}
