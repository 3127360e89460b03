//! Whether Pepay lets a stream in: a connection that is opened and closed again.

use super::Settings;
use super::driver::{self, NotConnected};
use super::plan;
use super::state::{ConnectStep, Narrowing};
use crate::pepay::error::Failure;
use crate::pepay::rest::{Probe, Rest};
use crate::pepay::token::Identity;

/// Why Pepay did not let a stream in.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub enum Unreached {
    /// There was no token.
    #[error("no token: {0}")]
    Token(Failure),
    /// The connection was not upgraded.
    #[error("no connection: {0}")]
    Upgrade(Failure),
}

/// Opens a connection the way a stream does, and closes it at once. What arrives
/// meanwhile is dropped, and no cursor moves: Pepay's stream takes nothing away
/// from other readers. Returns whose the token was.
///
/// # Errors
/// [`Unreached`]
pub async fn reach(settings: &Settings, rest: &Rest) -> Result<Identity, Unreached> {
    match driver::connect(settings.clone(), rest.clone(), None, (None, Narrowing::Full)).await {
        Ok((socket, identity)) => {
            socket.close().await;
            Ok(identity)
        }
        Err(NotConnected { step: ConnectStep::Upgrade, failure, .. }) => Err(Unreached::Upgrade(failure)),
        Err(NotConnected { failure, .. }) => Err(Unreached::Token(failure)),
    }
}

/// Asks for the page of the list that a stream asks for.
///
/// # Errors
/// [`Failure`] if there is no answer at all.
pub async fn probe(settings: &Settings, rest: &Rest) -> Result<Probe, Failure> {
    rest.probe(&plan::list_filters(settings, Narrowing::Full)).await
}
