//! SQLite alone: one thread commits the same rows as the bridge, in groups of 64. The result is the upper
//! limit of a bridge on SQLite. It is measured with the library of the bridge (rusqlite), and with sqlx
//! and one statement per group.

use std::collections::BTreeMap;
use std::ops::Range;
use std::path::Path;
use std::time::{Duration, Instant};

use sqlx::sqlite::{SqliteConnectOptions, SqliteJournalMode, SqliteSynchronous};
use sqlx::{Connection as _, QueryBuilder, Sqlite, SqliteConnection};

use crate::bridge::{Bridge, Setup, database};
use crate::fill::{Store, column};
use crate::load::exact;
use crate::measure::{Figures, Quantity};
use crate::requests::Bodies;
use crate::{Outcome, proc};

/// The number of events in a transaction.
const GROUP: u64 = 64;

/// The library between the program and SQLite.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Library {
    /// rusqlite, with a prepared statement per row.
    Rusqlite,
    /// sqlx, with one statement for all rows of a group.
    Sqlx,
}

/// Inserts events for `time`.
pub fn measure(folder: &Path, time: Duration, library: Library) -> Outcome<Figures> {
    // The bridge creates the schema.
    Bridge::start(folder, &Setup::nothing())?.stop()?;
    let bodies = Bodies::new();
    let (started, cpu) = (Instant::now(), proc::cpu(std::process::id())?);
    let events = match library {
        Library::Rusqlite => by_row(folder, &bodies, started + time)?,
        Library::Sqlx => by_group(folder, &bodies, started + time)?,
    };
    let seconds = started.elapsed().as_secs_f64();
    let cpu = proc::cpu(std::process::id())?.saturating_sub(cpu).as_secs_f64() * 1e6;
    Ok(BTreeMap::from([(Quantity::Rate, exact(events) / seconds), (Quantity::Cpu, cpu / exact(events))]))
}

fn by_row(folder: &Path, bodies: &Bodies, end: Instant) -> Outcome<u64> {
    let store = Store::open(folder)?;
    store.set("synchronous", "FULL")?;
    store.set("cache_size", "-4096")?;
    let mut events = 0;
    while Instant::now() < end {
        store.in_one_transaction(|store| {
            (events..events + GROUP).try_for_each(|n| store.insert_event(bodies, n, n + 1))
        })?;
        events += GROUP;
    }
    Ok(events)
}

fn by_group(folder: &Path, bodies: &Bodies, end: Instant) -> Outcome<u64> {
    let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build()?;
    runtime.block_on(async {
        let options = SqliteConnectOptions::new()
            .filename(database(folder))
            .journal_mode(SqliteJournalMode::Wal)
            .synchronous(SqliteSynchronous::Full)
            .pragma("cache_size", "-4096");
        let mut connection = SqliteConnection::connect_with(&options).await?;
        let mut events = 0;
        while Instant::now() < end {
            let mut transaction = connection.begin().await?;
            let new = insert(bodies, events..events + GROUP).build().fetch_all(&mut *transaction).await?;
            transaction.commit().await?;
            events += u64::try_from(new.len())?;
        }
        connection.close().await?;
        Ok(events)
    })
}

/// Returns the query that stores these events and returns the numbers of the new ones.
fn insert(bodies: &Bodies, events: Range<u64>) -> QueryBuilder<Sqlite> {
    let mut query = QueryBuilder::new(
        "INSERT INTO event (sequence, id, type, object_id, created, source, origin, environment, \
                            received_at, body) ",
    );
    query.push_values(events, |mut row, n| {
        let at = bodies.start;
        row.push_bind(column(n + 1))
            .push_bind(bodies.id(n))
            .push_bind(bodies.kind(n))
            .push_bind(bodies.object(n));
        row.push_bind(at.seconds()).push("'webhook'").push("'default'").push("'devnet'");
        row.push_bind(at.0).push_bind(bodies.get(n).to_vec());
    });
    query.push(" ON CONFLICT (id) DO NOTHING RETURNING sequence");
    query
}
