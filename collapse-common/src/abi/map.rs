//! Names of the maps in the eBPF object.

macro_rules! maps {
    ($($(#[$doc:meta])* $name:ident,)*) => {
        $($(#[$doc])* pub const $name: &str = stringify!($name);)*

        /// Every map.
        pub const ALL: &[&str] = &[$($name,)*];
    };
}

maps! {
    /// [`super::Cpu`] by CPU.
    CPUS,
    /// [`super::Row`] by CPU and row.
    ROWS,
    /// [`crate::latency::Latencies`] by row.
    LATENCIES,
    /// [`super::RowOwner`] by row.
    ROW_OWNERS,
    /// Queue of the rows that are not in use.
    FREE_ROWS,
    /// [`super::Vm`] by `struct kvm` address.
    VMS,
    /// [`super::Thread`] by place.
    THREADS,
    /// Place in [`THREADS`] by `bpf_get_current_pid_tgid`.
    THREAD_INDEX,
    /// Queue of the places in [`THREADS`] that are not in use.
    FREE_THREADS,
    /// Place in [`THREADS`] of the thread that ran a vCPU last, by `struct kvm_vcpu` address.
    VCPUS,
    /// [`super::Function`] by [`super::Function::key`].
    FUNCTIONS,
    /// Ring buffer of records, see [`super::RECORD_BLOCK`] and those after it.
    RING,
    /// Kernel stacks by number, see [`super::Stacked::stack`].
    STACKS,
    /// Kernel stacks that found their place in [`STACKS`] taken, by number. Twice as large: two stacks whose
    /// hashes lead to one place there hardly do so here.
    MORE_STACKS,
    /// One [`super::VmGauges`]: the answer to [`super::request::Walk`].
    GAUGES,
    /// One [`super::Peeked`]: the answer to [`super::request::Peek`].
    PEEKED,
    /// One [`super::PendingFaults`]: the answer to [`super::request::ReadPending`].
    PENDING_FAULTS,
}
