//! Which events a list looks at: a scan down from the newest one, by the index that
//! leaves out the most.

use std::time::{Duration, Instant};

use super::query::{self, Named};
use super::rows::Row;
use super::{Extent, Reader};
use crate::domain::delivery::State;
use crate::domain::operator::Filter;
use crate::store::engine::ORDINARY_SKEW_MS;
use crate::store::error::ReadError;

/// Up to this many ids with the same prefix are looked up one by one; with more of
/// them, all events are scanned.
const FEW: i64 = 1000;

/// Rows that one call looks at, at most: some tens of milliseconds.
const BUDGET: i64 = 20_000;

/// After this a call looks at no more rows: those that come from the disk take longer.
const LONG_ENOUGH: Duration = Duration::from_millis(500);

/// The cost of looking for a text in a body, in rows looked at: 2,000 bodies are searched
/// by one call at most.
const BODY: i64 = 10;

/// The index of objects has a key of blocks of two to the power of this many events,
/// as migration 0003 says.
const BLOCK_BITS: u32 = 9;

/// Blocks that are asked in one query.
const BLOCKS: i64 = 500;

/// The cost of asking a block, in rows looked at.
const BLOCK: i64 = 10;

/// A scan of the events, from the newest down, by sequence.
#[derive(Debug)]
pub(super) struct EventScan {
    path: AccessPath,
    extent: Extent,
    /// The lowest sequence to look at.
    lowest: i64,
    /// Every sequence from this one on has been looked at.
    scanned_to: i64,
    /// The cost of that, in rows.
    cost: i64,
    /// The cost of a row that is looked at.
    weight: i64,
    began: Instant,
}

/// What finds the events to look at.
#[derive(Debug)]
enum AccessPath {
    /// These sequences, from the newest down.
    Sequences(Vec<i64>),
    /// The index of objects and, for an order or an invoice, that of the events that
    /// name it.
    Id { id: String, named: Option<Named> },
    /// The indexes of deliveries, for each of the targets and each of the states.
    Deliveries { targets: Vec<i64>, states: Vec<State> },
    /// All events.
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
    /// A scan of everything below `below` that can pass `filter` and, where there are
    /// `states`, can have a delivery in one of them.
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
        // Below the part without gaps, sequences say nothing of the time of arrival.
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

    /// The events whose ids begin with `prefix`, unless there are more than [`FEW`].
    async fn few_with_prefix(&self, prefix: &str) -> Result<Option<Vec<i64>>, ReadError> {
        // Ids are visible ASCII, so every id with this prefix is less than this.
        let end = format!("{prefix}\u{7f}");
        let rows = self.database.rows(BY_ID, [prefix.into(), (&*end).into(), (FEW + 1).into()]).await?;
        if i64::try_from(rows.len()).unwrap_or(i64::MAX) > FEW {
            return Ok(None);
        }
        let mut sequences = sequences(&rows)?;
        sequences.sort_unstable_by(|a, b| b.cmp(a));
        Ok(Some(sequences))
    }

    /// The most, in milliseconds, by which an event has arrived before one that was
    /// accepted earlier.
    async fn max_arrival_skew_ms(&self) -> Result<i64, ReadError> {
        let row = self.database.only_row(MAX_ARRIVAL_SKEW, []).await?;
        Ok(row.number("max_arrival_skew_ms")?.max(ORDINARY_SKEW_MS))
    }

    /// A sequence of the part without gaps between what arrived before `at` and what
    /// arrived then or later. Arrivals are in the order of sequences but for the
    /// [skew](Self::max_arrival_skew_ms): no event below it arrived at `at` plus that or
    /// later, and none from it on before `at` minus that.
    async fn arrived_at(&self, extent: Extent, at: i64) -> Result<i64, ReadError> {
        let (mut low, mut high) = (extent.first, extent.last.saturating_add(1));
        while low < high {
            let middle = low + (high - low) / 2;
            let row = self.database.row(ARRIVAL, [middle.into()]).await?;
            // One that has been removed since is older than all that are left.
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

/// What finds the deliveries of a target in `state` by an index; `None` if none does.
/// The index is named, else SQLite may go through all that the target ever had.
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
    /// Every sequence from this one on has been looked at.
    pub(super) const fn scanned_to(&self) -> i64 {
        self.scanned_to
    }

    /// How many more rows one call may look at; none once it has taken long enough.
    pub(super) fn budget(&self) -> i64 {
        // The first rows are always looked at, so that a slow disk does not end every
        // call where it began.
        let over_budget = self.cost > 0 && self.began.elapsed() >= LONG_ENOUGH;
        if over_budget { 0 } else { (BUDGET - self.cost).max(0) / self.weight }
    }

    /// The next events to look at, newest first, `wanted` at most; `None` at the end.
    /// May be empty before the end.
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
                // With as many as were wanted, these blocks may hold more.
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
            // The sequences are known without a query.
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

    /// Whether the next events are of the part without gaps.
    fn is_gapless(&self) -> bool {
        self.scanned_to > self.lowest.max(self.extent.first)
    }

    /// The next blocks.
    fn blocks(&self) -> Blocks {
        let floor = self.lowest.max(self.extent.first);
        let newest = (self.scanned_to - 1) >> BLOCK_BITS;
        let oldest = (newest - BLOCKS + 1).max(floor >> BLOCK_BITS);
        Blocks { newest, oldest, lowest: floor.max(oldest << BLOCK_BITS), below: self.scanned_to }
    }
}

impl Reader {
    /// The newest `wanted` events in `blocks` that are about `id`, or name it so.
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

    /// The newest `wanted` deliveries of `target` in `state` between two sequences.
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
    fn a_call_that_has_taken_long_looks_at_no_more_rows_but_always_at_some() {
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
