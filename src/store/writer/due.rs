//! Finding the deliveries whose turn it is.

use std::sync::Arc;

use rusqlite::{Connection, OptionalExtension as _, Row, params};

use super::turn;
use crate::domain::clock::UnixMillis;
use crate::domain::event::Received;
use crate::store::outbox::{Due, Job, Search, TargetId};
use crate::store::row::{EVENT_COLUMNS, EventRow};

/// Bytes of event bodies taken into memory by one search.
const BODIES: usize = 4 << 20;

/// What of `target` is due, the longest due first, and when there is more.
pub(super) fn find(connection: &Connection, target: TargetId, search: &Search) -> rusqlite::Result<Due> {
    let keys = keys(connection, target, search)?;
    let (mut jobs, mut bytes, mut taken) = (Vec::new(), 0, 0);
    for sequence in keys.iter().copied().take(search.limit) {
        if bytes >= BODIES {
            break;
        }
        taken += 1;
        let Some(mut job) = job(connection, target, sequence)? else { continue };
        if let Some(lane) = job.lane
            && let Some(earlier) = turn::let_pass(connection, target, lane, sequence, search.now)?
        {
            job = earlier;
        }
        bytes += job.event.event.body.len();
        jobs.push(job);
    }
    let next_due = connection
        .prepare_cached("SELECT min(due_at) FROM delivery WHERE target_id = ?1 AND due_at > ?2")?
        .query_row(params![target.0, search.now.0], |row| row.get::<_, Option<i64>>(0))?;
    Ok(Due { jobs, more: taken < keys.len(), next_due: next_due.map(UnixMillis) })
}

/// The sequences of what is due: one more than may be taken, to know of it.
/// Known ones are passed over by the index alone, without touching their rows.
fn keys(connection: &Connection, target: TargetId, search: &Search) -> rusqlite::Result<Vec<i64>> {
    let mut select = connection.prepare_cached(
        "SELECT sequence FROM delivery WHERE target_id = ?1 AND due_at <= ?2 ORDER BY due_at, sequence",
    )?;
    let mut rows = select.query(params![target.0, search.now.0])?;
    let mut keys = Vec::new();
    while keys.len() <= search.limit
        && let Some(row) = rows.next()?
    {
        let sequence = row.get(0)?;
        if !search.known.contains(&sequence) {
            keys.push(sequence);
        }
    }
    Ok(keys)
}

/// The event of `sequence`, if its body is still there and can be read.
pub(super) fn event(connection: &Connection, sequence: i64) -> rusqlite::Result<Option<Received>> {
    let mut select = connection.prepare_cached(&format!(
        "SELECT {EVENT_COLUMNS} FROM event e WHERE e.sequence = ?1 AND e.body IS NOT NULL"
    ))?;
    let found = select.query_row(params![sequence], event_row).optional()?;
    Ok(found.and_then(|row| readable(sequence, row)))
}

/// The delivery of `sequence` to `target`, with its event.
pub(super) fn job(connection: &Connection, target: TargetId, sequence: i64) -> rusqlite::Result<Option<Job>> {
    const COLUMNS: usize = 9;
    let mut select = connection.prepare_cached(&format!(
        "SELECT {EVENT_COLUMNS}, d.attempts, d.first_attempt_at, d.lane, d.replays FROM delivery d \
         JOIN event e ON e.sequence = d.sequence WHERE d.target_id = ?1 AND d.sequence = ?2"
    ))?;
    let found = select
        .query_row(params![target.0, sequence], |row| {
            let first_attempt_at = row.get::<_, Option<i64>>(COLUMNS + 1)?.map(UnixMillis);
            let (attempts, lane, replays) = (row.get(COLUMNS)?, row.get(COLUMNS + 2)?, row.get(COLUMNS + 3)?);
            Ok((event_row(row)?, attempts, first_attempt_at, lane, replays))
        })
        .optional()?;
    let Some((event, attempts, first_attempt_at, lane, replays)) = found else { return Ok(None) };
    Ok(readable(sequence, event).map(|event| {
        let event = Arc::new(event);
        Job { sequence, attempts, first_attempt_at, replays, event, lane }
    }))
}

/// The columns of [`EVENT_COLUMNS`], first in `row`.
fn event_row(row: &Row<'_>) -> rusqlite::Result<EventRow> {
    Ok(EventRow {
        id: row.get(0)?,
        kind: row.get(1)?,
        object_id: row.get(2)?,
        created: row.get(3)?,
        source: row.get(4)?,
        origin: row.get(5)?,
        environment: row.get(6)?,
        received_at: row.get(7)?,
        body: row.get(8)?,
    })
}

fn readable(sequence: i64, row: EventRow) -> Option<Received> {
    // Left where it is for a later version, which may know the value.
    row.into_received()
        .inspect_err(|error| {
            tracing::error!(%error, sequence, "a stored event cannot be read and is passed over");
        })
        .ok()
}
