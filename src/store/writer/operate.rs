//! Doing to deliveries what a person asks for.

use rusqlite::{Connection, OptionalExtension as _, params};

use super::answers::Answers;
use super::census::Census;
use super::outlets::{Outlet, Outlets};
use super::retain::Removed;
use super::{Command, due, order, record, turn};
use crate::domain::clock::UnixMillis;
use crate::domain::delivery::{Ordering, State};
use crate::domain::event::EventId;
use crate::domain::operator::{Action, REPLAYABLE};
use crate::store::error::ActError;
use crate::store::lane::{FIRST, lane, rank};
use crate::store::types::{Key, TargetId};

/// What a command came to, and whom it concerns.
pub(super) struct Written {
    answer: Answer,
    /// The targets that have something due which they do not know of.
    due: Vec<TargetId>,
}

enum Answer {
    One(Result<(), ActError>),
    Many(u64),
    Replayed(Result<u32, ActError>),
}

/// A delivery as far as its next step depends on it.
struct Standing {
    state: State,
    lane: Option<i64>,
    rank: i64,
    attempts: u32,
}

/// Where a delivery enters its lane.
struct Place {
    lane: Option<i64>,
    rank: i64,
    due_at: Option<i64>,
}

/// What one action came to: whether something became due, or why nothing was done.
type Acted = Result<bool, ActError>;

/// Carries `command` out in the open transaction.
pub(super) fn carry_out(
    connection: &Connection,
    (outlets, removed, census): (&Outlets, &Removed, &Census),
    command: &Command,
    now: UnixMillis,
) -> rusqlite::Result<Written> {
    let desk = Desk { connection, outlets, removed, census, now };
    match command {
        Command::Act { action, target, id, .. } => desk.act_on_one(*action, target, id),
        Command::ActOn { action, states, keys, .. } => desk.act_on_many(*action, states, keys),
        Command::Replay { target, id, .. } => desk.replay(target, id),
        Command::Pause { target, paused, .. } => desk.pause(target, *paused),
        _ => Err(rusqlite::Error::InvalidQuery),
    }
}

/// After the commit: wakes the dispatchers that have something to find, and answers.
pub(super) fn tell(outlets: &Outlets, answers: &mut Answers, command: Command, written: Written) {
    for outlet in written.due.iter().filter_map(|target| outlets.of(*target)) {
        outlet.handoff.wake();
    }
    match (command, written.answer) {
        (Command::Act { reply, .. } | Command::Pause { reply, .. }, Answer::One(answer)) => {
            answers.keep(reply, Ok(answer));
        }
        (Command::ActOn { reply, .. }, Answer::Many(changed)) => answers.keep(reply, Ok(changed)),
        (Command::Replay { reply, .. }, Answer::Replayed(answer)) => answers.keep(reply, Ok(answer)),
        _ => {}
    }
}

/// Where a person's wishes are dealt with.
struct Desk<'a> {
    connection: &'a Connection,
    outlets: &'a Outlets,
    removed: &'a Removed,
    census: &'a Census,
    now: UnixMillis,
}

impl Desk<'_> {
    fn act_on_one(&self, action: Action, target: &str, id: &EventId) -> rusqlite::Result<Written> {
        let (acted, due) = match self.key(target, id)? {
            Ok(key) => (self.act(action, action.applies_to(), key)?, vec![key.target]),
            Err(error) => (Err(error), Vec::new()),
        };
        let due = if acted == Ok(true) { due } else { Vec::new() };
        Ok(Written { answer: Answer::One(acted.map(drop)), due })
    }

    fn act_on_many(&self, action: Action, states: &[State], keys: &[Key]) -> rusqlite::Result<Written> {
        let (mut changed, mut due) = (0, Vec::new());
        for key in keys {
            // One that has moved on since it was chosen is passed over, also if the
            // action would apply to it where it is now: that is not what was asked for.
            if let Ok(is_due) = self.act(action, states, *key)? {
                changed += 1;
                if is_due && !due.contains(&key.target) {
                    due.push(key.target);
                }
            }
        }
        Ok(Written { answer: Answer::Many(changed), due })
    }

    /// Does `action` to the delivery of `key` if it is in one of `states`.
    fn act(&self, action: Action, states: &[State], key: Key) -> rusqlite::Result<Acted> {
        let Some(found) = self.standing(key)? else { return Ok(Err(ActError::NoSuchDelivery)) };
        if found.state == State::Sending {
            return Ok(Err(ActError::OnTheWire));
        }
        if !states.contains(&found.state) {
            return Ok(Err(ActError::NotAllowed { state: found.state, allowed: action.applies_to() }));
        }
        // What a dispatcher has in hand it must not start as it is now; what is
        // still to be sent is found again, as it is then.
        if let Some(outlet) = self.outlet(key.target)
            && !outlet.turns.revoke(key.sequence)
        {
            return Ok(Err(ActError::OnTheWire));
        }
        match action {
            Action::Retry if found.state.is_settled() => self.reopen(key, &found, false),
            Action::Retry | Action::Release => self.make_due(key, &found).map(Ok),
            Action::Close => self.end(key, &found, State::Closed).map(Ok),
            Action::Cancel => self.end(key, &found, State::Cancelled).map(Ok),
        }
    }

    fn replay(&self, target: &str, id: &EventId) -> rusqlite::Result<Written> {
        let refused = |error| Written { answer: Answer::Replayed(Err(error)), due: Vec::new() };
        let key = match self.key(target, id)? {
            Ok(key) => key,
            Err(error) => return Ok(refused(error)),
        };
        let reopened = match self.standing(key)? {
            None => self.open(key)?,
            Some(found) if found.state == State::Sending => Err(ActError::OnTheWire),
            Some(found) if REPLAYABLE.contains(&found.state) => self.reopen(key, &found, true)?,
            Some(found) => Err(ActError::NotAllowed { state: found.state, allowed: REPLAYABLE }),
        };
        if let Err(error) = reopened {
            return Ok(refused(error));
        }
        let mut number = self
            .connection
            .prepare_cached("SELECT replays FROM delivery WHERE target_id = ?1 AND sequence = ?2")?;
        let number = number.query_row(params![key.target.0, key.sequence], |row| row.get(0))?;
        Ok(Written { answer: Answer::Replayed(Ok(number)), due: vec![key.target] })
    }

    fn pause(&self, target: &str, paused: bool) -> rusqlite::Result<Written> {
        let at = paused.then_some(self.now.0);
        let mut update = self.connection.prepare_cached(
            "UPDATE target SET paused_at = iif(?2 IS NULL, NULL, coalesce(paused_at, ?2)) WHERE name = ?1",
        )?;
        let known = update.execute(params![target, at])? == 1;
        let answer = Answer::One(if known { Ok(()) } else { Err(ActError::NoSuchTarget) });
        Ok(Written { answer, due: Vec::new() })
    }

    fn key(&self, target: &str, id: &EventId) -> rusqlite::Result<Result<Key, ActError>> {
        let mut find = self.connection.prepare_cached("SELECT id FROM target WHERE name = ?1")?;
        let Some(target) = find.query_row(params![target], |row| row.get(0)).optional()? else {
            return Ok(Err(ActError::NoSuchTarget));
        };
        let mut find = self.connection.prepare_cached("SELECT sequence FROM event WHERE id = ?1")?;
        let Some(sequence) = find.query_row(params![id.as_str()], |row| row.get(0)).optional()? else {
            return Ok(Err(ActError::NoSuchEvent));
        };
        Ok(Ok(Key { target: TargetId(target), sequence }))
    }

    fn standing(&self, key: Key) -> rusqlite::Result<Option<Standing>> {
        let mut select = self.connection.prepare_cached(
            "SELECT state, lane, rank, attempts FROM delivery WHERE target_id = ?1 AND sequence = ?2",
        )?;
        let found = select.query_row(params![key.target.0, key.sequence], |row| {
            Ok((row.get::<_, String>(0)?, row.get(1)?, row.get(2)?, row.get(3)?))
        });
        let Some((state, lane, rank, attempts)) = found.optional()? else { return Ok(None) };
        // Whatever is not known to this version cannot be acted on by it.
        let state = state.parse().map_err(|_| rusqlite::Error::InvalidQuery)?;
        Ok(Some(Standing { state, lane, rank, attempts }))
    }

    /// Makes an unsettled delivery due now, or leaves it where it waits in its lane.
    fn make_due(&self, key: Key, found: &Standing) -> rusqlite::Result<bool> {
        let due_at = (found.rank == FIRST).then_some(self.now.0);
        let mut update = self.connection.prepare_cached(
            "UPDATE delivery SET state = 'retrying', due_at = ?3, first_attempt_at = ?4 \
             WHERE target_id = ?1 AND sequence = ?2",
        )?;
        update.execute(params![key.target.0, key.sequence, due_at, self.now.0])?;
        self.census.step(key.target, Some(found.state), State::Retrying);
        Ok(due_at.is_some())
    }

    /// Ends a delivery and lets the next of its lane out.
    fn end(&self, key: Key, found: &Standing, state: State) -> rusqlite::Result<bool> {
        let mut update = self.connection.prepare_cached(
            "UPDATE delivery SET state = ?3, due_at = NULL, lane = NULL, settled_at = ?4 \
             WHERE target_id = ?1 AND sequence = ?2",
        )?;
        update.execute(params![key.target.0, key.sequence, state.as_str(), self.now.0])?;
        self.census.step(key.target, Some(found.state), state);
        self.removed.ended(self.connection, key.sequence)?;
        match found.lane {
            Some(lane) if found.rank == FIRST => {
                // Its turn is granted when the dispatcher, once woken, finds it.
                Ok(turn::pass_on(self.connection, key.target, lane, self.now)?.is_some())
            }
            _ => Ok(false),
        }
    }

    /// Has a delivery that has ended go on, at its place in its lane.
    fn reopen(&self, key: Key, found: &Standing, replay: bool) -> rusqlite::Result<Acted> {
        let Place { lane, rank, due_at } = match self.place(key)? {
            Ok(place) => place,
            Err(error) => return Ok(Err(error)),
        };
        let tried = found.attempts > 0;
        let state = if tried { State::Retrying } else { State::Pending };
        let mut update = self.connection.prepare_cached(
            "UPDATE delivery SET state = ?3, lane = ?4, rank = ?5, due_at = ?6, first_attempt_at = ?7, \
                    settled_at = NULL, replays = replays + ?8 \
             WHERE target_id = ?1 AND sequence = ?2",
        )?;
        let (target, first_attempt_at) = (key.target.0, tried.then_some(self.now.0));
        update.execute(params![
            target,
            key.sequence,
            state.as_str(),
            lane,
            rank,
            due_at,
            first_attempt_at,
            replay
        ])?;
        self.census.step(key.target, Some(found.state), state);
        Ok(Ok(due_at.is_some()))
    }

    /// Has an event go to a target that it was not to go to.
    fn open(&self, key: Key) -> rusqlite::Result<Acted> {
        let Place { lane, rank, due_at } = match self.place(key)? {
            Ok(place) => place,
            Err(error) => return Ok(Err(error)),
        };
        let mut insert = self.connection.prepare_cached(
            "INSERT INTO delivery (target_id, sequence, state, lane, rank, due_at, replays) \
             VALUES (?1, ?2, 'pending', ?3, ?4, ?5, 1)",
        )?;
        insert.execute(params![key.target.0, key.sequence, lane, rank, due_at])?;
        self.census.step(key.target, None, State::Pending);
        Ok(Ok(due_at.is_some()))
    }

    /// Where a delivery enters its lane: first, if nothing of that waits or what is
    /// first comes later and has not been started.
    fn place(&self, key: Key) -> rusqlite::Result<Result<Place, ActError>> {
        let Some(outlet) = self.outlet(key.target).filter(|outlet| outlet.is_open()) else {
            return Ok(Err(ActError::NoSuchTarget));
        };
        let Some(event) = due::event(self.connection, key.sequence)? else {
            return Ok(Err(ActError::PayloadGone));
        };
        let of_order = match outlet.route.ordering {
            Ordering::PerOrder => order::stored(self.connection, key.sequence)?,
            Ordering::PerObject | Ordering::None => None,
        };
        let lane = lane(outlet.route.ordering, &event, of_order);
        let first = match lane {
            None => true,
            Some(lane) => record::goes_first(self.connection, outlet, lane, &event)?,
        };
        if !first {
            let rank = rank(&event.event.id, event.received_at);
            return Ok(Ok(Place { lane, rank, due_at: None }));
        }
        // A dispatcher may have it in hand still, as it was before it had ended.
        outlet.turns.revoke(key.sequence);
        Ok(Ok(Place { lane, rank: FIRST, due_at: Some(self.now.0) }))
    }

    fn outlet(&self, target: TargetId) -> Option<&Outlet> {
        self.outlets.of(target)
    }
}
