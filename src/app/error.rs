//! The errors of the bridge as a whole.

use std::io;
use std::net::SocketAddr;
use std::time::Duration;

use crate::delivery;
use crate::lifecycle::Ended;
use crate::pepay::rest;
use crate::store;
use crate::store::error::ReadError;
use crate::store::inbox::ClaimError;
use crate::telemetry::MetricsError;

/// Why the bridge did not start, or ended without a stop signal.
#[derive(Debug, thiserror::Error)]
pub enum Error {
    /// An address cannot be listened on.
    #[error("{key} = \"{address}\" cannot be listened on: {source}")]
    Listen {
        /// The configuration key.
        key: &'static str,
        /// Its value.
        address: SocketAddr,
        /// The cause.
        source: io::Error,
    },
    /// The store cannot be opened.
    #[error(transparent)]
    Store(#[from] store::OpenError),
    /// The store cannot be read.
    #[error(transparent)]
    Read(#[from] ReadError),
    /// The store holds the events of another Pepay or another account.
    #[error(transparent)]
    Claim(#[from] ClaimError),
    /// A stop was requested before the store was open.
    #[error("stopped before the store was open")]
    Stopped,
    /// A target cannot be set up.
    #[error(transparent)]
    Target(#[from] delivery::BuildError),
    /// Pepay's client cannot be set up.
    #[error(transparent)]
    Pepay(#[from] rest::BuildError),
    /// The metrics cannot be set up.
    #[error(transparent)]
    Metrics(#[from] MetricsError),
    /// The system refuses a thread or a signal handler.
    #[error("the system refuses what the bridge needs: {0}")]
    System(#[from] io::Error),
    /// A part has ended that must not end.
    #[error("the bridge has stopped because a part of it failed: {0}")]
    Crashed(#[from] Ended),
    /// The store did not close within this time. Events that it has acknowledged are safe.
    #[error("the store could not be closed within {} s", .0.as_secs())]
    Close(Duration),
}
