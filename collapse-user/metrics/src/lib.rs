//! The model as metrics for Prometheus and everything that speaks its formats.
//!
//! Every exported number is a row of one of three tables: the model's own table of metrics, of which every
//! row is exported per VM and for the host ([`collapse_model::metric::METRICS`]), and those of what is not in
//! it, per VM (`vm`) and per host (`host`). [`catalogue`] lists them all. What is not known is not
//! exported: it never is a zero.

mod catalogue;
mod exposition;
mod family;
mod format;
mod histogram;
mod host;
#[cfg(feature = "otlp")]
mod otlp;
mod vm;

pub use catalogue::{Entry, catalogue, markdown};
pub use exposition::{Exposition, Options, Scene};
pub use family::{Kind, Measure};
pub use format::Format;
#[cfg(feature = "otlp")]
pub use otlp::Origin;
