//! Stores the outcomes of attempts.

use rusqlite::{Connection, Statement, params};

use super::retain::Positions;
use crate::domain::clock::{UnixMillis, signed_millis};
use crate::domain::delivery::{Next, OnUncertain, State};
use crate::store::engine::{ATTEMPTS_KEPT, GroupContext};
use crate::store::routing::FIRST;
use crate::store::types::{AttemptStarted, InterruptedAttempt, Settlement, TargetId};

/// Stores `settlements`.
pub(super) fn all(
    connection: &Connection,
    retained: &Positions,
    target: TargetId,
    settlements: &[&Settlement],
    context: &mut GroupContext<'_>,
) -> rusqlite::Result<()> {
    let mut update = connection.prepare_cached(UPDATE)?;
    for settlement in settlements {
        if !update_delivery(&mut update, target, settlement, context.now)? {
            // The attempt was settled before: the reply to an earlier try of the same command was
            // lost. A settled delivery never changes again, and only an operator changes a held
            // one.
            continue;
        }
        context.changes.step(target, Some(State::Sending), settlement.next.state());
        if !is_first_success(settlement) {
            insert_attempt(connection, target, settlement)?;
        }
        if matches!(settlement.next, Next::Delivered | Next::Dead) {
            retained.ended(connection, settlement.sequence)?;
        }
    }
    Ok(())
}

/// Returns whether the row of the delivery holds the attempt. That is so for most attempts.
fn is_first_success(settlement: &Settlement) -> bool {
    settlement.number == 1 && settlement.next == Next::Delivered
}

const UPDATE: &str = "UPDATE delivery SET state = ?3, due_at = ?4, attempts = ?5, settled_at = ?6, \
            lane = iif(?6 IS NULL, lane, NULL), rank = iif(?3 = 'held', ?8, rank), \
            first_attempt_at = coalesce(first_attempt_at, ?7), status = ?9, duration_ms = ?10 \
     WHERE target_id = ?1 AND sequence = ?2 AND settled_at IS NULL AND state <> 'held' \
       AND (attempts < ?5 OR (attempts = ?5 AND state = 'sending'))";

/// Returns whether the attempt was still to be settled.
fn update_delivery(
    update: &mut Statement<'_>,
    target: TargetId,
    settlement: &Settlement,
    now: UnixMillis,
) -> rusqlite::Result<bool> {
    let (state, due_at) = match settlement.next {
        Next::Retrying { due_at } => (settlement.next.state(), Some(due_at.0)),
        next => (next.state(), None),
    };
    let settled_at = matches!(settlement.next, Next::Delivered | Next::Dead).then_some(now.0);
    let rows = update.execute(params![
        target.0,
        settlement.sequence,
        state.as_str(),
        due_at,
        settlement.number,
        settled_at,
        settlement.started_at.0,
        FIRST,
        settlement.status.filter(|_| is_first_success(settlement)),
        is_first_success(settlement).then(|| signed_millis(settlement.duration)),
    ])?;
    Ok(rows == 1)
}

fn insert_attempt(
    connection: &Connection,
    target: TargetId,
    settlement: &Settlement,
) -> rusqlite::Result<()> {
    let mut insert = connection.prepare_cached(
        "INSERT INTO attempt (target_id, sequence, number, started_at, duration_ms, status, error, answer) \
         VALUES (?1, ?2, ?3, ?4, ?5, ?6, ?7, ?8)",
    )?;
    let answer = (!settlement.answer.is_empty()).then_some(&settlement.answer);
    insert.execute(params![
        target.0,
        settlement.sequence,
        settlement.number,
        settlement.started_at.0,
        signed_millis(settlement.duration),
        settlement.status,
        settlement.error,
        answer,
    ])?;
    if settlement.number > ATTEMPTS_KEPT {
        let mut prune = connection
            .prepare_cached("DELETE FROM attempt WHERE target_id = ?1 AND sequence = ?2 AND number <= ?3")?;
        prune.execute(params![target.0, settlement.sequence, settlement.number - ATTEMPTS_KEPT])?;
    }
    Ok(())
}

/// Stores that an attempt begins, so that it is known after a crash. Returns whether the delivery
/// was pending or retrying.
pub(super) fn claim(
    connection: &Connection,
    target: TargetId,
    attempt: AttemptStarted,
) -> rusqlite::Result<bool> {
    let mut update = connection.prepare_cached(
        "UPDATE delivery SET state = 'sending', due_at = NULL, attempts = ?3, \
                first_attempt_at = coalesce(first_attempt_at, ?4) \
         WHERE target_id = ?1 AND sequence = ?2 AND (state = 'pending' OR state = 'retrying')",
    )?;
    let changed = update.execute(params![target.0, attempt.sequence, attempt.number, attempt.at.0])?;
    Ok(changed == 1)
}

/// Settles the attempts that were on the wire when a process ended: their outcomes are unknown.
/// Returns these attempts.
///
/// The statements name the index. SQLite assumes that most deliveries of a target are unfinished,
/// and would read all of them in the order of the table.
pub(super) fn recover(
    connection: &Connection,
    target: TargetId,
    on_uncertain: OnUncertain,
    context: &mut GroupContext<'_>,
) -> rusqlite::Result<Vec<InterruptedAttempt>> {
    let now = context.now;
    let cut_off = cut_off(connection, target)?;
    connection.execute(
        "INSERT OR IGNORE INTO attempt (target_id, sequence, number, started_at, duration_ms, error) \
         SELECT target_id, sequence, attempts, ?2, 0, 'the process ended while this attempt was on the wire' \
         FROM delivery INDEXED BY delivery_open \
         WHERE target_id = ?1 AND settled_at IS NULL AND state = 'sending'",
        params![target.0, now.0],
    )?;
    let (state, due_at) = match on_uncertain {
        OnUncertain::Hold => (State::Held, None),
        OnUncertain::Retry => (State::Retrying, Some(now.0)),
    };
    let rows = connection.execute(
        "UPDATE delivery INDEXED BY delivery_open SET state = ?2, due_at = ?3, rank = iif(?2 = 'held', ?4, rank) \
         WHERE target_id = ?1 AND settled_at IS NULL AND state = 'sending'",
        params![target.0, state.as_str(), due_at, FIRST],
    )?;
    let rows = i64::try_from(rows).unwrap_or(i64::MAX);
    context.changes.change(target, State::Sending, -rows);
    context.changes.change(target, state, rows);
    Ok(cut_off)
}

/// Returns the attempts that are recorded as on the wire. Their number is bounded by that of a
/// target's concurrent requests.
fn cut_off(connection: &Connection, target: TargetId) -> rusqlite::Result<Vec<InterruptedAttempt>> {
    connection
        .prepare_cached(
            "SELECT e.id, d.attempts \
             FROM delivery d INDEXED BY delivery_open JOIN event e ON e.sequence = d.sequence \
             WHERE d.target_id = ?1 AND d.settled_at IS NULL AND d.state = 'sending' ORDER BY d.sequence",
        )?
        .query_map(params![target.0], |row| {
            Ok(InterruptedAttempt { event_id: row.get(0)?, number: row.get(1)? })
        })?
        .collect()
}
