//! Finding the deliveries whose turn it is.

use std::collections::HashSet;
use std::sync::Arc;
use std::time::Duration;

use rusqlite::{Connection, OptionalExtension as _, Row, params};

use super::turn;
use crate::domain::clock::UnixMillis;
use crate::domain::event::Received;
use crate::store::row::{EVENT_COLUMNS, EventRow};
use crate::store::types::{Due, Job, Kind, Left, PerKind, Search, TargetId};

/// Bytes of event bodies of one kind taken into memory by one search.
const BODIES: usize = 2 << 20;

/// How long a first attempt counts as [`Kind::New`].
const NEW: Duration = Duration::from_mins(1);

/// The first attempts that are due, the longest due first.
const OLDEST_FRESH: &str = "SELECT sequence FROM delivery WHERE target_id = ?1 AND state = 'pending' \
                            AND due_at > ?2 AND due_at <= ?3 ORDER BY due_at, sequence";
/// The same, the newest first.
const NEWEST_FRESH: &str = "SELECT sequence FROM delivery WHERE target_id = ?1 AND state = 'pending' \
                            AND due_at > ?2 AND due_at <= ?3 ORDER BY due_at DESC, sequence DESC";
/// The retries that are due, the longest due first.
const OLDEST_RETRY: &str = "SELECT sequence FROM delivery WHERE target_id = ?1 AND state = 'retrying' \
                            AND due_at > ?2 AND due_at <= ?3 ORDER BY due_at, sequence";
/// The same, the newest first.
const NEWEST_RETRY: &str = "SELECT sequence FROM delivery WHERE target_id = ?1 AND state = 'retrying' \
                            AND due_at > ?2 AND due_at <= ?3 ORDER BY due_at DESC, sequence DESC";
/// When the next first attempt falls due: later than now only if the clock was set back.
const NEXT_FRESH: &str =
    "SELECT min(due_at) FROM delivery WHERE target_id = ?1 AND state = 'pending' AND due_at > ?2";
/// When the next retry falls due.
const NEXT_RETRY: &str =
    "SELECT min(due_at) FROM delivery WHERE target_id = ?1 AND state = 'retrying' AND due_at > ?2";

/// What of `target` is due, and what is left. Each kind is looked for by itself, so
/// that no number of the one keeps another from being found.
pub(super) fn find(connection: &Connection, target: TargetId, search: &Search) -> rusqlite::Result<Due> {
    let mut finding = Finding { connection, target, search, found: HashSet::new(), jobs: Vec::new() };
    let mut left = PerKind::<Left>::default();
    left[Kind::Retry] = finding.retries()?;
    left[Kind::Waiting] = finding.waiting()?;
    left[Kind::New] = finding.new_ones()?;
    Ok(Due { jobs: finding.jobs, left })
}

/// A search under way.
struct Finding<'a> {
    connection: &'a Connection,
    target: TargetId,
    search: &'a Search,
    /// The sequences found so far.
    found: HashSet<i64>,
    jobs: Vec<Job>,
}

impl Finding<'_> {
    /// Retries from both ends in turn: one that has just fallen due does not wait
    /// for all that have failed many times.
    fn retries(&mut self) -> rusqlite::Result<Left> {
        let limit = self.search.limits[Kind::Retry];
        if limit == 0 {
            return Ok(Left::default());
        }
        let oldest = self.keys(OLDEST_RETRY, i64::MIN, limit)?;
        let newest = self.keys(NEWEST_RETRY, i64::MIN, limit)?;
        let more = oldest.len() > limit;
        let mut keys = Vec::with_capacity(2 * limit);
        for index in 0..=limit {
            keys.extend(oldest.get(index));
            keys.extend(newest.get(index));
        }
        let more = self.take(Kind::Retry, keys, limit)? || more;
        Ok(Left { more, next_due: self.next_due(NEXT_RETRY)? })
    }

    fn waiting(&mut self) -> rusqlite::Result<Left> {
        let limit = self.search.limits[Kind::Waiting];
        if limit == 0 {
            return Ok(Left::default());
        }
        let keys = self.keys(OLDEST_FRESH, i64::MIN, limit)?;
        let more = self.take(Kind::Waiting, keys, limit)?;
        Ok(Left { more, next_due: self.next_due(NEXT_FRESH)? })
    }

    fn new_ones(&mut self) -> rusqlite::Result<Left> {
        let limit = self.search.limits[Kind::New];
        if limit == 0 {
            return Ok(Left::default());
        }
        let since = self.search.now.0.saturating_sub(NEW.as_millis().try_into().unwrap_or(i64::MAX));
        let keys = self.keys(NEWEST_FRESH, since, limit)?;
        let more = self.take(Kind::New, keys, limit)?;
        Ok(Left { more, next_due: None })
    }

    /// The sequences of what is due later than `since`: one more than may be taken, to
    /// know of it. Known ones are passed over by the index alone, without their rows.
    fn keys(&self, query: &str, since: i64, limit: usize) -> rusqlite::Result<Vec<i64>> {
        let mut select = self.connection.prepare_cached(query)?;
        let mut rows = select.query(params![self.target.0, since, self.search.now.0])?;
        let mut keys = Vec::new();
        while keys.len() <= limit
            && let Some(row) = rows.next()?
        {
            let sequence = row.get(0)?;
            if !self.search.known.contains(&sequence) && !self.found.contains(&sequence) {
                keys.push(sequence);
            }
        }
        Ok(keys)
    }

    /// Takes the deliveries of `keys` as `kind`, as many as may be. Returns whether
    /// some were left.
    fn take(&mut self, kind: Kind, keys: Vec<i64>, limit: usize) -> rusqlite::Result<bool> {
        // Behind a retry that steps back may come a first attempt.
        let first = if kind == Kind::Retry { Kind::Waiting } else { kind };
        let (mut bytes, mut taken) = (0, 0);
        for sequence in keys {
            if self.found.contains(&sequence) {
                continue;
            }
            if taken == limit || bytes >= BODIES {
                return Ok(true);
            }
            taken += 1;
            self.found.insert(sequence);
            let Some(mut job) = job(self.connection, self.target, sequence)? else { continue };
            if let Some(lane) = job.lane
                && let Some(earlier) =
                    turn::let_pass(self.connection, self.target, lane, sequence, self.search.now)?
            {
                self.found.insert(earlier.sequence);
                job = earlier;
            }
            bytes += job.event.event.body.len();
            self.jobs.push(if job.attempts == 0 { Job { kind: first, ..job } } else { job });
        }
        Ok(false)
    }

    fn next_due(&self, query: &str) -> rusqlite::Result<Option<UnixMillis>> {
        let mut select = self.connection.prepare_cached(query)?;
        let next = select.query_row(params![self.target.0, self.search.now.0], |row| row.get(0))?;
        Ok(Option::<i64>::map(next, UnixMillis))
    }
}

/// The event of `sequence`, if its body is still there and can be read.
pub(super) fn event(connection: &Connection, sequence: i64) -> rusqlite::Result<Option<Received>> {
    let mut select = connection.prepare_cached(&format!(
        "SELECT {EVENT_COLUMNS} FROM event e WHERE e.sequence = ?1 AND e.body IS NOT NULL"
    ))?;
    let found = select.query_row(params![sequence], event_row).optional()?;
    Ok(found.and_then(|row| readable(sequence, row)))
}

/// The delivery of `sequence` to `target`, with its event.
pub(super) fn job(connection: &Connection, target: TargetId, sequence: i64) -> rusqlite::Result<Option<Job>> {
    const COLUMNS: usize = 9;
    let mut select = connection.prepare_cached(&format!(
        "SELECT {EVENT_COLUMNS}, d.attempts, d.first_attempt_at, d.lane, d.replays FROM delivery d \
         JOIN event e ON e.sequence = d.sequence WHERE d.target_id = ?1 AND d.sequence = ?2"
    ))?;
    let found = select
        .query_row(params![target.0, sequence], |row| {
            let first_attempt_at = row.get::<_, Option<i64>>(COLUMNS + 1)?.map(UnixMillis);
            let (attempts, lane, replays) = (row.get(COLUMNS)?, row.get(COLUMNS + 2)?, row.get(COLUMNS + 3)?);
            Ok((event_row(row)?, attempts, first_attempt_at, lane, replays))
        })
        .optional()?;
    let Some((event, attempts, first_attempt_at, lane, replays)): Option<(_, u32, _, _, _)> = found else {
        return Ok(None);
    };
    Ok(readable(sequence, event).map(|event| {
        let event = Arc::new(event);
        let kind = if attempts == 0 { Kind::Waiting } else { Kind::Retry };
        Job { sequence, attempts, first_attempt_at, replays, kind, event, lane }
    }))
}

/// The columns of [`EVENT_COLUMNS`], first in `row`.
fn event_row(row: &Row<'_>) -> rusqlite::Result<EventRow> {
    Ok(EventRow {
        id: row.get(0)?,
        kind: row.get(1)?,
        object_id: row.get(2)?,
        created: row.get(3)?,
        source: row.get(4)?,
        origin: row.get(5)?,
        environment: row.get(6)?,
        received_at: row.get(7)?,
        body: row.get(8)?,
    })
}

fn readable(sequence: i64, row: EventRow) -> Option<Received> {
    // Left where it is for a later version, which may know the value.
    row.into_received()
        .inspect_err(|error| {
            tracing::error!(%error, sequence, "a stored event cannot be read and is passed over");
        })
        .ok()
}
