//! Layouts that cross the boundary between kernel and user space.
//!
//! All are `repr(C)` without implicit padding; sizes are checked at compile time.

use crate::{cause::CAUSES, counter::COUNTERS};

/// The counters of one (VM, cause) row on one CPU.
pub type Row = [u64; COUNTERS];

/// The row of changes whose VM and cause are both unknown, or that found no free row.
pub const UNKNOWN_ROW: u32 = 0;

/// Who a row belongs to. Written once by the kernel side when it takes the row.
#[repr(C)]
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct RowOwner {
    /// The VM.
    pub vm: VmKey,
    /// [`crate::Cause`] by number.
    pub cause: u32,
    /// Whether its changes are counted only. Written by user space.
    pub muted: u32,
}

/// A VM's identity: `struct kvm` addresses are reused, so the moment it was first seen is part of
/// it. All zero means no VM.
#[repr(C)]
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct VmKey {
    /// Address of the `struct kvm`.
    pub kvm: u64,
    /// `CLOCK_MONOTONIC` ns at which it was created or first seen.
    pub born: u64,
}

/// The kernel side's entry for a live VM.
#[repr(C)]
#[derive(Clone, Copy)]
pub struct Vm {
    /// Generation of the VM at this address.
    pub born: u64,
    /// Guest frames in slots seen to have dirty logging switched on and not off.
    pub logged: u64,
    /// Guest frames in all slots; 0 if not known.
    pub total: u64,
    /// Whether that makes the VM one under dirty logging, see [`is_wide`].
    pub logging: u32,
    /// 1 while a slot whose dirty logging went off is still being worked on.
    pub collapsing: u32,
    /// Row by cause; 0 where none is taken yet.
    pub rows: [u16; CAUSES],
}

/// Whether dirty logging of `logged` guest frames out of `total` (0 if not known) concerns the VM as a
/// whole: a quarter or more. VMMs log the slot of an emulated display all the time.
#[inline(always)]
pub const fn is_wide(logged: u64, total: u64) -> bool {
    logged > 0 && logged >= total / 4
}

/// Consecutive changes of one kind by one thread: the guest frames
/// `gfn, gfn + step, …, gfn + (count - 1) * step`, where `step` is what one SPTE of the level covers.
#[repr(C)]
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Run {
    /// `CLOCK_MONOTONIC` ns of the first change.
    pub ts: u64,
    /// First guest frame.
    pub gfn: u64,
    /// What is the same for all of them.
    pub key: RunKey,
    /// Thread id (not thread group).
    pub tid: u32,
    /// Number of changes.
    pub count: u32,
}

/// What the changes of one run have in common, in one word so that the kernel side compares it at
/// once.
#[repr(transparent)]
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct RunKey(u64);

impl RunKey {
    /// Packs a key. `row` must be below 65536, `counter` below [`COUNTERS`], `as_id` 0 or 1 (SMM).
    /// `read_only` tells of an install that the guest may not write to it.
    ///
    /// `epoch` is the phase of the machine in which the run happens: it changes whenever a memslot
    /// changes or a collapse span begins or ends, so that a run never spans two phases.
    #[inline(always)]
    pub const fn new(row: u32, counter: usize, as_id: u32, read_only: bool, epoch: u32) -> Self {
        Self(
            row as u64
                | (counter as u64) << 16
                | (as_id as u64) << 24
                | (read_only as u64) << 31
                | (epoch as u64) << 32,
        )
    }

    /// The (VM, cause) row.
    pub const fn row(self) -> u32 {
        self.0 as u16 as u32
    }

    /// Position of the transition and level in a row, see [`crate::counter::transition_at`].
    pub const fn counter(self) -> usize {
        (self.0 >> 16) as u8 as usize
    }

    /// Address space: 1 is SMM.
    pub const fn as_id(self) -> u32 {
        (self.0 >> 24) as u32 & 0x7f
    }

    /// Whether what was installed may not be written to.
    pub const fn is_read_only(self) -> bool {
        self.0 >> 31 & 1 != 0
    }

    /// Phase of the machine.
    pub const fn epoch(self) -> u32 {
        (self.0 >> 32) as u32
    }
}

/// Runs in a full block.
pub const BLOCK_RUNS: usize = 32;

/// Closed runs on their way to user space: one ring-buffer record.
#[repr(C)]
#[derive(Clone, Copy)]
pub struct Block {
    /// [`RECORD_BLOCK`].
    pub record: u32,
    /// Its run list: CPU times [`WRITERS`] plus [`Writer`].
    pub list: u32,
    /// Blocks of this list before this one.
    pub number: u64,
    /// The runs, oldest first.
    pub runs: [Run; BLOCK_RUNS],
}

/// One change on its own, where each is wanted: one ring-buffer record.
#[repr(C)]
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Single {
    /// [`RECORD_SINGLE`].
    pub record: u32,
    /// Thread id (not thread group).
    pub tid: u32,
    /// `CLOCK_MONOTONIC` ns.
    pub ts: u64,
    /// First guest frame.
    pub gfn: u64,
    /// As of a run.
    pub key: RunKey,
    /// The SPTE before.
    pub old: u64,
    /// The SPTE after.
    pub new: u64,
}

/// One change on its own, with the stack that it happened in: one ring-buffer record.
#[repr(C)]
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Stacked {
    /// The change, whose first word is [`RECORD_STACKED`].
    pub single: Single,
    /// Number of the kernel's stack in the table of stacks; negative if it could not be taken.
    pub stack: i64,
}

/// Runs that one [`Writer`] closes on one CPU. Nobody else writes it; user space reads it under
/// `begun` and `ended`: a copy in which they differ was torn and is read again.
#[repr(C)]
#[derive(Clone, Copy)]
pub struct RunList {
    /// Changes of the list finished. First in memory, so that a reader copying upwards sees it before
    /// the data.
    pub ended: u64,
    /// The run being extended; `count` 0 if none.
    pub open: Run,
    /// The guest frame that would extend `open`.
    pub next_gfn: u64,
    /// Closed runs in `block`.
    pub len: u32,
    /// Padding.
    pub pad: u32,
    /// Closed runs.
    pub block: Block,
    /// Changes of the list begun. Last in memory, see `ended`.
    pub begun: u64,
}

/// Most CPUs that the kernel may have. Distribution kernels can have twice as many, x86-64 machines do
/// not.
pub const CPUS: usize = 4096;

/// Who records runs. Each has a list of its own on every CPU: from 7.x on a tracepoint's program can
/// be preempted, and others then run in the middle of it.
#[repr(u8)]
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Writer {
    /// Changes of the TDP MMU.
    Tdp = 0,
    /// The second look at them, see [`Watched`].
    TdpAgain = 1,
    /// Changes of the rmap and shadow MMU, by kprobes, which are never preempted.
    Rmap = 2,
    /// Installs in indirect shadow pages.
    Shadow = 3,
    /// The second look at them.
    ShadowAgain = 4,
}

/// Number of [`Writer`]s.
pub const WRITERS: usize = 5;

/// One CPU's working state. Only programs on that CPU write it.
#[repr(C)]
#[derive(Clone, Copy)]
pub struct Cpu {
    /// Position in the thread table of the thread that ran here last.
    pub place: u32,
    /// This CPU's number, set by user space.
    pub id: u32,
    /// Where this CPU's counters begin, set by user space.
    pub first_row: u32,
    /// The [`Writer`] that recorded last.
    pub writer: u32,
    /// By [`Watched`] tracepoint: events that the second program took because the first was skipped.
    pub again: [u64; WATCHED],
    /// What was lost on this CPU.
    pub loss: [u64; LOSSES],
    /// By [`Writer`].
    pub runs: [RunList; WRITERS],
}

/// Tracepoints that a second program watches where programs can be preempted, positions in
/// [`Cpu::again`].
#[repr(u8)]
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Watched {
    /// `kvm_tdp_mmu_spte_changed`
    SpteChanged = 0,
    /// `kvm_mmu_set_spte`
    SetSpte = 1,
}

/// Number of [`Watched`] tracepoints.
pub const WATCHED: usize = 2;

/// Ways to lose something in the kernel, positions in [`Cpu::loss`].
#[repr(u8)]
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Loss {
    /// SPTE changes counted, but whose record found the ring full.
    RecordedChanges = 0,
    /// Marks that found the ring full.
    Marks = 1,
    /// Changes and faults whose VM and cause are unknown because the row table was full.
    Rows = 2,
    /// Threads that found the thread table full.
    Threads = 3,
    /// VMs that found the VM table full.
    Vms = 4,
    /// Operations nested deeper than is kept.
    Depth = 5,
    /// Operations whose return was not seen (a kretprobe ran out of instances).
    Returns = 6,
    /// SPTE changes by a thread that is in no known operation of any VM.
    Context = 7,
    /// SPTE changes counted but not recorded, to keep to the budget.
    LeftOut = 8,
}

/// Places in [`Cpu::loss`].
pub const LOSSES: usize = 9;

impl Loss {
    /// Every way, by position.
    pub const ALL: [Self; LOSSES] = [
        Self::RecordedChanges,
        Self::Marks,
        Self::Rows,
        Self::Threads,
        Self::Vms,
        Self::Depth,
        Self::Returns,
        Self::Context,
        Self::LeftOut,
    ];

    /// Its key in JSON and metrics.
    pub const fn name(self) -> &'static str {
        match self {
            Self::RecordedChanges => "ring_full_changes",
            Self::Marks => "ring_full_marks",
            Self::Rows => "row_table_full",
            Self::Threads => "thread_table_full",
            Self::Vms => "vm_table_full",
            Self::Depth => "nesting_too_deep",
            Self::Returns => "return_not_seen",
            Self::Context => "context_unknown",
            Self::LeftOut => "left_out_for_budget",
        }
    }

    /// The flag that, set higher, avoids it, if there is one.
    pub const fn remedy(self) -> Option<&'static str> {
        match self {
            Self::RecordedChanges | Self::Marks => Some("--ring-size"),
            Self::Rows | Self::Threads | Self::Vms => Some("--max-vms"),
            Self::LeftOut => Some("--budget-overhead"),
            Self::Depth | Self::Returns | Self::Context => None,
        }
    }
}

/// Operations a thread can be nested in: their rows are packed in one word.
pub const DEPTH: u32 = 4;

/// What a thread is doing for KVM.
#[repr(C)]
#[derive(Clone, Copy)]
pub struct Thread {
    /// `bpf_get_current_pid_tgid`; 0 if the place is free.
    pub id: u64,
    /// Row that changes by this thread count in now.
    pub row: u32,
    /// Row outside any operation: the VM whose vCPU this thread last ran, cause guest fault.
    pub base: u32,
    /// VM generation counter at which `vcpu` was looked up.
    pub generation: u64,
    /// Rows to go back to as the operations end, 16 bits each, the innermost lowest. A word because
    /// the verifier cannot follow an index through the compiler's range analysis.
    pub stack: u64,
    /// The vCPU behind `base`; 0 if this thread never ran one.
    pub vcpu: u64,
    /// What KVM had counted of `vcpu` when that was last added to `base`.
    pub counted: VcpuFaults,
    /// What KVM had counted as [`VcpuFaults::fast`] when the fault that is timed began.
    pub fast_before: u64,
    /// Region and level of the huge leaf that this thread zapped last in the current guest fault,
    /// see [`zapped`]; 0 if none.
    pub zapped: u64,
    /// The SPTE of an indirect shadow page that this thread installed last, whose guest frame is yet
    /// to be told; 0 if none.
    pub installed: u64,
    /// When the guest fault that it handles began, `CLOCK_MONOTONIC` ns; 0 if none, or if it is not
    /// timed.
    pub fault_at: u64,
    /// What the fault came to so far, a [`crate::latency::Outcome`].
    pub outcome: u32,
    /// The CPU that has a hint of it.
    pub cpu: u32,
    /// [`crate::Cause`] of notifiers that this thread calls: what it does to host memory, if that is
    /// known. 0 if not.
    pub host_cause: u32,
    /// Operations it is in.
    pub depth: u32,
    /// The VM whose memslot it changes; 0 if none.
    pub slot_kvm: u64,
    /// Times it gave up `mmu_lock` in this span.
    pub yields: u64,
    /// By [`Watched`] tracepoint: events that the first program took.
    pub first: [u32; WATCHED],
    /// The same, as the second program last saw it.
    pub second: [u32; WATCHED],
    /// The collapse routine or teardown that this thread is in.
    pub span: Span,
}

/// What KVM counts of a vCPU itself, since its creation.
#[repr(C)]
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct VcpuFaults {
    /// `pf_taken`: guest faults, but for accesses to emulated devices.
    pub taken: u64,
    /// `pf_fast`: of them, those that the lockless fast path resolved, or found resolved.
    pub fast: u64,
}

impl VcpuFaults {
    /// What was counted since `earlier`: all of it if somebody cleared KVM's statistics meanwhile.
    #[inline(always)]
    #[must_use]
    pub const fn since(self, earlier: Self) -> Self {
        if self.taken < earlier.taken || self.fast < earlier.fast {
            return self;
        }
        Self { taken: self.taken - earlier.taken, fast: self.fast - earlier.fast }
    }
}

/// What KVM has counted of a vCPU and is in no row yet, read on request of user space.
#[repr(C)]
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct PendingFaults {
    /// The row that it belongs to; [`Self::NOBODY`] if the place is of no vCPU.
    pub row: u32,
    /// Padding.
    pub pad: u32,
    /// [`Thread::counted`].
    pub counted: VcpuFaults,
    /// What has been counted since.
    pub pending: VcpuFaults,
}

impl PendingFaults {
    /// No row.
    pub const NOBODY: u32 = u32::MAX;

    /// Nothing.
    pub const NONE: Self = Self {
        row: Self::NOBODY,
        pad: 0,
        counted: VcpuFaults { taken: 0, fast: 0 },
        pending: VcpuFaults { taken: 0, fast: 0 },
    };
}

/// Names a zapped huge leaf in [`Thread::zapped`]: never 0, as the level of a huge leaf is not.
#[inline(always)]
pub const fn zapped(level: u32, gfn: u64) -> u64 {
    (level as u64) << 56 | gfn
}

/// An operation that is reported when it ends, as it was when it began.
#[repr(C)]
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Span {
    /// The VM.
    pub vm: VmKey,
    /// The memslot worked on; zero if none.
    pub slot: Slot,
    /// `CLOCK_MONOTONIC` ns.
    pub start: u64,
    /// KVM's gauges.
    pub pages: Pages,
}

impl Span {
    /// No span.
    pub const NONE: Self =
        Self { vm: VmKey { kvm: 0, born: 0 }, slot: Slot::NONE, start: 0, pages: UNKNOWN_PAGES };
}

/// KVM's own `pages_4k`, `pages_2m`, `pages_1g` of one VM; [`UNKNOWN_PAGES`] where not to be had.
pub type Pages = [u64; 3];

/// Gauges that this kernel does not have.
pub const UNKNOWN_PAGES: Pages = [u64::MAX; 3];

/// The part of a `struct kvm_memory_slot` that matters here.
#[repr(C)]
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Slot {
    /// First guest frame.
    pub base_gfn: u64,
    /// Guest frames.
    pub npages: u64,
    /// Slot id.
    pub id: u16,
    /// Address space.
    pub as_id: u16,
    /// `KVM_MEM_*` flags.
    pub flags: u32,
}

impl Slot {
    /// No slot.
    pub const NONE: Self = Self { base_gfn: 0, npages: 0, id: 0, as_id: 0, flags: 0 };
}

/// `KVM_MEM_LOG_DIRTY_PAGES`.
pub const LOG_DIRTY_PAGES: u32 = 1;

/// A rare event with its own ring-buffer record.
#[repr(C)]
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Mark {
    /// [`RECORD_MARK`].
    pub record: u32,
    /// [`MarkKind`] by number.
    pub kind: u32,
    /// `CLOCK_MONOTONIC` ns.
    pub ts: u64,
    /// When what ended here began; equal to `ts` for a point in time.
    pub start: u64,
    /// The VM.
    pub vm: VmKey,
    /// `bpf_get_current_pid_tgid`.
    pub thread: u64,
    /// The thread's name: a process that ends soon leaves nothing else to name its VM by.
    pub comm: [u8; 16],
    /// The slot as it is now.
    pub slot: Slot,
    /// KVM's gauges at `start`.
    pub pages_before: Pages,
    /// KVM's gauges now.
    pub pages: Pages,
    /// Slot flags before; `u32::MAX` if the slot did not exist.
    pub old_flags: u32,
    /// `enum kvm_mr_change`: 0 create, 1 delete, 2 move, 3 flags only.
    pub change: u32,
    /// Times that what ended here gave up `mmu_lock`, as far as that is seen.
    pub yields: u32,
    /// Whether dirty logging concerns the VM as a whole from now on, see [`is_wide`].
    pub logging: u32,
}

/// What a [`Mark`] tells.
#[repr(u32)]
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum MarkKind {
    /// A VM was created (`kvm_arch_init_vm`); its thread is the creator.
    VmCreated = 1,
    /// A VM that existed before was seen for the first time.
    VmSeen = 2,
    /// A VM is about to be torn down (`kvm_destroy_vm`); its gauges are those before.
    VmDestroyed = 3,
    /// A memslot changed (`kvm_arch_commit_memory_region`).
    SlotChanged = 4,
    /// The collapse routine ended; `start` is when it began.
    CollapseSpan = 5,
    /// The last SPTE of a destroyed VM is gone (`kvm_arch_flush_shadow_all` returned).
    VmFlushed = 6,
    /// A VM's `struct kvm` is freed (`kvm_destroy_vm` returned): nothing more will count for it.
    VmFreed = 7,
}

impl MarkKind {
    /// The kind numbered `number`, if there is one.
    pub const fn from_number(number: u32) -> Option<Self> {
        Some(match number {
            1 => Self::VmCreated,
            2 => Self::VmSeen,
            3 => Self::VmDestroyed,
            4 => Self::SlotChanged,
            5 => Self::CollapseSpan,
            6 => Self::VmFlushed,
            7 => Self::VmFreed,
            _ => return None,
        })
    }
}

/// First word of a [`Block`] in the ring.
pub const RECORD_BLOCK: u32 = 1;
/// First word of a [`Mark`] in the ring.
pub const RECORD_MARK: u32 = 2;
/// First word of a [`Single`] in the ring.
pub const RECORD_SINGLE: u32 = 3;
/// First word of a [`Stacked`] in the ring.
pub const RECORD_STACKED: u32 = 4;

/// Facts about the running kernel, resolved by user space before load. An offset of
/// [`Kernel::UNKNOWN`] means that the field could not be found; what needs it is left out.
#[repr(C)]
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Kernel {
    /// SPTE bits.
    pub spte: crate::SpteLayout,
    /// `kvm_vcpu.kvm`.
    pub vcpu_kvm: u32,
    /// `kvm_vcpu.stat.pf_taken`, 5.19 and later.
    pub vcpu_taken: u32,
    /// `kvm_vcpu.stat.pf_fast`, 5.19 and later.
    pub vcpu_fast: u32,
    /// `kvm_vcpu.mutex`, whose first field is the owner.
    pub vcpu_mutex: u32,
    /// Padding.
    pub pad: u32,
    /// `kvm.mmu_notifier`.
    pub kvm_mmu_notifier: u32,
    /// `kvm.vm_list`.
    pub kvm_vm_list: u32,
    /// `kvm.userspace_pid`.
    pub kvm_userspace_pid: u32,
    /// `kvm.debugfs_dentry`.
    pub kvm_debugfs_dentry: u32,
    /// `dentry.d_name.name`.
    pub dentry_name: u32,
    /// `kvm.nr_memslot_pages`, 5.16 and later.
    pub kvm_nr_memslot_pages: u32,
    /// `kvm.stat.pages_4k`; the other two sizes follow it.
    pub kvm_pages: u32,
    /// `kvm_memory_slot.base_gfn`.
    pub slot_base_gfn: u32,
    /// `kvm_memory_slot.npages`.
    pub slot_npages: u32,
    /// `kvm_memory_slot.flags`.
    pub slot_flags: u32,
    /// `kvm_memory_slot.id`.
    pub slot_id: u32,
    /// `kvm_memory_slot.as_id`.
    pub slot_as_id: u32,
    /// `mmu_notifier_range.event`.
    pub range_event: u32,
    /// `task_struct.flags`.
    pub task_flags: u32,
    /// `page.private`.
    pub page_private: u32,
    /// `kvm_mmu_page.gfn`.
    pub sp_gfn: u32,
    /// `kvm_mmu_page.role`.
    pub sp_role: u32,
    /// `kvm_mmu_page.shadowed_translation`, or `kvm_mmu_page.gfns` on 5.10.
    pub sp_translation: u32,
    /// Bits of a translation below the guest frame number: 12, or 0 on 5.10.
    pub translation_shift: u32,
    /// `sizeof(struct page)`.
    pub page_size: u32,
    /// Position of `old` and `new` in the arguments of `kvm_arch_commit_memory_region`: (2, 3) on
    /// 5.10, (1, 2) from 6.1 on; `change` follows.
    pub commit_old_arg: u32,
    /// Value of `RET_PF_INVALID`.
    pub ret_pf_invalid: u32,
    /// Whether `mmu_spte_clear_track_bits` takes the VM as its first argument (6.1 and later).
    pub clear_takes_kvm: u32,
    /// Whether tracepoint programs can be preempted (7.x, where tracepoints are protected by SRCU).
    pub preemptible: u32,
    /// One in how many guest faults is timed, a power of two; 0 for none.
    pub time_faults: u32,
    /// Address of the `vm_list` variable, 0 if hidden.
    pub vm_list: u64,
    /// Address of the `page_offset_base` variable, 0 if hidden.
    pub page_offset_base: u64,
    /// Address of the `vmemmap_base` variable, 0 if hidden.
    pub vmemmap_base: u64,
}

impl Kernel {
    /// Offset of a field that this kernel does not have or does not describe.
    pub const UNKNOWN: u32 = u32::MAX;

    /// Nothing known.
    pub const NOTHING: Self = Self {
        spte: crate::SpteLayout::NPT,
        vcpu_kvm: Self::UNKNOWN,
        vcpu_taken: Self::UNKNOWN,
        vcpu_fast: Self::UNKNOWN,
        vcpu_mutex: Self::UNKNOWN,
        pad: 0,
        kvm_mmu_notifier: Self::UNKNOWN,
        kvm_vm_list: Self::UNKNOWN,
        kvm_userspace_pid: Self::UNKNOWN,
        kvm_debugfs_dentry: Self::UNKNOWN,
        dentry_name: Self::UNKNOWN,
        kvm_nr_memslot_pages: Self::UNKNOWN,
        kvm_pages: Self::UNKNOWN,
        slot_base_gfn: Self::UNKNOWN,
        slot_npages: Self::UNKNOWN,
        slot_flags: Self::UNKNOWN,
        slot_id: Self::UNKNOWN,
        slot_as_id: Self::UNKNOWN,
        range_event: Self::UNKNOWN,
        task_flags: Self::UNKNOWN,
        page_private: Self::UNKNOWN,
        sp_translation: Self::UNKNOWN,
        translation_shift: 12,
        page_size: Self::UNKNOWN,
        sp_gfn: Self::UNKNOWN,
        sp_role: Self::UNKNOWN,
        commit_old_arg: 1,
        ret_pf_invalid: 3,
        clear_takes_kvm: 1,
        preemptible: 0,
        time_faults: 0,
        vm_list: 0,
        page_offset_base: 0,
        vmemmap_base: 0,
    };
}

/// Longest name of a VM's debugfs directory, with its closing zero.
pub const DEBUGFS_NAME: usize = 24;

/// One VM as found in KVM's own list, filled on request of user space.
#[repr(C)]
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct VmGauges {
    /// The VM; zero at the end of the list.
    pub vm: VmKey,
    /// `CLOCK_MONOTONIC` ns of reading.
    pub ts: u64,
    /// KVM's gauges.
    pub pages: Pages,
    /// `kvm->userspace_pid`: the thread that created the VM.
    pub tid: u32,
    /// Padding.
    pub pad: u32,
    /// Name of its directory under `kvm/` in debugfs, zero-terminated; empty if there is none.
    pub debugfs: [u8; DEBUGFS_NAME],
}

macro_rules! layouts {
    ($($ty:ty = $size:literal,)*) => {
        $(const _: () = assert!(size_of::<$ty>() == $size);)*

        $(
            // SAFETY: `repr(C)` with integer fields only, and without padding, as the size check
            // above and the explicit padding fields show: any bytes are a valid value.
            #[cfg(feature = "user")]
            unsafe impl aya::Pod for $ty {}
        )*
    };
}

layouts! {
    RowOwner = 24,
    VmKey = 16,
    Vm = 96,
    Run = 32,
    Block = 1040,
    Single = 48,
    Stacked = 56,
    RunList = 1104,
    Cpu = 5624,
    Span = 72,
    VcpuFaults = 16,
    PendingFaults = 40,
    Thread = 208,
    Slot = 24,
    Mark = 152,
    Kernel = 176,
    crate::Selection = 20,
    VmGauges = 80,
}
