//! Chooses the events that a list looks at: a scan down from the newest event, by the index that
//! leaves out the most.

use std::time::{Duration, Instant};

use super::query::{self, Named};
use super::rows::Row;
use super::{Extent, Reader};
use crate::domain::delivery::State;
use crate::domain::operator::Filter;
use crate::store::engine::ORDINARY_SKEW_MS;
use crate::store::error::ReadError;

/// The largest number of ids with one prefix that are looked up one by one. With more, all events
/// are scanned.
const FEW: i64 = 1000;

/// The largest number of rows that one call looks at. That takes some tens of milliseconds.
const BUDGET: i64 = 20_000;

/// The time after which a call looks at no more rows. Rows that are read from the disk take longer.
const LONG_ENOUGH: Duration = Duration::from_millis(500);

/// The cost of a search in a body, in rows. One call searches at most 2,000 bodies.
const BODY: i64 = 10;

/// The binary logarithm of the number of sequences in a block. The index of objects has a key of
/// blocks; see migration 0003.
const BLOCK_BITS: u32 = 9;

/// The number of blocks in one query.
const BLOCKS: i64 = 500;

/// The cost of a block in a query, in rows.
const BLOCK: i64 = 10;

/// A scan of the events, from the newest down, by sequence.
#[derive(Debug)]
pub(super) struct EventScan {
    path: AccessPath,
    extent: Extent,
    /// The lowest sequence to look at.
    lowest: i64,
    /// Every sequence from here on has been looked at.
    scanned_to: i64,
    /// The cost of the scan up to now, in rows.
    cost: i64,
    /// The cost of a row.
    weight: i64,
    began: Instant,
}

/// The way by which a scan finds events.
#[derive(Debug)]
enum AccessPath {
    /// These sequences, in descending order.
    Sequences(Vec<i64>),
    /// The index of objects and, for an order or an invoice, the index of the events that name it.
    Id { id: String, named: Option<Named> },
    /// The indexes of deliveries by state, for each of the targets.
    Deliveries { targets: Vec<i64>, states: Vec<State> },
    /// All events.
    All,
}

/// A range of blocks of the index of objects, and the range of the sequences in them that a query
/// still has to look at.
#[derive(Debug)]
struct Blocks {
    newest: i64,
    oldest: i64,
    lowest: i64,
    below: i64,
}

impl Reader {
    /// Returns a scan of the events below `below` that may pass `filter` and, unless `states` is
    /// empty, may have a delivery in one of `states`.
    pub(super) async fn scan(
        &self,
        filter: &Filter,
        states: &[State],
        below: Option<i64>,
    ) -> Result<EventScan, ReadError> {
        let extent = self.extent().await?;
        let mut scanned_to = below.unwrap_or(i64::MAX).min(extent.last.saturating_add(1));
        let mut lowest = 0;
        let skew = if filter.to.or(filter.from).is_some() { self.max_arrival_skew_ms().await? } else { 0 };
        if let Some(to) = filter.to {
            scanned_to = scanned_to.min(self.arrived_at(extent, to.0.saturating_add(skew)).await?);
        }
        if let Some(from) = filter.from {
            lowest = self.arrived_at(extent, from.0.saturating_sub(skew)).await?;
        }
        let path = self.access_path(filter, states).await?;
        let weight = if filter.text.is_some() { BODY } else { 1 };
        // Below the range without gaps, the order of sequences says nothing about the time of
        // arrival.
        let lowest = if lowest <= extent.first { 0 } else { lowest };
        Ok(EventScan { path, extent, lowest, scanned_to, cost: 0, weight, began: Instant::now() })
    }

    async fn access_path(&self, filter: &Filter, states: &[State]) -> Result<AccessPath, ReadError> {
        if let Some(prefix) = &filter.id_prefix
            && let Some(sequences) = self.few_with_prefix(prefix).await?
        {
            return Ok(AccessPath::Sequences(sequences));
        }
        let ids = [
            (&filter.object_id, None),
            (&filter.order_id, Some(Named::Order)),
            (&filter.invoice_id, Some(Named::Invoice)),
        ];
        for (id, named) in ids {
            if let Some(id) = id {
                return Ok(AccessPath::Id { id: id.clone(), named });
            }
        }
        if !states.is_empty() && states.iter().all(|state| by_state(*state).is_some()) {
            let targets = self.target_numbers(filter.target.as_deref()).await?;
            return Ok(AccessPath::Deliveries { targets, states: states.to_vec() });
        }
        Ok(AccessPath::All)
    }

    /// Returns the events whose ids begin with `prefix`; `None` if there are more than [`FEW`].
    async fn few_with_prefix(&self, prefix: &str) -> Result<Option<Vec<i64>>, ReadError> {
        // An id is visible ASCII, so every id with this prefix sorts before `end`.
        let end = format!("{prefix}\u{7f}");
        let rows = self.database.rows(BY_ID, [prefix.into(), (&*end).into(), (FEW + 1).into()]).await?;
        if i64::try_from(rows.len()).unwrap_or(i64::MAX) > FEW {
            return Ok(None);
        }
        let mut sequences = sequences(&rows)?;
        sequences.sort_unstable_by(|a, b| b.cmp(a));
        Ok(Some(sequences))
    }

    /// Returns the longest time, in milliseconds, by which an event arrived before one that was
    /// accepted earlier.
    async fn max_arrival_skew_ms(&self) -> Result<i64, ReadError> {
        let row = self.database.only_row(MAX_ARRIVAL_SKEW, []).await?;
        Ok(row.number("max_arrival_skew_ms")?.max(ORDINARY_SKEW_MS))
    }

    /// Returns a sequence that separates the events that arrived before `at` from those that
    /// arrived at `at` or later. Arrivals are in the order of sequences except for the
    /// [skew](Self::max_arrival_skew_ms): every event below the sequence arrived before `at` plus
    /// the skew, and every event from it on arrived at `at` minus the skew or later.
    async fn arrived_at(&self, extent: Extent, at: i64) -> Result<i64, ReadError> {
        let (mut low, mut high) = (extent.first, extent.last.saturating_add(1));
        while low < high {
            let middle = low + (high - low) / 2;
            let row = self.database.row(ARRIVAL, [middle.into()]).await?;
            // An event that has been removed meanwhile is older than all that are left.
            let arrived: i64 = row.map_or(Ok(i64::MIN), |row| row.number("received_at"))?;
            if arrived < at { low = middle + 1 } else { high = middle }
        }
        Ok(low)
    }
}

pub(super) const BY_ID: &str = "SELECT sequence FROM event WHERE id >= $1 AND id < $2 LIMIT $3";
const MAX_ARRIVAL_SKEW: &str = "SELECT most AS max_arrival_skew_ms FROM lateness";
pub(super) const ARRIVAL: &str = "SELECT received_at FROM event WHERE sequence = $1";
pub(super) const BY_SEQUENCE: &str = "SELECT sequence FROM event WHERE sequence >= $1 AND sequence < $2 \
                                      ORDER BY sequence DESC LIMIT $3";

/// Returns the query for the deliveries of a target in `state` by an index; `None` if there is no
/// such index. The query names the index, since SQLite might otherwise read all deliveries that the
/// target ever had.
pub(super) const fn by_state(state: State) -> Option<&'static str> {
    match state {
        State::Pending | State::Sending | State::Retrying | State::Held => Some(
            "SELECT sequence FROM delivery INDEXED BY delivery_open \
             WHERE target_id = $1 AND settled_at IS NULL AND state = $2 \
             AND sequence >= $3 AND sequence < $4 ORDER BY sequence DESC LIMIT $5",
        ),
        State::Dead => Some(
            "SELECT sequence FROM delivery INDEXED BY delivery_dead \
             WHERE target_id = $1 AND state = 'dead' AND state = $2 \
             AND sequence >= $3 AND sequence < $4 ORDER BY sequence DESC LIMIT $5",
        ),
        State::Closed | State::Cancelled => Some(
            "SELECT sequence FROM delivery INDEXED BY delivery_decided \
             WHERE target_id = $1 AND state IN ('closed', 'cancelled') \
             AND state = $2 AND sequence >= $3 AND sequence < $4 ORDER BY sequence DESC LIMIT $5",
        ),
        State::Delivered => None,
    }
}

impl EventScan {
    /// Returns the sequence from which on everything has been looked at.
    pub(super) const fn scanned_to(&self) -> i64 {
        self.scanned_to
    }

    /// Returns how many more rows the call may look at; 0 once it has taken too long.
    pub(super) fn budget(&self) -> i64 {
        // The first rows are always looked at, so that a call makes progress on a slow disk too.
        let over_budget = self.cost > 0 && self.began.elapsed() >= LONG_ENOUGH;
        if over_budget { 0 } else { (BUDGET - self.cost).max(0) / self.weight }
    }

    /// Returns the next events to look at, the newest first, at most `wanted`; `None` at the end.
    /// The result may be empty before the end.
    pub(super) async fn next(&mut self, reader: &Reader, wanted: i64) -> Result<Option<Vec<i64>>, ReadError> {
        let rows = match &self.path {
            AccessPath::Sequences(sequences) => {
                let left = sequences.iter().filter(|one| (self.lowest..self.scanned_to).contains(one));
                left.take(usize::try_from(wanted).unwrap_or(0)).copied().collect()
            }
            AccessPath::Id { id, named } if self.is_gapless() => {
                let blocks = self.blocks();
                let rows = reader.in_blocks(id, *named, &blocks, wanted).await?;
                self.cost += BLOCK * (blocks.newest - blocks.oldest + 1) + self.weight * count(&rows);
                // A full result means that these blocks may have more events.
                let last = rows.last().copied().filter(|_| count(&rows) == wanted);
                self.scanned_to = last.unwrap_or(blocks.lowest);
                return Ok(Some(rows));
            }
            AccessPath::Id { id, named } => {
                let values = [(&**id).into(), self.lowest.into(), self.scanned_to.into(), wanted.into()];
                sequences(&reader.database.rows(query::in_found_blocks(*named), values).await?)?
            }
            AccessPath::Deliveries { targets, states } => {
                let mut rows = Vec::new();
                let between = (self.lowest, self.scanned_to);
                for &target in targets {
                    for &state in states {
                        rows.extend(reader.in_state(target, state, between, wanted).await?);
                    }
                }
                rows.sort_unstable_by(|a, b| b.cmp(a));
                rows.dedup();
                rows.truncate(usize::try_from(wanted).unwrap_or(0));
                rows
            }
            // All sequences of this range exist, so no query is needed.
            AccessPath::All if self.is_gapless() => {
                let lowest = self.lowest.max(self.extent.first).max(self.scanned_to.saturating_sub(wanted));
                (lowest..self.scanned_to).rev().collect()
            }
            AccessPath::All => {
                let values = [self.lowest.into(), self.scanned_to.into(), wanted.into()];
                sequences(&reader.database.rows(BY_SEQUENCE, values).await?)?
            }
        };
        let Some(last) = rows.last() else { return Ok(None) };
        self.scanned_to = *last;
        self.cost += self.weight * count(&rows);
        Ok(Some(rows))
    }

    /// Returns whether the next events are in the range without gaps.
    fn is_gapless(&self) -> bool {
        self.scanned_to > self.lowest.max(self.extent.first)
    }

    /// Returns the next blocks.
    fn blocks(&self) -> Blocks {
        let floor = self.lowest.max(self.extent.first);
        let newest = (self.scanned_to - 1) >> BLOCK_BITS;
        let oldest = (newest - BLOCKS + 1).max(floor >> BLOCK_BITS);
        Blocks { newest, oldest, lowest: floor.max(oldest << BLOCK_BITS), below: self.scanned_to }
    }
}

impl Reader {
    /// Returns the newest `wanted` events in `blocks` that are about `id`, or with `named` also
    /// those that name it.
    async fn in_blocks(
        &self,
        id: &str,
        named: Option<Named>,
        blocks: &Blocks,
        wanted: i64,
    ) -> Result<Vec<i64>, ReadError> {
        let &Blocks { newest, oldest, lowest, below } = blocks;
        let values = [newest.into(), oldest.into(), id.into(), lowest.into(), below.into(), wanted.into()];
        sequences(&self.database.rows(query::in_blocks(named), values).await?)
    }

    /// Returns the newest `wanted` deliveries of `target` in `state` in a range of sequences.
    pub(super) async fn in_state(
        &self,
        target: i64,
        state: State,
        (lowest, below): (i64, i64),
        wanted: i64,
    ) -> Result<Vec<i64>, ReadError> {
        let Some(query) = by_state(state) else { return Ok(Vec::new()) };
        let values = [target.into(), state.as_str().into(), lowest.into(), below.into(), wanted.into()];
        sequences(&self.database.rows(query, values).await?)
    }
}

fn sequences(rows: &[Row]) -> Result<Vec<i64>, ReadError> {
    rows.iter().map(|row| Ok(row.number("sequence")?)).collect()
}

fn count(sequences: &[i64]) -> i64 {
    i64::try_from(sequences.len()).unwrap_or(i64::MAX)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_call_ends_after_a_time_and_a_number_of_rows_but_reads_at_least_one_piece() {
        let began = Instant::now().checked_sub(LONG_ENOUGH).unwrap();
        let extent = Extent { first: 1, last: 0 };
        let scan = |cost| EventScan {
            path: AccessPath::All,
            extent,
            lowest: 0,
            scanned_to: 1,
            cost,
            weight: 1,
            began,
        };
        assert_eq!(scan(0).budget(), BUDGET);
        assert_eq!(scan(1).budget(), 0);
    }
}
