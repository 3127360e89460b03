//! Lists of events, newest first.

use std::collections::HashMap;

use sqlx::sqlite::SqliteRow;
use sqlx::{QueryBuilder, Row as _, Sqlite};

use super::select::{EVENT_FACTS, THEIR_DELIVERIES, of_sequences, push_delivery, push_event};
use super::{Reader, count};
use crate::domain::clock::UnixMillis;
use crate::domain::operator::{Cursor, Filter, Page};
use crate::store::error::ReadError;
use crate::store::view::{EventFacts, EventSummary, Listed, Standing};

/// Rows looked at in one go, at most. The first goes are small, since most pages
/// are full at once.
pub(super) const STRIDE: i64 = 4_000;

impl Reader {
    pub(in crate::store) async fn events(
        &self,
        filter: &Filter,
        page: &Page,
    ) -> Result<Listed<EventSummary>, ReadError> {
        let limit = usize::try_from(page.limit.clamp(1, Page::LARGEST)).unwrap_or(1);
        let states = filter.state.as_slice();
        let mut road = self.road(filter, states, page.cursor.map(|cursor| cursor.sequence)).await?;
        let (mut found, mut stride) = (Vec::new(), i64::from(page.limit.max(1)) + 1);
        let is_end = loop {
            let budget = road.budget();
            if found.len() > limit || budget == 0 {
                break false;
            }
            let Some(met) = road.next(self, stride.min(budget)).await? else { break true };
            let rows =
                events_query(filter, &met, limit + 1 - found.len()).build().fetch_all(&self.pool).await?;
            found.extend(rows.iter().filter_map(|row| readable(facts(row), row)));
            stride = (stride * 4).min(STRIDE);
        };
        let next = if found.len() > limit {
            found.truncate(limit);
            found.last().map(|event| event.sequence)
        } else {
            (!is_end).then_some(road.passed())
        };
        Ok(Listed {
            items: self.with_standings(found).await?,
            next: next.map(|sequence| Cursor { sequence, target: 0 }),
        })
    }

    async fn with_standings(&self, events: Vec<EventFacts>) -> Result<Vec<EventSummary>, ReadError> {
        let sequences: Vec<_> = events.iter().map(|event| event.sequence).collect();
        let mut standings: HashMap<i64, Vec<Standing>> = HashMap::new();
        for row in standings_query(&sequences).build().fetch_all(&self.pool).await? {
            let standing = || -> Result<Option<Standing>, sqlx::Error> {
                let Ok(state) = row.try_get::<&str, _>(2)?.parse() else { return Ok(None) };
                let target = row.try_get::<&str, _>(1)?.into();
                Ok(Some(Standing { target, state, attempts: row.try_get(3)? }))
            };
            if let Some(standing) = readable(standing(), &row) {
                standings.entry(row.try_get(0)?).or_default().push(standing);
            }
        }
        let summary = |event: EventFacts| {
            let mut deliveries = standings.remove(&event.sequence).unwrap_or_default();
            deliveries.sort_by(|a, b| a.target.cmp(&b.target));
            EventSummary { event, deliveries }
        };
        Ok(events.into_iter().map(summary).collect())
    }
}

/// Those of `sequences` that pass `filter`, in their order.
pub(super) fn events_query(filter: &Filter, sequences: &[i64], limit: usize) -> QueryBuilder<Sqlite> {
    let mut query = of_sequences(EVENT_FACTS, sequences);
    query.push(" WHERE 1");
    push_event(&mut query, filter);
    if filter.state.is_some() || filter.target.is_some() {
        query.push(" AND EXISTS (SELECT 1 FROM target t CROSS JOIN delivery d ON d.target_id = t.id AND d.sequence = e.sequence WHERE 1");
        push_delivery(&mut query, filter);
        query.push(")");
    }
    query.push(" LIMIT ").push_bind(i64::try_from(limit).unwrap_or(i64::MAX));
    query
}

/// Where the deliveries of the events of `sequences` stand.
pub(super) fn standings_query(sequences: &[i64]) -> QueryBuilder<Sqlite> {
    let mut query = of_sequences("e.sequence, t.name, d.state, d.attempts", sequences);
    query.push(THEIR_DELIVERIES);
    query
}

/// An event, from the columns of [`EVENT_FACTS`]; `None` if one holds what this
/// version does not know.
pub(super) fn facts(row: &SqliteRow) -> Result<Option<EventFacts>, sqlx::Error> {
    let Ok(source) = row.try_get::<&str, _>(5)?.parse() else { return Ok(None) };
    let environment = row.try_get::<Option<&str>, _>(7)?.map(str::parse).transpose();
    let Ok(environment) = environment else { return Ok(None) };
    Ok(Some(EventFacts {
        sequence: row.try_get(0)?,
        id: row.try_get(1)?,
        kind: row.try_get(2)?,
        object_id: row.try_get(3)?,
        created: UnixMillis(row.try_get::<i64, _>(4)?.saturating_mul(1000)),
        source,
        origin: row.try_get(6)?,
        environment,
        received_at: UnixMillis(row.try_get(8)?),
        size: row.try_get::<Option<i64>, _>(9)?.map(count),
    }))
}

/// What was read of `row`. A row that cannot be read is told of and passed over:
/// it must not keep anybody from seeing the others.
pub(super) fn readable<T>(read: Result<Option<T>, sqlx::Error>, row: &SqliteRow) -> Option<T> {
    let sequence = || row.try_get::<i64, _>(0).unwrap_or_default();
    match read {
        Ok(Some(value)) => Some(value),
        Ok(None) => {
            tracing::error!(
                sequence = sequence(),
                "a stored row holds a value this version does not know and is passed over"
            );
            None
        }
        Err(error) => {
            tracing::error!(%error, sequence = sequence(), "a stored row cannot be read and is passed over");
            None
        }
    }
}
