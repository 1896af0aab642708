//! Requests of user space to the kernel side: programs that are never attached, and that user space
//! runs itself (`BPF_PROG_TEST_RUN`). User space encodes a request as the arguments of its program,
//! which decodes them.

use crate::spte::frames;

/// Number of arguments that every request is encoded in.
pub const ARGS: usize = 4;

/// A request.
pub trait Request: Sized {
    /// Name of the program in the eBPF object.
    const PROGRAM: &'static str;

    /// Encodes the request.
    fn encode(&self) -> [u64; ARGS];

    /// Decodes what [`Self::encode`] made.
    fn decode(args: [u64; ARGS]) -> Self;
}

/// Gives something back whose owner is gone, for others to take.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum GiveBack {
    /// A row, after its counters were cleared.
    Row(u32),
    /// The place of a thread that has ended, by its `bpf_get_current_pid_tgid`.
    Thread(u64),
}

impl GiveBack {
    const ROW: u64 = 0;
    const THREAD: u64 = 1;
}

impl Request for GiveBack {
    const PROGRAM: &'static str = "give_back";

    fn encode(&self) -> [u64; ARGS] {
        match *self {
            Self::Row(row) => [Self::ROW, row.into(), 0, 0],
            Self::Thread(id) => [Self::THREAD, id, 0, 0],
        }
    }

    #[inline(always)]
    fn decode([kind, value, ..]: [u64; ARGS]) -> Self {
        if kind == Self::ROW { Self::Row(value as u32) } else { Self::Thread(value) }
    }
}

/// Sets how much is seen from now on. Totals of changes and faults are counted in any case.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct SetDetail {
    /// Whether no guest fault is timed.
    pub untimed: bool,
    /// Regions whose changes are not recorded.
    pub left_out: LeftOut,
}

impl Request for SetDetail {
    const PROGRAM: &'static str = "set_detail";

    fn encode(&self) -> [u64; ARGS] {
        [self.untimed.into(), self.left_out.bits(), 0, 0]
    }

    #[inline(always)]
    fn decode([untimed, left_out, ..]: [u64; ARGS]) -> Self {
        Self { untimed: untimed != 0, left_out: LeftOut::from_bits(left_out) }
    }
}

/// Regions of 2 MiB whose changes are counted but not recorded: those whose number (guest frame / 512)
/// has one of these bits. A hot program finds out with one `and`.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct LeftOut(u64);

impl LeftOut {
    /// No region number reaches this bit; it stands for every region.
    const EVERY: u64 = 1 << 63;

    /// No region.
    pub const NONE: Self = Self(0);
    /// All regions but one in 16: those whose number is a multiple of 16 are recorded.
    pub const ALL_BUT_ONE_IN_16: Self = Self(0xf);
    /// Every region.
    pub const ALL: Self = Self(Self::EVERY);

    /// Returns the regions in [`Self::bits`].
    #[inline(always)]
    pub const fn from_bits(bits: u64) -> Self {
        Self(bits)
    }

    /// Returns the regions as one word.
    #[inline(always)]
    pub const fn bits(self) -> u64 {
        self.0
    }

    /// Whether the region of a guest frame is left out.
    #[inline(always)]
    pub const fn contains(self, gfn: u64) -> bool {
        self.0 != 0 && ((gfn / frames(2)) | Self::EVERY) & self.0 != 0
    }
}

/// Reads the next VM of KVM's `vm_list` into [`super::map::GAUGES`]; at the end of the list the key of
/// [`super::VmGauges::vm`] is zero.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Walk {
    /// Address of the list node to go on from: `kvm.vm_list` of the VM found last, or [`Self::HEAD`].
    pub after: u64,
}

impl Walk {
    /// The head of the list, before the first VM.
    pub const HEAD: u64 = 0;
}

impl Request for Walk {
    const PROGRAM: &'static str = "walk";

    fn encode(&self) -> [u64; ARGS] {
        [self.after, 0, 0, 0]
    }

    #[inline(always)]
    fn decode([after, ..]: [u64; ARGS]) -> Self {
        Self { after }
    }
}

/// Reads into [`super::map::PENDING_FAULTS`] what KVM has counted of a thread's vCPU and no row has yet.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct ReadPending {
    /// Place of the thread in [`super::map::THREADS`].
    pub place: u32,
}

impl Request for ReadPending {
    const PROGRAM: &'static str = "pending_faults";

    fn encode(&self) -> [u64; ARGS] {
        [self.place.into(), 0, 0, 0]
    }

    #[inline(always)]
    fn decode([place, ..]: [u64; ARGS]) -> Self {
        Self { place: place as u32 }
    }
}

/// Reads kernel memory into [`super::map::PEEKED`], which says whether it could be read.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Peek {
    /// First address.
    pub address: u64,
    /// Bytes, [`Self::MOST`] at most.
    pub len: u32,
}

impl Peek {
    /// Most bytes of one request.
    pub const MOST: u32 = 8 * super::ANSWER as u32;
}

impl Request for Peek {
    const PROGRAM: &'static str = "peek";

    fn encode(&self) -> [u64; ARGS] {
        [self.address, self.len.into(), 0, 0]
    }

    #[inline(always)]
    fn decode([address, len, ..]: [u64; ARGS]) -> Self {
        Self { address, len: len as u32 }
    }
}

/// Tells the kernel side how much of a VM that existed before is under dirty logging.
/// [`super::map::PEEKED`] says whether it took that: not if the VM is gone, or its memslots were updated since.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Adopt {
    /// Address of the `struct kvm`.
    pub kvm: u64,
    /// [`super::Vm::commits`] from before the memslots were read.
    pub commits: u32,
    /// Guest frames in slots with dirty logging.
    pub logged: u64,
    /// Guest frames in all slots.
    pub total: u64,
}

impl Request for Adopt {
    const PROGRAM: &'static str = "adopt";

    fn encode(&self) -> [u64; ARGS] {
        [self.kvm, self.commits.into(), self.logged, self.total]
    }

    #[inline(always)]
    fn decode([kvm, commits, logged, total]: [u64; ARGS]) -> Self {
        Self { kvm, commits: commits as u32, logged, total }
    }
}

#[cfg(test)]
mod tests {
    use core::fmt::Debug;

    use proptest::prelude::*;

    use super::*;

    fn survives<R: Request + PartialEq + Debug>(request: &R) {
        assert_eq!(R::decode(request.encode()), *request);
    }

    proptest! {
        #[test]
        fn requests_survive_the_crossing(word: u64, number: u32, flag: bool) {
            survives(&GiveBack::Row(number));
            survives(&GiveBack::Thread(word));
            survives(&SetDetail { untimed: flag, left_out: LeftOut::from_bits(word) });
            survives(&Walk { after: word });
            survives(&ReadPending { place: number });
            survives(&Peek { address: word, len: number });
            survives(&Adopt { kvm: word, commits: number, logged: word / 2, total: word / 3 });
        }

        /// Regions are left out as wholes, wherever guest memory is.
        #[test]
        fn regions_left_out(gfn in 0..1u64 << 52) {
            let region = gfn / 512;
            prop_assert!(!LeftOut::NONE.contains(gfn));
            prop_assert_eq!(LeftOut::ALL_BUT_ONE_IN_16.contains(gfn), !region.is_multiple_of(16));
            prop_assert!(LeftOut::ALL.contains(gfn));
        }
    }
}
