//! Which deliveries an action on many of them is about.

use sqlx::{QueryBuilder, Row as _, Sqlite};

use super::Reader;
use super::select::{THEIR_DELIVERIES, asks_of_event, of_sequences, push_delivery, push_event, push_states};
use crate::domain::delivery::State;
use crate::domain::operator::{Action, Filter};
use crate::store::error::ReadError;
use crate::store::types::{Key, TargetId};

/// Rows looked at in one go. Between two goes others are let in.
const STRIDE: i64 = 5_000;

impl Reader {
    /// Every delivery that passes `filter` and is in a state that `action` applies to.
    pub(in crate::store) async fn matching(
        &self,
        action: Action,
        filter: &Filter,
    ) -> Result<Vec<Key>, ReadError> {
        let states = filter.states_for(action);
        if states.is_empty() {
            Ok(Vec::new())
        } else if asks_of_event(filter) {
            self.matching_events(filter, &states).await
        } else {
            self.in_states(filter.target.as_deref(), &states).await
        }
    }

    /// The way where nothing is asked of the event: the indexes tell it all.
    async fn in_states(&self, target: Option<&str>, states: &[State]) -> Result<Vec<Key>, ReadError> {
        let mut keys = Vec::new();
        for target in self.target_numbers(target).await? {
            for state in states {
                let mut below = i64::MAX;
                loop {
                    let met = self.in_state(target, *state, (0, below), STRIDE).await?;
                    let Some(last) = met.last() else { break };
                    below = *last;
                    keys.extend(met.iter().map(|&sequence| Key { target: TargetId(target), sequence }));
                }
            }
        }
        Ok(keys)
    }

    async fn matching_events(&self, filter: &Filter, states: &[State]) -> Result<Vec<Key>, ReadError> {
        let mut road = self.road(filter, states, None).await?;
        let mut keys = Vec::new();
        while let Some(met) = road.next(self, STRIDE).await? {
            for row in keys_query(filter, states, &met).build().fetch_all(&self.pool).await? {
                keys.push(Key { target: TargetId(row.try_get(0)?), sequence: row.try_get(1)? });
            }
        }
        Ok(keys)
    }
}

/// The deliveries of the events of `sequences` that pass `filter` and are in one of `states`.
pub(super) fn keys_query(filter: &Filter, states: &[State], sequences: &[i64]) -> QueryBuilder<Sqlite> {
    let mut query = of_sequences("d.target_id, d.sequence", sequences);
    query.push(THEIR_DELIVERIES).push(" WHERE 1");
    push_event(&mut query, filter);
    push_delivery(&mut query, filter);
    push_states(&mut query, states);
    query
}
