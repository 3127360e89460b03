//! Signed webhooks, taken on axum endpoints.

use std::sync::Arc;
use std::time::Duration;

use crate::domain::event::Environment;
use crate::pepay::signature::SigningKey;

/// One configured endpoint.
#[derive(Clone, Debug)]
pub struct Settings {
    /// Its name in the configuration.
    pub name: Arc<str>,
    /// Where it listens, such as `/webhooks/pepay`.
    pub path: Arc<str>,
    /// The secrets a signature may be made with, the current one first.
    pub keys: Vec<SigningKey>,
    /// Refuse deliveries that name another environment.
    pub environment: Option<Environment>,
    /// How far the timestamp may lie from now, either way.
    pub tolerance: Duration,
    /// The largest accepted body, in bytes.
    pub max_body: usize,
}
