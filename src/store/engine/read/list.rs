//! Lists events and deliveries, the newest first, and selects the deliveries for an action on many.

use std::collections::HashMap;

use super::Reader;
use super::decode::{self, readable};
use super::query;
use super::rows::Row;
use crate::domain::delivery::State;
use crate::domain::operator::{Action, BulkMove, Cursor, Filter, Page, REPLAYABLE};
use crate::store::error::ReadError;
use crate::store::routing::lane_of_name;
use crate::store::settings::Route;
use crate::store::types::{Candidate, Key, Movable, TargetId};
use crate::store::view::{DeliverySummary, EventFacts, EventSummary, Listed, Standing};

/// The largest number of rows that one query looks at. The first queries of a page look at fewer,
/// since most pages are full at once.
const STRIDE: i64 = 4_000;

/// The largest number of bodies that one query searches. A body may have some hundred kilobytes.
const SEARCHED: i64 = 100;

/// Like [`STRIDE`], for an action on many. Other queries are let in between two of these.
const MATCHING_STRIDE: i64 = 5_000;

/// Decodes a candidate. Candidates of one group go one at a time: those about the same order if it
/// is known, otherwise those about the same object.
fn candidate(row: &Row) -> Result<Candidate, sqlx::Error> {
    let sequence = row.number("sequence")?;
    let of_object = row.text_or_null("object_id")?.map(lane_of_name);
    let group = row.number_or_null("order_lane")?.or(of_object).unwrap_or(sequence);
    Ok(Candidate { sequence, group })
}

/// Returns whether a target of this `route` takes the event of `row`. The row has a body only if
/// the route has a condition.
fn is_taken(row: &Row, route: &Route) -> Result<bool, sqlx::Error> {
    let environment = row.text_or_null("environment")?.and_then(|name| name.parse().ok());
    let body = if route.condition.is_some() { row.bytes_or_null("body")? } else { None };
    Ok(route.mismatch(row.text("type")?, environment, body.unwrap_or_default()).is_none())
}

impl Reader {
    /// Returns the events that pass `filter`, from the cursor of `page` on.
    pub(in crate::store) async fn events(
        &self,
        filter: &Filter,
        page: &Page,
    ) -> Result<Listed<EventSummary>, ReadError> {
        let limit = usize::try_from(page.limit.clamp(1, Page::LARGEST)).unwrap_or(1);
        let states = filter.state.as_slice();
        let mut scan = self.scan(filter, states, page.cursor.map(|cursor| cursor.sequence)).await?;
        let widest = if filter.text.is_some() { SEARCHED } else { STRIDE };
        let (mut found, mut stride) = (Vec::new(), (i64::from(page.limit.max(1)) + 1).min(widest));
        let is_end = loop {
            let budget = scan.budget();
            if found.len() > limit || budget == 0 {
                break false;
            }
            let Some(sequences) = scan.next(self, stride.min(budget)).await? else { break true };
            let query = query::events(filter, &sequences, limit + 1 - found.len());
            let rows = self.database.run(query).await?;
            found.extend(rows.iter().filter_map(|row| readable(decode::event(row), row)));
            stride = (stride * 4).min(widest);
        };
        let next = if found.len() > limit {
            found.truncate(limit);
            found.last().map(|event| event.sequence)
        } else {
            (!is_end).then_some(scan.scanned_to())
        };
        Ok(Listed {
            items: self.with_standings(found).await?,
            next: next.map(|sequence| Cursor { sequence, target: 0 }),
        })
    }

    async fn with_standings(&self, events: Vec<EventFacts>) -> Result<Vec<EventSummary>, ReadError> {
        let sequences: Vec<_> = events.iter().map(|event| event.sequence).collect();
        let mut standings: HashMap<i64, Vec<Standing>> = HashMap::new();
        for row in self.database.run(query::standings(&sequences)).await? {
            if let Some((sequence, standing)) = readable(decode::standing(&row), &row) {
                standings.entry(sequence).or_default().push(standing);
            }
        }
        let summary = |event: EventFacts| {
            let mut deliveries = standings.remove(&event.sequence).unwrap_or_default();
            deliveries.sort_by(|a, b| a.target.cmp(&b.target));
            EventSummary { event, deliveries }
        };
        Ok(events.into_iter().map(summary).collect())
    }

    /// Returns the deliveries that pass `filter`, from the cursor of `page` on.
    pub(in crate::store) async fn deliveries(
        &self,
        filter: &Filter,
        page: &Page,
    ) -> Result<Listed<DeliverySummary>, ReadError> {
        let limit = usize::try_from(page.limit.clamp(1, Page::LARGEST)).unwrap_or(1);
        let states = filter.state.as_slice();
        // The last event of the previous page may have more deliveries.
        let below = page.cursor.map(|cursor| cursor.sequence.saturating_add(1));
        let mut scan = self.scan(filter, states, below).await?;
        let (mut found, mut stride) = (Vec::new(), i64::from(page.limit.max(1)) + 1);
        let is_end = loop {
            let budget = scan.budget();
            if found.len() > limit || budget == 0 {
                break false;
            }
            let Some(sequences) = scan.next(self, stride.min(budget)).await? else { break true };
            let query = query::deliveries(filter, page.cursor, &sequences, limit + 1 - found.len());
            let rows = self.database.run(query).await?;
            found.extend(rows.iter().filter_map(|row| readable(decode::delivery(row), row)));
            stride = (stride * 4).min(STRIDE);
        };
        let next = if found.len() > limit {
            found.truncate(limit);
            found.last().map(|(target, last)| Cursor { sequence: last.sequence, target: *target })
        } else {
            (!is_end).then_some(Cursor { sequence: scan.scanned_to(), target: i64::MAX })
        };
        Ok(Listed { items: found.into_iter().map(|(_, delivery)| delivery).collect(), next })
    }

    /// Returns every delivery that passes `filter` and is in a state to which `action` applies.
    pub(in crate::store) async fn matching(
        &self,
        action: Action,
        filter: &Filter,
    ) -> Result<Vec<Key>, ReadError> {
        self.matching_in(filter, &filter.states_for(action)).await
    }

    /// Returns every delivery that passes `filter` and is in one of `states`.
    async fn matching_in(&self, filter: &Filter, states: &[State]) -> Result<Vec<Key>, ReadError> {
        if states.is_empty() {
            Ok(Vec::new())
        } else if query::asks_of_event(filter) {
            self.matching_events(filter, states).await
        } else {
            self.matching_states(filter.target.as_deref(), states).await
        }
    }

    /// Returns every delivery in one of `states`. The indexes by state are enough for a filter
    /// without a condition on the event.
    async fn matching_states(&self, target: Option<&str>, states: &[State]) -> Result<Vec<Key>, ReadError> {
        let mut keys = Vec::new();
        for target in self.target_numbers(target).await? {
            for state in states {
                let mut below = i64::MAX;
                loop {
                    let sequences = self.in_state(target, *state, (0, below), MATCHING_STRIDE).await?;
                    let Some(last) = sequences.last() else { break };
                    below = *last;
                    let key = |sequence| Key { target: TargetId(target), sequence };
                    keys.extend(sequences.into_iter().map(key));
                }
            }
        }
        Ok(keys)
    }

    /// Returns the number of the target `name`.
    pub(in crate::store) async fn target(&self, name: &str) -> Result<Option<TargetId>, ReadError> {
        Ok(self.target_numbers(Some(name)).await?.first().copied().map(TargetId))
    }

    /// Returns the events that pass `filter`, have no delivery to `target` and are taken by its
    /// `route`. Unless `missing` is set, the result also has the events whose delivery to `target`
    /// has ended. Events without a body are left out.
    pub(in crate::store) async fn replayable(
        &self,
        target: TargetId,
        route: &Route,
        filter: &Filter,
        missing: bool,
    ) -> Result<Vec<Candidate>, ReadError> {
        let states = filter.state.as_slice();
        // Only a condition reads the body.
        let with_body = route.condition.is_some();
        let mut scan = self.scan(filter, states, None).await?;
        let mut found = Vec::new();
        let stride = if with_body { SEARCHED } else { MATCHING_STRIDE };
        while let Some(sequences) = scan.next(self, stride).await? {
            for row in self.database.run(query::replayable(filter, (target.0, with_body), &sequences)).await?
            {
                let is_wanted = if let Some(state) = row.text_or_null("state")? {
                    !missing && state.parse().is_ok_and(|state| REPLAYABLE.contains(&state))
                } else {
                    is_taken(&row, route)?
                };
                if is_wanted {
                    found.push(candidate(&row)?);
                }
            }
        }
        Ok(found)
    }

    /// Returns the unfinished and dead deliveries that pass `filter`, if a target of this `route`
    /// takes their events. `filter` names the target that they are taken from.
    pub(in crate::store) async fn movable(
        &self,
        filter: &Filter,
        route: &Route,
    ) -> Result<Movable, ReadError> {
        let states: Vec<_> = BulkMove::STATES
            .into_iter()
            .filter(|state| filter.state.is_none_or(|one| one == *state))
            .collect();
        let keys = self.matching_in(filter, &states).await?;
        let sequences: Vec<_> = keys.into_iter().map(|key| key.sequence).collect();
        let with_body = route.condition.is_some();
        let stride = if with_body { SEARCHED } else { MATCHING_STRIDE };
        let mut found = Movable::default();
        for sequences in sequences.chunks(usize::try_from(stride).unwrap_or(1)) {
            for row in self.database.run(query::candidates(with_body, sequences)).await? {
                if is_taken(&row, route)? {
                    found.taken.push(candidate(&row)?);
                } else {
                    found.not_taken += 1;
                }
            }
        }
        Ok(found)
    }

    async fn matching_events(&self, filter: &Filter, states: &[State]) -> Result<Vec<Key>, ReadError> {
        let mut scan = self.scan(filter, states, None).await?;
        let mut keys = Vec::new();
        while let Some(sequences) = scan.next(self, MATCHING_STRIDE).await? {
            for row in self.database.run(query::keys(filter, states, &sequences)).await? {
                let target = TargetId(row.number("target_id")?);
                keys.push(Key { target, sequence: row.number("sequence")? });
            }
        }
        Ok(keys)
    }
}
