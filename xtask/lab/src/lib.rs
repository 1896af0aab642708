//! The VM lab: runs a command on a real kernel with real KVM inside a software emulation.

pub mod apt;
mod bochs;
mod console;
mod cpio;
pub mod emulator;
mod event;
pub mod foreign;
pub mod image;
pub mod kernel;
pub mod kernels;
mod machine;
mod memory_file;
mod modules;
pub mod programs;
mod qemu;
mod screen;
mod session;
mod streams;
pub mod terminal;
pub mod tools;
pub mod vmm;

pub use console::Console;
pub use cpio::Archive;
pub use emulator::{Emulator, MachineSize};
pub use image::{ImageFile, KvmParameter};
pub use kernel::KernelChoice;
pub use kernels::Series;
pub use machine::{DEFAULT_TIMEOUT, Ending, Lab, LabOutcome};
