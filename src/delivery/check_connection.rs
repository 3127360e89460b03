//! Checks whether a target can be connected to, without sending it anything.

use super::Settings;
use super::client::{self, BuildError};
use crate::domain::cause::innermost;

/// Why there is no connection to a target.
#[derive(Debug, thiserror::Error)]
pub enum ConnectError {
    /// The client of the target cannot be built.
    #[error(transparent)]
    Build(#[from] BuildError),
    /// The target does not answer, or its certificate is not trusted.
    #[error("{0}")]
    Connection(String),
}

/// Connects to a target as a delivery does, TLS and client certificate included,
/// and hangs up before a byte of HTTP is sent. Takes as long as the target's
/// `connect_timeout` at most.
///
/// # Errors
/// [`ConnectError`]
pub async fn check_connection(settings: &Settings) -> Result<(), ConnectError> {
    let connected = client::connector(settings)?.open().await;
    connected.map(drop).map_err(|error| {
        let reason = format!("cannot connect: {}", innermost(&error));
        ConnectError::Connection(reason)
    })
}
