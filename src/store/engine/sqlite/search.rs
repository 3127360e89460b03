//! Reads the open deliveries of a target: lanes in their order, due retries, and pending
//! deliveries.

use std::collections::HashSet;
use std::sync::Arc;

use rusqlite::{Connection, OptionalExtension as _, Row, params};

use crate::domain::clock::UnixMillis;
use crate::domain::delivery::State;
use crate::domain::event::Received;
use crate::store::engine::due::DueRetries;
use crate::store::engine::event_row::EventRow;
use crate::store::types::{Found, FoundLane, FoundRest, Job, LaneRank, Scan, Scanned, Search, TargetId};

/// The size of event bodies in bytes from which a search reads no further one.
const BODIES: usize = 2 << 20;

/// The number of deliveries that one search reads from all lanes that it looks up.
const LOOKED_UP: usize = 1024;

/// The smallest and the largest number of deliveries that are read from one lane.
const OF_LANE: std::ops::RangeInclusive<usize> = 4..=128;

/// The number of pending deliveries that one scan reads; those that are known already count too.
const PASSED_OVER: usize = 4096;

/// Selects the deliveries of a lane behind a place, with their events. When an operator retries a
/// delivery, its first attempt counts anew: earlier attempts are from before that time.
const LANE: &str = "SELECT d.sequence, d.rank, d.state, d.due_at, d.attempts, d.first_attempt_at, \
       d.lane, d.replays, (d.attempts > 0 AND EXISTS (SELECT 1 FROM attempt a WHERE a.target_id = d.target_id \
         AND a.sequence = d.sequence AND a.started_at < d.first_attempt_at)) AS renewed, \
       e.id, e.type, e.object_id, e.created, e.source, e.origin, e.environment, e.received_at, e.body \
     FROM delivery d INDEXED BY delivery_lane CROSS JOIN event e ON e.sequence = d.sequence \
     WHERE d.target_id = ?1 AND d.lane = ?2 AND (d.rank, d.sequence) > (?3, ?4) \
     ORDER BY d.rank, d.sequence LIMIT ?5";
/// Selects one delivery, with its event.
const ONE: &str = "SELECT d.sequence, d.rank, d.attempts, d.first_attempt_at, d.lane, d.replays, \
       (d.attempts > 0 AND EXISTS (SELECT 1 FROM attempt a WHERE a.target_id = d.target_id \
         AND a.sequence = d.sequence AND a.started_at < d.first_attempt_at)) AS renewed, \
       e.id, e.type, e.object_id, e.created, e.source, e.origin, e.environment, e.received_at, e.body \
     FROM delivery d CROSS JOIN event e ON e.sequence = d.sequence WHERE d.target_id = ?1 AND d.sequence = ?2";
/// Selects the retries that are due, the longest due first.
pub(in crate::store) const OLDEST_DUE: &str = "SELECT sequence, lane, rank FROM delivery \
     INDEXED BY delivery_due WHERE target_id = ?1 AND due_at <= ?2 ORDER BY due_at, sequence LIMIT ?3";
/// Selects the retries that are due, the latest due first.
pub(in crate::store) const NEWEST_DUE: &str = "SELECT sequence, lane, rank FROM delivery \
     INDEXED BY delivery_due WHERE target_id = ?1 AND due_at <= ?2 ORDER BY due_at DESC, sequence DESC LIMIT ?3";
/// Selects the time at which the next retry is due.
const NEXT_DUE: &str =
    "SELECT min(due_at) FROM delivery INDEXED BY delivery_due WHERE target_id = ?1 AND due_at > ?2";
/// Selects the time at which the last retry is due.
const LAST_DUE: &str =
    "SELECT max(due_at) FROM delivery INDEXED BY delivery_due WHERE target_id = ?1 AND due_at > ?2";
/// Selects the pending deliveries, by sequence.
pub(in crate::store) const PENDING: &str = "SELECT sequence, lane, rank FROM delivery \
     INDEXED BY delivery_open WHERE target_id = ?1 AND settled_at IS NULL AND state = 'pending' \
     AND sequence > ?2 ORDER BY sequence LIMIT ?3";
/// Selects every lane with its head.
pub(in crate::store) const LANES: &str = "WITH RECURSIVE known (lane) AS ( \
       SELECT min(lane) FROM delivery INDEXED BY delivery_lane WHERE target_id = ?1 AND lane IS NOT NULL \
       UNION ALL SELECT (SELECT min(d.lane) FROM delivery d INDEXED BY delivery_lane \
                         WHERE d.target_id = ?1 AND d.lane > known.lane) FROM known WHERE known.lane IS NOT NULL) \
     SELECT known.lane, d.rank, d.sequence FROM known \
     CROSS JOIN delivery d INDEXED BY delivery_lane ON d.target_id = ?1 AND d.lane = known.lane \
       AND d.rank = (SELECT min(h.rank) FROM delivery h INDEXED BY delivery_lane \
                     WHERE h.target_id = ?1 AND h.lane = known.lane) \
     WHERE known.lane IS NOT NULL LIMIT ?2";

/// Carries out `search`.
pub(super) fn find(connection: &Connection, target: TargetId, search: &Search) -> rusqlite::Result<Found> {
    let mut finding =
        Finding { connection, target, search, lanes: HashSet::new(), bytes: 0, found: Found::default() };
    finding.look_up()?;
    if search.retries > 0 {
        finding.retries(search.retries)?;
    }
    if let Some(scan) = search.scan {
        finding.scan(scan)?;
    }
    if let Some(limit) = search.census
        && !finding.found.scanned.is_some_and(|scanned| scanned.more)
    {
        finding.census(limit)?;
    }
    Ok(finding.found)
}

/// A search that is being carried out.
struct Finding<'a> {
    connection: &'a Connection,
    target: TargetId,
    search: &'a Search,
    /// The lanes that have been read.
    lanes: HashSet<i64>,
    /// The size of the bodies that have been read, in bytes.
    bytes: usize,
    found: Found,
}

/// The sequence of a delivery, its lane if it has one, and its rank.
type Entry = (i64, Option<i64>, i64);

impl Finding<'_> {
    fn look_up(&mut self) -> rusqlite::Result<()> {
        let lookups = &self.search.lookups;
        let limit = (LOOKED_UP / lookups.len().max(1)).clamp(*OF_LANE.start(), *OF_LANE.end());
        for lookup in lookups {
            self.lane(lookup.lane, lookup.after, limit)?;
        }
        Ok(())
    }

    fn retries(&mut self, limit: usize) -> rusqlite::Result<()> {
        let (mut due, now) = (DueRetries::new(limit), self.search.now.0);
        loop {
            let oldest = self.entries(OLDEST_DUE, now, due.rows())?;
            let newest = self.entries(NEWEST_DUE, now, due.rows())?;
            if !due.choose((&oldest, &newest), |entry| self.take(*entry))? {
                break;
            }
        }
        self.found.more_retries = due.is_full();
        (self.found.next_due, self.found.last_due) = (self.not_due(NEXT_DUE)?, self.not_due(LAST_DUE)?);
        Ok(())
    }

    fn not_due(&self, query: &str) -> rusqlite::Result<Option<UnixMillis>> {
        let mut select = self.connection.prepare_cached(query)?;
        let at: Option<i64> =
            select.query_row(params![self.target.0, self.search.now.0], |row| row.get(0))?;
        Ok(at.map(UnixMillis))
    }

    fn scan(&mut self, scan: Scan) -> rusqlite::Result<()> {
        let mut scanned = Scanned { to: scan.after, more: false };
        let mut taken = 0;
        for entry in self.pending(scan.after)? {
            if taken == scan.limit || self.bytes >= BODIES {
                scanned.more = true;
                break;
            }
            if self.take(entry)? {
                taken += 1;
            }
            scanned.to = entry.0;
        }
        if !scanned.more {
            // The last query may have been full, so more may follow.
            scanned.more = self.pending_after(scanned.to)?;
        }
        self.found.scanned = Some(scanned);
        Ok(())
    }

    fn pending(&self, after: i64) -> rusqlite::Result<Vec<Entry>> {
        self.entries(PENDING, after, PASSED_OVER)
    }

    fn pending_after(&self, sequence: i64) -> rusqlite::Result<bool> {
        self.entries(PENDING, sequence, 1).map(|next| !next.is_empty())
    }

    fn census(&mut self, limit: usize) -> rusqlite::Result<()> {
        let mut select = self.connection.prepare_cached(LANES)?;
        let limit = i64::try_from(limit).unwrap_or(i64::MAX);
        let rows = select.query_map(params![self.target.0, limit.saturating_add(1)], |row| {
            Ok((row.get::<_, i64>("lane")?, (row.get("rank")?, row.get("sequence")?)))
        })?;
        let lanes = rows.collect::<rusqlite::Result<Vec<_>>>()?;
        if i64::try_from(lanes.len()).is_ok_and(|found| found <= limit) {
            self.found.census = Some(lanes);
        }
        Ok(())
    }

    fn entries(&self, query: &str, from: i64, limit: usize) -> rusqlite::Result<Vec<Entry>> {
        let mut select = self.connection.prepare_cached(query)?;
        let limit = i64::try_from(limit).unwrap_or(i64::MAX);
        let rows = select.query_map(params![self.target.0, from, limit], |row| {
            Ok((row.get("sequence")?, row.get("lane")?, row.get("rank")?))
        })?;
        rows.collect()
    }

    /// Reads a delivery, or the lane that it is in. Returns whether it was not known.
    fn take(&mut self, (sequence, lane, rank): Entry) -> rusqlite::Result<bool> {
        let Some(lane) = lane else {
            if self.search.singles.contains(&sequence) || !self.lanes.insert(sequence) {
                return Ok(false);
            }
            let mut select = self.connection.prepare_cached(ONE)?;
            let found = select.query_row(params![self.target.0, sequence], job).optional()?;
            let Some(job) = found.flatten() else { return Ok(false) };
            self.bytes += job.event.event.body.len();
            self.found.singles.push(job);
            return Ok(true);
        };
        if self.search.lanes.get(&lane).is_some_and(|known_to| (rank, sequence) > *known_to) {
            return Ok(false);
        }
        self.lane(lane, None, *OF_LANE.start())
    }

    /// Reads a lane. Returns whether it was not read before.
    fn lane(&mut self, lane: i64, after: Option<LaneRank>, limit: usize) -> rusqlite::Result<bool> {
        if !self.lanes.insert(lane) {
            return Ok(false);
        }
        let (rank, sequence) = after.unwrap_or((i64::MIN, i64::MIN));
        let mut found = FoundLane { lane, after, rows: Vec::new(), rest: FoundRest::Nothing };
        let mut select = self.connection.prepare_cached(LANE)?;
        let most = i64::try_from(limit).unwrap_or(i64::MAX);
        let mut rows = select.query(params![self.target.0, lane, rank, sequence, most])?;
        while let Some(row) = rows.next()? {
            let place: LaneRank = (row.get("rank")?, row.get("sequence")?);
            if !found.rows.is_empty() && self.bytes >= BODIES {
                found.rest = FoundRest::More;
                break;
            }
            // A delivery that cannot be read blocks those behind it, like one that has to wait.
            let job = if may_go(row, self.search.now)? { job(row)? } else { None };
            let Some(job) = job else {
                found.rest = FoundRest::Blocked(place);
                break;
            };
            self.bytes += job.event.event.body.len();
            found.rows.push(job);
        }
        if found.rows.len() == limit {
            found.rest = FoundRest::More;
        }
        self.found.lanes.push(found);
        Ok(true)
    }
}

/// Returns whether the delivery of `row` may be sent `now`. An attempt on the wire belongs to the
/// caller itself.
fn may_go(row: &Row<'_>, now: UnixMillis) -> rusqlite::Result<bool> {
    let state = row.get_ref("state")?.as_str()?;
    let due_at: Option<i64> = row.get("due_at")?;
    Ok(state == State::Pending.as_str()
        || state == State::Sending.as_str()
        || (state == State::Retrying.as_str() && due_at.is_none_or(|at| at <= now.0)))
}

/// The columns that an event is rebuilt from.
const EVENT_COLUMNS: &str =
    "e.id, e.type, e.object_id, e.created, e.source, e.origin, e.environment, e.received_at, e.body";

/// Returns the event of `sequence`, if its body is stored and can be read.
pub(super) fn event(connection: &Connection, sequence: i64) -> rusqlite::Result<Option<Received>> {
    let mut select = connection.prepare_cached(&format!(
        "SELECT {EVENT_COLUMNS} FROM event e WHERE e.sequence = ?1 AND e.body IS NOT NULL"
    ))?;
    let found = select.query_row(params![sequence], event_row).optional()?;
    Ok(found.and_then(|row| row.readable(sequence)))
}

/// Returns the delivery of `row`, if its event can be read.
fn job(row: &Row<'_>) -> rusqlite::Result<Option<Job>> {
    let sequence = row.get("sequence")?;
    let Some(event) = event_row(row)?.readable(sequence) else { return Ok(None) };
    let first_attempt_at = row.get::<_, Option<i64>>("first_attempt_at")?.map(UnixMillis);
    let (attempts, replays, renewed) = (row.get("attempts")?, row.get("replays")?, row.get("renewed")?);
    let (event, lane, rank) = (Arc::new(event), row.get("lane")?, row.get("rank")?);
    Ok(Some(Job { sequence, attempts, first_attempt_at, replays, renewed, event, lane, rank }))
}

fn event_row(row: &Row<'_>) -> rusqlite::Result<EventRow> {
    Ok(EventRow {
        id: row.get("id")?,
        kind: row.get("type")?,
        object_id: row.get("object_id")?,
        created: row.get("created")?,
        source: row.get("source")?,
        origin: row.get("origin")?,
        environment: row.get("environment")?,
        received_at: row.get("received_at")?,
        body: row.get("body")?,
    })
}
