//! The actions of an operator on the running parts. The web module knows these parts only through this
//! trait, which the application implements.

use bytes::Bytes;
use futures_util::future::BoxFuture;

use crate::domain::alert::AlertOutcome;
use crate::domain::event::{Environment, EventId};
use crate::domain::operator::{BackfillFrom, OperationError, Routing, TargetInfo, TestOutcome, Verification};
use crate::domain::reload::{Changes, ReloadError};

/// The actions of an operator on the running parts.
pub trait Operations: Send + Sync {
    /// Pauses a target, or resumes it. The state is stored before the call returns, so a restart keeps
    /// it. The last of several calls decides. A caller that stops waiting does not cancel its call.
    ///
    /// # Errors
    /// [`OperationError`] if there is no such target or the state cannot be stored.
    fn pause(&self, target: &str, paused: bool) -> BoxFuture<'_, Result<(), OperationError>>;

    /// Sends a test message to the receiver of alerts, and waits for the response.
    ///
    /// # Errors
    /// [`OperationError`] if no alerts are configured, or another test is running.
    fn test_alerts(&self) -> BoxFuture<'_, Result<AlertOutcome, OperationError>>;

    /// Sends a test event, which is not stored, to a target, and waits for the response.
    ///
    /// # Errors
    /// [`OperationError`] if there is no such target, or another test of it is running.
    fn test(&self, target: &str) -> BoxFuture<'_, Result<TestOutcome, OperationError>>;

    /// Makes a stream open a new connection.
    ///
    /// # Errors
    /// [`OperationError`] if there is no such stream or it cannot reconnect now.
    fn reconnect(&self, stream: &str) -> BoxFuture<'_, Result<(), OperationError>>;

    /// Makes a stream read Pepay's REST list, from a time or an event on.
    ///
    /// # Errors
    /// [`OperationError`] if there is no such stream, or a backfill of it is running already.
    fn backfill(&self, stream: &str, from: BackfillFrom) -> BoxFuture<'_, Result<(), OperationError>>;

    /// Asks Pepay for the event `id` and compares it with `held`, the bytes in the store. The request
    /// uses the account of `stream` if a stream of this name is configured. The call takes 15 s at most.
    fn verify(
        &self,
        id: EventId,
        stream: Option<&str>,
        held: Bytes,
    ) -> BoxFuture<'_, Result<Verification, OperationError>>;

    /// Reads the configuration again and applies it. Returns the changes.
    ///
    /// # Errors
    /// [`ReloadError`] if the configuration cannot be applied. Then nothing has changed.
    fn reload(&self) -> BoxFuture<'_, Result<Changes, ReloadError>>;

    /// Returns for each target whether it takes an event of type `kind`, under the configuration in
    /// effect.
    fn routing(&self, kind: &str, environment: Option<Environment>, body: &[u8]) -> Vec<Routing>;

    /// Returns the configured targets, in the order of the configuration.
    fn targets(&self) -> Vec<TargetInfo>;
}
