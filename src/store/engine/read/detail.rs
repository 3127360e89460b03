//! Reads one event or one delivery in full.

use bytes::Bytes;
use sha2::{Digest as _, Sha256};

use super::Reader;
use super::decode::{self, readable, text};
use super::query::{self, EVENT_FACTS};
use crate::domain::event::EventId;
use crate::domain::operator::Filter;
use crate::store::error::ReadError;
use crate::store::view::{Conflict, DeliveryDetail, EventDetail, EventFacts, Sighting};

pub(super) const SIGHTINGS: &str = "SELECT sequence, source, origin, at FROM sighting WHERE sequence = $1";
pub(super) const CONFLICTS: &str = "SELECT sequence, source, origin, received_at, type, digest, size, body \
                                    FROM conflict WHERE sequence = $1";
pub(super) const ATTEMPTS: &str = "SELECT sequence, number, started_at, duration_ms, status, error, answer \
                                   FROM attempt WHERE target_id = $1 AND sequence = $2 ORDER BY number";
/// An acknowledged first attempt, which has no row of its own: the row of the delivery holds it.
const FIRST_SUCCESS: &str = "SELECT d.sequence AS sequence, d.attempts AS number, d.first_attempt_at AS started_at, \
     d.duration_ms AS duration_ms, d.status AS status, NULL AS error, NULL AS answer \
     FROM delivery d JOIN event e ON e.sequence = d.sequence \
     WHERE d.target_id = $1 AND d.sequence = $2 AND d.duration_ms IS NOT NULL AND e.body IS NOT NULL";
pub(super) const BODY: &str = "SELECT body FROM event WHERE id = $1";

impl Reader {
    /// Returns the event `id` with its deliveries, sources and conflicts.
    pub(in crate::store) async fn event(&self, id: &EventId) -> Result<Option<EventDetail>, ReadError> {
        let query = format!("SELECT {EVENT_FACTS}, e.body AS body FROM event e WHERE e.id = $1");
        let Some(row) = self.database.row(query, [id.as_str().into()]).await? else { return Ok(None) };
        let Some(event) = decode::event(&row)? else {
            return Err(ReadError("the event holds a value this version does not know".to_owned()));
        };
        let body = row.bytes_or_null("body")?;
        Ok(Some(EventDetail {
            deliveries: self.details(event.sequence, &Filter::default()).await?,
            sightings: self.sightings(&event).await?,
            conflicts: self.conflicts(event.sequence).await?,
            body_sha256: body.map(|body| hex::encode(Sha256::digest(body))),
            body: body.map(text),
            event,
        }))
    }

    /// Returns the body of the event `id`. The outer `None` means that the event is not stored, the
    /// inner one that its body has been removed.
    pub(in crate::store) async fn body(&self, id: &EventId) -> Result<Option<Option<Bytes>>, ReadError> {
        let row = self.database.row(BODY, [id.as_str().into()]).await?;
        row.map(|row| Ok(row.bytes_or_null("body")?.map(Bytes::copy_from_slice))).transpose()
    }

    /// Returns the delivery of the event `id` to `target`, with its attempts.
    pub(in crate::store) async fn delivery(
        &self,
        target: &str,
        id: &EventId,
    ) -> Result<Option<DeliveryDetail>, ReadError> {
        let Some(sequence) = self.sequence(id).await? else { return Ok(None) };
        let filter = Filter { target: Some(target.to_owned()), ..Filter::default() };
        Ok(self.details(sequence, &filter).await?.pop())
    }

    /// Returns the sequence of the event `id`.
    async fn sequence(&self, id: &EventId) -> Result<Option<i64>, ReadError> {
        let query = "SELECT sequence FROM event WHERE id = $1";
        let row = self.database.row(query, [id.as_str().into()]).await?;
        Ok(row.map(|row| row.number("sequence")).transpose()?)
    }

    /// Returns the deliveries of one event that pass `filter`, by the name of their target.
    async fn details(&self, sequence: i64, filter: &Filter) -> Result<Vec<DeliveryDetail>, ReadError> {
        let rows = self.database.run(query::deliveries(filter, None, &[sequence], usize::MAX)).await?;
        let mut details = Vec::new();
        for (target, delivery) in rows.iter().filter_map(|row| readable(decode::delivery(row), row)) {
            let of_one = || [target.into(), sequence.into()];
            let rows = self.database.rows(ATTEMPTS, of_one()).await?;
            let mut attempt_log: Vec<_> =
                rows.iter().filter_map(|row| readable(decode::attempt(row), row)).collect();
            let first = self.database.row(FIRST_SUCCESS, of_one()).await?;
            attempt_log.extend(first.iter().filter_map(|row| readable(decode::attempt(row), row)));
            details.push(DeliveryDetail { delivery, attempt_log });
        }
        details.sort_by(|a, b| a.delivery.target.cmp(&b.delivery.target));
        Ok(details)
    }

    async fn conflicts(&self, sequence: i64) -> Result<Vec<Conflict>, ReadError> {
        let rows = self.database.rows(CONFLICTS, [sequence.into()]).await?;
        let mut conflicts: Vec<_> =
            rows.iter().filter_map(|row| readable(decode::conflict(row), row)).collect();
        conflicts.sort_by_key(|conflict| conflict.received_at);
        Ok(conflicts)
    }

    async fn sightings(&self, event: &EventFacts) -> Result<Vec<Sighting>, ReadError> {
        let rows = self.database.rows(SIGHTINGS, [event.sequence.into()]).await?;
        let (source, origin, at) = (event.source, event.origin.clone(), event.received_at);
        let mut sightings = vec![Sighting { source, origin, at, lag_ms: 0 }];
        sightings.extend(rows.iter().filter_map(|row| readable(decode::sighting(row, at), row)));
        sightings.sort_by_key(|sighting| sighting.at);
        Ok(sightings)
    }
}
