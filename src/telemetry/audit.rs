//! Lines of the audit trail, which are logged whatever the filter.

/// The `tracing` target of these lines; up to `info` every filter lets them through.
pub const TARGET: &str = "pepay_bridge::audit";
