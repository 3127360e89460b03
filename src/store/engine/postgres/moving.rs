//! Writes a move of deliveries from one target to another.

use super::session::Session;
use crate::domain::clock::UnixMillis;
use crate::domain::delivery::State;
use crate::store::types::TargetId;

/// A delivery that another target takes over.
#[derive(Clone, Copy)]
pub(super) struct Moved {
    pub(super) sequence: i64,
    /// Its state, lane and rank at that target.
    pub(super) state: State,
    pub(super) lane: Option<i64>,
    pub(super) rank: i64,
}

/// Copies deliveries. The target is given with each one, as for settled outcomes.
const COPY: &str = "INSERT INTO delivery (target_id, sequence, state, lane, rank, due_at, attempts, replays, \
            first_attempt_at, settled_at, status, duration_ms) \
     SELECT $1, d.sequence, g.state, g.lane, g.rank, d.due_at, d.attempts, d.replays, d.first_attempt_at, \
            d.settled_at, d.status, d.duration_ms \
     FROM unnest($2::bigint[], $3::bigint[], $4::text[], $5::bigint[], $6::bigint[]) \
          AS g (target, sequence, state, lane, rank) \
     JOIN delivery d ON d.target_id = g.target AND d.sequence = g.sequence";

/// Moves attempts. They refer to a delivery, so that they follow its copy.
const ATTEMPTS: &str = "UPDATE attempt SET target_id = $1 WHERE target_id = $2 AND sequence = ANY ($3)";

const REMOVE: &str = "DELETE FROM delivery WHERE target_id = $1 AND sequence = ANY ($2)";

/// Moves deliveries, with their attempts.
pub(super) async fn write(
    session: &mut Session,
    (from, to): (TargetId, TargetId),
    moved: &[Moved],
) -> Result<(), sqlx::Error> {
    let sequences: Vec<_> = moved.iter().map(|one| one.sequence).collect();
    let copy = sqlx::query(COPY)
        .bind(to.0)
        .bind(vec![from.0; moved.len()])
        .bind(&sequences)
        .bind(moved.iter().map(|one| one.state.as_str()).collect::<Vec<_>>())
        .bind(moved.iter().map(|one| one.lane).collect::<Vec<_>>())
        .bind(moved.iter().map(|one| one.rank).collect::<Vec<_>>());
    session.execute(copy).await?;
    session.execute(sqlx::query(ATTEMPTS).bind(to.0).bind(from.0).bind(&sequences)).await?;
    session.execute(sqlx::query(REMOVE).bind(from.0).bind(&sequences)).await?;
    Ok(())
}

/// Cancels deliveries of a target that are not moved.
pub(super) async fn cancel(
    session: &mut Session,
    target: TargetId,
    sequences: &[i64],
    now: UnixMillis,
) -> Result<(), sqlx::Error> {
    let cancel = "UPDATE delivery SET state = 'cancelled', due_at = NULL, lane = NULL, settled_at = $3 \
                  WHERE target_id = $1 AND sequence = ANY ($2)";
    session.execute(sqlx::query(cancel).bind(target.0).bind(sequences).bind(now.0)).await.map(drop)
}
