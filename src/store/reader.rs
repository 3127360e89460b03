//! Questions to the store, asked on a small read-only pool beside the writer.

mod backlog;
mod stub;

use std::collections::HashSet;
use std::path::Path;
use std::time::Duration;

use sqlx::sqlite::{SqliteConnectOptions, SqlitePool, SqlitePoolOptions};
use sqlx::{ConnectOptions as _, QueryBuilder, Row as _};

use super::archive::Summary;
use super::inbox::{Position, ReadError};
use super::schema::{OpenError, database};
use crate::domain::event::{EventId, InvalidEventId};

/// Connections of the pool. Reads are short; each connection costs a thread.
const CONNECTIONS: u32 = 2;

/// A pool of read-only connections. Cheap to clone.
#[derive(Clone, Debug)]
pub(super) struct Reader(SqlitePool);

impl Reader {
    pub(super) async fn open(path: &Path) -> Result<Self, OpenError> {
        let options = SqliteConnectOptions::new()
            .filename(path)
            .read_only(true)
            .busy_timeout(Duration::from_secs(5))
            .pragma("cache_size", "-1024")
            .disable_statement_logging();
        let pool = SqlitePoolOptions::new()
            .max_connections(CONNECTIONS)
            .min_connections(1)
            .acquire_timeout(Duration::from_secs(5));
        pool.connect_with(options).await.map(Self).map_err(|error| database(path, &error))
    }

    pub(super) async fn position(&self, stream: &str) -> Result<Option<Position>, ReadError> {
        let row = sqlx::query("SELECT event_id, created FROM stream_cursor WHERE stream = ?1")
            .bind(stream)
            .fetch_optional(&self.0)
            .await?;
        row.map(|row| {
            let event: Option<&str> = row.try_get(0)?;
            let event = event
                .map(str::parse)
                .transpose()
                .map_err(|error: InvalidEventId| ReadError(error.to_string()))?;
            Ok(Position { event, created: row.try_get(1)? })
        })
        .transpose()
    }

    pub(super) async fn holds(&self, ids: &[EventId]) -> Result<Vec<bool>, ReadError> {
        let mut query = QueryBuilder::new("SELECT id FROM event WHERE id IN (");
        let mut list = query.separated(", ");
        for id in ids {
            list.push_bind(id.as_str());
        }
        query.push(")");
        let rows = query.build().fetch_all(&self.0).await?;
        let held = rows.iter().map(|row| row.try_get::<&str, _>(0)).collect::<Result<HashSet<_>, _>>()?;
        Ok(ids.iter().map(|id| held.contains(id.as_str())).collect())
    }

    pub(super) async fn summary(&self) -> Result<Summary, ReadError> {
        let query = "SELECT coalesce((SELECT min(sequence) FROM event), 0), \
                            coalesce((SELECT max(sequence) FROM event), 0), sqlite_version()";
        let row = sqlx::query(query).fetch_one(&self.0).await?;
        Ok(Summary {
            first_sequence: row.try_get(0)?,
            last_sequence: row.try_get(1)?,
            engine: format!("SQLite {}", row.try_get::<&str, _>(2)?),
        })
    }
}

fn count(rows: i64) -> u64 {
    u64::try_from(rows).unwrap_or(0)
}

impl From<sqlx::Error> for ReadError {
    fn from(error: sqlx::Error) -> Self {
        Self(error.to_string())
    }
}
