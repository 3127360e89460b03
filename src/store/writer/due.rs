//! Finding the deliveries whose turn it is.

use std::sync::Arc;

use rusqlite::{Connection, OptionalExtension as _, params};

use super::turn;
use crate::domain::clock::UnixMillis;
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

/// The delivery of `sequence` to `target`, with its event.
pub(super) fn job(connection: &Connection, target: TargetId, sequence: i64) -> rusqlite::Result<Option<Job>> {
    const COLUMNS: usize = 9;
    let mut select = connection.prepare_cached(&format!(
        "SELECT {EVENT_COLUMNS}, d.attempts, d.first_attempt_at, d.lane FROM delivery d \
         JOIN event e ON e.sequence = d.sequence WHERE d.target_id = ?1 AND d.sequence = ?2"
    ))?;
    let found = select
        .query_row(params![target.0, sequence], |row| {
            let event = EventRow {
                id: row.get(0)?,
                kind: row.get(1)?,
                object_id: row.get(2)?,
                created: row.get(3)?,
                source: row.get(4)?,
                origin: row.get(5)?,
                environment: row.get(6)?,
                received_at: row.get(7)?,
                body: row.get(8)?,
            };
            let first_attempt_at: Option<i64> = row.get(COLUMNS + 1)?;
            Ok((event, row.get(COLUMNS)?, first_attempt_at.map(UnixMillis), row.get(COLUMNS + 2)?))
        })
        .optional()?;
    let Some((event, attempts, first_attempt_at, lane)) = found else { return Ok(None) };
    match event.into_received() {
        Ok(event) => Ok(Some(Job { sequence, attempts, first_attempt_at, event: Arc::new(event), lane })),
        Err(error) => {
            // Left where it is for a later version, which may know the value.
            tracing::error!(%error, sequence, "a stored event cannot be read and is passed over");
            Ok(None)
        }
    }
}
