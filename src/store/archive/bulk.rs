//! One action on many deliveries, in steps that leave room for everybody else.

use super::{Archive, BulkError, ReadError, RecordError};
use crate::domain::operator::{Action, Filter};
use crate::store::writer::Command;

/// Deliveries of one command: a few milliseconds of the writer, which events
/// that arrive meanwhile have to wait for.
const STEP: usize = 200;

/// How far an action on many has come.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Headway {
    /// Deliveries that have been gone through.
    pub gone_through: u64,
    /// Those of them that were changed.
    pub changed: u64,
}

impl Archive {
    /// How many deliveries that pass `filter` are in a state that `action` applies to.
    ///
    /// # Errors
    /// [`ReadError`] if the store cannot be read.
    pub async fn count(&self, action: Action, filter: &Filter) -> Result<u64, ReadError> {
        let matching = self.reader.matching(action, filter).await?;
        Ok(u64::try_from(matching.len()).unwrap_or(u64::MAX))
    }

    /// Does `action` to every delivery that [`count`](Self::count) counts, the
    /// oldest first, if there are as many as `confirmed`. Tells `progress` after each
    /// step how far it has come; answers how many have changed: those that have
    /// moved on by themselves meanwhile, and no longer pass, have not.
    ///
    /// # Errors
    /// [`BulkError`].
    pub async fn act_on_all(
        &self,
        action: Action,
        filter: &Filter,
        confirmed: u64,
        progress: impl Fn(Headway),
    ) -> Result<u64, BulkError> {
        let unread = |error: ReadError| RecordError::Unavailable(error.to_string());
        let mut all = self.reader.matching(action, filter).await.map_err(unread)?;
        let matching = u64::try_from(all.len()).unwrap_or(u64::MAX);
        if matching != confirmed {
            return Err(BulkError::Changed { matching });
        }
        all.sort_unstable_by_key(|key| key.sequence);
        let states = filter.states_for(action);
        let mut headway = Headway::default();
        for step in all.chunks(STEP) {
            let (states, keys) = (states.clone(), step.to_vec());
            headway.changed +=
                self.commands.ask(|reply| Command::ActOn { action, states, keys, reply }).await?;
            headway.gone_through += u64::try_from(step.len()).unwrap_or(0);
            progress(headway);
        }
        Ok(headway.changed)
    }
}
