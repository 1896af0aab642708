//! Small KVM guests that access memory exactly as ordered, and KVM's own counts of the effects.
//!
//! A [`vm::GuestVm`] has slots of host memory ([`memory`]) and vCPUs that carry out orders
//! ([`vcpu`]) with a few instructions of guest code ([`code`]). A [`gauges::IntervalStart`] starts an
//! interval over which KVM's counts are compared.

pub mod clock;
pub mod code;
mod file;
pub mod gauges;
mod kind;
pub mod memory;
mod ring;
pub mod stop;
pub mod units;
mod userfaultfd;
pub mod vcpu;
pub mod vm;

pub use kind::{Access, Advice, Backing, LogProtect, Protection};
pub use kvm_ioctls::Kvm;
