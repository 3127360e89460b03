//! Reads the deliveries that other processes have stored, from the log of events. The events are
//! numbered without a gap, in the order of their commits.

use std::collections::HashMap;
use std::sync::Arc;

use sqlx::Row as _;
use sqlx::postgres::PgRow;

use super::search::received;
use super::session::Session;
use crate::domain::event::Received;
use crate::store::engine::LogPage;
use crate::store::types::{Arrived, Job, TargetId};

/// The largest size of event bodies that are read at once, in bytes.
const BODIES: i64 = 4 << 20;

/// Selects the newest event, and the first deliveries of each target, in one snapshot. The
/// deliveries of a target that are left out lie beyond all that are returned.
pub(super) const KEYS: &str = "SELECT n.newest, k.target_id, k.sequence, k.lane, k.rank, k.replays, \
       coalesce(octet_length(e.body), 0)::bigint AS size \
     FROM (SELECT greatest((SELECT max(sequence) FROM event), (SELECT events_through FROM retention)) AS newest) n \
     LEFT JOIN LATERAL (SELECT d.* FROM unnest($1::bigint[]) AS t (id) \
        CROSS JOIN LATERAL (SELECT d.target_id, d.sequence, d.lane, d.rank, d.replays FROM delivery d \
           WHERE d.target_id = t.id AND d.settled_at IS NULL AND d.state = 'pending' AND d.attempts = 0 \
             AND d.sequence > $2 AND d.sequence <= $3 ORDER BY d.sequence LIMIT $4) d \
        ORDER BY d.sequence LIMIT $4) k ON true \
     LEFT JOIN event e ON e.sequence = k.sequence ORDER BY k.sequence, k.target_id";

/// Selects each event once, however many targets it has.
pub(super) const EVENTS: &str = "SELECT sequence, id, type, object_id, created, source, origin, environment, received_at, body \
                      FROM event WHERE sequence = ANY ($1)";

/// A delivery before its event is read.
struct Key {
    target: TargetId,
    sequence: i64,
    lane: Option<i64>,
    rank: i64,
    replays: u32,
    size: i64,
}

/// Returns the deliveries to `targets` that were never attempted, of the events above `after` and
/// up to `upto`.
pub(super) async fn read(
    session: &mut Session,
    (after, upto): (i64, Option<i64>),
    targets: &[TargetId],
    limit: usize,
) -> Result<LogPage, sqlx::Error> {
    let targets: Vec<i64> = targets.iter().map(|target| target.0).collect();
    let query = sqlx::query(KEYS)
        .bind(targets)
        .bind(after)
        .bind(upto.unwrap_or(i64::MAX))
        .bind(i64::try_from(limit).unwrap_or(i64::MAX).saturating_add(1));
    let rows = session.rows(query).await?;
    let newest = rows.first().ok_or(sqlx::Error::RowNotFound)?.try_get("newest")?;
    let keys = rows.iter().filter_map(|row| key(row).transpose()).collect::<Result<Vec<_>, _>>()?;
    if keys.len() > limit {
        return Ok(LogPage { newest, deliveries: Vec::new(), overflow: true });
    }
    let events = events(session, &keys).await?;
    let deliveries = keys.into_iter().map(|key| (key.target, key.arrived(&events))).collect();
    Ok(LogPage { newest, deliveries, overflow: false })
}

/// Returns the delivery of `row`; `None` for the row that says that there is none.
fn key(row: &PgRow) -> Result<Option<Key>, sqlx::Error> {
    let Some(target) = row.try_get::<Option<i64>, _>("target_id")? else { return Ok(None) };
    Ok(Some(Key {
        target: TargetId(target),
        sequence: row.try_get("sequence")?,
        lane: row.try_get("lane")?,
        rank: row.try_get("rank")?,
        replays: u32::try_from(row.try_get::<i64, _>("replays")?).unwrap_or(u32::MAX),
        size: row.try_get("size")?,
    }))
}

/// Returns the events of `keys`, up to the bound of their bodies.
async fn events(session: &mut Session, keys: &[Key]) -> Result<HashMap<i64, Arc<Received>>, sqlx::Error> {
    let (mut sequences, mut bytes): (Vec<i64>, i64) = (Vec::new(), 0);
    // Deliveries of one event are neighbours.
    for key in keys {
        if sequences.last() != Some(&key.sequence) {
            bytes = bytes.saturating_add(key.size);
            if bytes > BODIES {
                break;
            }
            sequences.push(key.sequence);
        }
    }
    if sequences.is_empty() {
        return Ok(HashMap::new());
    }
    let mut events = HashMap::new();
    for row in session.rows(sqlx::query(EVENTS).bind(&sequences)).await? {
        let sequence = row.try_get("sequence")?;
        if let Some(event) = received(sequence, &row)? {
            events.insert(sequence, Arc::new(event));
        }
    }
    Ok(events)
}

impl Key {
    fn arrived(self, events: &HashMap<i64, Arc<Received>>) -> Arrived {
        let Self { sequence, lane, rank, replays, .. } = self;
        let job = events.get(&sequence).map(|event| Job {
            sequence,
            attempts: 0,
            first_attempt_at: None,
            replays,
            renewed: false,
            event: Arc::clone(event),
            lane,
            rank,
        });
        Arrived { sequence, lane, rank, job }
    }
}
