//! What an operator can have the running parts do. The web module sees them through
//! this trait alone; the application implements it.

use bytes::Bytes;
use futures_util::future::BoxFuture;

use crate::domain::alert::AlertOutcome;
use crate::domain::event::{Environment, EventId};
use crate::domain::operator::{BackfillFrom, OperationError, Routing, TargetInfo, TestOutcome, Verification};
use crate::domain::reload::{Changes, ReloadError};

/// The running parts, as far as an operator can direct them.
pub trait Operations: Send + Sync {
    /// Stops a target, or lets it go on. Stands before it answers: a restart keeps it.
    /// Of several, the last one asked for stands; who stops waiting takes nothing back.
    fn pause(&self, target: &str, paused: bool) -> BoxFuture<'_, Result<(), OperationError>>;

    /// Sends a test to where alerts go, and waits for the answer.
    fn test_alerts(&self) -> BoxFuture<'_, Result<AlertOutcome, OperationError>>;

    /// Sends a made-up event to a target, which is not stored, and waits for the answer.
    fn test(&self, target: &str) -> BoxFuture<'_, Result<TestOutcome, OperationError>>;

    /// Makes a stream open a new connection.
    ///
    /// # Errors
    /// [`OperationError`] if there is no such stream or it does not take the order now.
    fn reconnect(&self, stream: &str) -> BoxFuture<'_, Result<(), OperationError>>;

    /// Makes a stream read what Pepay's REST list has, from a time or an event on.
    ///
    /// # Errors
    /// [`OperationError`] if there is no such stream, or one runs already.
    fn backfill(&self, stream: &str, from: BackfillFrom) -> BoxFuture<'_, Result<(), OperationError>>;

    /// Asks Pepay for the event `id`, with the account of `stream` if there is such a
    /// stream, and compares it with `held`, the bytes that the bridge has. Takes 15 s
    /// at most.
    fn verify(
        &self,
        id: EventId,
        stream: Option<&str>,
        held: Bytes,
    ) -> BoxFuture<'_, Result<Verification, OperationError>>;

    /// Reads the configuration anew. Returns what has changed, or why nothing has.
    fn reload(&self) -> BoxFuture<'_, Result<Changes, ReloadError>>;

    /// How each target takes an event of type `kind`, as it is configured now.
    fn routing(&self, kind: &str, environment: Option<Environment>, body: &[u8]) -> Vec<Routing>;

    /// Every configured target, in the order of the configuration.
    fn targets(&self) -> Vec<TargetInfo>;
}
