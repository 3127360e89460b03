//! The pool of connections that read, beside the one that writes.

use std::collections::HashMap;
use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::time::Duration;

use sqlx::sqlite::{SqliteConnectOptions, SqlitePool, SqlitePoolOptions};
use sqlx::{ConnectOptions as _, QueryBuilder, Row as _};

use super::open::{OpenError, database};
use crate::domain::event::{Digest, EventId, InvalidEventId};
use crate::store::error::ReadError;
use crate::store::types::{Held, Position, Resume};

/// Connections of the pool. Reads are short; each connection costs a thread.
const CONNECTIONS: u32 = 2;

/// A pool of read-only connections. Cheap to clone.
#[derive(Clone, Debug)]
pub(in crate::store) struct Reader {
    pool: SqlitePool,
    path: Arc<PathBuf>,
}

impl Reader {
    pub(in crate::store) async fn open(path: &Path) -> Result<Self, OpenError> {
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

    /// What `stream` goes on from.
    pub(in crate::store) async fn resume(&self, stream: &str) -> Result<Option<Resume>, ReadError> {
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

    /// What is stored of `events`, in their order.
    pub(in crate::store) async fn compare(
        &self,
        events: &[(EventId, Option<Digest>)],
    ) -> Result<Vec<Held>, ReadError> {
        let mut query = QueryBuilder::new("SELECT id, digest FROM event WHERE id IN (");
        let mut list = query.separated(", ");
        for (id, _) in events {
            list.push_bind(id.as_str());
        }
        query.push(")");
        let rows = query.build().fetch_all(&self.pool).await?;
        let stored = rows
            .iter()
            .map(|row| Ok((row.try_get::<&str, _>("id")?, row.try_get::<Option<&[u8]>, _>("digest")?)));
        let stored = stored.collect::<Result<HashMap<_, _>, sqlx::Error>>()?;
        let held = |(id, digest): &(EventId, Option<Digest>)| match (stored.get(id.as_str()), digest) {
            (None, _) => Held::Missing,
            (Some(Some(stored)), Some(digest)) if *stored != digest.0 => Held::Different,
            (Some(_), _) => Held::Same,
        };
        Ok(events.iter().map(held).collect())
    }

    /// The targets that an operator has paused, by name.
    pub(in crate::store) async fn paused(&self) -> Result<Vec<Arc<str>>, ReadError> {
        let query = "SELECT name FROM target WHERE paused_at IS NOT NULL ORDER BY name";
        let rows = sqlx::query(query).fetch_all(&self.pool).await?;
        rows.iter().map(|row| Ok(row.try_get::<&str, _>("name")?.into())).collect()
    }

    /// The numbers of all targets, or of the one called `name`.
    pub(super) async fn target_numbers(&self, name: Option<&str>) -> Result<Vec<i64>, ReadError> {
        let query = "SELECT id FROM target WHERE ?1 IS NULL OR name = ?1";
        let rows = sqlx::query(query).bind(name).fetch_all(&self.pool).await?;
        rows.iter().map(|row| Ok(row.try_get("id")?)).collect()
    }

    /// The pool itself.
    pub(in crate::store) const fn pool(&self) -> &SqlitePool {
        &self.pool
    }

    /// The database file.
    pub(super) const fn path(&self) -> &Arc<PathBuf> {
        &self.path
    }

    /// Every connection there is.
    #[cfg(test)]
    pub(in crate::store) async fn hold(&self) -> Vec<sqlx::pool::PoolConnection<sqlx::Sqlite>> {
        let mut held = Vec::new();
        for _ in 0..CONNECTIONS {
            held.push(self.pool.acquire().await.unwrap());
        }
        held
    }

    /// The sequences between which every event is stored.
    pub(super) async fn extent(&self) -> Result<Extent, ReadError> {
        let query = "SELECT r.events_through AS through, \
                            coalesce((SELECT max(sequence) FROM event), 0) AS newest FROM retention r";
        let row = sqlx::query(query).fetch_one(&self.pool).await?;
        let (through, newest): (i64, i64) = (row.try_get("through")?, row.try_get("newest")?);
        Ok(Extent { first: through + 1, last: newest.max(through) })
    }
}

/// The sequences between which every event is stored. Below `first` there may be
/// single ones, whose deliveries have not ended.
#[derive(Clone, Copy, Debug)]
pub(super) struct Extent {
    pub(super) first: i64,
    pub(super) last: i64,
}

impl From<sqlx::Error> for ReadError {
    fn from(error: sqlx::Error) -> Self {
        Self(error.to_string())
    }
}
