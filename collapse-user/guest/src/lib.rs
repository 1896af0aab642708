//! Small KVM guests that access memory exactly as told, and what KVM's own figures say of it.
//!
//! A [`vm::Vm`] has slots of host memory ([`memory`]) and vCPUs that carry out orders ([`vcpu`])
//! with a few instructions of guest code ([`code`]). A [`gauges::Moment`] begins an interval for which
//! KVM's figures are wanted.

pub mod clock;
pub mod code;
pub mod gauges;
mod kind;
pub mod memory;
pub mod stop;
pub mod units;
pub mod vcpu;
pub mod vm;

pub use kind::{Access, Advice, Backing, LogProtect, Protection};
pub use kvm_ioctls::Kvm;
