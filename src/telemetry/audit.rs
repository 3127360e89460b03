//! Log lines of the audit trail, which are written regardless of the filter.

/// The `tracing` target of these lines. Every filter lets it through up to the level `info`.
pub const TARGET: &str = "pepay_bridge::audit";
