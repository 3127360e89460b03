//! Fetches an event from Pepay by its id, to compare it.

use std::sync::Arc;
use std::time::Duration;

use bytes::Bytes;
use tokio::sync::Semaphore;

use crate::domain::clock::Clock;
use crate::domain::event::EventId;
use crate::domain::operator::{Agreement, OperationError, Verification};
use crate::pepay::account::Account;
use crate::pepay::comparison;
use crate::pepay::rest::Rest;

/// The number of requests to Pepay at the same time.
const AT_ONCE: usize = 4;
/// The time limit for Pepay, which is shorter than that of the command.
const LIMIT: Duration = Duration::from_secs(15);

/// Asks Pepay, at most [`AT_ONCE`] times at once.
pub(super) struct Verifier {
    places: Semaphore,
    clock: Clock,
}

/// An account to ask with.
pub(super) struct Asker {
    /// `streams.<name>` or `pepay`.
    pub(super) name: String,
    pub(super) account: Arc<Account>,
}

impl Verifier {
    pub(super) const fn new(clock: Clock) -> Self {
        Self { places: Semaphore::const_new(AT_ONCE), clock }
    }

    /// Compares the stored event `held` with Pepay's event `id`. The accounts in `askers` that have
    /// a key ask in turn, until one finds the event.
    ///
    /// # Errors
    /// [`OperationError::Refused`] without a key, [`OperationError::Busy`] if too many requests
    /// run, [`OperationError::Pepay`] if Pepay does not answer.
    pub(super) async fn verify(
        &self,
        mut askers: Vec<Asker>,
        id: EventId,
        held: Bytes,
    ) -> Result<Verification, OperationError> {
        let _place = self.places.try_acquire().map_err(|_| OperationError::Busy)?;
        askers.retain(|asker| asker.account.api_key.is_some());
        if askers.is_empty() {
            let reason = "Pepay cannot be asked: there is no `pepay.api_key` (or `api_key_file`)";
            return Err(OperationError::Refused(reason.to_owned()));
        }
        let found = tokio::time::timeout(LIMIT, self.find(&askers, &id)).await;
        let found = found.map_err(|_| pepay(format_args!("no answer within {} s", LIMIT.as_secs())))??;
        let Some((asker, theirs)) = found else {
            let asked_as = askers.iter().map(|asker| &*asker.name).collect::<Vec<_>>().join(", ");
            let (outcome, differs) = (Agreement::Unknown, Vec::new());
            return Ok(Verification { event_id: id.to_string(), outcome, differs, asked_as });
        };
        let differs = comparison::differences(&held, &theirs, self.clock.now()).map_err(pepay)?;
        let outcome = if differs.is_empty() { Agreement::Equal } else { Agreement::Different };
        Ok(Verification { event_id: id.to_string(), outcome, differs, asked_as: asker.name.clone() })
    }

    /// Returns the event `id`, and the account that has it. A failure is returned only if no
    /// account has the event.
    async fn find<'a>(
        &self,
        askers: &'a [Asker],
        id: &EventId,
    ) -> Result<Option<(&'a Asker, Bytes)>, OperationError> {
        let mut failed = None;
        for asker in askers {
            let rest = Rest::new(&asker.account, self.clock.clone()).map_err(pepay)?;
            match rest.event(id).await {
                Ok(Some(theirs)) => return Ok(Some((asker, theirs))),
                Ok(None) => {}
                Err(failure) => failed = Some(pepay(failure)),
            }
        }
        failed.map_or(Ok(None), Err)
    }
}

fn pepay(error: impl std::fmt::Display) -> OperationError {
    OperationError::Pepay(error.to_string())
}
