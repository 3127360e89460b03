//! How many deliveries each target has before it. Counted once, when the store is
//! opened, and kept up with every change from there on: counting a million for
//! each look would take some tenths of a second.

use std::cell::RefCell;
use std::sync::Arc;

use rusqlite::Connection;

use crate::domain::delivery::State;
use crate::store::counts::{Counters, Unfinished};
use crate::store::types::TargetId;

/// What the transaction under way changes about that.
#[derive(Debug)]
pub(super) struct Census {
    counters: Arc<Counters>,
    changes: RefCell<Vec<(TargetId, Unfinished)>>,
}

impl Census {
    /// Counts everything.
    pub(super) fn take(connection: &Connection, counters: Arc<Counters>) -> rusqlite::Result<Self> {
        let census = Self { counters, changes: RefCell::default() };
        let mut select = connection.prepare(COUNTS)?;
        let mut rows = select.query([])?;
        while let Some(row) = rows.next()? {
            let (target, state, count) = (TargetId(row.get(0)?), row.get::<_, String>(1)?, row.get(2)?);
            // What this version does not know is none of the three.
            if let Ok(state) = state.parse() {
                census.change(target, state, count);
            }
        }
        census.commit();
        Ok(census)
    }

    /// A delivery to `target` has come from one state, if it was there, to another.
    pub(super) fn step(&self, target: TargetId, from: Option<State>, to: State) {
        if let Some(from) = from {
            self.change(target, from, -1);
        }
        self.change(target, to, 1);
    }

    /// There are so many more deliveries to `target` in `state`.
    pub(super) fn change(&self, target: TargetId, state: State, by: i64) {
        let mut changes = self.changes.borrow_mut();
        let index = changes.iter().position(|(known, _)| *known == target).unwrap_or_else(|| {
            changes.push((target, Unfinished::default()));
            changes.len() - 1
        });
        changes[index].1.change(state, by);
    }

    /// The transaction has committed.
    pub(super) fn commit(&self) {
        let mut changes = self.changes.borrow_mut();
        if !changes.is_empty() {
            self.counters.change_unfinished(&changes);
            changes.clear();
        }
    }

    /// The transaction was rolled back.
    pub(super) fn roll_back(&self) {
        self.changes.borrow_mut().clear();
    }
}

const COUNTS: &str = "SELECT target_id, state, count(*) FROM delivery WHERE settled_at IS NULL \
                      GROUP BY target_id, state \
                      UNION ALL SELECT target_id, 'dead', count(*) FROM delivery WHERE state = 'dead' \
                      GROUP BY target_id";
