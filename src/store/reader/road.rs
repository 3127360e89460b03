//! Which events a question has to look at: a way down from the newest one that
//! leads past as few others as the indexes allow.

use std::time::{Duration, Instant};

use sqlx::Row as _;

use super::{Extent, Reader};
use crate::domain::clock::UnixMillis;
use crate::domain::delivery::State;
use crate::domain::operator::Filter;
use crate::store::error::ReadError;
use crate::store::writer::ORDINARY_MS;

/// Ids that begin alike are taken one by one up to this number; more of them are
/// met on the way anyhow.
const FEW: i64 = 1000;

/// Rows that one call looks at, at most: some tens of milliseconds.
const BUDGET: i64 = 20_000;

/// After this a call looks no further: rows that come from the disk take longer.
const LONG_ENOUGH: Duration = Duration::from_millis(500);

/// The index of objects goes by blocks of two to the power of this many events, as
/// its migration says.
const BLOCK_BITS: u32 = 9;

/// Blocks that are asked in one go.
const BLOCKS: i64 = 500;

/// What asking a block costs, in rows looked at.
const BLOCK: i64 = 10;

/// A way down through the events, by sequence.
#[derive(Debug)]
pub(super) struct Road {
    way: Way,
    extent: Extent,
    /// The lowest sequence to look at.
    lowest: i64,
    /// Everything from this one on has been looked at.
    passed: i64,
    /// What that has cost, in rows.
    looked_at: i64,
    began: Instant,
}

#[derive(Debug)]
enum Way {
    /// These, and no others.
    These(Vec<i64>),
    /// Those of one object.
    Object(String),
    /// Those with a delivery to one of the targets in one of the states.
    Deliveries { targets: Vec<i64>, states: Vec<State> },
    /// All.
    All,
}

/// Blocks of the index of objects, from one down to another, and the sequences in
/// them that are still to be looked at.
#[derive(Debug)]
struct Blocks {
    newest: i64,
    oldest: i64,
    lowest: i64,
    below: i64,
}

impl Reader {
    /// The way past everything below `below` that can pass `filter`, with a
    /// delivery in one of `states`, if there are any.
    pub(super) async fn road(
        &self,
        filter: &Filter,
        states: &[State],
        below: Option<i64>,
    ) -> Result<Road, ReadError> {
        let extent = self.extent().await?;
        let mut passed = below.unwrap_or(i64::MAX).min(extent.last.saturating_add(1));
        let mut lowest = 0;
        let late = if filter.to.or(filter.from).is_some() { self.lateness().await? } else { 0 };
        if let Some(to) = filter.to {
            passed = passed.min(self.arrived_at(extent, to.0.saturating_add(late)).await?);
        }
        if let Some(from) = filter.from {
            lowest = self.arrived_at(extent, from.0.saturating_sub(late)).await?;
        }
        let way = self.way(filter, states).await?;
        // Of those below the gapless part nothing is known but what they say themselves.
        let lowest = if lowest <= extent.first { 0 } else { lowest };
        Ok(Road { way, extent, lowest, passed, looked_at: 0, began: Instant::now() })
    }

    async fn way(&self, filter: &Filter, states: &[State]) -> Result<Way, ReadError> {
        if let Some(prefix) = &filter.id_prefix
            && let Some(these) = self.few_that_begin(prefix).await?
        {
            return Ok(Way::These(these));
        }
        if let Some(object) = &filter.object_id {
            return Ok(Way::Object(object.clone()));
        }
        if !states.is_empty() && states.iter().all(|state| open_to(*state).is_some()) {
            let targets = self.target_numbers(filter.target.as_deref()).await?;
            return Ok(Way::Deliveries { targets, states: states.to_vec() });
        }
        Ok(Way::All)
    }

    /// The numbers of all targets, or of `name`.
    pub(super) async fn target_numbers(&self, name: Option<&str>) -> Result<Vec<i64>, ReadError> {
        let query = "SELECT id FROM target WHERE ?1 IS NULL OR name = ?1";
        let rows = sqlx::query(query).bind(name).fetch_all(&self.pool).await?;
        rows.iter().map(|row| Ok(row.try_get(0)?)).collect()
    }

    async fn few_that_begin(&self, prefix: &str) -> Result<Option<Vec<i64>>, ReadError> {
        // Ids are visible ASCII, so everything that begins so lies below this.
        let end = format!("{prefix}\u{7f}");
        let rows = sqlx::query(BY_ID).bind(prefix).bind(end).bind(FEW + 1).fetch_all(&self.pool).await?;
        if i64::try_from(rows.len()).unwrap_or(i64::MAX) > FEW {
            return Ok(None);
        }
        let mut these = rows.iter().map(|row| row.try_get(0)).collect::<Result<Vec<i64>, _>>()?;
        these.sort_unstable_by(|a, b| b.cmp(a));
        Ok(Some(these))
    }

    /// The most, in milliseconds, by which an event has arrived before one that was
    /// accepted earlier.
    async fn lateness(&self) -> Result<i64, ReadError> {
        let row = sqlx::query(LATENESS).fetch_one(&self.pool).await?;
        Ok(row.try_get::<i64, _>(0)?.max(ORDINARY_MS))
    }

    /// A sequence of the gapless part between what arrived before `at` and what
    /// arrived then or later. Arrivals being in the order of sequences but for the
    /// [lateness](Self::lateness), nothing below it arrived at `at` plus that or
    /// later, and nothing from it on before `at` minus that.
    async fn arrived_at(&self, extent: Extent, at: i64) -> Result<i64, ReadError> {
        let (mut low, mut high) = (extent.first, extent.last.saturating_add(1));
        while low < high {
            let middle = low + (high - low) / 2;
            let row = sqlx::query(ARRIVAL).bind(middle).fetch_optional(&self.pool).await?;
            // One that has been removed since is older than all that are left.
            let arrived: i64 = row.map_or(Ok(UnixMillis(i64::MIN).0), |row| row.try_get(0))?;
            if arrived < at { low = middle + 1 } else { high = middle }
        }
        Ok(low)
    }
}

pub(super) const BY_ID: &str = "SELECT sequence FROM event WHERE id >= ?1 AND id < ?2 LIMIT ?3";
const LATENESS: &str = "SELECT most FROM lateness";
pub(super) const ARRIVAL: &str = "SELECT received_at FROM event WHERE sequence = ?1";
/// Asks the blocks from one down to another, one by one.
pub(super) const IN_BLOCKS: &str = "WITH RECURSIVE block (number) AS ( \
       VALUES (?1) UNION ALL SELECT number - 1 FROM block WHERE number > ?2) \
     SELECT e.sequence FROM block CROSS JOIN event e ON e.sequence >> 9 = block.number AND e.object_id = ?3 \
     WHERE e.sequence >= ?4 AND e.sequence < ?5 ORDER BY e.sequence DESC LIMIT ?6";
/// The same from the newest block that holds anything, where not every block does.
pub(super) const BY_OBJECT: &str = "WITH RECURSIVE block (number) AS ( \
       SELECT max(sequence) >> 9 FROM event WHERE sequence < ?3 \
       UNION ALL SELECT (SELECT max(sequence) >> 9 FROM event WHERE sequence < number << 9) \
       FROM block WHERE number << 9 > ?2) \
     SELECT e.sequence FROM block CROSS JOIN event e ON e.sequence >> 9 = block.number AND e.object_id = ?1 \
     WHERE e.sequence >= ?2 AND e.sequence < ?3 ORDER BY e.sequence DESC LIMIT ?4";
pub(super) const BY_SEQUENCE: &str = "SELECT sequence FROM event WHERE sequence >= ?1 AND sequence < ?2 \
                                      ORDER BY sequence DESC LIMIT ?3";

/// What finds the deliveries of a target in `state` by an index; `None` if none does.
/// Each is named, else SQLite may go through all that the target ever had.
pub(super) const fn open_to(state: State) -> Option<&'static str> {
    match state {
        State::Pending | State::Sending | State::Retrying | State::Held => Some(
            "SELECT sequence FROM delivery INDEXED BY delivery_open \
             WHERE target_id = ?1 AND settled_at IS NULL AND state = ?2 \
             AND sequence >= ?3 AND sequence < ?4 ORDER BY sequence DESC LIMIT ?5",
        ),
        State::Dead => Some(
            "SELECT sequence FROM delivery INDEXED BY delivery_dead \
             WHERE target_id = ?1 AND state = 'dead' AND state = ?2 \
             AND sequence >= ?3 AND sequence < ?4 ORDER BY sequence DESC LIMIT ?5",
        ),
        State::Closed | State::Cancelled => Some(
            "SELECT sequence FROM delivery INDEXED BY delivery_decided \
             WHERE target_id = ?1 AND state IN ('closed', 'cancelled') \
             AND state = ?2 AND sequence >= ?3 AND sequence < ?4 ORDER BY sequence DESC LIMIT ?5",
        ),
        State::Delivered => None,
    }
}

impl Road {
    /// Where the way has got to: everything from there on has been looked at.
    pub(super) const fn passed(&self) -> i64 {
        self.passed
    }

    /// How many more rows one call may look at; none once it has taken long enough.
    pub(super) fn budget(&self) -> i64 {
        // Something always, or else nobody would get any further on a slow disk.
        let is_tired = self.looked_at > 0 && self.began.elapsed() >= LONG_ENOUGH;
        if is_tired { 0 } else { (BUDGET - self.looked_at).max(0) }
    }

    /// The next events on the way, newest first, `wanted` at most; `None` at its end.
    /// There can be none though the way goes on.
    pub(super) async fn next(&mut self, reader: &Reader, wanted: i64) -> Result<Option<Vec<i64>>, ReadError> {
        let met = match &self.way {
            Way::These(these) => {
                let on_the_way = these.iter().filter(|one| (self.lowest..self.passed).contains(one));
                on_the_way.take(usize::try_from(wanted).unwrap_or(0)).copied().collect()
            }
            Way::Object(object) if self.is_gapless() => {
                let blocks = self.blocks();
                let met = reader.in_blocks(object, &blocks, wanted).await?;
                self.looked_at += BLOCK * (blocks.newest - blocks.oldest + 1) + count(&met);
                // As many as were wanted: these blocks may hold more.
                self.passed = met.last().copied().filter(|_| count(&met) == wanted).unwrap_or(blocks.lowest);
                return Ok(Some(met));
            }
            Way::Object(object) => {
                let query = sqlx::query(BY_OBJECT).bind(object).bind(self.lowest).bind(self.passed);
                numbers(&query.bind(wanted).fetch_all(&reader.pool).await?)?
            }
            Way::Deliveries { targets, states } => {
                let mut met = Vec::new();
                let between = (self.lowest, self.passed);
                for &target in targets {
                    for &state in states {
                        met.extend(reader.in_state(target, state, between, wanted).await?);
                    }
                }
                met.sort_unstable_by(|a, b| b.cmp(a));
                met.dedup();
                met.truncate(usize::try_from(wanted).unwrap_or(0));
                met
            }
            // What comes next needs no asking.
            Way::All if self.is_gapless() => {
                let lowest = self.lowest.max(self.extent.first).max(self.passed.saturating_sub(wanted));
                (lowest..self.passed).rev().collect()
            }
            Way::All => {
                let query = sqlx::query(BY_SEQUENCE).bind(self.lowest).bind(self.passed).bind(wanted);
                numbers(&query.fetch_all(&reader.pool).await?)?
            }
        };
        let Some(last) = met.last() else { return Ok(None) };
        self.passed = *last;
        self.looked_at += count(&met);
        Ok(Some(met))
    }

    /// Whether what comes next is of the part that has no gaps.
    fn is_gapless(&self) -> bool {
        self.passed > self.lowest.max(self.extent.first)
    }

    /// The next blocks.
    fn blocks(&self) -> Blocks {
        let floor = self.lowest.max(self.extent.first);
        let newest = (self.passed - 1) >> BLOCK_BITS;
        let oldest = (newest - BLOCKS + 1).max(floor >> BLOCK_BITS);
        Blocks { newest, oldest, lowest: floor.max(oldest << BLOCK_BITS), below: self.passed }
    }
}

impl Reader {
    /// The newest `wanted` events of `object` in `blocks`.
    async fn in_blocks(&self, object: &str, blocks: &Blocks, wanted: i64) -> Result<Vec<i64>, ReadError> {
        let query = sqlx::query(IN_BLOCKS).bind(blocks.newest).bind(blocks.oldest).bind(object);
        let query = query.bind(blocks.lowest).bind(blocks.below).bind(wanted);
        numbers(&query.fetch_all(&self.pool).await?)
    }

    /// The newest `wanted` deliveries of `target` in `state` between two sequences.
    pub(super) async fn in_state(
        &self,
        target: i64,
        state: State,
        (lowest, below): (i64, i64),
        wanted: i64,
    ) -> Result<Vec<i64>, ReadError> {
        let Some(query) = open_to(state) else { return Ok(Vec::new()) };
        let query = sqlx::query(query).bind(target).bind(state.as_str()).bind(lowest).bind(below);
        numbers(&query.bind(wanted).fetch_all(&self.pool).await?)
    }
}

fn numbers(rows: &[sqlx::sqlite::SqliteRow]) -> Result<Vec<i64>, ReadError> {
    rows.iter().map(|row| Ok(row.try_get(0)?)).collect()
}

fn count(met: &[i64]) -> i64 {
    i64::try_from(met.len()).unwrap_or(i64::MAX)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_call_that_has_taken_long_looks_no_further_but_always_at_something() {
        let began = Instant::now().checked_sub(LONG_ENOUGH).unwrap();
        let extent = Extent { first: 1, last: 0 };
        let road = |looked_at| Road { way: Way::All, extent, lowest: 0, passed: 1, looked_at, began };
        assert_eq!(road(0).budget(), BUDGET);
        assert_eq!(road(1).budget(), 0);
    }
}
