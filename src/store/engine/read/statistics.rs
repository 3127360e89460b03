//! Reads numbers about the whole store: its size, the backlog of each target, the sources of
//! events, and delivery times.

use std::sync::Arc;

use super::decode::{self, count, readable};
use super::rows::Database;
use super::{Extent, Reader};
use crate::domain::clock::UnixMillis;
use crate::store::engine::sqlite::file::{self, Disk};
use crate::store::error::ReadError;
use crate::store::types::Seen;
use crate::store::types::TargetId;
use crate::store::view::{Summary, Usage};

/// The number of a target's newest delivered events whose times are read.
const DELIVERED: i64 = 500;

/// The number of a target's newest deliveries among which delivered ones are searched for.
const SEARCHED: i64 = 5000;

/// A target, and the time of arrival of its oldest event that is still to be delivered.
pub(in crate::store) type Waiting = (TargetId, Arc<str>, Option<UnixMillis>);

/// The times of the newest first deliveries to a target.
pub(in crate::store) struct DeliveryTimes {
    pub(in crate::store) target: Arc<str>,
    /// The time of each delivery, in milliseconds.
    pub(in crate::store) taken: Vec<u64>,
    /// The time of the earliest acknowledgement among them.
    pub(in crate::store) since: Option<UnixMillis>,
}

/// The query names the index. SQLite assumes that most deliveries of a target are unfinished, and
/// would search all that the target ever had for the first one.
pub(super) const WAITING: &str = "SELECT t.id AS id, t.name AS name, \
       (SELECT e.received_at FROM event e WHERE e.sequence = (SELECT min(oldest) FROM ( \
          SELECT (SELECT min(d.sequence) FROM delivery d INDEXED BY delivery_open \
                  WHERE d.target_id = t.id AND d.settled_at IS NULL AND d.state = s.state) AS oldest \
          FROM (SELECT 'pending' AS state UNION ALL SELECT 'sending' UNION ALL SELECT 'retrying') s) o)) \
       AS oldest \
     FROM target t ORDER BY t.name";

pub(super) const SEEN_AFTER: &str = "SELECT e.sequence AS sequence, e.source AS source, e.received_at AS received_at, \
       (SELECT s.at FROM sighting s WHERE s.sequence = e.sequence AND s.source = 'stream') AS stream_at, \
       (SELECT s.at FROM sighting s WHERE s.sequence = e.sequence AND s.source = 'webhook') AS webhook_at \
     FROM event e WHERE e.sequence > $1 ORDER BY e.sequence LIMIT $2";

/// Leaves out the deliveries that an operator has sent again. After a retry or a release, an
/// attempt is earlier than the one that counts as the first.
pub(super) const DELIVERED_BELOW: &str = "SELECT n.settled_at - e.received_at AS took_ms, n.settled_at AS at FROM \
       (SELECT d.sequence, d.state, d.replays, d.settled_at, d.attempts, d.first_attempt_at FROM delivery d \
        WHERE d.target_id = $1 AND d.sequence < $2 ORDER BY d.sequence DESC LIMIT $3) n \
     CROSS JOIN event e ON e.sequence = n.sequence WHERE n.state = 'delivered' AND n.replays = 0 \
       AND (n.attempts = 1 OR NOT EXISTS (SELECT 1 FROM attempt a WHERE a.target_id = $1 \
              AND a.sequence = n.sequence AND a.started_at < n.first_attempt_at)) LIMIT $4";

/// The query names the index for the reason given at [`WAITING`].
pub(super) const OLDEST_OPEN: &str = "SELECT min(sequence) AS oldest FROM delivery INDEXED BY delivery_open \
     WHERE target_id = $1 AND settled_at IS NULL AND state = $2";

impl Reader {
    /// Returns the range of sequences and the engine.
    pub(in crate::store) async fn summary(&self) -> Result<Summary, ReadError> {
        let Extent { first, last } = self.extent().await?;
        let engine = match &self.database {
            Database::Sqlite { .. } => {
                let row = self.database.only_row("SELECT sqlite_version() AS version", []).await?;
                format!("SQLite {}", row.text("version")?)
            }
            Database::Postgres { .. } => {
                let query = "SELECT current_setting('server_version') AS version";
                format!("PostgreSQL {}", self.database.only_row(query, []).await?.text("version")?)
            }
        };
        Ok(Summary { first_sequence: if last == 0 { 0 } else { first }, last_sequence: last, engine })
    }

    /// Returns the size of the store and the free space of its disk.
    pub(in crate::store) async fn usage(&self) -> Result<Usage, ReadError> {
        let Database::Sqlite { path, .. } = &self.database else {
            return self.usage_of_schema().await;
        };
        let query = "SELECT c.page_count * s.page_size AS size, f.freelist_count * s.page_size AS free \
                     FROM pragma_page_count c, pragma_page_size s, pragma_freelist_count f";
        let row = self.database.only_row(query, []).await?;
        let path = Arc::clone(path);
        // The call has a thread of its own, since it does not return while the disk hangs.
        let looked = tokio::task::spawn_blocking(move || (Disk::of(&path), file::last_backup(&path))).await;
        let (disk, last_backup_at) = looked.map_err(|error| ReadError(error.to_string()))?;
        let Disk { free, total } =
            disk.map_err(|error| ReadError(format!("the free space of its disk is unknown: {error}")))?;
        Ok(Usage {
            database_bytes: count(row.number("size")?),
            wal_bytes: self.wal_bytes(),
            free_bytes: count(row.number("free")?),
            disk_free_bytes: free,
            disk_total_bytes: total,
            last_backup_at,
        })
    }

    /// Returns the size of a schema. The disk of its server is unknown.
    async fn usage_of_schema(&self) -> Result<Usage, ReadError> {
        let query = "SELECT coalesce(sum(pg_total_relation_size(c.oid)), 0)::bigint AS size FROM pg_class c \
                     WHERE c.relnamespace = current_schema()::regnamespace AND c.relkind = 'r'";
        let database_bytes = count(self.database.only_row(query, []).await?.number("size")?);
        Ok(Usage {
            database_bytes,
            wal_bytes: 0,
            free_bytes: 0,
            disk_free_bytes: 0,
            disk_total_bytes: 0,
            last_backup_at: None,
        })
    }

    /// Returns the size of the write-ahead log, in bytes.
    pub(in crate::store) fn wal_bytes(&self) -> u64 {
        match &self.database {
            Database::Sqlite { path, .. } => file::wal_bytes(path),
            // The server keeps its own log.
            Database::Postgres { .. } => 0,
        }
    }

    /// Returns every target that was ever configured, by name.
    pub(in crate::store) async fn waiting(&self) -> Result<Vec<Waiting>, ReadError> {
        let rows = self.database.rows(WAITING, []).await?;
        let waiting = rows.iter().map(|row| {
            let oldest = row.number_or_null("oldest")?.map(UnixMillis);
            Ok((TargetId(row.number("id")?), row.text("name")?.into(), oldest))
        });
        waiting.collect()
    }

    /// Returns at most `limit` events after `sequence`, with the live sources that brought each.
    pub(in crate::store) async fn seen_after(
        &self,
        sequence: i64,
        limit: i64,
    ) -> Result<Vec<Seen>, ReadError> {
        let rows = self.database.rows(SEEN_AFTER, [sequence.into(), limit.into()]).await?;
        Ok(rows.iter().filter_map(|row| readable(decode::seen(row), row)).collect())
    }

    /// Returns the same for the newest `limit` events.
    pub(in crate::store) async fn newest_seen(&self, limit: i64) -> Result<Vec<Seen>, ReadError> {
        let newest = self.extent().await?.last;
        self.seen_after(newest.saturating_sub(limit), limit).await
    }

    /// Returns, for the newest delivered events of each target, the time from arrival to
    /// acknowledgement.
    pub(in crate::store) async fn delivery_times(&self) -> Result<Vec<DeliveryTimes>, ReadError> {
        let query = "SELECT id, name FROM target ORDER BY name";
        let targets = self.database.rows(query, []).await?;
        let mut times = Vec::new();
        for target in targets {
            let (id, name): (i64, &str) = (target.number("id")?, target.text("name")?);
            let mut taken = self.delivered_below(id, i64::MAX).await?;
            if taken.is_empty() {
                // The newest deliveries are a backlog, and the delivered ones lie below it.
                taken = self.delivered_below(id, self.oldest_open(id).await?).await?;
            }
            let since = taken.iter().map(|(_, at)| *at).min().map(UnixMillis);
            let taken = taken.into_iter().map(|(took, _)| took).collect();
            times.push(DeliveryTimes { target: name.into(), taken, since });
        }
        Ok(times)
    }

    async fn delivered_below(&self, target: i64, below: i64) -> Result<Vec<(u64, i64)>, ReadError> {
        let values = [target.into(), below.into(), SEARCHED.into(), DELIVERED.into()];
        let rows = self.database.rows(DELIVERED_BELOW, values).await?;
        rows.iter().map(|row| Ok((count(row.number("took_ms")?), row.number("at")?))).collect()
    }

    async fn oldest_open(&self, target: i64) -> Result<i64, ReadError> {
        let mut oldest = i64::MAX;
        for state in ["pending", "sending", "retrying"] {
            let row = self.database.only_row(OLDEST_OPEN, [target.into(), state.into()]).await?;
            oldest = oldest.min(row.number_or_null("oldest")?.unwrap_or(i64::MAX));
        }
        Ok(oldest)
    }
}
