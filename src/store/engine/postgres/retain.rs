//! Removes old rows, in small steps. The rows of a step and their order are as for `SQLite`: two
//! positions move up through the sequences, and an event that was passed over is looked at again
//! once a delivery of it has ended.
//!
//! Other processes write meanwhile. A statement of theirs that began before a position was moved
//! does not know the new position. So an event that is passed over is noted as ripe here too, and
//! looked at once more in the next sweep. An event that they are writing to, or have just written
//! to, stays noted. An event is locked while this module decides whether it is still needed, and
//! while an operator's action sends it again.

use std::collections::HashSet;

use sqlx::Row as _;
use sqlx::postgres::PgRow;

use super::audit;
use super::session::Session;
use crate::domain::clock::UnixMillis;
use crate::domain::delivery::State;
use crate::store::counts::BacklogChanges;
use crate::store::engine::age::{RunEnd, old_ones};
use crate::store::engine::{GroupContext, Retained, RetentionStep};
use crate::store::types::TargetId;

/// The number of events in one step.
const STEP: i64 = 500;

/// Carries out a step of retention.
pub(super) async fn step(
    session: &mut Session,
    step: RetentionStep,
    context: &mut GroupContext<'_>,
) -> Result<Retained, sqlx::Error> {
    let more = match step {
        RetentionStep::Dead { before } => return dead(session, before, context).await,
        RetentionStep::Payloads { before } => payloads(session, (before, context.now)).await,
        RetentionStep::Events { before, but_newest } => events(session, before, but_newest, context).await,
        RetentionStep::Conflicts { before } => conflicts(session, before).await,
        RetentionStep::Recheck => recheck(session, &mut context.changes).await,
        RetentionStep::Audit { before, newest } => audit::remove_old(session, before, newest).await,
        // Autovacuum does this.
        RetentionStep::Vacuum => Ok(false),
    };
    Ok(Retained { more: more?, expired: Vec::new() })
}

/// Cancels the deliveries that have been dead for the longest time. One that an operator is just
/// deciding on is left for the next sweep: the operator's action takes locks in another order.
pub(super) const DEAD: &str = "WITH oldest AS ( \
       SELECT target_id, sequence FROM delivery WHERE state = 'dead' AND settled_at < $1 \
       ORDER BY settled_at LIMIT $2 FOR UPDATE SKIP LOCKED \
     ), cancelled AS ( \
       UPDATE delivery d SET state = 'cancelled', settled_at = $3 FROM oldest o \
       WHERE d.target_id = o.target_id AND d.sequence = o.sequence AND d.state = 'dead' \
       RETURNING d.target_id, d.sequence \
     ), noted AS ( \
       INSERT INTO ripe (sequence) SELECT DISTINCT sequence FROM cancelled \
       WHERE sequence <= (SELECT payload_through FROM retention) \
     ) SELECT t.id, t.name, count(*) AS number FROM cancelled c JOIN target t ON t.id = c.target_id \
       GROUP BY t.id, t.name ORDER BY t.name";

async fn dead(
    session: &mut Session,
    before: UnixMillis,
    context: &mut GroupContext<'_>,
) -> Result<Retained, sqlx::Error> {
    let (mut expired, mut all) = (Vec::new(), 0);
    for row in session.rows(sqlx::query(DEAD).bind(before.0).bind(STEP).bind(context.now.0)).await? {
        let number: i64 = row.try_get("number")?;
        let target = TargetId(row.try_get("id")?);
        context.changes.change(target, State::Dead, -number);
        context.changes.change(target, State::Cancelled, number);
        all += number;
        expired.push((row.try_get::<&str, _>("name")?.into(), u64::try_from(number).unwrap_or(0)));
    }
    Ok(Retained { more: all >= STEP, expired })
}

async fn payloads(session: &mut Session, times: (UnixMillis, UnixMillis)) -> Result<bool, sqlx::Error> {
    let (through, _) = positions(session).await?;
    let (old, more) = old(session, (through, i64::MAX), times).await?;
    let Some(last) = old.last().copied() else { return Ok(false) };
    let passed_over = remove_payloads(session, &old).await?;
    session.execute(sqlx::query("UPDATE retention SET payload_through = $1").bind(last)).await?;
    let note = "INSERT INTO ripe (sequence) SELECT unnest($1::bigint[])";
    session.execute(sqlx::query(note).bind(passed_over)).await?;
    Ok(more)
}

/// Removes the bodies of old conflicts. A conflict may arrive long after its event, whose body may have
/// been removed before.
const CONFLICTS: &str = "UPDATE conflict SET body = NULL WHERE (sequence, digest, source) IN ( \
       SELECT c.sequence, c.digest, c.source FROM conflict c JOIN event e ON e.sequence = c.sequence \
       WHERE c.sequence <= (SELECT payload_through FROM retention) AND c.body IS NOT NULL \
         AND c.received_at < $1 AND e.body IS NULL LIMIT $2)";

async fn conflicts(session: &mut Session, before: UnixMillis) -> Result<bool, sqlx::Error> {
    let removed = session.execute(sqlx::query(CONFLICTS).bind(before.0).bind(STEP)).await?;
    Ok(is_full(usize::try_from(removed).unwrap_or(usize::MAX)))
}

async fn events(
    session: &mut Session,
    before: UnixMillis,
    but_newest: i64,
    context: &mut GroupContext<'_>,
) -> Result<bool, sqlx::Error> {
    let (payloads, through) = positions(session).await?;
    let newest = "SELECT coalesce(max(sequence), 0) AS newest FROM event";
    let newest: i64 = only(session.rows(sqlx::query(newest)).await?)?.try_get("newest")?;
    // This position never passes that of the bodies, so that one position shows which events were
    // passed over.
    let (old, more) =
        old(session, (through, payloads.min(newest - but_newest)), (before, context.now)).await?;
    let Some(last) = old.last().copied() else { return Ok(false) };
    remove_events(session, &mut context.changes, &old).await?;
    session.execute(sqlx::query("UPDATE retention SET events_through = $1").bind(last)).await?;
    Ok(more)
}

async fn recheck(session: &mut Session, changes: &mut BacklogChanges) -> Result<bool, sqlx::Error> {
    let (_, events_through) = positions(session).await?;
    let next = "SELECT DISTINCT sequence FROM ripe ORDER BY sequence LIMIT $1";
    let ripe: Vec<i64> = numbers(&session.rows(sqlx::query(next).bind(STEP)).await?)?;
    let (passed, others): (Vec<i64>, Vec<i64>) =
        ripe.iter().partition(|sequence| **sequence <= events_through);
    let mut left = remove_events(session, changes, &passed).await?;
    left.extend(remove_payloads(session, &others).await?);
    let undone = surely_undone(session, &left).await?;
    let stays: HashSet<i64> = left.into_iter().filter(|sequence| !undone.contains(sequence)).collect();
    let looked_at: Vec<i64> = ripe.iter().copied().filter(|sequence| !stays.contains(sequence)).collect();
    // An event that is not finished yet is noted again when its next delivery ends.
    session.execute(sqlx::query("DELETE FROM ripe WHERE sequence = ANY ($1)").bind(&looked_at)).await?;
    Ok(is_full(ripe.len()) && !looked_at.is_empty())
}

pub(super) const LOCK_UNDONE: &str = "SELECT sequence FROM delivery WHERE sequence = ANY ($1) \
       AND coalesce(settled_at IS NULL OR state = 'dead', true) FOR SHARE SKIP LOCKED";

/// Returns those of `sequences` that surely have an unfinished delivery until the transaction ends,
/// since it is locked. Of the others, another process is writing to each unfinished delivery, or has
/// finished the last one.
async fn surely_undone(session: &mut Session, sequences: &[i64]) -> Result<HashSet<i64>, sqlx::Error> {
    if sequences.is_empty() {
        return Ok(HashSet::new());
    }
    let locked = session.rows(sqlx::query(LOCK_UNDONE).bind(sequences)).await?;
    Ok(numbers(&locked)?.into_iter().collect())
}

/// Returns the sequences up to which bodies and whole events have been removed.
async fn positions(session: &mut Session) -> Result<(i64, i64), sqlx::Error> {
    // The row is locked, so that one of two retentions waits for the other.
    let query = "SELECT payload_through, events_through FROM retention FOR UPDATE";
    let row = only(session.rows(sqlx::query(query)).await?)?;
    Ok((row.try_get("payload_through")?, row.try_get("events_through")?))
}

pub(super) const OLD: &str = "SELECT sequence, received_at FROM event WHERE sequence > $1 AND sequence <= $2 \
                              ORDER BY sequence LIMIT $3";

/// Returns the next events in a range of sequences that arrived before `before`, and whether there
/// may be more. They are taken in the order of acceptance: events with a time of a wrong clock
/// neither keep those behind them nor take away those before them.
async fn old(
    session: &mut Session,
    (after, through): (i64, i64),
    (before, now): (UnixMillis, UnixMillis),
) -> Result<(Vec<i64>, bool), sqlx::Error> {
    let rows = session.rows(sqlx::query(OLD).bind(after).bind(through).bind(STEP)).await?;
    let next = rows.iter().map(|row| Ok((row.try_get("sequence")?, UnixMillis(row.try_get("received_at")?))));
    let mut next = next.collect::<Result<Vec<(i64, UnixMillis)>, sqlx::Error>>()?;
    let looked_at = next.len();
    let are_to_come = is_full(looked_at) && next.iter().all(|(_, at)| *at > now);
    let are_old = match next.last() {
        Some((last, _)) if are_to_come => is_old_behind(session, *last, (before, now)).await?,
        _ => false,
    };
    if !are_old {
        next.truncate(old_ones(next.iter().map(|(_, at)| *at), before, now));
    }
    let more = next.len() == looked_at && is_full(looked_at);
    Ok((next.into_iter().map(|(sequence, _)| sequence).collect(), more))
}

/// Returns whether the first event after `sequence` whose time is not to come is old.
async fn is_old_behind(
    session: &mut Session,
    sequence: i64,
    (before, now): (UnixMillis, UnixMillis),
) -> Result<bool, sqlx::Error> {
    let mut end = RunEnd::after(sequence);
    loop {
        let (Ok(looked_at) | Err(looked_at)) = end.next();
        let query = sqlx::query("SELECT received_at FROM event WHERE sequence = $1").bind(looked_at);
        let rows = session.rows(query).await?;
        let arrival: Option<i64> = rows.first().map(|row| row.try_get("received_at")).transpose()?;
        if end.next().is_err() {
            return Ok(arrival.is_some_and(|at| at < before.0));
        }
        end.note(looked_at, arrival.is_some_and(|at| at > now.0));
    }
}

// The aggregate looks at every delivery of an event, which are few. For a plain condition the
// server would read the indexes of all open or dead deliveries.
pub(super) const DONE: &str = "SELECT g.sequence FROM unnest($1::bigint[]) AS g (sequence) WHERE ( \
       SELECT bool_or(d.settled_at IS NULL OR d.state = 'dead') FROM delivery d WHERE d.sequence = g.sequence \
     ) IS NOT TRUE";

pub(super) const LOCK_EVENTS: &str =
    "SELECT sequence FROM event WHERE sequence = ANY ($1) ORDER BY sequence FOR NO KEY UPDATE";

/// Returns those of `sequences` whose events are not needed any more, and the others. An event is
/// not needed if every delivery was made or an operator has ended it. A dead delivery waits for an
/// operator.
async fn done(session: &mut Session, sequences: &[i64]) -> Result<(Vec<i64>, Vec<i64>), sqlx::Error> {
    if sequences.is_empty() {
        return Ok((Vec::new(), Vec::new()));
    }
    // The lock is a statement of its own, so that the next statement sees the changes that the lock
    // has waited for.
    session.rows(sqlx::query(LOCK_EVENTS).bind(sequences)).await?;
    let done: Vec<i64> = numbers(&session.rows(sqlx::query(DONE).bind(sequences)).await?)?;
    let is_done: HashSet<i64> = done.iter().copied().collect();
    let others = sequences.iter().copied().filter(|sequence| !is_done.contains(sequence));
    Ok((done, others.collect()))
}

/// Returns the sequences of `rows`.
fn numbers(rows: &[PgRow]) -> Result<Vec<i64>, sqlx::Error> {
    rows.iter().map(|row| row.try_get("sequence")).collect()
}

pub(super) const REMOVE_BODIES: &str =
    "UPDATE event SET body = NULL WHERE sequence = ANY ($1) AND body IS NOT NULL";

// Attempts are found through their deliveries, which have an index by sequence alone.
pub(super) const REMOVE_ATTEMPTS: &str = "DELETE FROM attempt a USING delivery d WHERE d.sequence = ANY ($1) \
       AND a.target_id = d.target_id AND a.sequence = d.sequence";

/// Removes the bodies and attempts of those of `sequences` that are finished. Returns the others.
async fn remove_payloads(session: &mut Session, sequences: &[i64]) -> Result<Vec<i64>, sqlx::Error> {
    let (done, others) = done(session, sequences).await?;
    if done.is_empty() {
        return Ok(others);
    }
    for statement in [REMOVE_BODIES, REMOVE_ATTEMPTS] {
        session.execute(sqlx::query(statement).bind(&done)).await?;
    }
    Ok(others)
}

/// Removes deliveries, with their attempts.
pub(super) const REMOVE_DELIVERIES: &str =
    "DELETE FROM delivery WHERE sequence = ANY ($1) RETURNING target_id, state";

pub(super) const REMOVE_EVENTS: &str = "DELETE FROM event WHERE sequence = ANY ($1)";

/// Removes those of `sequences` that are finished. Returns the others.
async fn remove_events(
    session: &mut Session,
    changes: &mut BacklogChanges,
    sequences: &[i64],
) -> Result<Vec<i64>, sqlx::Error> {
    let (done, others) = done(session, sequences).await?;
    if done.is_empty() {
        return Ok(others);
    }
    for row in session.rows(sqlx::query(REMOVE_DELIVERIES).bind(&done)).await? {
        if let Ok(state) = row.try_get::<&str, _>("state")?.parse() {
            changes.change(TargetId(row.try_get("target_id")?), state, -1);
        }
    }
    for statement in [
        "DELETE FROM sighting WHERE sequence = ANY ($1)",
        "DELETE FROM conflict WHERE sequence = ANY ($1)",
        "DELETE FROM order_link WHERE sequence = ANY ($1)",
        REMOVE_EVENTS,
    ] {
        session.execute(sqlx::query(statement).bind(&done)).await?;
    }
    Ok(others)
}

/// Returns whether there may be more than the `found`.
fn is_full(found: usize) -> bool {
    i64::try_from(found).is_ok_and(|found| found >= STEP)
}

fn only(rows: Vec<PgRow>) -> Result<PgRow, sqlx::Error> {
    rows.into_iter().next().ok_or(sqlx::Error::RowNotFound)
}
