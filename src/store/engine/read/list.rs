//! Lists of events and deliveries, newest first, and the deliveries that an action
//! on many of them applies to.

use std::collections::HashMap;

use super::Reader;
use super::decode::{self, readable};
use super::query;
use crate::domain::delivery::State;
use crate::domain::operator::{Action, Cursor, Filter, Page};
use crate::store::error::ReadError;
use crate::store::types::{Key, TargetId};
use crate::store::view::{DeliverySummary, EventFacts, EventSummary, Listed, Standing};

/// Rows looked at in one query, at most. The first queries of a page look at fewer,
/// since most pages are full at once.
const STRIDE: i64 = 4_000;

/// Bodies that are searched in one query, at most: each may be some hundred kilobytes.
const SEARCHED: i64 = 100;

/// The same as [`STRIDE`] for an action on many. Between two queries others are let in.
const MATCHING_STRIDE: i64 = 5_000;

impl Reader {
    /// The events that pass `filter`, from the cursor of `page` on.
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

    /// The deliveries that pass `filter`, from the cursor of `page` on.
    pub(in crate::store) async fn deliveries(
        &self,
        filter: &Filter,
        page: &Page,
    ) -> Result<Listed<DeliverySummary>, ReadError> {
        let limit = usize::try_from(page.limit.clamp(1, Page::LARGEST)).unwrap_or(1);
        let states = filter.state.as_slice();
        // The event that a page ended in may have deliveries left.
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

    /// Every delivery that passes `filter` and is in a state that `action` applies to.
    pub(in crate::store) async fn matching(
        &self,
        action: Action,
        filter: &Filter,
    ) -> Result<Vec<Key>, ReadError> {
        let states = filter.states_for(action);
        if states.is_empty() {
            Ok(Vec::new())
        } else if query::asks_of_event(filter) {
            self.matching_events(filter, &states).await
        } else {
            self.matching_states(filter.target.as_deref(), &states).await
        }
    }

    /// Where nothing is asked of the event, the indexes by state are enough.
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
