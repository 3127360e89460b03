//! What waits for each target.

use std::sync::Arc;
use std::time::Duration;

use sqlx::Row as _;
use tokio::sync::Mutex;
use tokio::task::JoinSet;
use tokio::time::Instant;

use super::{Reader, count};
use crate::domain::clock::UnixMillis;
use crate::store::archive::Backlog;
use crate::store::inbox::ReadError;

/// How many times as long as it took to count, what was counted stands: counting
/// takes a twentieth of the time at most. A million takes some tenths of a second.
const STANDS: u32 = 20;

/// Up to so many deliveries are counted anew each time: that takes some hundredths
/// of a second at most.
const SMALL: u64 = 200_000;

/// How long to wait for a count that takes long, if there is an earlier one.
const PATIENCE: Duration = Duration::from_millis(250);

/// What was counted last; those who ask meanwhile share it.
pub(super) type Counted = Arc<Mutex<Counts>>;

#[derive(Debug, Default)]
pub(super) struct Counts {
    last: Option<Count>,
    /// The count under way. It goes on when whoever asked has had enough, else a
    /// backlog that takes longer to count than anybody waits could never be told.
    under_way: JoinSet<Result<Count, ReadError>>,
}

#[derive(Clone, Debug)]
struct Count {
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
        let mut counts = self.counted.lock().await;
        if let Some(last) = counts.last.as_ref().filter(|last| Instant::now() < last.until) {
            return Ok(last.backlogs.clone());
        }
        if counts.under_way.is_empty() {
            let reader = self.clone();
            counts.under_way.spawn(async move { reader.count().await });
        }
        let patience = if counts.last.is_some() { PATIENCE } else { Duration::MAX };
        match tokio::time::timeout(patience, counts.under_way.join_next()).await {
            Ok(Some(Ok(counted))) => {
                let counted = counted?;
                counts.last = Some(counted.clone());
                Ok(counted.backlogs)
            }
            Ok(Some(Err(error))) => Err(ReadError(error.to_string())),
            // There is an earlier one, which stands until this one is done.
            Ok(None) | Err(_) => {
                Ok(counts.last.as_ref().map(|last| last.backlogs.clone()).unwrap_or_default())
            }
        }
    }

    async fn count(&self) -> Result<Count, ReadError> {
        let started = Instant::now();
        let backlogs = self.count_backlogs().await?;
        let stands = started.elapsed().saturating_mul(STANDS);
        // By their number and not by the time: a machine that is busy elsewhere makes no
        // backlog large.
        let rows: u64 = backlogs.iter().map(|backlog| backlog.open + backlog.held + backlog.dead).sum();
        let stands = if rows > SMALL { stands } else { Duration::ZERO };
        Ok(Count { until: Instant::now() + stands, backlogs })
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
