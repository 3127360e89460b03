//! Carries out actions of an operator on deliveries.

use rusqlite::{Connection, OptionalExtension as _, Row, params};

use super::order::stored_order_lane;
use super::retain::Positions;
use super::search;
use crate::domain::clock::UnixMillis;
use crate::domain::delivery::{self, Ordering, State};
use crate::domain::event::EventId;
use crate::domain::operator::{Action, BulkMove, REPLAYABLE};
use crate::store::engine::GroupContext;
use crate::store::error::ActError;
use crate::store::routing::{FIRST, TargetQueue, lane, rank};
use crate::store::types::{Act, ActKind, Acted, Key, TargetId};
use crate::store::view::RetryAfter;

/// Carries out `acts` on deliveries of `target`. None of these is on the wire.
pub(super) fn all(
    connection: &Connection,
    retained: &Positions,
    target: TargetId,
    acts: &[Act],
    context: &mut GroupContext<'_>,
) -> rusqlite::Result<Vec<Acted>> {
    let mut actions = Actions { connection, retained, target, context };
    acts.iter().map(|act| actions.act(act)).collect()
}

/// Returns the number of a target and the sequence of an event.
pub(super) fn find(
    connection: &Connection,
    target: &str,
    id: &EventId,
) -> rusqlite::Result<Result<Key, ActError>> {
    let mut select = connection.prepare_cached("SELECT id FROM target WHERE name = ?1")?;
    let Some(target) = select.query_row(params![target], |row| row.get("id")).optional()? else {
        return Ok(Err(ActError::NoSuchTarget));
    };
    let mut select = connection.prepare_cached("SELECT sequence FROM event WHERE id = ?1")?;
    let Some(sequence) = select.query_row(params![id.as_str()], |row| row.get("sequence")).optional()? else {
        return Ok(Err(ActError::NoSuchEvent));
    };
    Ok(Ok(Key { target: TargetId(target), sequence }))
}

/// Stores why `target` is paused; with no `reason`, that it is not.
pub(super) fn pause(
    connection: &Connection,
    target: &str,
    reason: Option<&str>,
    now: UnixMillis,
) -> rusqlite::Result<Result<(), ActError>> {
    let mut update = connection.prepare_cached(
        "UPDATE target SET paused_at = iif(?2 IS NULL, NULL, coalesce(paused_at, ?3)), paused_reason = ?2 \
         WHERE name = ?1",
    )?;
    let known = update.execute(params![target, reason, now.0])? == 1;
    Ok(if known { Ok(()) } else { Err(ActError::NoSuchTarget) })
}

/// Stores the `Retry-After` of `target`; with no `retry_after`, that it has none.
pub(super) fn set_retry_after(
    connection: &Connection,
    target: &str,
    retry_after: Option<&RetryAfter>,
) -> rusqlite::Result<Result<(), ActError>> {
    let mut update = connection.prepare_cached(
        "UPDATE target SET retry_after_until = ?2, retry_after_address = ?3 WHERE name = ?1",
    )?;
    let (until, address) = retry_after.map(|one| (one.until.0, &*one.address)).unzip();
    let known = update.execute(params![target, until, address])? == 1;
    Ok(if known { Ok(()) } else { Err(ActError::NoSuchTarget) })
}

/// Returns the stored `Retry-After` of `target`.
pub(super) fn retry_after(connection: &Connection, target: TargetId) -> rusqlite::Result<Option<RetryAfter>> {
    let mut select = connection.prepare_cached(
        "SELECT retry_after_until, retry_after_address FROM target \
         WHERE id = ?1 AND retry_after_until IS NOT NULL AND retry_after_address IS NOT NULL",
    )?;
    let read = |row: &Row<'_>| Ok(RetryAfter { until: UnixMillis(row.get(0)?), address: row.get(1)? });
    select.query_row([target.0], read).optional()
}

/// The columns of a delivery that an action depends on.
struct DeliveryRow {
    state: State,
    lane: Option<i64>,
    attempts: u32,
    replays: u32,
}

/// The actions on deliveries of one target, in the open transaction.
struct Actions<'a, 'b> {
    connection: &'a Connection,
    retained: &'a Positions,
    target: TargetId,
    context: &'a mut GroupContext<'b>,
}

/// The lane of a delivery and the number of its replays, or why nothing was done.
type Outcome = Result<(Option<i64>, u32), ActError>;

impl Actions<'_, '_> {
    fn act(&mut self, act: &Act) -> rusqlite::Result<Acted> {
        let sequence = act.sequence;
        let found = self.delivery(sequence)?;
        let before = found.as_ref().and_then(|found| found.lane);
        let outcome = match (&act.kind, found) {
            (ActKind::Take(from), found) => self.take(*from, sequence, found.is_some())?,
            (ActKind::Apply(..), None) => Err(ActError::NoSuchDelivery),
            (ActKind::Offer, None) => self.open(sequence, 0)?,
            (ActKind::Offer, Some(_)) => Err(ActError::AlreadyThere),
            (_, Some(found)) if found.state == State::Sending => Err(ActError::OnTheWire),
            (ActKind::Apply(action, states), Some(found)) => self.apply(*action, states, sequence, &found)?,
            (ActKind::Replay, None) => self.open(sequence, 1)?,
            (ActKind::Replay, Some(found)) if REPLAYABLE.contains(&found.state) => {
                self.reopen(sequence, &found, true)?
            }
            (ActKind::Replay, Some(found)) => {
                Err(ActError::NotAllowed { state: found.state, allowed: REPLAYABLE })
            }
        };
        Ok(match outcome {
            Ok((lane, replays)) => Acted { sequence, lane: lane.or(before), result: Ok(replays) },
            Err(error) => Acted { sequence, lane: before, result: Err(error) },
        })
    }

    fn apply(
        &mut self,
        action: Action,
        states: &[State],
        sequence: i64,
        found: &DeliveryRow,
    ) -> rusqlite::Result<Outcome> {
        // The operator chose the delivery in one of `states`. If it has another state now, it is
        // left out, even if the action applies to that state.
        let step = action.step(found.attempts > 0);
        if !states.contains(&found.state) || delivery::apply(found.state, step).is_err() {
            return Ok(Err(ActError::NotAllowed { state: found.state, allowed: action.applies_to() }));
        }
        match action {
            Action::Retry if found.state.is_settled() => self.reopen(sequence, found, false),
            Action::Retry | Action::Release => self.make_due(sequence, found),
            Action::Close => self.end(sequence, found, State::Closed),
            Action::Cancel => self.end(sequence, found, State::Cancelled),
        }
    }

    fn delivery(&self, sequence: i64) -> rusqlite::Result<Option<DeliveryRow>> {
        self.delivery_to(self.target, sequence)
    }

    fn delivery_to(&self, target: TargetId, sequence: i64) -> rusqlite::Result<Option<DeliveryRow>> {
        let mut select = self.connection.prepare_cached(
            "SELECT state, lane, attempts, replays FROM delivery WHERE target_id = ?1 AND sequence = ?2",
        )?;
        let found = select.query_row(params![target.0, sequence], |row| {
            // This version cannot act on a state that it does not know.
            let state = row.get::<_, String>("state")?.parse().map_err(|_| rusqlite::Error::InvalidQuery)?;
            let (lane, attempts, replays) = (row.get("lane")?, row.get("attempts")?, row.get("replays")?);
            Ok(DeliveryRow { state, lane, attempts, replays })
        });
        found.optional()
    }

    /// Makes an unsettled delivery due now.
    fn make_due(&mut self, sequence: i64, found: &DeliveryRow) -> rusqlite::Result<Outcome> {
        let mut update = self.connection.prepare_cached(
            "UPDATE delivery SET state = 'retrying', due_at = ?3, first_attempt_at = ?3 \
             WHERE target_id = ?1 AND sequence = ?2 AND (state = 'retrying' OR state = 'held')",
        )?;
        update.execute(params![self.target.0, sequence, self.context.now.0])?;
        self.context.changes.step(self.target, Some(found.state), State::Retrying);
        Ok(Ok((found.lane, found.replays)))
    }

    /// Ends a delivery.
    fn end(&mut self, sequence: i64, found: &DeliveryRow, state: State) -> rusqlite::Result<Outcome> {
        self.end_at(self.target, sequence, found, state)?;
        Ok(Ok((found.lane, found.replays)))
    }

    fn end_at(
        &mut self,
        target: TargetId,
        sequence: i64,
        found: &DeliveryRow,
        state: State,
    ) -> rusqlite::Result<()> {
        let mut update = self.connection.prepare_cached(
            "UPDATE delivery SET state = ?3, due_at = NULL, lane = NULL, settled_at = ?4 \
             WHERE target_id = ?1 AND sequence = ?2 AND state <> 'delivered'",
        )?;
        update.execute(params![target.0, sequence, state.as_str(), self.context.now.0])?;
        self.context.changes.step(target, Some(found.state), state);
        self.retained.ended(self.connection, sequence)
    }

    /// Opens a delivery again that has ended, at its place in its lane.
    fn reopen(&mut self, sequence: i64, found: &DeliveryRow, replay: bool) -> rusqlite::Result<Outcome> {
        let (lane, rank) = match self.place(sequence)? {
            Ok(place) => place,
            Err(error) => return Ok(Err(error)),
        };
        self.log_first_success(sequence)?;
        let tried = found.attempts > 0;
        let state = if tried { State::Retrying } else { State::Pending };
        let mut update = self.connection.prepare_cached(
            "UPDATE delivery SET state = ?3, lane = ?4, rank = ?5, due_at = ?6, first_attempt_at = ?6, \
                    settled_at = NULL, replays = replays + ?7, status = NULL, duration_ms = NULL \
             WHERE target_id = ?1 AND sequence = ?2 AND settled_at IS NOT NULL",
        )?;
        let due_at = tried.then_some(self.context.now.0);
        let state_name = state.as_str();
        update.execute(params![self.target.0, sequence, state_name, lane, rank, due_at, replay])?;
        self.context.changes.step(self.target, Some(found.state), state);
        Ok(Ok((lane, found.replays + u32::from(replay))))
    }

    /// Copies an acknowledged first attempt to the log of attempts, before the row of the delivery
    /// is used for further ones.
    fn log_first_success(&self, sequence: i64) -> rusqlite::Result<()> {
        let mut insert = self.connection.prepare_cached(
            "INSERT INTO attempt (target_id, sequence, number, started_at, duration_ms, status) \
             SELECT target_id, sequence, attempts, first_attempt_at, duration_ms, status FROM delivery \
             WHERE target_id = ?1 AND sequence = ?2 AND duration_ms IS NOT NULL ON CONFLICT DO NOTHING",
        )?;
        insert.execute(params![self.target.0, sequence]).map(drop)
    }

    /// Gives an event a delivery to the target that it did not have.
    fn open(&mut self, sequence: i64, replays: u32) -> rusqlite::Result<Outcome> {
        let (lane, rank) = match self.place(sequence)? {
            Ok(place) => place,
            Err(error) => return Ok(Err(error)),
        };
        let mut insert = self.connection.prepare_cached(
            "INSERT INTO delivery (target_id, sequence, state, lane, rank, replays) \
             VALUES (?1, ?2, 'pending', ?3, ?4, ?5)",
        )?;
        insert.execute(params![self.target.0, sequence, lane, rank, replays])?;
        self.context.changes.step(self.target, None, State::Pending);
        Ok(Ok((lane, replays)))
    }

    /// Takes over an unfinished or dead delivery of the target `from`, with its attempts, at its
    /// place in its lane. If this target already has a delivery of the event, the one of `from` is
    /// cancelled instead. A delivery that is recorded as on the wire has no dispatcher any more and
    /// is held, since its outcome is unknown.
    fn take(&mut self, from: TargetId, sequence: i64, is_there: bool) -> rusqlite::Result<Outcome> {
        let Some(found) = self.delivery_to(from, sequence)? else {
            return Ok(Err(ActError::NoSuchDelivery));
        };
        if found.state.is_settled() && found.state != State::Dead {
            return Ok(Err(ActError::NotAllowed { state: found.state, allowed: &BulkMove::STATES }));
        }
        if is_there {
            self.end_at(from, sequence, &found, State::Cancelled)?;
            return Ok(Err(ActError::AlreadyThere));
        }
        let (lane, rank) = match self.place(sequence)? {
            Ok(place) => place,
            Err(error) => return Ok(Err(error)),
        };
        let state = if found.state == State::Sending { State::Held } else { found.state };
        let lane = lane.filter(|_| !state.is_settled());
        let rank = if state == State::Held { FIRST } else { rank };
        let mut insert = self.connection.prepare_cached(
            "INSERT INTO delivery (target_id, sequence, state, lane, rank, due_at, attempts, replays, \
                                   first_attempt_at, settled_at, status, duration_ms) \
             SELECT ?3, sequence, ?4, ?5, ?6, due_at, attempts, replays, first_attempt_at, settled_at, \
                    status, duration_ms \
             FROM delivery WHERE target_id = ?1 AND sequence = ?2",
        )?;
        insert.execute(params![from.0, sequence, self.target.0, state.as_str(), lane, rank])?;
        let mut update = self
            .connection
            .prepare_cached("UPDATE attempt SET target_id = ?3 WHERE target_id = ?1 AND sequence = ?2")?;
        update.execute(params![from.0, sequence, self.target.0])?;
        let mut delete =
            self.connection.prepare_cached("DELETE FROM delivery WHERE target_id = ?1 AND sequence = ?2")?;
        delete.execute(params![from.0, sequence])?;
        self.context.changes.change(from, found.state, -1);
        self.context.changes.change(self.target, state, 1);
        Ok(Ok((lane, found.replays)))
    }

    /// Returns the lane of an event and its rank there.
    fn place(&self, sequence: i64) -> rusqlite::Result<Result<(Option<i64>, i64), ActError>> {
        let Some(queue) = self.context.routes.of(self.target).filter(|queue| TargetQueue::is_open(queue))
        else {
            return Ok(Err(ActError::NotConfigured));
        };
        let Some(event) = search::event(self.connection, sequence)? else {
            return Ok(Err(ActError::PayloadGone));
        };
        let of_order = match queue.route.ordering {
            Ordering::PerOrder => stored_order_lane(self.connection, sequence)?,
            Ordering::PerObject | Ordering::None => None,
        };
        Ok(Ok((lane(queue.route.ordering, &event, of_order), rank(&event.event.id, event.received_at))))
    }
}
