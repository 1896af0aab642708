//! Inspection of the running kernel: its types, symbols, tracepoints and settings.
//!
//! Nothing is decided here. [`inspect::Inspected`] is a plain value that the hook plan is computed
//! from, and that can be recorded and replayed.

pub mod btf;
pub mod inspect;
pub mod instance;

pub use btf::ParamType;
pub use inspect::{
    Capability, Fact, Field, Inspected, Kvm, Lockdown, ModuleState, Privileges, Symbol, Tracepoint,
    Unknown, Vendor, WantedFacts,
};
pub use instance::Instance;

pub use collapse_feed::Machine;
