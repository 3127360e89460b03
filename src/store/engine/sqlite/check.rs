//! A look at a store from outside, which changes nothing and needs no running
//! bridge: what `doctor` says about it.

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

/// A store of ours, as it was found.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Checkup {
    /// The version of its schema.
    pub schema: i64,
    /// The newest version of a schema that this program knows; an older one is
    /// brought up to it by the next start.
    pub newest_schema: i64,
    /// How many events it holds, as `/status` counts them: older ones that still
    /// have a delivery to be made or decided on are left out of account.
    pub events: i64,
    /// Its size in bytes, without the write-ahead log.
    pub bytes: u64,
    /// The size of the write-ahead log in bytes.
    pub wal_bytes: u64,
    /// Whether what is in it hangs together.
    pub integrity: Integrity,
}

/// What came of `PRAGMA quick_check`.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Integrity {
    /// Nothing is wrong.
    Sound,
    /// This is wrong first of all.
    Damaged(String),
    /// Nothing was wrong in the part that was read in time.
    Unfinished,
}

/// The engine and its version, such as `SQLite 3.51.3`.
pub fn engine() -> String {
    format!("SQLite {}", rusqlite::version())
}

/// Whether a bridge has `database` open.
///
/// Its lock is tried for an instant, shared with others who ask; a bridge that
/// starts in that very instant is refused, and starts when it is started again.
///
/// # Errors
/// If the lock file cannot be read.
pub fn is_in_use(database: &Path) -> io::Result<bool> {
    Lock::is_held(&open::canonical(database))
}

/// Looks at `database`; `None` if there is none yet. Its integrity is checked for
/// as long as `limit`. Blocks.
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

/// Whose events a store holds, compared with the configured sources.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Identities {
    /// Nothing is noted of it, or nothing is in it: it takes what it next sees.
    None,
    /// Those of the configured sources, as far as is known.
    Same(Vec<SourceIdentity>),
    /// Another Pepay's or another account's.
    Other(Box<OtherIdentity>),
}

/// Compares whose events `database` holds with the sources that are `found`.
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

/// What waits for each target of `database`, by name: what is still to be made, held and dead.
/// Nothing if there is none yet.
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

/// The first schema in which what is dead has an index of its own.
const FIRST_WITH_STATES: i64 = 2;

const BACKLOGS: &str = "SELECT t.name AS name, \
       (SELECT count(*) FROM delivery d INDEXED BY delivery_open WHERE d.target_id = t.id AND d.settled_at IS NULL AND d.state <> 'held') AS open, \
       (SELECT count(*) FROM delivery d INDEXED BY delivery_open WHERE d.target_id = t.id AND d.settled_at IS NULL AND d.state = 'held') AS held, \
       (SELECT count(*) FROM delivery d INDEXED BY delivery_dead WHERE d.target_id = t.id AND d.state = 'dead') AS dead \
     FROM target t ORDER BY t.name";

/// How many events there are from where none has been removed: their sequences
/// have no gaps.
fn events(connection: &Connection) -> rusqlite::Result<i64> {
    // The first schema removed nothing, and does not say so.
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
