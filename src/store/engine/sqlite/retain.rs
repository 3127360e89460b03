//! Removes old rows, in small steps.
//!
//! Two positions move up through the sequences and never go back. Bodies and attempts have been
//! removed up to the one, whole events up to the other. An event with an unfinished delivery is
//! passed over. When a delivery of that event ends, the event is noted as ripe and looked at again.
//! So no event is looked at twice without a reason.
//!
//! A dead delivery is not finished. It keeps its event until an operator has decided on it, or
//! until it has been dead for the configured time and is cancelled here.

use std::sync::Arc;

use rusqlite::{Connection, OptionalExtension as _, params};

use super::audit;
use crate::domain::clock::UnixMillis;
use crate::domain::delivery::State;
use crate::store::counts::BacklogChanges;
use crate::store::engine::age::{RunEnd, old_ones};
use crate::store::engine::{GroupContext, Retained, RetentionStep};
use crate::store::types::TargetId;

/// The number of events in one step, which takes some milliseconds of the committer.
const STEP: i64 = 100;

/// The number of pages that one step gives back.
const PAGES: i64 = 64;

/// The number of free pages that are kept (16 MiB). Filling them again is cheaper than growing the
/// file.
const PAGES_KEPT: i64 = 4096;

/// The positions up to which old rows have been removed.
#[derive(Debug)]
pub(super) struct Positions {
    /// The sequence up to which bodies and attempts have been removed. Raised before the commit: if
    /// the commit fails, some events are looked at again without need.
    payloads_through: i64,
    /// The sequence up to which whole events had been removed when the store was opened.
    pub(super) events_through: i64,
}

impl Positions {
    pub(super) fn read(connection: &Connection) -> rusqlite::Result<Self> {
        connection.query_row("SELECT payload_through, events_through FROM retention", [], |row| {
            let (payloads_through, events_through) =
                (row.get("payload_through")?, row.get("events_through")?);
            Ok(Self { payloads_through, events_through })
        })
    }

    /// Notes that a delivery of `sequence` has ended. If the event was passed over, it is looked at
    /// again.
    pub(super) fn ended(&self, connection: &Connection, sequence: i64) -> rusqlite::Result<()> {
        if sequence > self.payloads_through {
            return Ok(());
        }
        let mut insert =
            connection.prepare_cached("INSERT INTO ripe (sequence) VALUES (?1) ON CONFLICT DO NOTHING")?;
        insert.execute(params![sequence]).map(drop)
    }
}

/// Carries out a step of retention.
pub(super) fn step(
    connection: &Connection,
    positions: &mut Positions,
    step: RetentionStep,
    context: &mut GroupContext<'_>,
) -> rusqlite::Result<Retained> {
    let more = match step {
        RetentionStep::Dead { before } => return dead(connection, positions, before, context),
        RetentionStep::Payloads { before } => payloads(connection, positions, (before, context.now)),
        RetentionStep::Events { before, but_newest } => events(connection, before, but_newest, context),
        RetentionStep::Conflicts { before } => conflicts(connection, before),
        RetentionStep::Recheck => recheck(connection, &mut context.changes),
        RetentionStep::Audit { before, newest } => audit::remove_old(connection, before, newest),
        RetentionStep::Vacuum => vacuum(connection),
    };
    Ok(Retained { more: more?, expired: Vec::new() })
}

/// Selects the deliveries that have been dead for the longest time.
const DEAD_BEFORE: &str = "SELECT target_id, sequence FROM delivery INDEXED BY delivery_dead_age \
     WHERE state = 'dead' AND settled_at < ?1 ORDER BY settled_at LIMIT ?2";

fn dead(
    connection: &Connection,
    positions: &Positions,
    before: UnixMillis,
    context: &mut GroupContext<'_>,
) -> rusqlite::Result<Retained> {
    let found: Vec<(i64, i64)> = {
        let mut select = connection.prepare_cached(DEAD_BEFORE)?;
        let rows = select.query_map(params![before.0, STEP], |row| Ok((row.get(0)?, row.get(1)?)))?;
        rows.collect::<rusqlite::Result<_>>()?
    };
    let mut expired: Vec<(Arc<str>, u64)> = Vec::new();
    for &(target, sequence) in &found {
        let mut update = connection.prepare_cached(
            "UPDATE delivery SET state = 'cancelled', settled_at = ?3 \
             WHERE target_id = ?1 AND sequence = ?2 AND state = 'dead'",
        )?;
        update.execute(params![target, sequence, context.now.0])?;
        context.changes.step(TargetId(target), Some(State::Dead), State::Cancelled);
        positions.ended(connection, sequence)?;
        let name: String = connection
            .prepare_cached("SELECT name FROM target WHERE id = ?1")?
            .query_row(params![target], |row| row.get(0))?;
        match expired.iter_mut().find(|(known, _)| **known == *name) {
            Some((_, count)) => *count += 1,
            None => expired.push((name.into(), 1)),
        }
    }
    Ok(Retained { more: is_full(found.len()), expired })
}

fn payloads(
    connection: &Connection,
    positions: &mut Positions,
    times: (UnixMillis, UnixMillis),
) -> rusqlite::Result<bool> {
    let through: i64 = position(connection, "SELECT payload_through FROM retention")?;
    let (old, more) = old(connection, (through, i64::MAX), times)?;
    let Some(last) = old.last() else { return Ok(false) };
    positions.payloads_through = *last;
    for &sequence in &old {
        if is_done(connection, sequence)? {
            remove_payload(connection, sequence)?;
        }
    }
    connection.prepare_cached("UPDATE retention SET payload_through = ?1")?.execute(params![last])?;
    Ok(more)
}

/// Removes the bodies of old conflicts. A conflict may arrive long after its event, whose body may have
/// been removed before.
const CONFLICTS: &str = "UPDATE conflict SET body = NULL WHERE (sequence, digest, source) IN ( \
       SELECT c.sequence, c.digest, c.source FROM conflict c CROSS JOIN event e ON e.sequence = c.sequence \
       WHERE c.sequence <= (SELECT payload_through FROM retention) AND c.body IS NOT NULL \
         AND c.received_at < ?1 AND e.body IS NULL LIMIT ?2)";

fn conflicts(connection: &Connection, before: UnixMillis) -> rusqlite::Result<bool> {
    connection.prepare_cached(CONFLICTS)?.execute(params![before.0, STEP]).map(is_full)
}

fn events(
    connection: &Connection,
    before: UnixMillis,
    but_newest: i64,
    context: &mut GroupContext<'_>,
) -> rusqlite::Result<bool> {
    let through = position(connection, "SELECT events_through FROM retention")?;
    // This position never passes that of the bodies, so that one position shows which events were
    // passed over.
    let payloads = position(connection, "SELECT payload_through FROM retention")?;
    let newest = position(connection, "SELECT coalesce(max(sequence), 0) FROM event")?;
    let (old, more) = old(connection, (through, payloads.min(newest - but_newest)), (before, context.now))?;
    let Some(last) = old.last() else { return Ok(false) };
    for &sequence in &old {
        if is_done(connection, sequence)? {
            remove_event(connection, &mut context.changes, sequence)?;
        }
    }
    connection.prepare_cached("UPDATE retention SET events_through = ?1")?.execute(params![last])?;
    Ok(more)
}

fn recheck(connection: &Connection, changes: &mut BacklogChanges) -> rusqlite::Result<bool> {
    let events_through = position(connection, "SELECT events_through FROM retention")?;
    let ripe: Vec<i64> = {
        let mut select = connection.prepare_cached("SELECT sequence FROM ripe ORDER BY sequence LIMIT ?1")?;
        let rows = select.query_map(params![STEP], |row| row.get(0))?;
        rows.collect::<rusqlite::Result<_>>()?
    };
    for &sequence in &ripe {
        if is_done(connection, sequence)? {
            if sequence <= events_through {
                remove_event(connection, changes, sequence)?;
            } else {
                remove_payload(connection, sequence)?;
            }
        }
        // An event that is not finished yet is noted again when its next delivery ends.
        connection.prepare_cached("DELETE FROM ripe WHERE sequence = ?1")?.execute(params![sequence])?;
    }
    Ok(is_full(ripe.len()))
}

/// Returns the next events in a range of sequences that arrived before `before`, and whether there
/// may be more. They are taken in the order of acceptance: events with a time of a wrong clock
/// neither keep those behind them nor take away those before them.
fn old(
    connection: &Connection,
    (after, through): (i64, i64),
    (before, now): (UnixMillis, UnixMillis),
) -> rusqlite::Result<(Vec<i64>, bool)> {
    let mut select = connection.prepare_cached(
        "SELECT sequence, received_at FROM event WHERE sequence > ?1 AND sequence <= ?2 \
         ORDER BY sequence LIMIT ?3",
    )?;
    let rows = select.query_map(params![after, through, STEP], |row| {
        Ok((row.get::<_, i64>(0)?, UnixMillis(row.get(1)?)))
    })?;
    let mut next = rows.collect::<rusqlite::Result<Vec<_>>>()?;
    let looked_at = next.len();
    let are_to_come = is_full(looked_at) && next.iter().all(|(_, at)| *at > now);
    let are_old = match next.last() {
        Some((last, _)) if are_to_come => is_old_behind(connection, *last, (before, now))?,
        _ => false,
    };
    if !are_old {
        next.truncate(old_ones(next.iter().map(|(_, at)| *at), before, now));
    }
    let more = next.len() == looked_at && is_full(looked_at);
    Ok((next.into_iter().map(|(sequence, _)| sequence).collect(), more))
}

/// Returns whether the first event after `sequence` whose time is not to come is old.
fn is_old_behind(
    connection: &Connection,
    sequence: i64,
    (before, now): (UnixMillis, UnixMillis),
) -> rusqlite::Result<bool> {
    let mut select = connection.prepare_cached("SELECT received_at FROM event WHERE sequence = ?1")?;
    let mut arrival =
        |sequence: i64| select.query_row([sequence], |row| row.get(0).map(UnixMillis)).optional();
    let mut end = RunEnd::after(sequence);
    loop {
        match end.next() {
            Ok(next) => end.note(next, arrival(next)?.is_some_and(|at| at > now)),
            Err(behind) => return Ok(arrival(behind)?.is_some_and(|at| at < before)),
        }
    }
}

/// Returns whether the event is not needed any more: every delivery was made, or an operator has
/// ended it. A dead delivery waits for an operator.
fn is_done(connection: &Connection, sequence: i64) -> rusqlite::Result<bool> {
    let mut select = connection.prepare_cached(
        "SELECT 1 FROM target t CROSS JOIN delivery d ON d.target_id = t.id AND d.sequence = ?1 \
         WHERE d.settled_at IS NULL OR d.state = 'dead' LIMIT 1",
    )?;
    select.query_row(params![sequence], |_| Ok(())).optional().map(|found| found.is_none())
}

fn remove_payload(connection: &Connection, sequence: i64) -> rusqlite::Result<()> {
    for statement in [
        "UPDATE event SET body = NULL WHERE sequence = ?1",
        "DELETE FROM attempt WHERE sequence = ?1 AND target_id IN (SELECT id FROM target)",
    ] {
        connection.prepare_cached(statement)?.execute(params![sequence])?;
    }
    Ok(())
}

fn remove_event(
    connection: &Connection,
    changes: &mut BacklogChanges,
    sequence: i64,
) -> rusqlite::Result<()> {
    {
        // Removes their attempts too.
        let mut delete = connection.prepare_cached(
            "DELETE FROM delivery WHERE sequence = ?1 AND target_id IN (SELECT id FROM target) \
             RETURNING target_id, state",
        )?;
        let mut rows = delete.query(params![sequence])?;
        while let Some(row) = rows.next()? {
            if let Ok(state) = row.get::<_, String>(1)?.parse() {
                changes.change(TargetId(row.get(0)?), state, -1);
            }
        }
    }
    for statement in [
        "DELETE FROM sighting WHERE sequence = ?1",
        "DELETE FROM conflict WHERE sequence = ?1",
        "DELETE FROM order_link WHERE sequence = ?1",
        "DELETE FROM event WHERE sequence = ?1",
    ] {
        connection.prepare_cached(statement)?.execute(params![sequence])?;
    }
    Ok(())
}

fn vacuum(connection: &Connection) -> rusqlite::Result<bool> {
    let free: i64 = connection.pragma_query_value(None, "freelist_count", |row| row.get(0))?;
    let pages: i64 = connection.pragma_query_value(None, "page_count", |row| row.get(0))?;
    let spare = free - PAGES_KEPT.max(pages / 10);
    if spare <= 0 {
        return Ok(false);
    }
    // The pragma gives back one page for each row that it returns.
    let mut pragma =
        connection.prepare_cached(&format!("PRAGMA incremental_vacuum({})", PAGES.min(spare)))?;
    let mut rows = pragma.query([])?;
    while rows.next()?.is_some() {}
    Ok(spare > PAGES)
}

/// Returns whether there may be more than the `found`.
fn is_full(found: usize) -> bool {
    i64::try_from(found).is_ok_and(|found| found >= STEP)
}

fn position(connection: &Connection, query: &str) -> rusqlite::Result<i64> {
    connection.prepare_cached(query)?.query_row([], |row| row.get(0))
}
