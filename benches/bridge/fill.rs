//! Large databases, written directly in the schema of the bridge. That takes minutes, and with the bridge
//! hours.

use std::path::Path;

use rusqlite::{Connection, params};

use crate::Outcome;
use crate::bridge::{Bridge, Setup, database};
use crate::requests::{Bodies, object};

/// The number of rows in a transaction.
const GROUP: u64 = 100_000;
/// The time from an event to its delivery, in milliseconds.
const DELIVERED_AFTER: i64 = 3;

/// The state of the events that a store is filled with.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Fate {
    /// The events are delivered to every target.
    Delivered,
    /// The events wait for every target.
    Undelivered,
    /// The events have the type `test.ping` and wait for the one target that takes it.
    WaitingFor {
        /// The name of the target.
        target: &'static str,
    },
}

/// The database of a stopped bridge.
pub struct Store(Connection);

/// Creates a database in `folder`. Each of `parts` is a number of events and their state, in this order.
pub fn fill(folder: &Path, setup: &Setup, parts: &[(u64, Fate)]) -> Outcome<()> {
    // The bridge creates the schema and the numbers of the targets.
    Bridge::start(folder, setup)?.stop()?;
    let count = parts.iter().map(|(count, _)| count).sum();
    let (store, bodies) = (Store::open(folder)?, Bodies::before_now(count));
    store.set("journal_mode", "OFF")?;
    store.set("synchronous", "OFF")?;
    store.set("cache_size", "-262144")?;
    let mut end = 0;
    for (count, fate) in parts {
        let begin = end;
        end += count;
        for first in (begin..end).step_by(usize::try_from(GROUP)?) {
            store.in_one_transaction(|store| {
                (first..end.min(first + GROUP)).try_for_each(|n| store.insert(&bodies, n, *fate))
            })?;
        }
    }
    store.set("journal_mode", "WAL")?;
    // The file is synced to the disk before any measurement.
    drop(store);
    std::fs::File::open(database(folder))?.sync_all()?;
    Ok(())
}

impl Store {
    /// Opens the database of `folder`.
    pub fn open(folder: &Path) -> Outcome<Self> {
        Ok(Self(Connection::open(database(folder))?))
    }

    /// Sets a pragma.
    pub fn set(&self, pragma: &str, value: &str) -> Outcome<()> {
        Ok(self.0.pragma_update_and_check(None, pragma, value, |_| Ok(())).or_else(|error| match error {
            rusqlite::Error::QueryReturnedNoRows => Ok(()),
            other => Err(other),
        })?)
    }

    /// Runs `work` in one transaction.
    pub fn in_one_transaction(&self, work: impl FnOnce(&Self) -> rusqlite::Result<()>) -> Outcome<()> {
        let transaction = self.0.unchecked_transaction()?;
        work(self)?;
        Ok(transaction.commit()?)
    }

    /// Stores event `n` as number `sequence`.
    pub fn insert_event(&self, bodies: &Bodies, n: u64, sequence: u64) -> rusqlite::Result<()> {
        self.event(bodies, n, sequence, bodies.kind(n))
    }

    fn event(&self, bodies: &Bodies, n: u64, sequence: u64, kind: &str) -> rusqlite::Result<()> {
        let mut insert = self.0.prepare_cached(
            "INSERT INTO event (sequence, id, type, object_id, created, source, origin, environment, \
                                received_at, body) \
             VALUES (?1, ?2, ?3, ?4, ?5, 'webhook', 'default', 'devnet', ?6, ?7) ON CONFLICT (id) DO NOTHING",
        )?;
        let (at, body) = (bodies.start, bodies.get(n));
        let row =
            params![column(sequence), bodies.id(n), kind, bodies.object(n), at.seconds(), at.0, &body[..]];
        insert.execute(row).map(drop)
    }

    fn insert(&self, bodies: &Bodies, n: u64, fate: Fate) -> rusqlite::Result<()> {
        let (at, sequence) = (bodies.start.0, n + 1);
        match fate {
            Fate::Delivered => {
                self.event(bodies, n, sequence, bodies.kind(n))?;
                let mut delivery = self.0.prepare_cached(
                    "INSERT INTO delivery (target_id, sequence, state, rank, attempts, first_attempt_at, settled_at, \
                                           status, duration_ms) \
                     SELECT id, ?1, 'delivered', ?1, 1, ?2, ?2 + ?3, 200, ?3 FROM target",
                )?;
                delivery.execute(params![column(sequence), at, DELIVERED_AFTER]).map(drop)
            }
            Fate::Undelivered => {
                self.event(bodies, n, sequence, bodies.kind(n))?;
                self.pending(sequence, n, None)
            }
            Fate::WaitingFor { target } => {
                self.event(bodies, n, sequence, "test.ping")?;
                self.pending(sequence, n, Some(target))
            }
        }
    }

    /// Inserts a pending delivery of an event, in the lane of its object; for one target or for all.
    fn pending(&self, sequence: u64, n: u64, target: Option<&str>) -> rusqlite::Result<()> {
        let mut insert = self.0.prepare_cached(
            "INSERT INTO delivery (target_id, sequence, state, lane, rank) \
             SELECT id, ?1, 'pending', ?2, ?1 FROM target WHERE ?3 IS NULL OR name = ?3",
        )?;
        insert.execute(params![column(sequence), column(object(n)), target]).map(drop)
    }
}

/// Converts a number to the integer type of SQLite.
pub fn column(number: u64) -> i64 {
    i64::try_from(number).unwrap_or(i64::MAX)
}
