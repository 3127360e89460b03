//! All SQL. Those outside see narrow handles and plain values:
//!
//! - [`inbox`] records what the sources bring,
//! - [`outbox`] hands deliveries to a target's dispatcher and takes their outcomes,
//! - [`archive`] answers the operator,
//! - [`backup`] copies a store that may be in use, and [`checkup`] looks at one.
//!
//! One writer thread owns the one connection that writes and commits in groups;
//! readers are a small read-only pool. No type of the engine leaves this room.

pub mod archive;
pub mod backup;
pub mod checkup;
mod commands;
mod comparison;
pub mod disk;
pub mod inbox;
mod janitor;
mod lane;
mod lock;
pub mod outbox;
mod reader;
mod row;
mod schema;
mod tally;
mod traced;
mod turns;
mod writer;

use std::path::PathBuf;
use std::sync::Arc;
use std::time::Duration;

use tokio::sync::watch;

use crate::domain::clock::Clock;
use crate::domain::delivery::Ordering;
use crate::domain::event::{Environment, Received};
use crate::domain::filter::TypeFilter;

pub use comparison::Comparison;
pub use janitor::Janitor;
pub use schema::OpenError;
pub use writer::Writer;

use archive::Archive;
use commands::Commands;
use inbox::{Inbox, RecordError};
use janitor::Retention;
use outbox::Outbox;
use reader::Reader;
use tally::Counters;
use writer::Command;
use writer::outlets::Outlets;

/// Commands that may wait for the writer. A queue longer than a few groups only
/// adds latency; whoever finds it full is told to come back.
const QUEUE: usize = 1024;

/// Where the store lives and what a commit is worth.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Settings {
    /// The database file; its folder is created if missing.
    pub path: PathBuf,
    /// What a commit survives.
    pub durability: Durability,
    /// How long delivered events keep their bodies and attempts.
    pub payload_retention: Duration,
    /// How long event ids are kept for deduplication.
    pub dedupe_retention: Duration,
}

/// What a commit survives.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Durability {
    /// Power loss (`synchronous = FULL`).
    Full,
    /// A killed process (`synchronous = NORMAL`).
    Normal,
}

/// Which events become deliveries to a target.
#[derive(Clone, Debug)]
pub struct Route {
    /// The configured name of the target.
    pub target: Arc<str>,
    /// The event types it receives.
    pub types: TypeFilter,
    /// The network environment it receives events of; `None` is any, and none known.
    pub environment: Option<Environment>,
    /// Whether its deliveries wait for one another.
    pub ordering: Ordering,
}

impl Route {
    /// Whether `event` becomes a delivery.
    fn takes(&self, event: &Received) -> bool {
        self.types.matches(event.event.kind.as_str())
            && (self.environment.is_none() || self.environment == event.environment)
    }
}

/// An open store: its handles, to be given to those who need them.
#[derive(Debug)]
pub struct Store {
    /// For the sources.
    pub inbox: Inbox,
    /// For the operator.
    pub archive: Archive,
    /// For the dispatchers, one for each route and in their order.
    pub outboxes: Vec<Outbox>,
    commands: Commands,
    reader: Reader,
    counters: Arc<Counters>,
    clock: Clock,
    retention: watch::Sender<Retention>,
    /// The sequence of the newest event when the store was opened.
    newest: i64,
}

impl Store {
    /// Opens the store, creating or migrating it as needed, and takes its lock.
    /// Nothing is committed until [`Writer::run`] is running on a thread of its own.
    ///
    /// # Errors
    /// [`OpenError`] names the file and what is wrong with it; it is left as it was.
    pub async fn open(
        settings: &Settings,
        routes: Vec<Route>,
        clock: Clock,
    ) -> Result<(Self, Writer), OpenError> {
        let lock = schema::prepare(&settings.path).await?;
        let mut connection = schema::open_writer(settings)?;
        let reader = Reader::open(&settings.path).await?;

        let (commands, queue) = Commands::new(QUEUE);
        let counters = Arc::<Counters>::default();
        for route in &routes {
            counters.add_target(&route.target);
        }
        let (outlets, opened) = Outlets::open(&mut connection, routes)
            .map_err(|error| schema::database(&settings.path, &error))?;
        let outboxes = opened.into_iter().map(|opened| opened.into_outbox(commands.clone())).collect();
        let writer = Writer::new(connection, lock, queue, outlets, clock.clone(), Arc::clone(&counters))?;
        let store = Self {
            inbox: Inbox::new(commands.clone(), reader.clone()),
            archive: Archive::new(commands.clone(), reader.clone(), Arc::clone(&counters), clock.clone()),
            outboxes,
            commands,
            reader,
            counters,
            clock,
            retention: watch::Sender::new(settings.into()),
            newest: writer.newest(),
        };
        Ok((store, writer))
    }

    /// Replaces the routes, in one step between two commits: the targets in `kept`
    /// go on as they are, each of `opened` gets an outbox, in that order, and every
    /// other target receives nothing from here on. What is undelivered stays stored.
    ///
    /// A target that had an outbox before gets a new one. Whoever runs the old one
    /// has to end before the new one is used; see [`Outbox`].
    ///
    /// # Errors
    /// [`RecordError`]; then nothing has changed.
    pub async fn reroute(&self, kept: Vec<Arc<str>>, opened: Vec<Route>) -> Result<Vec<Outbox>, RecordError> {
        for route in &opened {
            self.counters.add_target(&route.target);
        }
        let opened = self.commands.ask(|reply| Command::Reroute { kept, opened, reply }).await?;
        Ok(opened.into_iter().map(|opened| opened.into_outbox(self.commands.clone())).collect())
    }

    /// Removes what is older than it is to be kept.
    pub fn janitor(&self) -> Janitor {
        let retention = self.retention.subscribe();
        Janitor::new(self.commands.clone(), self.reader.clone(), self.clock.clone(), retention)
    }

    /// Has the janitor go by the retentions of `settings` from its next round on.
    pub fn retain(&self, settings: &Settings) {
        self.retention.send_replace(settings.into());
    }

    /// Compares the live sources.
    pub fn comparison(&self) -> Comparison {
        let (reader, counters) = (self.reader.clone(), Arc::clone(&self.counters));
        Comparison::new(reader, counters, self.clock.clone(), self.newest)
    }

    /// Has the writer commit what was handed to it before, checkpoint, and end.
    /// Whatever comes after is refused as unavailable.
    pub async fn close(&self) {
        self.commands.close().await;
    }
}

#[cfg(test)]
mod tests;
