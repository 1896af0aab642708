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
    /// Times a region lost its huge leaf, to a split or a zap, while the guest could still use the memory.
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
    /// Regions that were taken away, with their memslot, by the VMM's munmap or with the VM, before they
    /// could come back: not touched since they were lost, or under dirty logging to the end.
    pub gone: u64,
    /// Regions that were taken away while they were mapped small, although KVM could have mapped them huge:
    /// not recovered.
    #[serde(rename = "gone_refaulted_small")]
    pub small_to_the_end: u64,
    /// Regions whose huge leaf went with their memslot, or with the memory under it that the VMM unmapped:
    /// no loss, and not in `lost`.
    #[serde(default)]
    pub taken_away: u64,
    /// Regions whose huge leaf went with the VM: no loss, and neither in `lost` nor in `taken_away`.
    #[serde(default)]
    pub taken_away_with_vm: u64,
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
        /// How long it took from when it could, ns.
        took: u64,
    },
    /// The region was taken away before it got its huge leaf back.
    Gone {
        /// How it is mapped at last.
        from: Mapping,
        /// Whether it was mapped small when it was taken away, although KVM could have mapped it huge.
        small: bool,
    },
    /// The region went with its memslot, or was unmapped by the VMM, huge as it was.
    TakenAway,
    /// The region went with the VM, huge as it was.
    TakenAwayWithVm,
}

/// How regions fared, for colours and headlines.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Standing {
    /// None was lost, or none could come back before it was taken away.
    Unaffected,
    /// All that could come back did. Others were not touched since, which is no failure.
    Good,
    /// None was touched since, or dirty logging keeps them small.
    Waiting,
    /// Some are mapped small, or were to the end, although KVM could have mapped them huge.
    Bad,
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
            Step::Recovered { from, how, read_only, took: _ } => {
                self.outstanding(from, -1);
                self.recovered += 1;
                self.recovered_read_only += u64::from(read_only);
                self.recovered_by_refault += u64::from(how == Recovery::Refault);
                self.recovered_in_place += u64::from(how != Recovery::Refault);
                self.recovered_by_promotion += u64::from(how == Recovery::Promotion);
            }
            Step::Gone { from, small } => {
                self.outstanding(from, -1);
                self.gone += u64::from(!small);
                self.small_to_the_end += u64::from(small);
            }
            Step::TakenAway => self.taken_away += 1,
            Step::TakenAwayWithVm => self.taken_away_with_vm += 1,
        }
    }

    /// Outstanding regions that are mapped, by small leaves.
    pub fn small_now(&self) -> u64 {
        self.refaulted_small + self.still_split
    }

    /// Outstanding regions that are not mapped: zapped, and not touched since.
    pub fn unmapped(&self) -> u64 {
        self.untouched - self.still_split
    }

    /// Regions that could have come back: lost, and not gone.
    pub fn could_return(&self) -> u64 {
        self.lost - self.gone
    }

    /// Regions that the guest touched again, or that stayed mapped: with how many of them KVM had the chance to
    /// map huge.
    pub fn touched(&self) -> u64 {
        self.recovered + self.refaulted_small + self.small_to_the_end
    }

    /// How they fared. `logging` says whether dirty logging is on, so that KVM has to map small.
    pub fn standing(&self, logging: bool) -> Standing {
        match self {
            _ if self.small_to_the_end > 0 => Standing::Bad,
            _ if self.small_now() > 0 && logging => Standing::Waiting,
            _ if self.small_now() > 0 => Standing::Bad,
            _ if self.recovered > 0 => Standing::Good,
            _ if self.untouched > 0 => Standing::Waiting,
            _ => Standing::Unaffected,
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
