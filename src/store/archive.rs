//! The operator's view of the store: what is stored, what waits, whether it
//! commits; and what a person does about it.

mod bulk;
mod values;

use std::sync::Arc;

use bytes::Bytes;

pub use self::bulk::Headway;
pub use self::values::{
    AttemptEntry, Backlog, Conflict, DeliveryDetail, DeliverySummary, EventDetail, EventFacts, EventSummary,
    Latency, Listed, Quiet, Races, Sighting, SourceCount, SourceTally, Standing, Summary, Tally, TargetTally,
    Usage,
};
pub use super::inbox::{ReadError, RecordError};

use super::commands::Commands;
use super::reader::Reader;
use super::tally::{Counters, Unfinished};
use super::writer::Command;
use crate::domain::clock::Clock;
use crate::domain::delivery::State;
use crate::domain::event::EventId;
use crate::domain::operator::{Action, Filter, Page};

/// The operator's handle on the store. Cheap to clone.
#[derive(Clone, Debug)]
pub struct Archive {
    commands: Commands,
    reader: Reader,
    counters: Arc<Counters>,
    clock: Clock,
}

/// Why nothing was done about a delivery.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub enum ActError {
    /// The id is not held.
    #[error("there is no event of this id")]
    NoSuchEvent,
    /// The target is unknown, or what was asked for needs one that is configured.
    #[error("there is no target of this name")]
    NoSuchTarget,
    /// The event was never to go to the target.
    #[error("the event has no delivery to this target")]
    NoSuchDelivery,
    /// Its state does not allow it.
    #[error("the delivery is {}; this can be done to one that is {}", state.as_str(), any_of(allowed))]
    NotAllowed {
        /// The state.
        state: State,
        /// Those that would.
        allowed: &'static [State],
    },
    /// An attempt is under way. What it comes to decides first.
    #[error("an attempt of the delivery is on the wire")]
    OnTheWire,
    /// What would be sent has been removed.
    #[error("the body of the event has been removed")]
    PayloadGone,
    /// The store does not commit.
    #[error(transparent)]
    Store(#[from] RecordError),
}

/// Why an action on many deliveries was not done, or not to its end.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub enum BulkError {
    /// Not as many match as were confirmed; nothing was done.
    #[error("{matching} deliveries match now")]
    Changed {
        /// How many do.
        matching: u64,
    },
    /// The store failed; what was reported until then is done.
    #[error(transparent)]
    Store(#[from] RecordError),
}

impl Archive {
    pub(super) const fn new(
        commands: Commands,
        reader: Reader,
        counters: Arc<Counters>,
        clock: Clock,
    ) -> Self {
        Self { commands, reader, counters, clock }
    }

    /// Commits a small write, the way events are committed.
    ///
    /// # Errors
    /// [`RecordError`] if the store cannot commit now, or could not a moment ago.
    pub async fn probe(&self) -> Result<(), RecordError> {
        self.commands.ask(|reply| Command::Probe { reply }).await
    }

    /// Every target's backlog, by name.
    ///
    /// # Errors
    /// [`ReadError`] if the store cannot be read.
    pub async fn backlogs(&self) -> Result<Vec<Backlog>, ReadError> {
        let waiting = self.reader.waiting().await?;
        let count = |number: i64| u64::try_from(number).unwrap_or(0);
        let backlog = |(id, target, oldest)| {
            let Unfinished { open, held, dead } = self.counters.unfinished(id);
            Backlog { target, open: count(open), oldest, held: count(held), dead: count(dead) }
        };
        Ok(waiting.into_iter().map(backlog).collect())
    }

    /// The store as a whole.
    ///
    /// # Errors
    /// [`ReadError`] if the store cannot be read.
    pub async fn summary(&self) -> Result<Summary, ReadError> {
        self.reader.summary().await
    }

    /// The events that pass `filter`, newest first. The work of one call is
    /// bounded: it may answer a short or empty page with a cursor to go on from.
    ///
    /// # Errors
    /// [`ReadError`] if the store cannot be read.
    pub async fn events(&self, filter: &Filter, page: &Page) -> Result<Listed<EventSummary>, ReadError> {
        self.reader.events(filter, page).await
    }

    /// Everything about the event `id`; `None` if it is not held.
    ///
    /// # Errors
    /// [`ReadError`] if the store cannot be read.
    pub async fn event(&self, id: &EventId) -> Result<Option<EventDetail>, ReadError> {
        self.reader.event(id).await
    }

    /// The exact bytes of the event `id`: `None` if it is not held, `Some(None)` if
    /// retention has removed them.
    ///
    /// # Errors
    /// [`ReadError`] if the store cannot be read.
    pub async fn body(&self, id: &EventId) -> Result<Option<Option<Bytes>>, ReadError> {
        self.reader.body(id).await
    }

    /// The deliveries that pass `filter`, those of the newest event first. Bounded
    /// like [`events`](Self::events).
    ///
    /// # Errors
    /// [`ReadError`] if the store cannot be read.
    pub async fn deliveries(
        &self,
        filter: &Filter,
        page: &Page,
    ) -> Result<Listed<DeliverySummary>, ReadError> {
        self.reader.deliveries(filter, page).await
    }

    /// Everything about the delivery of the event `id` to `target`.
    ///
    /// # Errors
    /// [`ReadError`] if the store cannot be read.
    pub async fn delivery(&self, target: &str, id: &EventId) -> Result<Option<DeliveryDetail>, ReadError> {
        self.reader.delivery(target, id).await
    }

    /// Does `action` to the delivery of the event `id` to `target`. Resolves after
    /// the commit; what has become due is offered to its dispatcher at once.
    ///
    /// # Errors
    /// [`ActError`]; then nothing has changed.
    pub async fn act(&self, action: Action, target: &str, id: &EventId) -> Result<(), ActError> {
        let (target, id) = (target.to_owned(), id.clone());
        self.commands.ask(|reply| Command::Act { action, target, id, reply }).await?
    }

    /// Sends the event `id` to `target` again, although that delivery has ended, or
    /// for the first time where there was none. Answers the number of the replay,
    /// from 1.
    ///
    /// # Errors
    /// [`ActError`]; then nothing has changed.
    pub async fn replay(&self, target: &str, id: &EventId) -> Result<u32, ActError> {
        let (target, id) = (target.to_owned(), id.clone());
        self.commands.ask(|reply| Command::Replay { target, id, reply }).await?
    }

    /// Notes whether a person has `target` stopped. The dispatcher is told by others.
    ///
    /// # Errors
    /// [`ActError::NoSuchTarget`], or [`ActError::Store`] if nothing was written.
    pub async fn set_paused(&self, target: &str, paused: bool) -> Result<(), ActError> {
        let target = target.to_owned();
        self.commands.ask(|reply| Command::Pause { target, paused, reply }).await?
    }

    /// The targets that a person has stopped, by name.
    ///
    /// # Errors
    /// [`ReadError`] if the store cannot be read.
    pub async fn paused(&self) -> Result<Vec<Arc<str>>, ReadError> {
        self.reader.paused().await
    }

    /// Which of the live sources was first, over the newest events.
    ///
    /// # Errors
    /// [`ReadError`] if the store cannot be read.
    pub async fn races(&self) -> Result<Races, ReadError> {
        self.reader.races(self.clock.now()).await
    }

    /// How long the newest events took to be delivered, by target; a target
    /// without any is left out.
    ///
    /// # Errors
    /// [`ReadError`] if the store cannot be read.
    pub async fn latencies(&self) -> Result<Vec<Latency>, ReadError> {
        self.reader.latencies().await
    }

    /// The room the store takes, and the room there is.
    ///
    /// # Errors
    /// [`ReadError`] if the store cannot be read or its disk does not tell.
    pub async fn usage(&self) -> Result<Usage, ReadError> {
        self.reader.usage().await
    }

    /// What has been counted since the process started.
    pub fn tally(&self) -> Tally {
        self.counters.tally()
    }

    /// Keeps everybody from reading until what is answered is dropped.
    #[cfg(test)]
    pub(crate) async fn hold_reads(&self) -> impl Sized + use<> {
        self.reader.hold().await
    }

    /// Has every question from here on fail.
    #[cfg(test)]
    pub(crate) async fn fail_reads(&self) {
        self.reader.pool().close().await;
    }

    /// The live sources that bring nothing while the other one does. Empty unless
    /// a [`Comparison`](super::Comparison) is running.
    pub fn quiet(&self) -> Vec<Quiet> {
        self.counters.quiet()
    }
}

fn any_of(states: &[State]) -> String {
    states.iter().map(|state| state.as_str()).collect::<Vec<_>>().join(", ")
}
