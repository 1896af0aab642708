//! The live dashboard.
//!
//! [`App`] keeps what the user chose and answers keys; it draws by asking one view, a pure function
//! of the [`scene`] and of those choices. The model is the caller's.

mod app;
mod ascii;
mod column;
mod format;
mod frame;
mod keys;
mod metric;
mod mouse;
mod nav;
mod options;
mod scene;
mod spots;
pub mod terminal;
#[cfg(test)]
mod tests;
mod theme;
mod transport;
mod views;
mod widgets;

pub use app::{App, Live, Reply};
pub use column::Column;
pub(crate) use format::wrapped;
pub use options::Options;
pub use scene::Facts;
pub use theme::{Background, Depth, Theme};
