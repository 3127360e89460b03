//! Asking Pepay what it has under an event's id.

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

/// Questions that are under way at the same time.
const AT_ONCE: usize = 4;
/// How long Pepay gets, which is less than the command waits.
const LIMIT: Duration = Duration::from_secs(15);

/// Asks Pepay, at most [`AT_ONCE`] times at once.
pub(super) struct Verifier {
    places: Semaphore,
    clock: Clock,
}

/// Whose key asks.
pub(super) struct Asker {
    /// `streams.<name>` or `pepay`.
    pub(super) name: String,
    pub(super) account: Arc<Account>,
}

impl Verifier {
    pub(super) const fn new(clock: Clock) -> Self {
        Self { places: Semaphore::const_new(AT_ONCE), clock }
    }

    /// Compares `held` with what Pepay has under `id`.
    ///
    /// # Errors
    /// [`OperationError::Refused`] without a key, [`OperationError::Busy`] if too many
    /// ask, [`OperationError::Pepay`] if Pepay does not say.
    pub(super) async fn verify(
        &self,
        asker: Asker,
        id: EventId,
        held: Bytes,
    ) -> Result<Verification, OperationError> {
        let _place = self.places.try_acquire().map_err(|_| OperationError::Busy)?;
        if asker.account.api_key.is_none() {
            let reason = "Pepay cannot be asked: there is no `pepay.api_key` (or `api_key_file`)";
            return Err(OperationError::Refused(reason.to_owned()));
        }
        let pepay = |error: &dyn std::fmt::Display| OperationError::Pepay(error.to_string());
        let rest = Rest::new(&asker.account, self.clock.clone()).map_err(|error| pepay(&error))?;
        let theirs = match tokio::time::timeout(LIMIT, rest.event(&id)).await {
            Ok(answer) => answer.map_err(|failure| pepay(&failure))?,
            Err(_) => return Err(pepay(&format_args!("no answer within {} s", LIMIT.as_secs()))),
        };
        let (outcome, differs) = match theirs {
            None => (Agreement::Unknown, Vec::new()),
            Some(theirs) => {
                let differs = comparison::differences(&held, &theirs, self.clock.now());
                let differs = differs.map_err(|error| pepay(&error))?;
                let outcome = if differs.is_empty() { Agreement::Equal } else { Agreement::Different };
                (outcome, differs)
            }
        };
        Ok(Verification { event_id: id.to_string(), outcome, differs, asked_as: asker.name })
    }
}
