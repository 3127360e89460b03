//! Builds the queries of lists from common parts.

use super::rows::Query;
use crate::domain::delivery::State;
use crate::domain::filter::Pattern;
use crate::domain::operator::{Cursor, Filter};

/// The columns of [`EventFacts`](crate::store::view::EventFacts).
pub(super) const EVENT_FACTS: &str = "e.sequence AS sequence, e.id AS id, e.type AS type, e.object_id AS object_id, e.created AS created, \
     e.source AS source, e.origin AS origin, e.environment AS environment, e.received_at AS received_at, \
     CAST(length(e.body) AS bigint) AS size";

/// The columns of [`DeliverySummary`](crate::store::view::DeliverySummary), and the target's
/// number.
pub(super) const DELIVERY_FACTS: &str = "e.sequence AS sequence, t.id AS target_id, t.name AS target, e.id AS event_id, e.type AS type, \
     e.object_id AS object_id, e.received_at AS received_at, d.state AS state, d.attempts AS attempts, \
     d.replays AS replays, d.due_at AS due_at, d.first_attempt_at AS first_attempt_at, \
     d.settled_at AS settled_at, coalesce(a.status, CASE WHEN e.body IS NOT NULL THEN d.status END) AS last_status, a.error AS last_error, \
     (SELECT b.id FROM event b WHERE d.state <> 'sending' AND b.sequence = coalesce( \
        (SELECT w.sequence FROM delivery w INDEXED BY delivery_lane WHERE w.target_id = d.target_id \
           AND w.lane = d.lane AND (w.rank, w.sequence) < (d.rank, d.sequence) AND w.state <> 'sending' \
           ORDER BY w.rank DESC, w.sequence DESC LIMIT 1), \
        (SELECT w.sequence FROM delivery w INDEXED BY delivery_open WHERE w.target_id = d.target_id \
           AND w.settled_at IS NULL AND w.state = 'sending' AND w.lane = d.lane LIMIT 1))) AS waits_for";

/// Joins the events of the sequences before it, in the order of the sequences. With `CROSS JOIN`,
/// `SQLite` considers no other order.
const OF_SEQUENCES: &str = " CROSS JOIN event e ON e.sequence = c.value";

/// Joins their deliveries, by the target's number.
const THEIR_DELIVERIES: &str = " CROSS JOIN target t NOT INDEXED ON TRUE \
     CROSS JOIN delivery d ON d.target_id = t.id AND d.sequence = e.sequence";

/// Joins the last attempt of each delivery.
const LAST_ATTEMPT: &str = " LEFT JOIN attempt a ON a.target_id = d.target_id AND a.sequence = d.sequence \
     AND a.number = (SELECT max(x.number) FROM attempt x \
                     WHERE x.target_id = d.target_id AND x.sequence = d.sequence)";

/// The kind of an id that an event names beside the id of its object.
#[derive(Clone, Copy, Debug)]
pub(super) enum Named {
    Order,
    Invoice,
}

/// Returns the query for the events of `sequences` that pass `filter`, in the order of `sequences`.
pub(super) fn events(filter: &Filter, sequences: &[i64], limit: usize) -> Query {
    let mut query = of_sequences(EVENT_FACTS, sequences);
    query.push(" WHERE TRUE");
    query.order("e.sequence DESC");
    push_event(&mut query, filter);
    push_having(&mut query, filter);
    query.limit(limit);
    query
}

/// Returns the query for the states of the deliveries of the events of `sequences`.
pub(super) fn standings(sequences: &[i64]) -> Query {
    let columns = "e.sequence AS sequence, t.name AS target, d.state AS state, d.attempts AS attempts";
    let mut query = of_sequences(columns, sequences);
    query.push(THEIR_DELIVERIES);
    query
}

/// Returns the query for the deliveries of the events of `sequences` that pass `filter` and lie
/// beyond `cursor`. They come in the order of `sequences`; those of one event come by the target's
/// number.
pub(super) fn deliveries(filter: &Filter, cursor: Option<Cursor>, sequences: &[i64], limit: usize) -> Query {
    let mut query = of_sequences(DELIVERY_FACTS, sequences);
    query.push(THEIR_DELIVERIES).push(LAST_ATTEMPT).push(" WHERE TRUE");
    push_event(&mut query, filter);
    push_delivery(&mut query, filter);
    query.order("e.sequence DESC, t.id");
    if let Some(cursor) = cursor {
        query.push(" AND (e.sequence <> ").push_bind(cursor.sequence);
        query.push(" OR t.id > ").push_bind(cursor.target).push(")");
    }
    query.limit(limit);
    query
}

/// Returns the query for the keys of the deliveries of the events of `sequences` that pass `filter`
/// and are in one of `states`.
pub(super) fn keys(filter: &Filter, states: &[State], sequences: &[i64]) -> Query {
    let mut query = of_sequences("d.target_id AS target_id, d.sequence AS sequence", sequences);
    query.push(THEIR_DELIVERIES).push(" WHERE TRUE");
    push_event(&mut query, filter);
    push_delivery(&mut query, filter);
    push_states(&mut query, states);
    query
}

/// Returns the query for the events of `sequences` that pass `filter` and have a body. Its columns
/// say whether an event can go to `target` again, and what the event is about.
pub(super) fn replayable(filter: &Filter, (target, with_body): (i64, bool), sequences: &[i64]) -> Query {
    let columns = "e.sequence AS sequence, e.object_id AS object_id, e.order_lane AS order_lane, \
                   e.type AS type, e.environment AS environment, r.state AS state";
    let columns = if with_body { &format!("{columns}, e.body AS body") } else { columns };
    let mut query = of_sequences(columns, sequences);
    query.push(" LEFT JOIN delivery r ON r.target_id = ").push_bind(target);
    query.push(" AND r.sequence = e.sequence WHERE e.body IS NOT NULL");
    push_event(&mut query, filter);
    push_having(&mut query, filter);
    query
}

/// Returns the query for the events of `sequences`. Its columns say what an event is about and
/// whether a target takes it.
pub(super) fn candidates(with_body: bool, sequences: &[i64]) -> Query {
    let columns = "e.sequence AS sequence, e.object_id AS object_id, e.order_lane AS order_lane, \
                   e.type AS type, e.environment AS environment";
    let columns = if with_body { &format!("{columns}, e.body AS body") } else { columns };
    of_sequences(columns, sequences)
}

/// Returns the query for the events about an id, or with `named` also for those that name the id.
/// It asks the index of objects block by block, from one block down to another.
pub(super) fn in_blocks(named: Option<Named>) -> String {
    let events = in_block(named, ["$3", "$4", "$5"]);
    format!(
        "WITH RECURSIVE block (number) AS ( \
           VALUES ($1) UNION ALL SELECT number - 1 FROM block WHERE number > $2) \
         {events} ORDER BY sequence DESC LIMIT $6"
    )
}

/// Like [`in_blocks`], but visits only blocks that have events, for sequences with gaps.
pub(super) fn in_found_blocks(named: Option<Named>) -> String {
    let events = in_block(named, ["$1", "$2", "$3"]);
    format!(
        "WITH RECURSIVE block (number) AS ( \
           SELECT max(sequence) >> 9 FROM event WHERE sequence < $3 \
           UNION ALL SELECT (SELECT max(sequence) >> 9 FROM event WHERE sequence < number << 9) \
           FROM block WHERE number << 9 > $2) \
         {events} ORDER BY sequence DESC LIMIT $4"
    )
}

/// Returns the query for the events in `block`, by the index of each column. An event is found
/// once, since a column does not repeat the id of the object.
fn in_block(named: Option<Named>, [id, lowest, below]: [&str; 3]) -> String {
    let by = |column: &str| {
        format!(
            "SELECT e.sequence AS sequence FROM block \
             CROSS JOIN event e ON e.sequence >> 9 = block.number AND e.{column} = {id} \
             WHERE e.sequence >= {lowest} AND e.sequence < {below}"
        )
    };
    match named {
        None => by("object_id"),
        Some(Named::Order) => format!("{} UNION ALL {}", by("object_id"), by("order_id")),
        Some(Named::Invoice) => format!("{} UNION ALL {}", by("object_id"), by("invoice_id")),
    }
}

/// Returns the query for the digests of the events with these ids.
pub(super) fn digests<'a>(ids: impl IntoIterator<Item = &'a str>) -> Query {
    let mut query = Query::new("SELECT id, digest FROM event WHERE id IN (");
    query.push_list(ids).push(")");
    query
}

/// Returns whether `filter` has a condition on the event.
pub(super) fn asks_of_event(filter: &Filter) -> bool {
    let Filter {
        types,
        object_id,
        order_id,
        invoice_id,
        source,
        state: _,
        target: _,
        from,
        to,
        id_prefix,
        text,
    } = filter;
    types.is_some()
        || object_id.is_some()
        || order_id.is_some()
        || invoice_id.is_some()
        || source.is_some()
        || from.is_some()
        || to.is_some()
        || id_prefix.is_some()
        || text.is_some()
}

/// Returns a query for `columns` of the events of `sequences`.
fn of_sequences(columns: &str, sequences: &[i64]) -> Query {
    let mut query = Query::new("SELECT ");
    query.push(columns).push(" FROM ").push_numbers(sequences).push(OF_SEQUENCES);
    query
}

/// Adds the conditions of `filter` on the event.
fn push_event(query: &mut Query, filter: &Filter) {
    if let Some(types) = filter.types.as_ref().filter(|types| !types.is_any()) {
        query.push(" AND (FALSE");
        for pattern in types.patterns() {
            match pattern {
                Pattern::Any => query.push(" OR TRUE"),
                Pattern::Exact(kind) => query.push(" OR e.type = ").push_bind(&**kind),
                Pattern::Prefix(prefix) => push_prefix(query.push(" OR "), "e.type", prefix),
            };
        }
        query.push(")");
    }
    if let Some(object) = &filter.object_id {
        query.push(" AND e.object_id = ").push_bind(&**object);
    }
    for (column, id) in [("e.order_id", &filter.order_id), ("e.invoice_id", &filter.invoice_id)] {
        if let Some(id) = id {
            query.push(" AND (e.object_id = ").push_bind(&**id);
            query.push(" OR ").push(column).push(" = ").push_bind(&**id).push(")");
        }
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
        push_prefix(query.push(" AND "), "e.id", prefix);
    }
    if let Some(text) = &filter.text {
        query.push(" AND ").push_contains("e.body", text);
    }
}

/// Adds that the event has a delivery that meets the conditions of `filter`, if it has such
/// conditions.
fn push_having(query: &mut Query, filter: &Filter) {
    if filter.state.is_some() || filter.target.is_some() {
        query.push(" AND EXISTS (SELECT 1 FROM target t CROSS JOIN delivery d ON d.target_id = t.id AND d.sequence = e.sequence WHERE TRUE");
        push_delivery(query, filter);
        query.push(")");
    }
}

/// Adds the conditions of `filter` on the delivery.
fn push_delivery(query: &mut Query, filter: &Filter) {
    if let Some(target) = &filter.target {
        query.push(" AND t.name = ").push_bind(&**target);
    }
    if let Some(state) = filter.state {
        push_states(query, &[state]);
    }
}

/// Adds that the delivery is in one of `states`.
fn push_states(query: &mut Query, states: &[State]) {
    query.push(" AND d.state IN (");
    query.push_list(states.iter().map(|state| state.as_str())).push(")");
}

fn push_prefix<'q>(query: &'q mut Query, column: &str, prefix: &str) -> &'q mut Query {
    let length = i64::try_from(prefix.chars().count()).unwrap_or(i64::MAX);
    query.push("substr(").push(column).push(", 1, CAST(").push_bind(length);
    query.push(" AS integer)) = ").push_bind(prefix)
}
