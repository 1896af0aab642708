//! The library behind the `collapse` command.
//!
//! Data flows one way: [`probe`] attaches the eBPF programs that [`plan`] chose for the running
//! [`kernel`]; [`source`] turns what they counted and recorded into batches; [`model`] makes VMs,
//! regions and spans of them; [`findings`] judges them; [`player`] goes
//! through recordings in time; [`report`], [`events`] and [`tui`] show them.

pub mod baseline;
pub mod budget;
pub mod cli;
pub mod clock;
pub mod events;
pub mod exit;
pub mod export;
pub mod findings;
pub mod identity;
pub mod kernel;
pub mod model;
pub mod plan;
pub mod player;
pub mod probe;
pub mod report;
pub mod source;
pub mod tui;
