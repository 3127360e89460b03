//! Reads from a store, on connections of its own. All engines share one set of queries.
//!
//! | file | holds |
//! |---|---|
//! | [`rows`] | what differs between the engines: pools, values, rows |
//! | [`audit`] | the audit trail |
//! | [`list`], [`detail`] | lists of events and deliveries; one event or delivery in full |
//! | [`statistics`] | sizes, backlogs, the sources of events, delivery times |
//! | [`scan`], [`query`], [`decode`] | which events a list looks at, its SQL, its rows |

#[cfg(test)]
pub(in crate::store) mod asked;
mod audit;
mod decode;
mod detail;
mod list;
mod query;
mod rows;
mod scan;
mod statistics;

pub(in crate::store) use statistics::DeliveryTimes;

use std::collections::HashMap;
use std::path::Path;
use std::sync::Arc;

use sqlx::{PgPool, SqlitePool};

use crate::domain::event::{Digest, EventId, InvalidEventId};
use crate::store::error::ReadError;
use crate::store::types::{Held, Position, Resume};
use crate::store::view::StoredPause;

use rows::{Database, Row};

/// The number of events that one statement compares. The number of its parameters is limited: to 32,766
/// in `SQLite`, to 65,535 in `PostgreSQL`.
const COMPARED_AT_ONCE: usize = 500;

/// Reads from a store. Cheap to clone.
#[derive(Clone, Debug)]
pub(in crate::store) struct Reader {
    database: Database,
}

impl Reader {
    /// Creates a reader of the `SQLite` file at `path`, on the connections of `pool`.
    pub(in crate::store) fn of_sqlite(pool: SqlitePool, path: &Path) -> Self {
        Self { database: Database::Sqlite { pool, path: Arc::new(path.to_owned()) } }
    }

    /// Creates a reader of a schema of `PostgreSQL`, on the connections of `pool`. With a pooler
    /// that shares sessions, `shared` is the statement that begins each transaction.
    pub(in crate::store) fn of_postgres(pool: PgPool, shared: Option<Arc<str>>) -> Self {
        Self { database: Database::Postgres { pool, shared } }
    }

    /// Returns the pool of `SQLite`.
    #[cfg(test)]
    pub(in crate::store) fn pool(&self) -> &SqlitePool {
        match &self.database {
            Database::Sqlite { pool, .. } => pool,
            Database::Postgres { .. } => panic!("not a file"),
        }
    }

    /// Takes every connection of the pool.
    #[cfg(test)]
    pub(in crate::store) async fn hold(&self) -> Vec<impl Sized + use<>> {
        let pool = self.pool();
        let mut held = Vec::new();
        for _ in 0..pool.options().get_max_connections() {
            held.push(pool.acquire().await.unwrap());
        }
        held
    }

    /// Returns the place from which `stream` goes on; `None` before its first cursor.
    pub(in crate::store) async fn resume(&self, stream: &str) -> Result<Option<Resume>, ReadError> {
        let query = "SELECT event_id, created, history FROM stream_cursor WHERE stream = $1";
        let row = self.database.row(query, [stream.into()]).await?;
        row.map(|row| {
            let event = row
                .text_or_null("event_id")?
                .map(str::parse)
                .transpose()
                .map_err(|error: InvalidEventId| ReadError(error.to_string()))?;
            let position = Position { event, created: row.number("created")? };
            Ok(Resume { position, history: row.text_or_null("history")?.map(str::to_owned) })
        })
        .transpose()
    }

    /// Returns whether the store has an event or a cursor of a stream.
    pub(in crate::store) async fn holds_anything(&self) -> Result<bool, ReadError> {
        let query = "SELECT (SELECT count(*) FROM (SELECT 1 FROM event LIMIT 1) e) \
                          + (SELECT count(*) FROM (SELECT 1 FROM stream_cursor LIMIT 1) c) AS held";
        Ok(self.database.only_row(query, []).await?.number("held")? > 0)
    }

    /// Returns for each of `events`, in their order, whether the store has it.
    pub(in crate::store) async fn compare(
        &self,
        events: &[(EventId, Option<Digest>)],
    ) -> Result<Vec<Held>, ReadError> {
        let mut all = Vec::with_capacity(events.len());
        for part in events.chunks(COMPARED_AT_ONCE) {
            let rows = self.database.run(query::digests(part.iter().map(|(id, _)| id.as_str()))).await?;
            let stored = rows.iter().map(|row| Ok((row.text("id")?, row.bytes_or_null("digest")?)));
            let stored = stored.collect::<Result<HashMap<_, _>, sqlx::Error>>()?;
            all.extend(part.iter().map(|(id, digest)| match (stored.get(id.as_str()), digest) {
                (None, _) => Held::Missing,
                (Some(Some(stored)), Some(digest)) if *stored != digest.0 => Held::Different,
                (Some(_), _) => Held::Same,
            }));
        }
        Ok(all)
    }

    /// Returns the targets that are paused, by name.
    pub(in crate::store) async fn pauses(&self) -> Result<Vec<StoredPause>, ReadError> {
        let query = "SELECT name, paused_reason FROM target WHERE paused_at IS NOT NULL ORDER BY name";
        let rows = self.database.rows(query, []).await?;
        let pause = |row: &Row| {
            let reason = row.text_or_null("paused_reason")?.map(str::to_owned);
            Ok(StoredPause { target: row.text("name")?.into(), reason })
        };
        rows.iter().map(pause).collect()
    }

    /// Returns the numbers of all targets, or of the target `name`.
    async fn target_numbers(&self, name: Option<&str>) -> Result<Vec<i64>, ReadError> {
        let query = "SELECT id FROM target WHERE $1 IS NULL OR name = $1";
        let rows = self.database.rows(query, [name.into()]).await?;
        rows.iter().map(|row| Ok(row.number("id")?)).collect()
    }

    /// Returns the range of sequences in which every event is stored.
    async fn extent(&self) -> Result<Extent, ReadError> {
        let query = "SELECT r.events_through AS through, \
                            coalesce((SELECT max(sequence) FROM event), 0) AS newest FROM retention r";
        let row = self.database.only_row(query, []).await?;
        let (through, newest) = (row.number("through")?, row.number("newest")?);
        Ok(Extent { first: through + 1, last: newest.max(through) })
    }
}

/// A range of sequences in which every event is stored. Below `first` only events with an
/// unfinished delivery are left.
#[derive(Clone, Copy, Debug)]
struct Extent {
    first: i64,
    last: i64,
}

impl From<sqlx::Error> for ReadError {
    fn from(error: sqlx::Error) -> Self {
        Self(error.to_string())
    }
}
