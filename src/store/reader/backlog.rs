//! What waits for each target.

use std::sync::Arc;

use sqlx::Row as _;

use super::Reader;
use crate::domain::clock::UnixMillis;
use crate::store::error::ReadError;
use crate::store::types::TargetId;

/// A target, and when the event of its oldest delivery still to be made arrived.
pub(in crate::store) type Waiting = (TargetId, Arc<str>, Option<UnixMillis>);

// The index is named, since SQLite takes the unfinished for most of a target's deliveries,
// and would rather look for the first of them among all that it ever had.
pub(super) const WAITING: &str = "SELECT t.id, t.name, \
       (SELECT e.received_at FROM event e WHERE e.sequence = (SELECT min(oldest) FROM ( \
          SELECT (SELECT min(d.sequence) FROM delivery d INDEXED BY delivery_open \
                  WHERE d.target_id = t.id AND d.settled_at IS NULL AND d.state = s.state) AS oldest \
          FROM (SELECT 'pending' AS state UNION ALL SELECT 'sending' UNION ALL SELECT 'retrying') s))) \
     FROM target t ORDER BY t.name";

impl Reader {
    /// Every target that was ever configured, by name.
    pub(in crate::store) async fn waiting(&self) -> Result<Vec<Waiting>, ReadError> {
        let rows = sqlx::query(WAITING).fetch_all(&self.pool).await?;
        let waiting = rows.iter().map(|row| {
            let oldest = row.try_get::<Option<i64>, _>(2)?.map(UnixMillis);
            Ok((TargetId(row.try_get(0)?), row.try_get::<&str, _>(1)?.into(), oldest))
        });
        waiting.collect()
    }
}
