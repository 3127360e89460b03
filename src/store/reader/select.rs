//! The parts that questions are put together from.

use sqlx::{QueryBuilder, Sqlite};

use crate::domain::delivery::State;
use crate::domain::filter::Pattern;
use crate::domain::operator::Filter;

/// The columns of [`EventFacts`](crate::store::operator::EventFacts), first in a row.
pub(super) const EVENT_FACTS: &str = "e.sequence, e.id, e.type, e.object_id, e.created, e.source, e.origin, e.environment, e.received_at, \
     length(e.body)";

/// The columns of [`DeliverySummary`](crate::store::operator::DeliverySummary), and the target's number.
pub(super) const DELIVERY_FACTS: &str = "e.sequence, t.id, t.name, e.id, e.type, e.object_id, e.received_at, d.state, d.attempts, d.replays, \
     d.due_at, d.first_attempt_at, d.settled_at, a.status, a.error, \
     (SELECT b.id FROM event b WHERE b.sequence = (SELECT w.sequence FROM delivery w \
        WHERE w.target_id = d.target_id AND w.lane = d.lane AND (w.rank, w.sequence) < (d.rank, d.sequence) \
        ORDER BY w.rank DESC, w.sequence DESC LIMIT 1))";

/// The events of the sequences that follow as a JSON array, in its order. The
/// joins are crossed so that no other order is considered.
pub(super) const EVENTS: &str = " FROM json_each(";
pub(super) const OF_SEQUENCES: &str = ") c CROSS JOIN event e ON e.sequence = c.value";

/// Their deliveries, by the target's number.
pub(super) const THEIR_DELIVERIES: &str = " CROSS JOIN target t NOT INDEXED \
     CROSS JOIN delivery d ON d.target_id = t.id AND d.sequence = e.sequence";

/// The last attempt of each.
pub(super) const LAST_ATTEMPT: &str = " LEFT JOIN attempt a ON a.target_id = d.target_id AND a.sequence = d.sequence \
     AND a.number = (SELECT max(x.number) FROM attempt x \
                     WHERE x.target_id = d.target_id AND x.sequence = d.sequence)";

/// A question that selects `columns` of the events of `sequences`.
pub(super) fn of_sequences(columns: &str, sequences: &[i64]) -> QueryBuilder<Sqlite> {
    let mut query = QueryBuilder::new("SELECT ");
    query.push(columns).push(EVENTS).push_bind(array(sequences)).push(OF_SEQUENCES);
    query
}

/// Numbers as a JSON array: one parameter for any number of them.
pub(super) fn array(numbers: &[i64]) -> String {
    let numbers: Vec<_> = numbers.iter().map(ToString::to_string).collect();
    format!("[{}]", numbers.join(","))
}

/// What `filter` asks of an event itself.
pub(super) fn push_event(query: &mut QueryBuilder<Sqlite>, filter: &Filter) {
    if let Some(types) = filter.types.as_ref().filter(|types| !types.is_any()) {
        query.push(" AND (0");
        for pattern in types.patterns() {
            match pattern {
                Pattern::Any => query.push(" OR 1"),
                Pattern::Exact(kind) => query.push(" OR e.type = ").push_bind(kind.to_string()),
                Pattern::Prefix(prefix) => begins(query.push(" OR "), "e.type", prefix),
            };
        }
        query.push(")");
    }
    if let Some(object) = &filter.object_id {
        query.push(" AND e.object_id = ").push_bind(object.clone());
    }
    if let Some(source) = filter.source {
        query.push(" AND e.source = ").push_bind(source.as_str());
    }
    if let Some(from) = filter.from {
        query.push(" AND e.received_at >= ").push_bind(from.0);
    }
    if let Some(to) = filter.to {
        query.push(" AND e.received_at < ").push_bind(to.0);
    }
    if let Some(prefix) = &filter.id_prefix {
        begins(query.push(" AND "), "e.id", prefix);
    }
}

/// What `filter` asks of a delivery.
pub(super) fn push_delivery(query: &mut QueryBuilder<Sqlite>, filter: &Filter) {
    if let Some(target) = &filter.target {
        query.push(" AND t.name = ").push_bind(target.clone());
    }
    if let Some(state) = filter.state {
        push_states(query, &[state]);
    }
}

/// That a delivery is in one of `states`.
pub(super) fn push_states(query: &mut QueryBuilder<Sqlite>, states: &[State]) {
    query.push(" AND d.state IN (");
    let mut list = query.separated(", ");
    for state in states {
        list.push_bind(state.as_str());
    }
    query.push(")");
}

/// Whether `filter` asks something of the event itself.
pub(super) fn asks_of_event(filter: &Filter) -> bool {
    let Filter { types, object_id, source, state: _, target: _, from, to, id_prefix } = filter;
    types.is_some()
        || object_id.is_some()
        || source.is_some()
        || from.is_some()
        || to.is_some()
        || id_prefix.is_some()
}

fn begins<'q>(
    query: &'q mut QueryBuilder<Sqlite>,
    column: &str,
    prefix: &str,
) -> &'q mut QueryBuilder<Sqlite> {
    let length = i64::try_from(prefix.chars().count()).unwrap_or(i64::MAX);
    query
        .push("substr(")
        .push(column)
        .push(", 1, ")
        .push_bind(length)
        .push(") = ")
        .push_bind(prefix.to_owned())
}
