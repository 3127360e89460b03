//! Questions to the store, asked on a small read-only pool beside the writer.

mod backlog;
mod compare;
mod deliveries;
mod detail;
mod events;
mod matching;
mod road;
mod select;
mod usage;

use std::collections::HashMap;
use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::time::Duration;

use sqlx::sqlite::{SqliteConnectOptions, SqlitePool, SqlitePoolOptions};
use sqlx::{ConnectOptions as _, QueryBuilder, Row as _};

use super::error::ReadError;
use super::schema::{OpenError, database};
use super::types::{Held, Position, Resume};
use super::view::Summary;
use crate::domain::event::{Digest, EventId, InvalidEventId};

pub(super) use self::compare::{Seen, WINDOW};

/// Connections of the pool. Reads are short; each connection costs a thread.
const CONNECTIONS: u32 = 2;

/// A pool of read-only connections. Cheap to clone.
#[derive(Clone, Debug)]
pub(super) struct Reader {
    pool: SqlitePool,
    path: Arc<PathBuf>,
}

impl Reader {
    pub(super) async fn open(path: &Path) -> Result<Self, OpenError> {
        let options = SqliteConnectOptions::new()
            .filename(path)
            .read_only(true)
            .busy_timeout(Duration::from_secs(5))
            .pragma("cache_size", "-512")
            .disable_statement_logging();
        let pool = SqlitePoolOptions::new()
            .max_connections(CONNECTIONS)
            .min_connections(1)
            .acquire_timeout(Duration::from_secs(5));
        let pool = pool.connect_with(options).await.map_err(|error| database(path, &error))?;
        Ok(Self { pool, path: Arc::new(path.to_owned()) })
    }

    pub(super) async fn resume(&self, stream: &str) -> Result<Option<Resume>, ReadError> {
        let row = sqlx::query("SELECT event_id, created, history FROM stream_cursor WHERE stream = ?1")
            .bind(stream)
            .fetch_optional(&self.pool)
            .await?;
        row.map(|row| {
            let event: Option<&str> = row.try_get("event_id")?;
            let event = event
                .map(str::parse)
                .transpose()
                .map_err(|error: InvalidEventId| ReadError(error.to_string()))?;
            let position = Position { event, created: row.try_get("created")? };
            Ok(Resume { position, history: row.try_get("history")? })
        })
        .transpose()
    }

    pub(super) async fn compare(&self, events: &[(EventId, Option<Digest>)]) -> Result<Vec<Held>, ReadError> {
        let mut query = QueryBuilder::new("SELECT id, digest FROM event WHERE id IN (");
        let mut list = query.separated(", ");
        for (id, _) in events {
            list.push_bind(id.as_str());
        }
        query.push(")");
        let rows = query.build().fetch_all(&self.pool).await?;
        let stored =
            rows.iter().map(|row| Ok((row.try_get::<&str, _>(0)?, row.try_get::<Option<&[u8]>, _>(1)?)));
        let stored = stored.collect::<Result<HashMap<_, _>, sqlx::Error>>()?;
        let held = |(id, digest): &(EventId, Option<Digest>)| match (stored.get(id.as_str()), digest) {
            (None, _) => Held::Missing,
            (Some(Some(stored)), Some(digest)) if *stored != digest.0 => Held::Different,
            (Some(_), _) => Held::Same,
        };
        Ok(events.iter().map(held).collect())
    }

    pub(super) async fn summary(&self) -> Result<Summary, ReadError> {
        let Extent { first, last } = self.extent().await?;
        let engine = sqlx::query("SELECT sqlite_version()").fetch_one(&self.pool).await?;
        Ok(Summary {
            first_sequence: if last == 0 { 0 } else { first },
            last_sequence: last,
            engine: format!("SQLite {}", engine.try_get::<&str, _>(0)?),
        })
    }

    pub(super) async fn paused(&self) -> Result<Vec<Arc<str>>, ReadError> {
        let query = "SELECT name FROM target WHERE paused_at IS NOT NULL ORDER BY name";
        let rows = sqlx::query(query).fetch_all(&self.pool).await?;
        rows.iter().map(|row| Ok(row.try_get::<&str, _>(0)?.into())).collect()
    }

    /// The pool itself.
    #[cfg(test)]
    pub(super) const fn pool(&self) -> &SqlitePool {
        &self.pool
    }

    /// Every connection there is.
    #[cfg(test)]
    pub(super) async fn hold(&self) -> Vec<sqlx::pool::PoolConnection<sqlx::Sqlite>> {
        let mut held = Vec::new();
        for _ in 0..CONNECTIONS {
            held.push(self.pool.acquire().await.unwrap());
        }
        held
    }

    /// Between which sequences every event is held.
    async fn extent(&self) -> Result<Extent, ReadError> {
        let query =
            "SELECT r.events_through, coalesce((SELECT max(sequence) FROM event), 0) FROM retention r";
        let row = sqlx::query(query).fetch_one(&self.pool).await?;
        let (through, newest): (i64, i64) = (row.try_get(0)?, row.try_get(1)?);
        Ok(Extent { first: through + 1, last: newest.max(through) })
    }
}

/// The sequences between which every event is held. Below `first` there may be
/// single ones, whose deliveries have not ended.
#[derive(Clone, Copy, Debug)]
struct Extent {
    first: i64,
    last: i64,
}

fn count(rows: i64) -> u64 {
    u64::try_from(rows).unwrap_or(0)
}

impl From<sqlx::Error> for ReadError {
    fn from(error: sqlx::Error) -> Self {
        Self(error.to_string())
    }
}

/// Every query that is asked here, for the test that looks at how SQLite would
/// answer them.
#[cfg(test)]
pub(super) mod asked {
    use super::*;
    use crate::domain::delivery::State;
    use crate::domain::operator::{Cursor, Filter};

    /// Those that are always the same.
    pub(in crate::store) const FIXED: [&str; 13] = [
        backlog::WAITING,
        compare::SEEN_AFTER,
        compare::DELIVERED_BELOW,
        compare::OLDEST_OPEN,
        detail::SIGHTINGS,
        detail::ATTEMPTS,
        detail::CONFLICTS,
        detail::BODY,
        road::BY_ID,
        road::IN_BLOCKS,
        road::BY_OBJECT,
        road::BY_SEQUENCE,
        road::ARRIVAL,
    ];

    /// The one that takes the newest deliveries of a target, whatever became of them.
    pub(in crate::store) const NEWEST: &str = compare::DELIVERED_BELOW;

    /// Those that are put together for `filter`.
    pub(in crate::store) fn of(filter: &Filter, cursor: Option<Cursor>) -> Vec<String> {
        let sequences = [1, 2, 3];
        let queries = [
            events::events_query(filter, &sequences, 50),
            events::standings_query(&sequences),
            deliveries::deliveries_query(filter, cursor, &sequences, 50),
            matching::keys_query(filter, &State::ALL, &sequences),
        ];
        let walks = State::ALL.into_iter().filter_map(road::open_to).map(str::to_owned);
        queries.iter().map(|query| query.sql().as_str().to_owned()).chain(walks).collect()
    }
}
