//! The live dashboard.
//!
//! [`App`] keeps what the user chose and answers keys; it draws by asking one view, a pure function
//! of the [`scene`] and of those choices. The model is the caller's.

mod app;
mod ascii;
mod format;
mod frame;
mod keys;
mod metric;
mod nav;
mod scene;
pub mod terminal;
#[cfg(test)]
mod tests;
mod theme;
mod views;
mod widgets;

pub use app::{App, Live, Reply};
pub use scene::Facts;
pub use theme::{Background, Depth, Theme};
