//! Logs and metrics: how they are set up, and the one table of metric names.

mod json;
mod logs;
mod metrics;
pub mod names;

pub use logs::{Format, InvalidSettings, Settings, refilter, start};
pub use metrics::{Metrics, MetricsError};
