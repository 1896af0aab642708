//! What happened, for viewers of other people's making.

mod folded;
mod perfetto;
mod proto;

pub use folded::Folded;
pub use perfetto::Perfetto;
