//! Logs, metrics and traces: how they are set up, and the one table of metric names.

mod json;
mod logs;
mod metrics;
pub mod names;
mod process;
pub mod traces;

pub use logs::{AUDIT, Format, InvalidSettings, Settings, refilter, start};
pub use metrics::{Metrics, MetricsError};
