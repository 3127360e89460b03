//! Checks whether Pepay admits a stream, by a connection that is opened and closed again.

use super::Settings;
use super::driver::{self, NotConnected};
use super::plan;
use super::state::{ConnectStep, Narrowing};
use crate::pepay::error::Failure;
use crate::pepay::rest::{Probe, Rest};
use crate::pepay::token::Identity;

/// Why Pepay did not admit a stream.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub enum Unreached {
    /// No token was minted.
    #[error("no token: {0}")]
    Token(Failure),
    /// The connection was not upgraded.
    #[error("no connection: {0}")]
    Upgrade(Failure),
}

/// Opens a connection as a stream does, and closes it at once. Events that arrive meanwhile are
/// dropped, and no cursor moves: Pepay's stream takes nothing away from other readers. Returns the
/// identity of the token.
///
/// # Errors
/// [`Unreached`].
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

/// Requests the page of the list that a stream requests.
///
/// # Errors
/// [`Failure`] if there is no answer.
pub async fn probe(settings: &Settings, rest: &Rest) -> Result<Probe, Failure> {
    rest.probe(&plan::list_filters(settings, Narrowing::Full)).await
}
