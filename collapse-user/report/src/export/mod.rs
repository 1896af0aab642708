//! Files for viewers of other projects.

mod folded;
mod perfetto;
mod proto;

pub use folded::Folded;
pub use perfetto::Perfetto;
