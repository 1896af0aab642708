//! The live dashboard.
//!
//! [`App`] keeps what the user chose and answers keys and clicks. It draws one view, a pure function of a
//! [`scene`] and of those choices; the model belongs to the caller. A module uses only those below it:
//!
//! ```text
//! mouse ▸ app                   what keys and clicks do
//! frame                         what surrounds every view
//! views                         one file or folder per view
//! table, widgets, transport     what views share; vm_state, metric: what they show of a VM
//! scene                         what a frame shows: the model at one time
//! spots ▸ keys                  what can be clicked, what can be pressed
//! nav, options                  what the user chose, now and before the start
//! column, format, theme, …      ids, numbers, colours; terminal
//! ```

mod app;
mod ascii;
mod column;
mod format;
mod frame;
mod keys;
mod metric;
mod mouse;
mod nav;
mod notices;
mod options;
mod scene;
mod spots;
mod table;
pub mod terminal;
#[cfg(test)]
mod tests;
mod theme;
mod transport;
mod views;
mod vm_state;
mod widgets;

pub use app::{App, DashboardData, Reply};
pub use column::Column;
pub(crate) use format::wrapped;
pub use notices::{Notice, Notices};
pub use options::DashboardOptions;
pub use scene::Heading;
pub use theme::{Background, Depth, Theme};
