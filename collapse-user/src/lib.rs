//! The library behind the `collapse` command.
//!
//! Data flows one way: [`probe`] attaches the eBPF programs that [`plan`] chose for the running
//! [`kernel`]; [`source`] turns what they counted and recorded into batches; [`model`] makes VMs,
//! regions and spans of them; [`view`] shows the model.

pub mod identity;
pub mod kernel;
