//! Whose turn it is in a lane: exactly one unsettled delivery of each has rank
//! [`FIRST`], and only that one can be due.

use rusqlite::{Connection, OptionalExtension as _, params};

use super::due;
use crate::domain::clock::UnixMillis;
use crate::domain::event::EventId;
use crate::store::lane::{FIRST, rank};
use crate::store::types::{Job, TargetId};

/// The place of a stored event among those that wait, as if it waited.
pub(super) fn place(connection: &Connection, sequence: i64) -> rusqlite::Result<i64> {
    let mut select = connection.prepare_cached("SELECT id, received_at FROM event WHERE sequence = ?1")?;
    let (id, received_at) =
        select.query_row(params![sequence], |row| Ok((row.get::<_, String>(0)?, UnixMillis(row.get(1)?))))?;
    // Every stored id was one once; an unreadable one keeps its turn.
    Ok(id.parse::<EventId>().map_or(FIRST, |id| rank(&id, received_at)))
}

/// Has the delivery whose turn it is wait at its `place` instead.
pub(super) fn step_back(
    connection: &Connection,
    target: TargetId,
    sequence: i64,
    place: i64,
) -> rusqlite::Result<()> {
    let mut update = connection.prepare_cached(
        "UPDATE delivery SET due_at = NULL, rank = ?3 WHERE target_id = ?1 AND sequence = ?2",
    )?;
    update.execute(params![target.0, sequence, place]).map(drop)
}

/// After the turn of a delivery has ended for good: lets out the next of its lane.
pub(super) fn pass_on(
    connection: &Connection,
    target: TargetId,
    lane: i64,
    now: UnixMillis,
) -> rusqlite::Result<Option<Job>> {
    match next(connection, target, lane)? {
        Some((sequence, _)) => let_out(connection, target, sequence, now),
        None => Ok(None),
    }
}

/// Before `sequence`, which was attempted, gets its turn again: lets out the next
/// of its lane instead, if that comes first, having arrived meanwhile.
pub(super) fn let_pass(
    connection: &Connection,
    target: TargetId,
    lane: i64,
    sequence: i64,
    now: UnixMillis,
) -> rusqlite::Result<Option<Job>> {
    let Some((next, rank)) = next(connection, target, lane)? else { return Ok(None) };
    let place = place(connection, sequence)?;
    if place <= rank {
        return Ok(None);
    }
    step_back(connection, target, sequence, place)?;
    let_out(connection, target, next, now)
}

/// The first of those that wait, and its rank.
fn next(connection: &Connection, target: TargetId, lane: i64) -> rusqlite::Result<Option<(i64, i64)>> {
    connection
        .prepare_cached(
            "SELECT sequence, rank FROM delivery WHERE target_id = ?1 AND lane = ?2 AND rank > ?3 \
             ORDER BY rank, sequence LIMIT 1",
        )?
        .query_row(params![target.0, lane, FIRST], |row| Ok((row.get(0)?, row.get(1)?)))
        .optional()
}

/// Gives `sequence` its turn. A first attempt is due since its event was accepted:
/// among those of other lanes it goes by its age.
fn let_out(
    connection: &Connection,
    target: TargetId,
    sequence: i64,
    now: UnixMillis,
) -> rusqlite::Result<Option<Job>> {
    let job = due::job(connection, target, sequence)?;
    let accepted_at = job.as_ref().filter(|job| job.attempts == 0).map(|job| job.event.received_at);
    let due_at = accepted_at.map_or(now.0, |at| at.0.min(now.0));
    connection
        .prepare_cached("UPDATE delivery SET due_at = ?3, rank = ?4 WHERE target_id = ?1 AND sequence = ?2")?
        .execute(params![target.0, sequence, due_at, FIRST])?;
    Ok(job)
}
