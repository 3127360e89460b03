//! The one connection that writes, and the thread that owns it.
//!
//! Group commit: it takes a command, adds what has queued up meanwhile, runs
//! them all in one transaction, and answers every caller after the commit. The
//! cost of making things durable is shared by all that wait for it; nobody
//! waits for a group to fill.

mod answers;
mod census;
mod checkpoint;
mod command;
mod conflict;
mod lateness;
mod meters;
mod notices;
mod operate;
mod order;
pub(super) mod outlets;
mod record;
mod retain;
mod search;
mod settle;
mod sighting;
mod trouble;
#[cfg(test)]
mod watched;

use std::sync::Arc;
use std::time::Instant;

use rusqlite::{Connection, params};
use tokio::runtime::Handle;
use tokio::sync::{mpsc, oneshot};

use super::counts::Counters;
use super::engine::sqlite::file::Lock;
use super::engine::sqlite::open::{self, OpenError};
use super::error::{ActError, RecordError};
use super::settings::Route;
use super::types::{Acted, CutOff, Found, Key};
use crate::domain::clock::{Clock, UnixMillis};
use answers::Answers;
use census::Census;
use checkpoint::Checkpoints;
use command::Failure;
use lateness::Lateness;
use meters::Meters;
use outlets::{Opened, Outlets};
use retain::Removed;
use trouble::Trouble;

pub(super) use command::{Command, Reply};
pub(super) use lateness::ORDINARY_MS;
pub(super) use retain::Chore;

/// Commands in one transaction, at most.
const GROUP_COMMANDS: usize = 512;

/// Bytes of event bodies in one transaction: a group stops growing beyond this.
const GROUP_BYTES: usize = 4 << 20;

/// What a command wrote, to be told once it is committed.
enum Written {
    Events(Vec<record::Written>),
    Recovered(Vec<CutOff>),
    Found(Found),
    Key(Result<Key, ActError>),
    Acted(Vec<Acted>),
    Paused(Result<(), ActError>),
    Removed { more: bool },
    Done,
}

/// What ends a group: it changes the writer itself.
enum Turning {
    Reroute { kept: Vec<Arc<str>>, opened: Vec<Route>, reply: Reply<Vec<Opened>> },
    Checkpoint { reply: Reply<()> },
    Close { reply: oneshot::Sender<()> },
}

/// The writing side of a store. To be [run](Writer::run) on a thread of its own.
#[derive(Debug)]
pub struct Writer {
    connection: Connection,
    queue: mpsc::Receiver<Command>,
    outlets: Outlets,
    clock: Clock,
    /// The sequence of the newest event.
    sequence: i64,
    /// How far what is old has been removed.
    removed: Removed,
    lateness: Lateness,
    census: Census,
    meters: Meters,
    trouble: Trouble,
    checkpoints: Checkpoints,
    /// Where the callers wait.
    runtime: Handle,
    /// Last, so that the database is closed before another process may have it.
    _lock: Lock,
}

impl Writer {
    pub(super) fn new(
        connection: Connection,
        lock: Lock,
        queue: mpsc::Receiver<Command>,
        outlets: Outlets,
        clock: Clock,
        counters: Arc<Counters>,
    ) -> Result<Self, OpenError> {
        let newest = "SELECT coalesce(max(sequence), 0) FROM event";
        let read = connection.query_row(newest, [], |row| row.get::<_, i64>(0)).and_then(|newest| {
            let census = Census::take(&connection, Arc::clone(&counters))?;
            Ok((newest, Removed::read(&connection)?, Lateness::read(&connection)?, census))
        });
        let path = connection.path().map(std::path::PathBuf::from).unwrap_or_default();
        let (newest, removed, lateness, census) = read.map_err(|error| open::database(&path, &error))?;
        Ok(Self {
            checkpoints: Checkpoints::of(&connection),
            connection,
            queue,
            outlets,
            clock,
            // Where all events have been removed, their numbers are not given again.
            sequence: newest.max(removed.events),
            removed,
            lateness,
            census,
            meters: Meters::new(counters),
            trouble: Trouble::default(),
            runtime: Handle::current(),
            _lock: lock,
        })
    }

    /// The sequence of the newest event.
    pub(super) const fn newest(&self) -> i64 {
        self.sequence
    }

    /// Writes until it is told to close or nobody is left to ask. Blocks.
    pub fn run(mut self) {
        while let Some(first) = self.queue.blocking_recv() {
            let (group, turning) = self.gather(first);
            if !group.is_empty() {
                self.write(group);
            }
            match turning {
                None => {}
                Some(Turning::Reroute { kept, opened, reply }) => {
                    // Whoever asked may have gone; the routes are replaced all the same.
                    let _ = reply.send(self.reroute(&kept, opened));
                }
                Some(Turning::Checkpoint { reply }) => {
                    checkpoint::truncate(&self.connection);
                    let _ = reply.send(Ok(()));
                }
                Some(Turning::Close { reply }) => {
                    self.finish();
                    // Whoever asked may have gone; the store is closed all the same.
                    let _ = reply.send(());
                    return;
                }
            }
        }
        self.finish();
    }

    /// `first` and what waits behind it, up to the bounds of a group or to what ends one.
    fn gather(&mut self, first: Command) -> (Vec<Command>, Option<Turning>) {
        let (mut group, mut bytes, mut next) = (Vec::new(), 0, Some(first));
        while let Some(command) = next {
            match command {
                Command::Close { reply } => return (group, Some(Turning::Close { reply })),
                Command::Checkpoint { reply } => return (group, Some(Turning::Checkpoint { reply })),
                Command::Reroute { kept, opened, reply } => {
                    return (group, Some(Turning::Reroute { kept, opened, reply }));
                }
                Command::Record { ref batch, .. } => {
                    bytes += batch.events.iter().map(|event| event.event.body.len()).sum::<usize>();
                }
                _ => {}
            }
            group.push(command);
            let full = group.len() >= GROUP_COMMANDS || bytes >= GROUP_BYTES;
            next = if full { None } else { self.queue.try_recv().ok() };
        }
        (group, None)
    }

    /// Replaces the routes, between two groups: what one has stored is handed over
    /// to the targets that it was stored for.
    fn reroute(&mut self, kept: &[Arc<str>], opened: Vec<Route>) -> Result<Vec<Opened>, RecordError> {
        self.roll_back()
            .and_then(|()| self.outlets.replace(&mut self.connection, kept, opened))
            .map_err(|error| RecordError::Unavailable(error.to_string()))
    }

    /// Commits `group`; a command that cannot be carried out is refused by
    /// itself and the others are written without it.
    fn write(&mut self, mut group: Vec<Command>) {
        while !group.is_empty() {
            let started = Instant::now();
            match self.transact(&group) {
                Ok(written) => {
                    if group.iter().any(|command| !matches!(command, Command::Search { .. })) {
                        self.meters.commit.record(started.elapsed());
                    }
                    self.trouble.committed(started);
                    self.tell(group, written);
                    self.checkpoints.after_commit(&self.connection);
                    return;
                }
                Err(Failure::Command(index, error)) => {
                    tracing::error!(%error, "a command to the store was refused");
                    group.remove(index).refuse(&error);
                }
                Err(Failure::Store(error)) => {
                    self.trouble.failed(started, &error, group.len());
                    for command in group {
                        command.refuse(&error);
                    }
                    return;
                }
            }
        }
    }

    fn transact(&mut self, group: &[Command]) -> Result<Vec<Written>, Failure> {
        // A transaction that could not be ended when it failed is ended now.
        self.roll_back().map_err(Failure::Store)?;
        self.execute("BEGIN IMMEDIATE").map_err(Failure::Store)?;
        let result = self.carry_out(group).and_then(|written| {
            self.execute("COMMIT").map_err(Failure::Store)?;
            Ok(written)
        });
        if result.is_err() {
            self.census.roll_back();
            self.roll_back().map_err(Failure::Store)?;
        }
        let (written, sequence) = result?;
        self.census.commit();
        self.sequence = sequence;
        Ok(written)
    }

    /// Ends an open transaction. SQLite may have done so itself, as it does when the disk is full.
    fn roll_back(&self) -> rusqlite::Result<()> {
        if self.connection.is_autocommit() { Ok(()) } else { self.execute("ROLLBACK") }
    }

    /// Runs the commands in the open transaction. Answers what they wrote and
    /// the newest sequence, which counts once the transaction has committed.
    fn carry_out(&self, group: &[Command]) -> Result<(Vec<Written>, i64), Failure> {
        let (now, mut sequence) = (self.clock.now(), self.sequence);
        let mut written = Vec::with_capacity(group.len());
        for (index, command) in group.iter().enumerate() {
            let one = match command {
                Command::Record { batch, .. } => {
                    record::batch(&self.connection, (&self.outlets, &self.census), batch, &mut sequence, now)
                        .and_then(|written| self.lateness.note(&self.connection, batch, written, now))
                        .map(Written::Events)
                }
                Command::Settle { target, settlements, .. } => {
                    settle::all(&self.connection, (&self.census, &self.removed), *target, settlements, now)
                        .map(|()| Written::Done)
                }
                Command::Begin { target, attempt, .. } => {
                    settle::begin(&self.connection, *target, attempt).map(|()| Written::Done)
                }
                Command::Recover { target, on_uncertain, .. } => {
                    settle::recover(&self.connection, &self.census, *target, *on_uncertain, now)
                        .map(Written::Recovered)
                }
                Command::Search { target, search, .. } => {
                    search::find(&self.connection, *target, search).map(Written::Found)
                }
                Command::Find { target, id, .. } => {
                    operate::find(&self.connection, target, id).map(Written::Key)
                }
                Command::Act { target, acts, .. } => {
                    let shared = (&self.outlets, &self.removed, &self.census);
                    operate::act(&self.connection, shared, *target, acts, now).map(Written::Acted)
                }
                Command::Pause { target, paused, .. } => {
                    operate::pause(&self.connection, target, *paused, now).map(Written::Paused)
                }
                Command::Probe { .. } => self.beat(now).map(|()| Written::Done),
                Command::Remove { chore, .. } => self
                    .removed
                    .remove(&self.connection, &self.census, *chore)
                    .map(|more| Written::Removed { more }),
                Command::Reroute { .. } | Command::Checkpoint { .. } | Command::Close { .. } => continue,
            };
            written.push(one.map_err(|error| Failure::of(index, error))?);
        }
        Ok((written, sequence))
    }

    /// After the commit: answers the callers and hands new deliveries over.
    fn tell(&self, group: Vec<Command>, written: Vec<Written>) {
        let (mut events, mut answers) = (0, Answers::default());
        for (command, written) in group.into_iter().zip(written) {
            match (command, written) {
                (Command::Record { batch, reply }, Written::Events(all)) => {
                    events += all.len();
                    answers.keep(reply, Ok(all.iter().map(|one| one.recorded).collect()));
                    for (event, one) in batch.events.into_iter().zip(all) {
                        self.meters.count(&event, &one);
                        self.outlets.hand_over(event, one);
                    }
                }
                (Command::Settle { target, settlements, reply }, Written::Done) => {
                    if let Some(outlet) = self.outlets.of(target) {
                        for settlement in &settlements {
                            self.meters.count_attempt(&outlet.route.target, settlement.next);
                        }
                    }
                    answers.keep(reply, Ok(()));
                }
                (Command::Recover { reply, .. }, Written::Recovered(attempts)) => {
                    answers.keep(reply, Ok(attempts));
                }
                (Command::Search { reply, .. }, Written::Found(found)) => {
                    answers.keep(reply, Ok(found));
                }
                (Command::Find { reply, .. }, Written::Key(key)) => {
                    answers.keep(reply, Ok(key));
                }
                (Command::Act { reply, .. }, Written::Acted(acted)) => {
                    answers.keep(reply, Ok(acted));
                }
                (Command::Pause { reply, .. }, Written::Paused(paused)) => {
                    answers.keep(reply, Ok(paused));
                }
                (Command::Begin { reply, .. }, Written::Done) => {
                    answers.keep(reply, Ok(()));
                }
                (Command::Probe { reply }, Written::Done) => {
                    let trouble = self.trouble.recent(Instant::now());
                    let trouble = trouble.map(|error| RecordError::Unavailable(error.to_owned()));
                    answers.keep(reply, trouble.map_or(Ok(()), Err));
                }
                (Command::Remove { reply, .. }, Written::Removed { more }) => {
                    answers.keep(reply, Ok(more));
                }
                _ => {}
            }
        }
        answers.give_out(&self.runtime);
        if events > 0 {
            #[expect(clippy::cast_precision_loss, reason = "a group holds far fewer than 2^52 events")]
            self.meters.batch.record(events as f64);
        }
    }

    fn beat(&self, now: UnixMillis) -> rusqlite::Result<()> {
        let beat = "INSERT INTO heartbeat (id, at) VALUES (1, ?1) ON CONFLICT (id) DO UPDATE SET at = ?1";
        self.connection.prepare_cached(beat)?.execute(params![now.0]).map(drop)
    }

    fn execute(&self, statement: &str) -> rusqlite::Result<()> {
        self.connection.prepare_cached(statement)?.execute([]).map(drop)
    }

    /// Leaves no log behind for the next start to find.
    fn finish(self) {
        checkpoint::truncate(&self.connection);
    }
}
