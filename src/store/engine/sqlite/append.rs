//! Storing events with their deliveries, and moving a stream's cursor.

use rusqlite::{Connection, OptionalExtension as _, params};

use super::order::{OrderLane, order_lane};
use super::repeats::{self, Repeat};
use crate::domain::clock::UnixMillis;
use crate::domain::delivery::{Ordering, State};
use crate::domain::event::{Digest, Environment, EventId, Received};
use crate::store::counts::BacklogChanges;
use crate::store::engine::ORDINARY_SKEW_MS;
use crate::store::routing::{RoutingTable, belongs_to, lane, rank};
use crate::store::types::{Appended, Batch, CursorMove, Recorded};

/// Stores the events of `batch` that are new, numbers them from `sequence` on,
/// and moves the cursor.
pub(super) fn batch(
    connection: &Connection,
    (routes, changes): (&RoutingTable, &mut BacklogChanges),
    batch: &Batch,
    sequence: &mut i64,
    now: UnixMillis,
) -> rusqlite::Result<Vec<Appended>> {
    let by_order = routes.open_ones().any(|(_, queue)| queue.route.ordering == Ordering::PerOrder);
    let events = batch.events.iter().map(|event| {
        let next = *sequence + 1;
        let of_order = if by_order { order_lane(connection, &event.event, next)? } else { None };
        if !insert_event(connection, event, next, of_order.as_ref())? {
            let Repeat { lag, conflict, news } = repeats::note(connection, event)?;
            let recorded = if conflict { Recorded::Conflict } else { Recorded::Duplicate };
            return Ok(Appended { recorded, sequence: 0, queues: Vec::new(), lag, news });
        }
        *sequence = next;
        let of_order = of_order.map(|of_order| of_order.lane);
        let queues = insert_deliveries(connection, (routes, &mut *changes), (event, of_order), next)?;
        Ok(Appended { recorded: Recorded::New, sequence: next, queues, lag: None, news: false })
    });
    let written = events.collect::<rusqlite::Result<_>>()?;
    if let Some(cursor) = &batch.cursor {
        move_cursor(connection, cursor, now)?;
    }
    Ok(written)
}

/// Whether `event` was new.
fn insert_event(
    connection: &Connection,
    event: &Received,
    sequence: i64,
    of_order: Option<&OrderLane>,
) -> rusqlite::Result<bool> {
    let Received { event, source, origin, environment, received_at } = event;
    let (order, invoice) = belongs_to(&event.subject);
    // A payment names its invoice alone, and is found by the order of that.
    let order = order.or(of_order.and_then(|of_order| of_order.linked.as_deref()));
    let mut insert = connection.prepare_cached(
        "INSERT INTO event (sequence, id, type, object_id, created, source, origin, environment, \
                            received_at, body, digest, order_lane, order_id, invoice_id) \
         VALUES (?1, ?2, ?3, ?4, ?5, ?6, ?7, ?8, ?9, ?10, ?11, ?12, ?13, ?14) ON CONFLICT (id) DO NOTHING",
    )?;
    let rows = insert.execute(params![
        sequence,
        event.id.as_str(),
        event.kind.as_str(),
        event.subject.object,
        event.created,
        source.as_str(),
        origin,
        environment.map(Environment::as_str),
        received_at.0,
        &event.body[..],
        event.digest.map(|Digest(digest)| digest),
        of_order.map(|of_order| of_order.lane),
        order,
        invoice,
    ])?;
    Ok(rows == 1)
}

fn insert_deliveries(
    connection: &Connection,
    (routes, changes): (&RoutingTable, &mut BacklogChanges),
    (event, of_order): (&Received, Option<i64>),
    sequence: i64,
) -> rusqlite::Result<Vec<(usize, Option<i64>)>> {
    let mut insert = connection.prepare_cached(
        "INSERT INTO delivery (target_id, sequence, state, lane, rank) VALUES (?1, ?2, 'pending', ?3, ?4)",
    )?;
    let rank = rank(&event.event.id, event.received_at);
    let mut taken_by = Vec::new();
    for (index, queue) in routes.open_ones() {
        if !queue.route.takes(event) {
            continue;
        }
        let lane = lane(queue.route.ordering, event, of_order);
        insert.execute(params![queue.target.0, sequence, lane, rank])?;
        changes.step(queue.target, None, State::Pending);
        taken_by.push((index, lane));
    }
    Ok(taken_by)
}

fn move_cursor(connection: &Connection, cursor: &CursorMove, now: UnixMillis) -> rusqlite::Result<()> {
    let CursorMove { stream, position, history, term: _ } = cursor;
    let mut upsert = connection.prepare_cached(
        "INSERT INTO stream_cursor (stream, event_id, created, moved_at, history) \
         VALUES (?1, ?2, ?3, ?4, ?5) \
         ON CONFLICT (stream) DO UPDATE \
         SET event_id = ?2, created = ?3, moved_at = ?4, history = coalesce(?5, history)",
    )?;
    let event = position.event.as_ref().map(EventId::as_str);
    upsert.execute(params![stream, event, position.created, now.0, history]).map(drop)
}

const NEWEST: &str = "SELECT received_at FROM event ORDER BY sequence DESC LIMIT 1";

/// How far events are out of the order in which they arrived. They are numbered as they
/// are accepted: frames that a stream holds back while Pepay's list fails are accepted
/// long after they arrived, and a clock that is set back makes late what is not. A search
/// by time looks that far around.
#[derive(Debug)]
pub(super) struct ArrivalSkew {
    /// No event accepted so far has arrived later. One that was not committed does no harm.
    newest: UnixMillis,
}

impl ArrivalSkew {
    pub(super) fn read(connection: &Connection) -> rusqlite::Result<Self> {
        let newest = connection.query_row(NEWEST, [], |row| row.get(0)).optional()?;
        Ok(Self { newest: UnixMillis(newest.unwrap_or(i64::MIN)) })
    }

    /// What is new of `batch` is accepted `now`, in the open transaction.
    pub(super) fn note(
        &mut self,
        connection: &Connection,
        batch: &Batch,
        appended: &[Appended],
        now: UnixMillis,
    ) -> rusqlite::Result<()> {
        // What was accepted before arrived before, unless the clock was set back.
        self.newest = self.newest.max(now);
        for (event, one) in batch.events.iter().zip(appended) {
            if one.recorded == Recorded::New {
                self.note_one(connection, event.received_at)?;
            }
        }
        Ok(())
    }

    fn note_one(&mut self, connection: &Connection, arrived: UnixMillis) -> rusqlite::Result<()> {
        self.newest = self.newest.max(arrived);
        let late = self.newest.0.saturating_sub(arrived.0);
        if late <= ORDINARY_SKEW_MS {
            return Ok(());
        }
        // In whole minutes: a burst that comes later and later does not change it every time.
        let minutes = late / 60_000 + 1;
        let mut update = connection.prepare_cached("UPDATE lateness SET most = ?1 WHERE most < ?1")?;
        update.execute([minutes.saturating_mul(60_000)]).map(drop)
    }
}
