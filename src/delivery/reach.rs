//! Whether a target can be connected to, without sending it anything.

use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};

use tower::BoxError;
use tower::util::MapResultLayer;

use super::Settings;
use super::client::{self, BuildError};

/// Why there is no connection to a target.
#[derive(Debug, thiserror::Error)]
pub enum Unreached {
    /// Its client cannot be built.
    #[error(transparent)]
    Build(#[from] BuildError),
    /// It does not answer, or its certificate is not trusted.
    #[error("{0}")]
    Connection(String),
}

/// Instead of a connection: the request that wanted one is never sent.
#[derive(Debug, thiserror::Error)]
#[error("connected, and that is all that was asked for")]
struct Connected;

/// Connects to a target as a delivery does, TLS and client certificate included,
/// and hangs up before a byte of HTTP is sent. Takes as long as the target's
/// `connect_timeout` at most.
///
/// # Errors
/// [`Unreached`]
pub async fn reach(settings: &Settings) -> Result<(), Unreached> {
    let connected = Arc::new(AtomicBool::new(false));
    let noted = Arc::clone(&connected);
    let hang_up = MapResultLayer::new(move |connection: Result<_, BoxError>| {
        drop(connection?);
        noted.store(true, Ordering::Relaxed);
        Err(BoxError::from(Connected))
    });
    let client = client::builder(settings)?.connector_layer(hang_up).build();
    let client = client.map_err(|error| Unreached::Connection(error.without_url().to_string()))?;
    match client.get(settings.url.clone()).send().await {
        Err(_) if connected.load(Ordering::Relaxed) => Ok(()),
        Err(error) => Err(Unreached::Connection(client::cause(&error, false))),
        Ok(_) => Ok(()),
    }
}
