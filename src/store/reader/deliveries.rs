//! Lists of deliveries, those of the newest event first.

use sqlx::sqlite::SqliteRow;
use sqlx::{QueryBuilder, Row as _, Sqlite};

use super::Reader;
use super::events::{STRIDE, readable};
use super::select::{
    DELIVERY_FACTS, LAST_ATTEMPT, THEIR_DELIVERIES, of_sequences, push_delivery, push_event,
};
use crate::domain::clock::UnixMillis;
use crate::domain::operator::{Cursor, Filter, Page};
use crate::store::error::ReadError;
use crate::store::view::{DeliverySummary, Listed};

/// A delivery, and the number of its target.
type Found = (i64, DeliverySummary);

impl Reader {
    pub(in crate::store) async fn deliveries(
        &self,
        filter: &Filter,
        page: &Page,
    ) -> Result<Listed<DeliverySummary>, ReadError> {
        let limit = usize::try_from(page.limit.clamp(1, Page::LARGEST)).unwrap_or(1);
        let states = filter.state.as_slice();
        // The event a page ended in may have deliveries left.
        let below = page.cursor.map(|cursor| cursor.sequence.saturating_add(1));
        let mut road = self.road(filter, states, below).await?;
        let mut found: Vec<Found> = Vec::new();
        let mut stride = i64::from(page.limit.max(1)) + 1;
        let is_end = loop {
            let budget = road.budget();
            if found.len() > limit || budget == 0 {
                break false;
            }
            let Some(met) = road.next(self, stride.min(budget)).await? else { break true };
            let mut query = deliveries_query(filter, page.cursor, &met, limit + 1 - found.len());
            found.extend(
                query
                    .build()
                    .fetch_all(&self.pool)
                    .await?
                    .iter()
                    .filter_map(|row| readable(summary(row), row)),
            );
            stride = (stride * 4).min(STRIDE);
        };
        let next = if found.len() > limit {
            found.truncate(limit);
            found.last().map(|(target, last)| Cursor { sequence: last.sequence, target: *target })
        } else {
            let passed = Cursor { sequence: road.passed(), target: i64::MAX };
            (!is_end).then_some(passed)
        };
        Ok(Listed { items: found.into_iter().map(|(_, delivery)| delivery).collect(), next })
    }
}

/// The deliveries of the events of `sequences` that pass `filter` and lie beyond
/// `cursor`: in their order, and of one event by the target's number.
pub(super) fn deliveries_query(
    filter: &Filter,
    cursor: Option<Cursor>,
    sequences: &[i64],
    limit: usize,
) -> QueryBuilder<Sqlite> {
    let mut query = of_sequences(DELIVERY_FACTS, sequences);
    query.push(THEIR_DELIVERIES).push(LAST_ATTEMPT).push(" WHERE 1");
    push_event(&mut query, filter);
    push_delivery(&mut query, filter);
    if let Some(cursor) = cursor {
        query.push(" AND (e.sequence <> ").push_bind(cursor.sequence);
        query.push(" OR t.id > ").push_bind(cursor.target).push(")");
    }
    query.push(" LIMIT ").push_bind(i64::try_from(limit).unwrap_or(i64::MAX));
    query
}

/// A delivery, from the columns of [`DELIVERY_FACTS`]; `None` if one holds what
/// this version does not know.
pub(super) fn summary(row: &SqliteRow) -> Result<Option<Found>, sqlx::Error> {
    let time = |column| Ok::<_, sqlx::Error>(row.try_get::<Option<i64>, _>(column)?.map(UnixMillis));
    let Ok(state) = row.try_get::<&str, _>(7)?.parse() else { return Ok(None) };
    let delivery = DeliverySummary {
        sequence: row.try_get(0)?,
        target: row.try_get::<&str, _>(2)?.into(),
        event_id: row.try_get(3)?,
        kind: row.try_get(4)?,
        object_id: row.try_get(5)?,
        received_at: UnixMillis(row.try_get(6)?),
        state,
        attempts: row.try_get(8)?,
        replays: row.try_get(9)?,
        due_at: time(10)?,
        first_attempt_at: time(11)?,
        settled_at: time(12)?,
        last_status: row.try_get(13)?,
        last_error: row.try_get(14)?,
        waits_for: row.try_get(15)?,
    };
    Ok(Some((row.try_get(1)?, delivery)))
}
