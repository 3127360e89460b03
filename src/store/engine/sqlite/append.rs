//! Stores events with their deliveries, and moves the cursor of a stream.

use rusqlite::{CachedStatement, Connection, OptionalExtension as _, params, params_from_iter};

use super::order::{OrderLane, order_lane};
use super::repeats::{self, Repeat};
use crate::domain::clock::UnixMillis;
use crate::domain::delivery::{Ordering, State};
use crate::domain::event::{Digest, Environment, EventId, Received};
use crate::store::engine::{GroupContext, ORDINARY_SKEW_MS};
use crate::store::routing::{RoutingTable, belongs_to, lane, rank};
use crate::store::types::{Appended, Batch, CursorMove, Recorded, TargetId};

/// The numbers of deliveries that one statement inserts. As many as possible are inserted by the
/// first number, then by the next. SQLite opens tables and indexes once for each statement, and not
/// for each row.
const BLOCKS: [usize; 3] = [16, 4, 1];

/// The events of one group that are being stored.
pub(super) struct Append<'a> {
    connection: &'a Connection,
    /// Whether an open target has a lane for each order.
    by_order: bool,
    insert: CachedStatement<'a>,
    /// The deliveries of the events that were inserted.
    deliveries: Vec<NewDelivery>,
}

/// A pending delivery that is still to be inserted.
struct NewDelivery {
    target: TargetId,
    sequence: i64,
    lane: Option<i64>,
    rank: i64,
}

impl NewDelivery {
    const fn values(&self) -> [Option<i64>; 4] {
        [Some(self.target.0), Some(self.sequence), self.lane, Some(self.rank)]
    }
}

impl<'a> Append<'a> {
    pub(super) fn begin(connection: &'a Connection, routes: &RoutingTable) -> rusqlite::Result<Self> {
        let by_order = routes.open_ones().any(|(_, queue)| queue.route.ordering == Ordering::PerOrder);
        let insert = connection.prepare_cached(
            "INSERT INTO event (sequence, id, type, object_id, created, source, origin, environment, \
                                received_at, body, digest, order_lane, order_id, invoice_id) \
             VALUES (?1, ?2, ?3, ?4, ?5, ?6, ?7, ?8, ?9, ?10, ?11, ?12, ?13, ?14) ON CONFLICT (id) DO NOTHING",
        )?;
        Ok(Self { connection, by_order, insert, deliveries: Vec::new() })
    }

    /// Stores the new events of `batch`, with sequences above `sequence`, and moves the cursor.
    pub(super) fn batch(
        &mut self,
        batch: &Batch,
        sequence: &mut i64,
        context: &mut GroupContext<'_>,
    ) -> rusqlite::Result<Vec<Appended>> {
        let events = batch.events.iter().map(|event| {
            let next = *sequence + 1;
            let of_order =
                if self.by_order { order_lane(self.connection, &event.event, next)? } else { None };
            if !self.insert_event(event, next, of_order.as_ref())? {
                let Repeat { lag, conflict, news } = repeats::note(self.connection, event)?;
                let recorded = if conflict { Recorded::Conflict } else { Recorded::Duplicate };
                return Ok(Appended { recorded, sequence: 0, queues: Vec::new(), lag, news });
            }
            *sequence = next;
            let queues = self.route(event, of_order.map(|of_order| of_order.lane), next, context);
            Ok(Appended { recorded: Recorded::New, sequence: next, queues, lag: None, news: false })
        });
        let written = events.collect::<rusqlite::Result<_>>()?;
        if let Some(cursor) = &batch.cursor {
            move_cursor(self.connection, cursor, context.now)?;
        }
        Ok(written)
    }

    /// Returns whether `event` was new.
    fn insert_event(
        &mut self,
        event: &Received,
        sequence: i64,
        of_order: Option<&OrderLane>,
    ) -> rusqlite::Result<bool> {
        let Received { event, source, origin, environment, received_at } = event;
        let (order, invoice) = belongs_to(&event.subject);
        // A payment names only its invoice. It can be found by the order of that invoice.
        let order = order.or(of_order.and_then(|of_order| of_order.linked.as_deref()));
        let rows = self.insert.execute(params![
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

    /// Gives a new event a delivery for every target that takes it. Returns the indices of their
    /// queues, with the lanes.
    fn route(
        &mut self,
        event: &Received,
        of_order: Option<i64>,
        sequence: i64,
        context: &mut GroupContext<'_>,
    ) -> Vec<(usize, Option<i64>)> {
        let rank = rank(&event.event.id, event.received_at);
        let mut taken_by = Vec::new();
        for (index, queue) in context.routes.open_ones() {
            if !queue.route.takes(event) {
                continue;
            }
            let lane = lane(queue.route.ordering, event, of_order);
            self.deliveries.push(NewDelivery { target: queue.target, sequence, lane, rank });
            context.changes.step(queue.target, None, State::Pending);
            taken_by.push((index, lane));
        }
        taken_by
    }

    /// Inserts the deliveries.
    pub(super) fn finish(mut self) -> rusqlite::Result<()> {
        // In the order of the table, each row is inserted next to the last one.
        self.deliveries.sort_by_key(|delivery| delivery.target);
        let mut left = &self.deliveries[..];
        for rows in BLOCKS {
            if left.len() < rows {
                continue;
            }
            let mut insert = self.connection.prepare_cached(&insert_deliveries(rows))?;
            while let Some((block, rest)) = left.split_at_checked(rows) {
                insert.execute(params_from_iter(block.iter().flat_map(NewDelivery::values)))?;
                left = rest;
            }
        }
        Ok(())
    }
}

/// Returns the statement that inserts `rows` deliveries.
fn insert_deliveries(rows: usize) -> String {
    let values = vec!["(?, ?, 'pending', ?, ?)"; rows].join(", ");
    format!("INSERT INTO delivery (target_id, sequence, state, lane, rank) VALUES {values}")
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

/// Notes how late events are accepted. Events are numbered in the order of acceptance. Frames that
/// a stream holds back while Pepay's list fails are accepted long after their arrival, and a clock
/// that is set back makes later events look early. A search by time allows for this difference.
#[derive(Debug)]
pub(super) struct ArrivalSkew {
    /// The latest time of arrival of any accepted event. It may include events that were not
    /// committed, which does no harm.
    newest: UnixMillis,
}

impl ArrivalSkew {
    pub(super) fn read(connection: &Connection) -> rusqlite::Result<Self> {
        let newest = connection.query_row(NEWEST, [], |row| row.get(0)).optional()?;
        Ok(Self { newest: UnixMillis(newest.unwrap_or(i64::MIN)) })
    }

    /// Notes that the new events of `batch` are accepted `now`, in the open transaction.
    pub(super) fn note(
        &mut self,
        connection: &Connection,
        batch: &Batch,
        appended: &[Appended],
        now: UnixMillis,
    ) -> rusqlite::Result<()> {
        // Earlier events arrived before `now`, unless the clock was set back.
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
        // The value has whole minutes, so that a burst with growing delays does not change it every
        // time.
        let minutes = late / 60_000 + 1;
        let mut update = connection.prepare_cached("UPDATE lateness SET most = ?1 WHERE most < ?1")?;
        update.execute([minutes.saturating_mul(60_000)]).map(drop)
    }
}
