//! Which events a question has to look at: a way down from the newest one that
//! leads past as few others as the indexes allow.

use sqlx::Row as _;

use super::{Extent, Reader};
use crate::domain::clock::UnixMillis;
use crate::domain::delivery::State;
use crate::domain::operator::Filter;
use crate::store::inbox::ReadError;
use crate::store::writer::ORDINARY_MS;

/// Ids that begin alike are taken one by one up to this number; more of them are
/// met on the way anyhow.
const FEW: i64 = 1000;

/// A way down through the events, by sequence.
#[derive(Debug)]
pub(super) struct Road {
    way: Way,
    extent: Extent,
    /// The lowest sequence to look at.
    lowest: i64,
    /// Everything from this one on has been looked at.
    passed: i64,
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
        Ok(Road { way, extent, lowest, passed })
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
/// Asks the blocks of the index one by one, from the newest that holds anything.
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

    /// The next `wanted` events on the way, newest first; none at its end.
    pub(super) async fn next(&mut self, reader: &Reader, wanted: i64) -> Result<Vec<i64>, ReadError> {
        let met = match &self.way {
            Way::These(these) => {
                let on_the_way = these.iter().filter(|one| (self.lowest..self.passed).contains(one));
                on_the_way.take(usize::try_from(wanted).unwrap_or(0)).copied().collect()
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
            // Without gaps, what comes next needs no asking.
            Way::All if self.passed > self.extent.first => {
                let lowest = self.lowest.max(self.extent.first).max(self.passed.saturating_sub(wanted));
                (lowest..self.passed).rev().collect()
            }
            Way::All => {
                let query = sqlx::query(BY_SEQUENCE).bind(self.lowest).bind(self.passed).bind(wanted);
                numbers(&query.fetch_all(&reader.pool).await?)?
            }
        };
        if let Some(last) = met.last() {
            self.passed = *last;
        }
        Ok(met)
    }
}

impl Reader {
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
