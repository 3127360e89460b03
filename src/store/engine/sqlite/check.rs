//! Checks a store for `doctor`. Changes nothing and needs no running bridge.

use std::io;
use std::path::Path;
use std::sync::mpsc::{RecvTimeoutError, sync_channel};
use std::thread;
use std::time::Duration;

use rusqlite::{Connection, ErrorCode};

use super::file::{self, Lock};
use super::{identity, open};
use crate::store::error::OpenError;
use crate::store::identity::{OtherIdentity, SourceIdentity, reconcile};
use crate::store::view::Backlog;

/// The state of a store.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Checkup {
    /// The version of its schema.
    pub schema: i64,
    /// The newest schema version that this program knows. The next start migrates an older one to
    /// it.
    pub newest_schema: i64,
    /// The number of events, as in `/status`: older events that still have an unfinished or dead
    /// delivery are not counted.
    pub events: i64,
    /// The size of the database in bytes, without the write-ahead log.
    pub bytes: u64,
    /// The size of the write-ahead log in bytes.
    pub wal_bytes: u64,
    /// The result of the check of its integrity.
    pub integrity: Integrity,
}

/// The result of `PRAGMA quick_check`.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Integrity {
    /// No damage was found.
    Sound,
    /// The first damage that was found.
    Damaged(String),
    /// The time limit ended the check. No damage was found until then.
    Unfinished,
}

/// Returns the engine and its version, such as `SQLite 3.51.3`.
pub fn engine() -> String {
    format!("SQLite {}", rusqlite::version())
}

/// Returns whether a bridge has `database` open.
///
/// The lock is tried for an instant, shared with others who try it. A bridge that starts in that
/// instant is refused, and starts at its next try.
///
/// # Errors
/// If the lock file cannot be read.
pub fn is_in_use(database: &Path) -> io::Result<bool> {
    Lock::is_held(&open::canonical(database))
}

/// Checks `database`; `None` if it does not exist yet. The check of its integrity takes at most
/// `limit`. Blocks.
///
/// # Errors
/// [`OpenError`] if a bridge could not open it either.
pub fn examine(database: &Path, limit: Duration) -> Result<Option<Checkup>, OpenError> {
    open::check_engine()?;
    if open::schema_of(database)?.is_none() {
        return Ok(None);
    }
    let failed = |error: rusqlite::Error| open::database(database, &error);
    let connection = open::open_reader(database)?;
    let newest = "SELECT coalesce(max(version), 0) FROM _sqlx_migrations";
    let schema = connection.query_row(newest, [], |row| row.get(0)).map_err(failed)?;
    let events = events(&connection).map_err(failed)?;
    let integrity = quick_check(&connection, limit).map_err(failed)?;
    let bytes = database.metadata().map_or(0, |file| file.len());
    let wal_bytes = file::wal_bytes(database);
    let newest_schema = open::newest();
    Ok(Some(Checkup { schema, newest_schema, events, bytes, wal_bytes, integrity }))
}

/// The Pepay accounts of a store's events, compared with the configured sources.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Identities {
    /// The store has no identity or no event. It takes the identity of the next source.
    None,
    /// The accounts are those of the configured sources, as far as they are known.
    Same(Vec<SourceIdentity>),
    /// The events come from another Pepay or another account.
    Other(Box<OtherIdentity>),
}

/// Compares the identities in `database` with those of the configured sources, which are `found`.
///
/// # Errors
/// [`OpenError`] if it cannot be read.
pub fn identities(database: &Path, found: &[SourceIdentity]) -> Result<Identities, OpenError> {
    if open::schema_of(database)?.is_none() {
        return Ok(Identities::None);
    }
    let failed = |error: rusqlite::Error| open::database(database, &error);
    let connection = open::open_reader(database)?;
    if !connection.table_exists(None, "source_identity").map_err(failed)? {
        return Ok(Identities::None);
    }
    let stored = identity::all(&connection).map_err(failed)?;
    let holds_anything = "SELECT EXISTS (SELECT 1 FROM event) OR EXISTS (SELECT 1 FROM stream_cursor)";
    if stored.is_empty() || !connection.query_row(holds_anything, [], |row| row.get(0)).map_err(failed)? {
        return Ok(Identities::None);
    }
    Ok(match reconcile(&stored, found) {
        Ok(_) => Identities::Same(stored),
        Err(other) => Identities::Other(other),
    })
}

/// Returns the unfinished and dead deliveries of each target of `database`, by name. Empty if the
/// database does not exist yet.
///
/// # Errors
/// [`OpenError`] if it cannot be read.
pub fn backlogs(database: &Path) -> Result<Vec<Backlog>, OpenError> {
    if open::schema_of(database)?.is_none_or(|schema| schema < FIRST_WITH_STATES) {
        return Ok(Vec::new());
    }
    let failed = |error: rusqlite::Error| open::database(database, &error);
    let connection = open::open_reader(database)?;
    let read = || -> rusqlite::Result<Vec<Backlog>> {
        let mut select = connection.prepare(BACKLOGS)?;
        let rows = select.query_map([], |row| {
            let count =
                |column: &str| row.get::<_, i64>(column).map(|count| u64::try_from(count).unwrap_or(0));
            Ok(Backlog {
                target: row.get::<_, String>("name")?.into(),
                open: count("open")?,
                oldest: None,
                held: count("held")?,
                dead: count("dead")?,
            })
        })?;
        rows.collect()
    };
    read().map_err(failed)
}

/// The first schema with an index of dead deliveries.
const FIRST_WITH_STATES: i64 = 2;

const BACKLOGS: &str = "SELECT t.name AS name, \
       (SELECT count(*) FROM delivery d INDEXED BY delivery_open WHERE d.target_id = t.id AND d.settled_at IS NULL AND d.state <> 'held') AS open, \
       (SELECT count(*) FROM delivery d INDEXED BY delivery_open WHERE d.target_id = t.id AND d.settled_at IS NULL AND d.state = 'held') AS held, \
       (SELECT count(*) FROM delivery d INDEXED BY delivery_dead WHERE d.target_id = t.id AND d.state = 'dead') AS dead \
     FROM target t ORDER BY t.name";

/// Returns the number of events in the range from which none has been removed. Its sequences have
/// no gaps.
fn events(connection: &Connection) -> rusqlite::Result<i64> {
    // The first schema removed no events and has no table for this.
    let removed = if connection.table_exists(None, "retention")? {
        "SELECT events_through FROM retention"
    } else {
        "SELECT coalesce(min(sequence) - 1, 0) FROM event"
    };
    let query = format!("SELECT max(coalesce((SELECT max(sequence) FROM event), 0) - ({removed}), 0)");
    connection.query_row(&query, [], |row| row.get(0))
}

fn quick_check(connection: &Connection, limit: Duration) -> rusqlite::Result<Integrity> {
    let interrupter = connection.get_interrupt_handle();
    let (done, end) = sync_channel::<()>(1);
    let verdict = thread::scope(|scope| {
        scope.spawn(move || {
            if end.recv_timeout(limit) == Err(RecvTimeoutError::Timeout) {
                interrupter.interrupt();
            }
        });
        let verdict = connection.query_row("PRAGMA quick_check(1)", [], |row| row.get::<_, String>(0));
        drop(done);
        verdict
    });
    match verdict {
        Ok(verdict) if verdict == "ok" => Ok(Integrity::Sound),
        Ok(damage) => Ok(Integrity::Damaged(damage)),
        Err(error) => match error.sqlite_error_code() {
            Some(ErrorCode::OperationInterrupted) => Ok(Integrity::Unfinished),
            Some(ErrorCode::DatabaseCorrupt) => Ok(Integrity::Damaged(error.to_string())),
            _ => Err(error),
        },
    }
}
