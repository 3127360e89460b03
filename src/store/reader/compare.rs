//! The live sources beside each other, and how long deliveries took.

use std::collections::BTreeMap;
use std::time::Duration;

use sqlx::Row as _;
use sqlx::sqlite::SqliteRow;

use super::Reader;
use super::events::readable;
use crate::domain::clock::UnixMillis;
use crate::domain::event::Source;
use crate::store::error::ReadError;
use crate::store::view::{Latency, Races, SourceCount};

/// How long both sources have to bring an event. A webhook that was not answered
/// is tried again with growing pauses, and a stream is given two minutes to be
/// back: what has not come by then was not merely slower.
pub(in crate::store) const WINDOW: Duration = Duration::from_mins(5);

/// How many of the newest events are compared.
const RACES: i64 = 1000;

/// Over how many of a target's newest delivered events latencies are taken.
const DELIVERED: i64 = 500;

/// How many of its newest deliveries are looked through for those.
const LOOKED_THROUGH: i64 = 5000;

/// An event, and when each live source first brought it.
#[derive(Debug)]
pub(in crate::store) struct Seen {
    pub(in crate::store) sequence: i64,
    pub(in crate::store) received_at: UnixMillis,
    /// Whether its row is the webhook's: who was first within one millisecond.
    webhook_stored_it: bool,
    pub(in crate::store) stream: Option<UnixMillis>,
    pub(in crate::store) webhook: Option<UnixMillis>,
}

pub(super) const SEEN_AFTER: &str = "SELECT e.sequence, e.source, e.received_at, \
       (SELECT s.at FROM sighting s WHERE s.sequence = e.sequence AND s.source = 'stream'), \
       (SELECT s.at FROM sighting s WHERE s.sequence = e.sequence AND s.source = 'webhook') \
     FROM event e WHERE e.sequence > ?1 ORDER BY e.sequence LIMIT ?2";

pub(super) const DELIVERED_BELOW: &str = "SELECT n.sequence, n.settled_at - e.received_at FROM \
       (SELECT d.sequence, d.state, d.replays, d.settled_at FROM delivery d \
        WHERE d.target_id = ?1 AND d.sequence < ?2 ORDER BY d.sequence DESC LIMIT ?3) n \
     CROSS JOIN event e ON e.sequence = n.sequence WHERE n.state = 'delivered' AND n.replays = 0 LIMIT ?4";

// Named for the reason given beside what waits for a target.
pub(super) const OLDEST_OPEN: &str = "SELECT min(sequence) FROM delivery INDEXED BY delivery_open \
     WHERE target_id = ?1 AND settled_at IS NULL AND state = ?2";

impl Reader {
    /// The next events after `sequence`, and which live sources brought them.
    pub(in crate::store) async fn seen_after(
        &self,
        sequence: i64,
        limit: i64,
    ) -> Result<Vec<Seen>, ReadError> {
        let rows = sqlx::query(SEEN_AFTER).bind(sequence).bind(limit).fetch_all(&self.pool).await?;
        Ok(rows.iter().filter_map(|row| readable(seen(row).map(Some), row)).collect())
    }

    pub(in crate::store) async fn races(&self, now: UnixMillis) -> Result<Races, ReadError> {
        let newest = self.extent().await?.last;
        let seen = self.seen_after(newest.saturating_sub(RACES), RACES).await?;
        let (mut first, mut only, mut lags) = (BTreeMap::new(), BTreeMap::new(), Vec::new());
        for event in seen {
            match (event.stream, event.webhook) {
                (Some(stream), Some(webhook)) => {
                    let webhook_won = webhook < stream || (webhook == stream && event.webhook_stored_it);
                    let winner = if webhook_won { Source::Webhook } else { Source::Stream };
                    *first.entry(winner.as_str()).or_insert(0) += 1;
                    lags.push(millis(stream.since(webhook).max(webhook.since(stream))));
                }
                (Some(_), None) | (None, Some(_)) if now.since(event.received_at) >= WINDOW => {
                    let source = if event.stream.is_some() { Source::Stream } else { Source::Webhook };
                    *only.entry(source.as_str()).or_insert(0) += 1;
                }
                _ => {}
            }
        }
        lags.sort_unstable();
        let counts = |counted: &BTreeMap<&str, u64>| {
            let count = |source: Source| Some(SourceCount { source, count: *counted.get(source.as_str())? });
            [Source::Stream, Source::Webhook].into_iter().filter_map(count).collect()
        };
        Ok(Races {
            compared: u64::try_from(lags.len()).unwrap_or(u64::MAX),
            first: counts(&first),
            lag_ms_p50: percentile(&lags, 50),
            lag_ms_p99: percentile(&lags, 99),
            only: counts(&only),
        })
    }

    pub(in crate::store) async fn latencies(&self) -> Result<Vec<Latency>, ReadError> {
        let targets = sqlx::query("SELECT id, name FROM target ORDER BY name").fetch_all(&self.pool).await?;
        let mut latencies = Vec::new();
        for target in targets {
            let (id, name): (i64, &str) = (target.try_get(0)?, target.try_get(1)?);
            let mut taken = self.delivered_below(id, i64::MAX).await?;
            if taken.is_empty() {
                // A backlog lies on top: what was delivered last lies below it.
                taken = self.delivered_below(id, self.oldest_open(id).await?).await?;
            }
            taken.sort_unstable();
            if !taken.is_empty() {
                latencies.push(Latency {
                    target: name.into(),
                    count: u64::try_from(taken.len()).unwrap_or(u64::MAX),
                    p50_ms: percentile(&taken, 50),
                    p99_ms: percentile(&taken, 99),
                });
            }
        }
        Ok(latencies)
    }

    async fn delivered_below(&self, target: i64, below: i64) -> Result<Vec<u64>, ReadError> {
        let query =
            sqlx::query(DELIVERED_BELOW).bind(target).bind(below).bind(LOOKED_THROUGH).bind(DELIVERED);
        let rows = query.fetch_all(&self.pool).await?;
        rows.iter().map(|row| Ok(super::count(row.try_get(1)?))).collect()
    }

    async fn oldest_open(&self, target: i64) -> Result<i64, ReadError> {
        let mut oldest = i64::MAX;
        for state in ["pending", "sending", "retrying"] {
            let row = sqlx::query(OLDEST_OPEN).bind(target).bind(state).fetch_one(&self.pool).await?;
            oldest = oldest.min(row.try_get::<Option<i64>, _>(0)?.unwrap_or(i64::MAX));
        }
        Ok(oldest)
    }
}

fn seen(row: &SqliteRow) -> Result<Seen, sqlx::Error> {
    let received_at = UnixMillis(row.try_get(2)?);
    let source: &str = row.try_get(1)?;
    let by = |live: Source, column| -> Result<Option<UnixMillis>, sqlx::Error> {
        if source == live.as_str() {
            return Ok(Some(received_at));
        }
        Ok(row.try_get::<Option<i64>, _>(column)?.map(UnixMillis))
    };
    Ok(Seen {
        sequence: row.try_get(0)?,
        received_at,
        webhook_stored_it: source == Source::Webhook.as_str(),
        stream: by(Source::Stream, 3)?,
        webhook: by(Source::Webhook, 4)?,
    })
}

fn millis(duration: Duration) -> u64 {
    u64::try_from(duration.as_millis()).unwrap_or(u64::MAX)
}

/// The value that `percent` of 100 do not exceed, by the nearest rank; 0 of none.
fn percentile(sorted: &[u64], percent: usize) -> u64 {
    let rank = (sorted.len() * percent).div_ceil(100).max(1);
    sorted.get(rank - 1).copied().unwrap_or(0)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_percentile_is_the_value_at_the_nearest_rank() {
        let values: Vec<u64> = (1..=200).collect();
        assert_eq!((percentile(&values, 50), percentile(&values, 99)), (100, 198));
        assert_eq!((percentile(&[7], 50), percentile(&[7], 99), percentile(&[], 50)), (7, 7, 0));
    }
}
