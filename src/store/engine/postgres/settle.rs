//! Stores the outcomes of attempts.

use sqlx::Row as _;

use super::session::{Failed, Session};
use super::words::{clean, rounds};
use crate::domain::clock::signed_millis;
use crate::domain::delivery::{Next, OnUncertain, State};
use crate::store::engine::{ATTEMPTS_KEPT, GroupContext};
use crate::store::routing::FIRST;
use crate::store::types::{AttemptStarted, InterruptedAttempt, Settlement, TargetId, Term};

/// Settles attempts. The row without a state says whether the term still stands.
const SETTLE: &str = "SELECT state, number FROM settle_deliveries( \
     $1, $2, $3, $4, $5, $6, $7, $8, $9, $10, $11, $12, $13, $14, $15)";

/// Stores `settlements`, under `term` of `lease`.
pub(super) async fn all(
    session: &mut Session,
    (target, lease, Term(term)): (TargetId, &str, Term),
    settlements: &[&Settlement],
    context: &mut GroupContext<'_>,
) -> Result<(), Failed> {
    let now = context.now.0;
    for round in rounds(settlements.iter().copied(), |settlement| settlement.sequence) {
        let column = |of: fn(&Settlement) -> i64| round.iter().map(|one| of(one)).collect::<Vec<_>>();
        let due_at = |one: &&Settlement| match one.next {
            Next::Retrying { due_at } => Some(due_at.0),
            Next::Delivered | Next::Held | Next::Dead => None,
        };
        let settled_at = |one: &&Settlement| matches!(one.next, Next::Delivered | Next::Dead).then_some(now);
        let answer = |one: &&Settlement| (!one.answer.is_empty()).then(|| one.answer.clone());
        let query = sqlx::query(SETTLE)
            .bind(lease)
            .bind(term)
            .bind(target.0)
            .bind(FIRST)
            .bind(i64::from(ATTEMPTS_KEPT))
            .bind(column(|one| one.sequence))
            .bind(column(|one| one.number.into()))
            .bind(round.iter().map(|one| one.next.state().as_str()).collect::<Vec<_>>())
            .bind(round.iter().map(due_at).collect::<Vec<_>>())
            .bind(round.iter().map(settled_at).collect::<Vec<_>>())
            .bind(column(|one| one.started_at.0))
            .bind(column(|one| signed_millis(one.duration)))
            .bind(round.iter().map(|one| one.status.map(i64::from)).collect::<Vec<_>>())
            .bind(round.iter().map(|one| one.error.as_deref().map(clean)).collect::<Vec<_>>())
            .bind(round.iter().map(answer).collect::<Vec<_>>());
        for row in session.rows(query).await? {
            let (state, number) =
                (row.try_get::<Option<&str>, _>("state")?, row.try_get::<i64, _>("number")?);
            let Some(state) = state else {
                if number == 0 {
                    return Err(Failed::Superseded);
                }
                continue;
            };
            if let Ok(state) = state.parse() {
                context.changes.change(target, State::Sending, -number);
                context.changes.change(target, state, number);
            }
        }
    }
    Ok(())
}

pub(super) const CLAIM: &str = "WITH fence AS ( \
       SELECT 1 FROM lease WHERE name = $5 AND term = $6 FOR KEY SHARE \
     ), claimed AS ( \
       UPDATE delivery SET state = 'sending', due_at = NULL, attempts = $3, \
              first_attempt_at = coalesce(first_attempt_at, $4) \
       WHERE target_id = $1 AND sequence = $2 AND (state = 'pending' OR state = 'retrying') \
         AND EXISTS (SELECT 1 FROM fence) RETURNING 1 \
     ) SELECT EXISTS (SELECT 1 FROM fence) AS stands, EXISTS (SELECT 1 FROM claimed) AS claimed";

/// Stores that an attempt begins, so that it is known after a crash. Returns whether the delivery
/// was pending or retrying.
pub(super) async fn claim(
    session: &mut Session,
    (target, lease, Term(term)): (TargetId, &str, Term),
    attempt: AttemptStarted,
) -> Result<bool, Failed> {
    let query = sqlx::query(CLAIM)
        .bind(target.0)
        .bind(attempt.sequence)
        .bind(i64::from(attempt.number))
        .bind(attempt.at.0)
        .bind(lease)
        .bind(term);
    let rows = session.rows(query).await?;
    let row = rows.first().ok_or(sqlx::Error::RowNotFound)?;
    if !row.try_get::<bool, _>("stands")? {
        return Err(Failed::Superseded);
    }
    Ok(row.try_get("claimed")?)
}

pub(super) const RECOVER: &str = "WITH interrupted AS ( \
       UPDATE delivery d SET state = $2, due_at = $3, rank = CASE WHEN $2 = 'held' THEN $4 ELSE d.rank END \
       WHERE d.target_id = $1 AND d.settled_at IS NULL AND d.state = 'sending' \
       RETURNING d.sequence, d.attempts \
     ), logged AS ( \
       INSERT INTO attempt (target_id, sequence, number, started_at, duration_ms, error) \
       SELECT $1, sequence, attempts, $5, 0, 'the process ended while this attempt was on the wire' \
       FROM interrupted ON CONFLICT DO NOTHING \
     ) SELECT e.id, i.attempts FROM interrupted i JOIN event e ON e.sequence = i.sequence ORDER BY e.sequence";

/// Settles the attempts that were on the wire when a process ended: their outcomes are unknown.
/// Returns these attempts.
pub(super) async fn recover(
    session: &mut Session,
    target: TargetId,
    on_uncertain: OnUncertain,
    context: &mut GroupContext<'_>,
) -> Result<Vec<InterruptedAttempt>, sqlx::Error> {
    let now = context.now.0;
    let (state, due_at) = match on_uncertain {
        OnUncertain::Hold => (State::Held, None),
        OnUncertain::Retry => (State::Retrying, Some(now)),
    };
    let query = sqlx::query(RECOVER).bind(target.0).bind(state.as_str()).bind(due_at).bind(FIRST).bind(now);
    let mut cut_off = Vec::new();
    for row in session.rows(query).await? {
        let number = u32::try_from(row.try_get::<i64, _>("attempts")?).unwrap_or(u32::MAX);
        cut_off.push(InterruptedAttempt { event_id: row.try_get("id")?, number });
        context.changes.step(target, Some(State::Sending), state);
    }
    Ok(cut_off)
}
