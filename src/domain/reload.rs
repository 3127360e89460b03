//! What a reload of the configuration comes to.

use serde::Serialize;

/// What has become of a configuration that was read again. Both lists name
/// keys, and never show a value.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, utoipa::ToSchema)]
pub struct Changes {
    /// What is in effect now, such as `targets.orders changed` or `streams.commerce added`.
    pub applied: Vec<String>,
    /// Keys whose new value waits for a restart, such as `server.listen`.
    pub restart_needed: Vec<String>,
}
