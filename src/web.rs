//! What the bridge shows: health, metrics and status.

use std::net::SocketAddr;

use secrecy::SecretString;

/// Where the two listeners bind.
#[derive(Clone, Debug)]
pub struct Settings {
    /// Public: webhooks and health.
    pub listen: SocketAddr,
    /// Private: metrics, status, administration.
    pub admin_listen: SocketAddr,
    /// Bearer token of the private listener; without one it is loopback only.
    pub admin_token: Option<SecretString>,
}
