//! Carries out actions of an operator on deliveries. Reads the rows, decides each action, and
//! writes all changes together.

use std::collections::{BTreeMap, HashMap};

use sqlx::Row as _;
use sqlx::postgres::PgRow;

use super::moving::{self, Moved};
use super::session::{Failed, Session};
use super::words::{clean, rounds};
use super::{fence, search};
use crate::domain::clock::UnixMillis;
use crate::domain::delivery::{self, Ordering, State};
use crate::domain::event::EventId;
use crate::domain::operator::{Action, BulkMove, REPLAYABLE};
use crate::store::counts::BacklogChanges;
use crate::store::engine::GroupContext;
use crate::store::error::ActError;
use crate::store::routing::{FIRST, RoutingTable, TargetQueue, lane, rank};
use crate::store::types::{Act, ActKind, Acted, Key, TargetId};

/// Returns the number of a target and the sequence of an event.
pub(super) async fn find(
    session: &mut Session,
    target: &str,
    id: &EventId,
) -> Result<Result<Key, ActError>, sqlx::Error> {
    let query = "SELECT (SELECT t.id FROM target t WHERE t.name = $1) AS target_id, \
                        (SELECT e.sequence FROM event e WHERE e.id = $2) AS sequence";
    let rows = session.rows(sqlx::query(query).bind(clean(target)).bind(id.as_str())).await?;
    let Some(row) = rows.first() else { return Err(sqlx::Error::RowNotFound) };
    Ok(match (row.try_get("target_id")?, row.try_get("sequence")?) {
        (None, _) => Err(ActError::NoSuchTarget),
        (_, None) => Err(ActError::NoSuchEvent),
        (Some(target), Some(sequence)) => Ok(Key { target: TargetId(target), sequence }),
    })
}

/// The columns of a delivery that an action depends on.
#[derive(Clone, Copy)]
struct DeliveryRow {
    state: State,
    lane: Option<i64>,
    attempts: u32,
    replays: u32,
}

/// The new state of a delivery.
#[derive(Clone, Copy)]
struct Change {
    sequence: i64,
    state: State,
    lane: Option<i64>,
    /// The new rank; `None` keeps the present one.
    rank: Option<i64>,
    due_at: Option<i64>,
    /// The time from which the first attempt counts anew; `None` keeps the present one.
    counted_from: Option<i64>,
    is_reopened: bool,
    replays: u32,
    is_new: bool,
}

/// The rows and values by which a set of actions is decided.
struct Actions<'a> {
    routes: &'a RoutingTable,
    target: TargetId,
    now: UnixMillis,
    found: HashMap<i64, DeliveryRow>,
    /// The lane and the rank of each event that has a body.
    places: HashMap<i64, (Option<i64>, i64)>,
}

/// The change that is to be written, or why there is none.
type Decision = Result<Change, ActError>;

/// The lane of a delivery that was taken over and the number of its replays, or why it was not.
type Taken = Result<(Option<i64>, u32), ActError>;

/// Carries out `acts` on deliveries of `target`. None of these is on the wire. Until the
/// transaction ends, no target from which a delivery is taken has an owner.
pub(super) async fn all(
    session: &mut Session,
    target: TargetId,
    acts: &[Act],
    context: &mut GroupContext<'_>,
) -> Result<Vec<Acted>, Failed> {
    let (routes, now) = (context.routes, context.now);
    let taken_from = acts.iter().filter_map(|act| match act.kind {
        ActKind::Take(from) => Some(from),
        _ => None,
    });
    fence::hold_unowned(session, taken_from.collect()).await?;
    let mut done: HashMap<usize, Acted> = HashMap::new();
    let indices: Vec<usize> = (0..acts.len()).collect();
    for round in rounds(&indices, |index| acts[**index].sequence) {
        let sequences: Vec<_> = round.iter().map(|index| acts[**index].sequence).collect();
        // Events come first: retention takes the locks in the same order.
        let places = places(session, routes, target, &sequences).await?;
        let found = deliveries(session, target, &sequences).await?;
        let actions = Actions { routes, target, now, found, places };
        let asked = round.iter().map(|index| &acts[**index]);
        let mut taken = take(session, &actions, asked, &mut context.changes).await?;
        let mut written = Vec::new();
        for index in round {
            let act = &acts[*index];
            let before = actions.found.get(&act.sequence).copied();
            let (lane, result) = match taken.remove(&act.sequence) {
                Some(Ok((lane, replays))) => (lane, Ok(replays)),
                Some(Err(error)) => (None, Err(error)),
                None => match actions.decide(act, before) {
                    Ok(change) => {
                        context.changes.step(target, before.map(|before| before.state), change.state);
                        written.push(change);
                        (change.lane, Ok(change.replays))
                    }
                    Err(error) => (None, Err(error)),
                },
            };
            let lane = lane.or(before.and_then(|before| before.lane));
            done.insert(*index, Acted { sequence: act.sequence, lane, result });
        }
        write(session, target, &written, now).await?;
    }
    Ok(indices.iter().filter_map(|index| done.remove(index)).collect())
}

impl Actions<'_> {
    fn decide(&self, act: &Act, found: Option<DeliveryRow>) -> Decision {
        let sequence = act.sequence;
        match (&act.kind, found) {
            (ActKind::Apply(..) | ActKind::Take(_), None) => Err(ActError::NoSuchDelivery),
            (ActKind::Offer, None) => self.open(sequence, 0),
            (ActKind::Offer | ActKind::Take(_), Some(_)) => Err(ActError::AlreadyThere),
            (_, Some(found)) if found.state == State::Sending => Err(ActError::OnTheWire),
            (ActKind::Apply(action, states), Some(found)) => self.apply(*action, states, sequence, found),
            (ActKind::Replay, None) => self.open(sequence, 1),
            (ActKind::Replay, Some(found)) if REPLAYABLE.contains(&found.state) => {
                self.reopen(sequence, found, found.replays + 1)
            }
            (ActKind::Replay, Some(found)) => {
                Err(ActError::NotAllowed { state: found.state, allowed: REPLAYABLE })
            }
        }
    }

    fn apply(&self, action: Action, states: &[State], sequence: i64, found: DeliveryRow) -> Decision {
        // The operator chose the delivery in one of `states`. If it has another state now, it is
        // left out, even if the action applies to that state.
        let step = action.step(found.attempts > 0);
        if !states.contains(&found.state) || delivery::apply(found.state, step).is_err() {
            return Err(ActError::NotAllowed { state: found.state, allowed: action.applies_to() });
        }
        let change = |state, lane, due_at| Change {
            sequence,
            state,
            lane,
            rank: None,
            due_at,
            counted_from: due_at,
            is_reopened: false,
            replays: found.replays,
            is_new: false,
        };
        match action {
            Action::Retry if found.state.is_settled() => self.reopen(sequence, found, found.replays),
            Action::Retry | Action::Release => Ok(change(State::Retrying, found.lane, Some(self.now.0))),
            Action::Close => Ok(change(State::Closed, None, None)),
            Action::Cancel => Ok(change(State::Cancelled, None, None)),
        }
    }

    /// Gives an event a delivery to the target that it did not have.
    fn open(&self, sequence: i64, replays: u32) -> Decision {
        let (lane, rank) = self.place(sequence)?;
        Ok(Change {
            sequence,
            state: State::Pending,
            lane,
            rank: Some(rank),
            due_at: None,
            counted_from: None,
            is_reopened: false,
            replays,
            is_new: true,
        })
    }

    /// Opens a delivery again that has ended, at its place in its lane.
    fn reopen(&self, sequence: i64, found: DeliveryRow, replays: u32) -> Decision {
        let (lane, rank) = self.place(sequence)?;
        let tried = found.attempts > 0;
        let due_at = tried.then_some(self.now.0);
        Ok(Change {
            sequence,
            state: if tried { State::Retrying } else { State::Pending },
            lane,
            rank: Some(rank),
            due_at,
            counted_from: due_at,
            is_reopened: true,
            replays,
            is_new: false,
        })
    }

    /// Takes over an unfinished or dead delivery of another target, with its attempts, at its place
    /// in its lane. If this target already has a delivery of the event, the other one is cancelled
    /// instead. A delivery that is recorded as on the wire has no dispatcher any more and is held,
    /// since its outcome is unknown.
    fn take(&self, sequence: i64, found: DeliveryRow) -> Result<Moved, ActError> {
        if found.state.is_settled() && found.state != State::Dead {
            return Err(ActError::NotAllowed { state: found.state, allowed: &BulkMove::STATES });
        }
        if self.found.contains_key(&sequence) {
            return Err(ActError::AlreadyThere);
        }
        let (lane, rank) = self.place(sequence)?;
        let state = if found.state == State::Sending { State::Held } else { found.state };
        let lane = lane.filter(|_| !state.is_settled());
        let rank = if state == State::Held { FIRST } else { rank };
        Ok(Moved { sequence, state, lane, rank })
    }

    /// Returns the lane of an event and its rank there.
    fn place(&self, sequence: i64) -> Result<(Option<i64>, i64), ActError> {
        if !self.routes.of(self.target).is_some_and(TargetQueue::is_open) {
            return Err(ActError::NotConfigured);
        }
        self.places.get(&sequence).copied().ok_or(ActError::PayloadGone)
    }
}

/// Takes over the deliveries of the acts that say so. Returns the result for each of them, by
/// sequence.
async fn take(
    session: &mut Session,
    actions: &Actions<'_>,
    acts: impl Iterator<Item = &Act>,
    changes: &mut BacklogChanges,
) -> Result<HashMap<i64, Taken>, sqlx::Error> {
    let mut wanted: BTreeMap<TargetId, Vec<i64>> = BTreeMap::new();
    for act in acts {
        if let ActKind::Take(from) = act.kind {
            wanted.entry(from).or_default().push(act.sequence);
        }
    }
    let mut taken = HashMap::new();
    for (from, sequences) in wanted {
        let found = deliveries(session, from, &sequences).await?;
        let (mut moved, mut ended) = (Vec::new(), Vec::new());
        for sequence in sequences {
            let Some(found) = found.get(&sequence).copied() else {
                taken.insert(sequence, Err(ActError::NoSuchDelivery));
                continue;
            };
            let decision = actions.take(sequence, found);
            match &decision {
                Ok(one) => {
                    changes.change(from, found.state, -1);
                    changes.change(actions.target, one.state, 1);
                    moved.push(*one);
                }
                Err(ActError::AlreadyThere) => {
                    changes.step(from, Some(found.state), State::Cancelled);
                    ended.push(sequence);
                }
                Err(_) => {}
            }
            taken.insert(sequence, decision.map(|one| (one.lane, found.replays)));
        }
        if !moved.is_empty() {
            moving::write(session, (from, actions.target), &moved).await?;
        }
        if !ended.is_empty() {
            moving::cancel(session, from, &ended, actions.now).await?;
            session.execute(sqlx::query(NOTE).bind(ended)).await?;
        }
    }
    Ok(taken)
}

async fn deliveries(
    session: &mut Session,
    target: TargetId,
    sequences: &[i64],
) -> Result<HashMap<i64, DeliveryRow>, sqlx::Error> {
    // The rows are locked, so that a decision holds until it is written.
    let query = "SELECT sequence, state, lane, attempts, replays FROM delivery \
                 WHERE target_id = $1 AND sequence = ANY ($2) ORDER BY sequence FOR UPDATE";
    let small = |row: &PgRow, column| -> Result<u32, sqlx::Error> {
        Ok(u32::try_from(row.try_get::<i64, _>(column)?).unwrap_or(u32::MAX))
    };
    let mut found = HashMap::new();
    for row in session.rows(sqlx::query(query).bind(target.0).bind(sequences)).await? {
        // This version cannot act on a state that it does not know.
        let unknown = |_| sqlx::Error::Decode("the delivery is in a state this version does not know".into());
        let state = row.try_get::<&str, _>("state")?.parse().map_err(unknown)?;
        let (attempts, replays) = (small(&row, "attempts")?, small(&row, "replays")?);
        let delivery = DeliveryRow { state, lane: row.try_get("lane")?, attempts, replays };
        found.insert(row.try_get("sequence")?, delivery);
    }
    Ok(found)
}

/// Returns the lane towards `target` and the rank of each event that has a body. Locks these events
/// until the transaction ends.
async fn places(
    session: &mut Session,
    routes: &RoutingTable,
    target: TargetId,
    sequences: &[i64],
) -> Result<HashMap<i64, (Option<i64>, i64)>, sqlx::Error> {
    let mut places = HashMap::new();
    let Some(queue) = routes.of(target) else { return Ok(places) };
    // Lane and rank do not depend on the body, which is not read.
    let query = "SELECT sequence, id, type, object_id, created, source, origin, environment, received_at, \
                        ''::bytea AS body, order_lane FROM event WHERE sequence = ANY ($1) AND body IS NOT NULL \
                 ORDER BY sequence FOR SHARE";
    for row in session.rows(sqlx::query(query).bind(sequences)).await? {
        let sequence = row.try_get("sequence")?;
        let Some(event) = search::received(sequence, &row)? else { continue };
        let of_order = match queue.route.ordering {
            Ordering::PerOrder => row.try_get("order_lane")?,
            Ordering::PerObject | Ordering::None => None,
        };
        let place = (lane(queue.route.ordering, &event, of_order), rank(&event.event.id, event.received_at));
        places.insert(sequence, place);
    }
    Ok(places)
}

const CHANGE: &str = "UPDATE delivery d SET state = g.state, lane = g.lane, rank = coalesce(g.rank, d.rank), \
       due_at = g.due_at, replays = g.replays, \
       first_attempt_at = CASE WHEN g.reopened THEN g.counted_from ELSE coalesce(g.counted_from, d.first_attempt_at) END, \
       settled_at = CASE WHEN g.state IN ('closed', 'cancelled') THEN $2 END, \
       status = CASE WHEN NOT g.reopened THEN d.status END, \
       duration_ms = CASE WHEN NOT g.reopened THEN d.duration_ms END \
     FROM unnest($3::bigint[], $4::text[], $5::bigint[], $6::bigint[], $7::bigint[], $8::bigint[], $9::boolean[], \
                 $10::bigint[]) AS g (sequence, state, lane, rank, due_at, counted_from, reopened, replays) \
     WHERE d.target_id = $1 AND d.sequence = g.sequence";

/// Copies an acknowledged first attempt to the log of attempts, before the row of the delivery is
/// used for further ones.
const LOG: &str = "INSERT INTO attempt (target_id, sequence, number, started_at, duration_ms, status) \
     SELECT target_id, sequence, attempts, first_attempt_at, duration_ms, status FROM delivery \
     WHERE target_id = $1 AND sequence = ANY ($2) AND duration_ms IS NOT NULL ON CONFLICT DO NOTHING";

const OPEN: &str = "INSERT INTO delivery (target_id, sequence, state, lane, rank, replays) \
     SELECT $1, g.sequence, 'pending', g.lane, g.rank, g.replays \
     FROM unnest($2::bigint[], $3::bigint[], $4::bigint[], $5::bigint[]) AS g (sequence, lane, rank, replays)";

const NOTE: &str = "INSERT INTO ripe (sequence) SELECT g.sequence FROM unnest($1::bigint[]) AS g (sequence) \
     WHERE g.sequence <= (SELECT payload_through FROM retention)";

async fn write(
    session: &mut Session,
    target: TargetId,
    written: &[Change],
    now: UnixMillis,
) -> Result<(), sqlx::Error> {
    let (new, known): (Vec<Change>, Vec<Change>) = written.iter().partition(|change| change.is_new);
    let sequences = |of: &[Change], which: fn(&Change) -> bool| -> Vec<i64> {
        of.iter().filter(|change| which(change)).map(|change| change.sequence).collect()
    };
    if !new.is_empty() {
        let query = sqlx::query(OPEN)
            .bind(target.0)
            .bind(sequences(&new, |_| true))
            .bind(new.iter().map(|change| change.lane).collect::<Vec<_>>())
            .bind(new.iter().map(|change| change.rank).collect::<Vec<_>>())
            .bind(new.iter().map(|change| i64::from(change.replays)).collect::<Vec<_>>());
        session.execute(query).await?;
    }
    if known.is_empty() {
        return Ok(());
    }
    let reopened = sequences(&known, |change| change.is_reopened);
    if !reopened.is_empty() {
        session.execute(sqlx::query(LOG).bind(target.0).bind(reopened)).await?;
    }
    let query = sqlx::query(CHANGE)
        .bind(target.0)
        .bind(now.0)
        .bind(sequences(&known, |_| true))
        .bind(known.iter().map(|change| change.state.as_str()).collect::<Vec<_>>())
        .bind(known.iter().map(|change| change.lane).collect::<Vec<_>>())
        .bind(known.iter().map(|change| change.rank).collect::<Vec<_>>())
        .bind(known.iter().map(|change| change.due_at).collect::<Vec<_>>())
        .bind(known.iter().map(|change| change.counted_from).collect::<Vec<_>>())
        .bind(known.iter().map(|change| change.is_reopened).collect::<Vec<_>>())
        .bind(known.iter().map(|change| i64::from(change.replays)).collect::<Vec<_>>());
    session.execute(query).await?;
    let ended = sequences(&known, |change| change.state.is_settled());
    if !ended.is_empty() {
        session.execute(sqlx::query(NOTE).bind(ended)).await?;
    }
    Ok(())
}
