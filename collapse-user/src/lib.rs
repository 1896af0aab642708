//! The library behind the `collapse` command.
//!
//! Data flows one way: [`probe`] attaches the eBPF programs that [`plan`] chose for the running
//! [`kernel`]; [`source`] turns what they counted and recorded into the feed (`collapse_feed`);
//! [`watch`] takes the feed to the model (`collapse_model`), which makes VMs, regions and spans of it and
//! judges them; the report (`collapse_report`) and [`tui`] show them. The three lower crates know neither
//! eBPF nor terminals.
//!
//! On top, [`live`], [`doctor`], [`explain`] and [`selftest`] do the work of the commands of their names, and [`cli`]
//! has the options of all commands and chooses exit codes.

mod bpf;
pub mod cli;
pub mod diagnostics;
pub mod doctor;
pub mod exit;
pub mod explain;
pub mod exporter;
pub mod identity;
pub mod kernel;
pub mod live;
pub mod output;
pub mod plan;
pub mod probe;
pub mod rights;
pub mod selftest;
pub mod settings;
pub mod source;
pub mod tui;
pub mod watch;

pub use collapse_feed::clock;
pub use collapse_model::{self as model, findings, player};
pub use collapse_report::{self as report, events, export};
