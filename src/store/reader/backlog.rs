//! What waits for each target.

use sqlx::Row as _;

use super::{Reader, count};
use crate::domain::clock::UnixMillis;
use crate::store::archive::Backlog;
use crate::store::inbox::ReadError;

impl Reader {
    pub(in crate::store) async fn backlogs(&self) -> Result<Vec<Backlog>, ReadError> {
        let query = "SELECT t.name, \
               (SELECT count(*) FROM delivery d WHERE d.target_id = t.id AND d.settled_at IS NULL), \
               (SELECT count(*) FROM delivery d WHERE d.target_id = t.id AND d.settled_at IS NULL \
                                                  AND d.state = 'held'), \
               (SELECT count(*) FROM delivery d WHERE d.target_id = t.id AND d.state = 'dead'), \
               (SELECT e.received_at FROM event e WHERE e.sequence = (SELECT min(oldest) FROM ( \
                  SELECT (SELECT min(d.sequence) FROM delivery d WHERE d.target_id = t.id \
                            AND d.settled_at IS NULL AND d.state = s.state) AS oldest \
                  FROM (SELECT 'pending' AS state UNION ALL SELECT 'sending' UNION ALL SELECT 'retrying') s))) \
             FROM target t ORDER BY t.name";
        let rows = sqlx::query(query).fetch_all(&self.0).await?;
        rows.iter()
            .map(|row| {
                let (unsettled, held): (i64, i64) = (row.try_get(1)?, row.try_get(2)?);
                Ok(Backlog {
                    target: row.try_get::<&str, _>(0)?.into(),
                    open: count(unsettled - held),
                    held: count(held),
                    dead: count(row.try_get(3)?),
                    oldest: row.try_get::<Option<i64>, _>(4)?.map(UnixMillis),
                })
            })
            .collect()
    }
}
