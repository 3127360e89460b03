//! Reads the open deliveries of a target: lanes in their order, due retries, and pending
//! deliveries. A search takes a handful of queries, whatever it finds: it reads keys and sizes,
//! chooses, and then reads the chosen deliveries.

use std::collections::{HashMap, HashSet};
use std::sync::Arc;

use sqlx::Row as _;
use sqlx::postgres::PgRow;

use super::session::Session;
use crate::domain::clock::UnixMillis;
use crate::domain::delivery::State;
use crate::domain::event::Received;
use crate::store::engine::due::DueRetries;
use crate::store::engine::event_row::EventRow;
use crate::store::types::{Found, FoundLane, FoundRest, Job, LaneRank, Lookup, Scanned, Search, TargetId};

/// The size of event bodies in bytes from which a search reads no further one.
const BODIES: i64 = 2 << 20;

/// The number of deliveries that one search reads from all lanes that it looks up.
const LOOKED_UP: usize = 1024;

/// The smallest and the largest number of deliveries that are read from one lane.
const OF_LANE: std::ops::RangeInclusive<usize> = 4..=128;

/// The number of pending deliveries that one scan reads; known ones count too.
const PASSED_OVER: usize = 4096;

pub(super) const OLDEST_DUE: &str = "SELECT sequence, lane, rank FROM delivery WHERE target_id = $1 AND due_at <= $2 \
                          ORDER BY due_at, sequence LIMIT $3";
pub(super) const NEWEST_DUE: &str = "SELECT sequence, lane, rank FROM delivery WHERE target_id = $1 AND due_at <= $2 \
                          ORDER BY due_at DESC, sequence DESC LIMIT $3";
pub(super) const NOT_DUE: &str =
    "SELECT min(due_at) AS next, max(due_at) AS last FROM delivery WHERE target_id = $1 AND due_at > $2";
pub(super) const PENDING: &str = "SELECT sequence, lane, rank FROM delivery \
                       WHERE target_id = $1 AND settled_at IS NULL AND state = 'pending' AND sequence > $2 \
                       ORDER BY sequence LIMIT $3";

/// Selects the beginnings of lanes, without bodies.
pub(super) const LANES: &str = "SELECT g.n, d.sequence, d.rank, d.state, d.due_at, \
       coalesce(octet_length(e.body), 0)::bigint AS size \
     FROM unnest($2::bigint[], $3::bigint[], $4::bigint[], $5::bigint[]) WITH ORDINALITY \
          AS g (lane, rank, sequence, most, n) \
     CROSS JOIN LATERAL (SELECT d.sequence, d.rank, d.state, d.due_at FROM delivery d \
        WHERE d.target_id = $1 AND d.lane = g.lane AND (d.rank, d.sequence) > (g.rank, g.sequence) \
        ORDER BY d.rank, d.sequence LIMIT g.most) d \
     JOIN event e ON e.sequence = d.sequence ORDER BY g.n, d.rank, d.sequence";

pub(super) const SIZES: &str = "SELECT sequence, coalesce(octet_length(body), 0)::bigint AS size FROM event \
                     WHERE sequence = ANY ($1)";

/// Selects deliveries. The target is given with each one, as for settled outcomes.
pub(super) const JOBS: &str = "SELECT d.sequence, d.rank, d.attempts, d.first_attempt_at, d.lane, d.replays, \
       (d.attempts > 0 AND EXISTS (SELECT 1 FROM attempt a WHERE a.target_id = d.target_id \
         AND a.sequence = d.sequence AND a.started_at < d.first_attempt_at)) AS renewed, e.id, e.type, \
       e.object_id, e.created, e.source, e.origin, e.environment, e.received_at, e.body \
     FROM unnest($1::bigint[], $2::bigint[]) AS wanted (target, sequence) \
     JOIN delivery d ON d.target_id = wanted.target AND d.sequence = wanted.sequence \
     JOIN event e ON e.sequence = d.sequence";

/// Selects every lane with its head, by one step of the index for each.
pub(super) const CENSUS: &str = "WITH RECURSIVE known (lane, rank, sequence) AS ( \
       (SELECT lane, rank, sequence FROM delivery WHERE target_id = $1 AND lane IS NOT NULL \
        ORDER BY lane, rank, sequence LIMIT 1) \
       UNION ALL SELECT n.lane, n.rank, n.sequence FROM known \
       CROSS JOIN LATERAL (SELECT d.lane, d.rank, d.sequence FROM delivery d \
          WHERE d.target_id = $1 AND d.lane > known.lane ORDER BY d.lane, d.rank, d.sequence LIMIT 1) n) \
     SELECT lane, rank, sequence FROM known LIMIT $2";

/// A delivery, and its place in its lane if it has one.
#[derive(Clone, Copy)]
struct Entry {
    sequence: i64,
    lane: Option<i64>,
    rank: i64,
}

/// What is to be read: a lane from a place on, or a delivery without a lane.
#[derive(Clone, Copy)]
enum Wanted {
    Lane { lookup: Lookup, limit: usize },
    Single(i64),
}

/// A row of a lane before its body is read.
struct LaneRow {
    place: LaneRank,
    may_go: bool,
    size: i64,
}

/// The lanes and deliveries to read, each once, in the order of reading.
struct Plan<'a> {
    search: &'a Search,
    taken: HashSet<i64>,
    wanted: Vec<Wanted>,
}

impl Plan<'_> {
    /// Adds a delivery, or the lane that it is in. Returns whether that was not known.
    fn take(&mut self, entry: Entry) -> bool {
        let Some(lane) = entry.lane else {
            let sequence = entry.sequence;
            let is_new = !self.search.singles.contains(&sequence) && self.taken.insert(sequence);
            if is_new {
                self.wanted.push(Wanted::Single(sequence));
            }
            return is_new;
        };
        let place = (entry.rank, entry.sequence);
        if self.search.lanes.get(&lane).is_some_and(|known_to| place > *known_to) {
            return false;
        }
        self.lane(Lookup { lane, after: None }, *OF_LANE.start())
    }

    fn lane(&mut self, lookup: Lookup, limit: usize) -> bool {
        let is_new = self.taken.insert(lookup.lane);
        if is_new {
            self.wanted.push(Wanted::Lane { lookup, limit });
        }
        is_new
    }
}

/// Carries out `search`.
pub(super) async fn find(
    session: &mut Session,
    target: TargetId,
    search: &Search,
) -> Result<Found, sqlx::Error> {
    let mut found = Found::default();
    let mut plan = Plan { search, taken: HashSet::new(), wanted: Vec::new() };
    let limit = (LOOKED_UP / search.lookups.len().max(1)).clamp(*OF_LANE.start(), *OF_LANE.end());
    for lookup in &search.lookups {
        plan.lane(*lookup, limit);
    }
    if search.retries > 0 {
        retries(session, target, &mut plan, &mut found).await?;
    }
    // The place in the plan at which each scanned entry was taken.
    let first_scanned = plan.wanted.len();
    let mut scanned = Vec::new();
    if let Some(scan) = search.scan {
        for entry in entries(session, PENDING, target, scan.after, PASSED_OVER).await? {
            let before = plan.wanted.len();
            if before - first_scanned >= scan.limit {
                break;
            }
            plan.take(entry);
            scanned.push((entry.sequence, before));
        }
    }
    let read = read(session, target, &plan, first_scanned, &mut found).await?;
    if let Some(scan) = search.scan {
        let is_read = |index: usize| read == plan.wanted.len() || index < read;
        let reached: Vec<_> = scanned.iter().take_while(|(_, index)| is_read(*index)).collect();
        let cut_short = reached.len() < scanned.len();
        let to = reached.last().map_or(scan.after, |(sequence, _)| *sequence);
        let more = cut_short || !entries(session, PENDING, target, to, 1).await?.is_empty();
        found.scanned = Some(Scanned { to, more });
    }
    if let Some(limit) = search.census
        && !found.scanned.is_some_and(|scanned| scanned.more)
    {
        found.census = census(session, target, limit).await?;
    }
    Ok(found)
}

async fn retries(
    session: &mut Session,
    target: TargetId,
    plan: &mut Plan<'_>,
    found: &mut Found,
) -> Result<(), sqlx::Error> {
    let (now, limit) = (plan.search.now.0, plan.search.retries);
    let mut due = DueRetries::new(limit);
    loop {
        let oldest = entries(session, OLDEST_DUE, target, now, due.rows()).await?;
        let newest = entries(session, NEWEST_DUE, target, now, due.rows()).await?;
        if !due.choose((&oldest, &newest), |entry| Ok::<_, sqlx::Error>(plan.take(*entry)))? {
            break;
        }
    }
    found.more_retries = due.is_full();
    let not_due = session.rows(sqlx::query(NOT_DUE).bind(target.0).bind(now)).await?;
    if let Some(row) = not_due.first() {
        found.next_due = row.try_get::<Option<i64>, _>("next")?.map(UnixMillis);
        found.last_due = row.try_get::<Option<i64>, _>("last")?.map(UnixMillis);
    }
    Ok(())
}

async fn entries(
    session: &mut Session,
    query: &'static str,
    target: TargetId,
    from: i64,
    limit: usize,
) -> Result<Vec<Entry>, sqlx::Error> {
    let limit = i64::try_from(limit).unwrap_or(i64::MAX);
    let rows = session.rows(sqlx::query(query).bind(target.0).bind(from).bind(limit)).await?;
    let entry = |row: &PgRow| {
        let (sequence, lane, rank) = (row.try_get("sequence")?, row.try_get("lane")?, row.try_get("rank")?);
        Ok(Entry { sequence, lane, rank })
    };
    rows.iter().map(entry).collect()
}

async fn census(
    session: &mut Session,
    target: TargetId,
    limit: usize,
) -> Result<Option<Vec<(i64, LaneRank)>>, sqlx::Error> {
    let most = i64::try_from(limit).unwrap_or(i64::MAX).saturating_add(1);
    let rows = session.rows(sqlx::query(CENSUS).bind(target.0).bind(most)).await?;
    let lane = |row: &PgRow| Ok((row.try_get("lane")?, (row.try_get("rank")?, row.try_get("sequence")?)));
    let lanes = rows.iter().map(lane).collect::<Result<Vec<_>, sqlx::Error>>()?;
    Ok((lanes.len() <= limit).then_some(lanes))
}

/// Reads the plan up to the bound of the bodies. Entries before `scanned` are read in any case, at
/// least their beginning. Returns how many entries were read.
async fn read(
    session: &mut Session,
    target: TargetId,
    plan: &Plan<'_>,
    scanned: usize,
    found: &mut Found,
) -> Result<usize, sqlx::Error> {
    if plan.wanted.is_empty() {
        return Ok(0);
    }
    let mut lanes = lane_rows(session, target, plan).await?;
    let sizes = sizes(session, plan).await?;
    let (mut bytes, mut read, mut sequences) = (0, 0, Vec::new());
    let mut chosen = Vec::new();
    for (index, wanted) in plan.wanted.iter().enumerate() {
        if index >= scanned && bytes >= BODIES {
            break;
        }
        read = index + 1;
        match wanted {
            Wanted::Single(sequence) => {
                bytes += sizes.get(sequence).copied().unwrap_or(0);
                sequences.push(*sequence);
            }
            Wanted::Lane { lookup, limit } => {
                let rows = lanes.remove(&lookup.lane).unwrap_or_default();
                let (mut places, mut rest) = (Vec::new(), FoundRest::Nothing);
                for row in rows {
                    if !places.is_empty() && bytes >= BODIES {
                        rest = FoundRest::More;
                        break;
                    }
                    if !row.may_go {
                        rest = FoundRest::Blocked(row.place);
                        break;
                    }
                    bytes += row.size;
                    sequences.push(row.place.1);
                    places.push(row.place);
                }
                if places.len() == *limit {
                    rest = FoundRest::More;
                }
                chosen.push((*lookup, places, rest));
            }
        }
    }
    let mut jobs = jobs(session, target, &sequences).await?;
    for (Lookup { lane, after }, places, mut rest) in chosen {
        let mut rows = Vec::with_capacity(places.len());
        for place in places {
            // A delivery that cannot be read blocks those behind it, like one that has to wait.
            let Some(job) = jobs.remove(&place.1) else {
                rest = FoundRest::Blocked(place);
                break;
            };
            rows.push(job);
        }
        found.lanes.push(FoundLane { lane, after, rows, rest });
    }
    let singles = plan.wanted[..read].iter().filter_map(|wanted| match wanted {
        Wanted::Single(sequence) => jobs.remove(sequence),
        Wanted::Lane { .. } => None,
    });
    found.singles = singles.collect();
    Ok(read)
}

async fn lane_rows(
    session: &mut Session,
    target: TargetId,
    plan: &Plan<'_>,
) -> Result<HashMap<i64, Vec<LaneRow>>, sqlx::Error> {
    let lanes = plan.wanted.iter().filter_map(|wanted| match wanted {
        Wanted::Lane { lookup, limit } => Some((lookup.lane, lookup.after, *limit)),
        Wanted::Single(_) => None,
    });
    let lanes: Vec<_> = lanes.collect();
    if lanes.is_empty() {
        return Ok(HashMap::new());
    }
    let after = |after: &Option<LaneRank>| after.unwrap_or((i64::MIN, i64::MIN));
    let query = sqlx::query(LANES)
        .bind(target.0)
        .bind(lanes.iter().map(|(lane, ..)| *lane).collect::<Vec<_>>())
        .bind(lanes.iter().map(|(_, from, _)| after(from).0).collect::<Vec<_>>())
        .bind(lanes.iter().map(|(_, from, _)| after(from).1).collect::<Vec<_>>())
        .bind(lanes.iter().map(|(.., most)| i64::try_from(*most).unwrap_or(i64::MAX)).collect::<Vec<_>>());
    let mut rows: HashMap<i64, Vec<LaneRow>> = HashMap::new();
    for row in session.rows(query).await? {
        let number = usize::try_from(row.try_get::<i64, _>("n")?).unwrap_or(0).saturating_sub(1);
        let Some((lane, ..)) = lanes.get(number) else { continue };
        let place = (row.try_get("rank")?, row.try_get("sequence")?);
        let may_go = may_go(&row, plan.search.now)?;
        rows.entry(*lane).or_default().push(LaneRow { place, may_go, size: row.try_get("size")? });
    }
    Ok(rows)
}

/// Returns the sizes of the bodies of the deliveries without a lane.
async fn sizes(session: &mut Session, plan: &Plan<'_>) -> Result<HashMap<i64, i64>, sqlx::Error> {
    let singles = plan.wanted.iter().filter_map(|wanted| match wanted {
        Wanted::Single(sequence) => Some(*sequence),
        Wanted::Lane { .. } => None,
    });
    let singles: Vec<i64> = singles.collect();
    if singles.is_empty() {
        return Ok(HashMap::new());
    }
    let rows = session.rows(sqlx::query(SIZES).bind(&singles)).await?;
    rows.iter().map(|row| Ok((row.try_get("sequence")?, row.try_get("size")?))).collect()
}

async fn jobs(
    session: &mut Session,
    target: TargetId,
    sequences: &[i64],
) -> Result<HashMap<i64, Job>, sqlx::Error> {
    if sequences.is_empty() {
        return Ok(HashMap::new());
    }
    let rows = session.rows(sqlx::query(JOBS).bind(vec![target.0; sequences.len()]).bind(sequences)).await?;
    let jobs = rows.iter().map(job).collect::<Result<Vec<_>, sqlx::Error>>()?;
    Ok(jobs.into_iter().flatten().map(|job| (job.sequence, job)).collect())
}

/// Returns whether the delivery of `row` may be sent `now`. An attempt on the wire belongs to the
/// caller itself.
fn may_go(row: &PgRow, now: UnixMillis) -> Result<bool, sqlx::Error> {
    let due_at: Option<i64> = row.try_get("due_at")?;
    Ok(match row.try_get::<&str, _>("state")?.parse() {
        Ok(State::Pending | State::Sending) => true,
        Ok(State::Retrying) => due_at.is_none_or(|at| at <= now.0),
        _ => false,
    })
}

/// Returns the delivery of `row`, if its event can be read.
fn job(row: &PgRow) -> Result<Option<Job>, sqlx::Error> {
    let sequence = row.try_get("sequence")?;
    let Some(event) = received(sequence, row)? else { return Ok(None) };
    let number = |column| Ok(u32::try_from(row.try_get::<i64, _>(column)?).unwrap_or(u32::MAX));
    let number = |column| -> Result<u32, sqlx::Error> { number(column) };
    Ok(Some(Job {
        sequence,
        attempts: number("attempts")?,
        first_attempt_at: row.try_get::<Option<i64>, _>("first_attempt_at")?.map(UnixMillis),
        replays: number("replays")?,
        renewed: row.try_get("renewed")?,
        event: Arc::new(event),
        lane: row.try_get("lane")?,
        rank: row.try_get("rank")?,
    }))
}

/// Returns the event of `row`, if its body is stored and can be read.
pub(super) fn received(sequence: i64, row: &PgRow) -> Result<Option<Received>, sqlx::Error> {
    let event = EventRow {
        id: row.try_get("id")?,
        kind: row.try_get("type")?,
        object_id: row.try_get("object_id")?,
        created: row.try_get("created")?,
        source: row.try_get("source")?,
        origin: row.try_get("origin")?,
        environment: row.try_get("environment")?,
        received_at: row.try_get("received_at")?,
        body: row.try_get("body")?,
    };
    Ok(event.readable(sequence))
}
