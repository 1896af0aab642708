//! What happened, for viewers of other people's making.

mod perfetto;
mod proto;

pub use perfetto::Perfetto;
