//! What waits for each target.

use std::sync::Arc;
use std::time::Duration;

use sqlx::Row as _;
use tokio::sync::Mutex;
use tokio::time::Instant;

use super::{Reader, count};
use crate::domain::clock::UnixMillis;
use crate::store::archive::Backlog;
use crate::store::inbox::ReadError;

/// How many times as long as it took to count, what was counted stands: counting
/// takes a twentieth of the time at most. A million takes a tenth of a second.
const STANDS: u32 = 20;

/// Up to so many deliveries are counted anew each time: that takes next to nothing.
const SMALL: u64 = 5_000;

/// What was counted last; those who ask meanwhile share it.
pub(super) type Counted = Arc<Mutex<Option<Count>>>;

#[derive(Debug)]
pub(super) struct Count {
    until: Instant,
    backlogs: Vec<Backlog>,
}

pub(super) const BACKLOGS: &str = "SELECT t.name, \
       (SELECT count(*) FROM delivery d WHERE d.target_id = t.id AND d.settled_at IS NULL), \
       (SELECT count(*) FROM delivery d WHERE d.target_id = t.id AND d.settled_at IS NULL \
                                          AND d.state = 'held'), \
       (SELECT count(*) FROM delivery d WHERE d.target_id = t.id AND d.state = 'dead'), \
       (SELECT e.received_at FROM event e WHERE e.sequence = (SELECT min(oldest) FROM ( \
          SELECT (SELECT min(d.sequence) FROM delivery d WHERE d.target_id = t.id \
                    AND d.settled_at IS NULL AND d.state = s.state) AS oldest \
          FROM (SELECT 'pending' AS state UNION ALL SELECT 'sending' UNION ALL SELECT 'retrying') s))) \
     FROM target t ORDER BY t.name";

impl Reader {
    pub(in crate::store) async fn backlogs(&self) -> Result<Vec<Backlog>, ReadError> {
        // Held while counting, so that whoever comes meanwhile shares the answer.
        let mut counted = self.counted.lock().await;
        let started = Instant::now();
        if let Some(count) = counted.as_ref().filter(|count| started < count.until) {
            return Ok(count.backlogs.clone());
        }
        let backlogs = self.count_backlogs().await?;
        let stands = started.elapsed().saturating_mul(STANDS).min(Duration::from_secs(60));
        // However long it took: a machine that is busy elsewhere makes no backlog large.
        let counted_rows: u64 =
            backlogs.iter().map(|backlog| backlog.open + backlog.held + backlog.dead).sum();
        *counted = (counted_rows > SMALL)
            .then(|| Count { until: Instant::now() + stands, backlogs: backlogs.clone() });
        Ok(backlogs)
    }

    async fn count_backlogs(&self) -> Result<Vec<Backlog>, ReadError> {
        let rows = sqlx::query(BACKLOGS).fetch_all(&self.pool).await?;
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
