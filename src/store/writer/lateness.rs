//! How far events are out of the order in which they arrived.
//!
//! They are numbered as they are accepted. Frames that a stream holds back while
//! Pepay's list fails are accepted long after they arrived, and a clock that is set
//! back makes late what is not. Whoever looks for a time among the sequences has to
//! know how far around it to look, so the writer keeps the most there has been.
//!
//! It costs a comparison but for an event that is later than is ordinary.

use std::cell::Cell;

use rusqlite::{Connection, OptionalExtension as _};

use super::record::Written;
use crate::domain::clock::UnixMillis;
use crate::store::types::{Batch, Recorded};

/// Up to this much, in milliseconds, is never noted and always reckoned with.
pub(in crate::store) const ORDINARY_MS: i64 = 5 * 60 * 1000;

const NEWEST: &str = "SELECT received_at FROM event ORDER BY sequence DESC LIMIT 1";

/// What is known of it by the writer.
#[derive(Debug)]
pub(super) struct Lateness {
    /// No event accepted so far has arrived later. One that was not committed does no harm.
    newest: Cell<UnixMillis>,
}

impl Lateness {
    pub(super) fn read(connection: &Connection) -> rusqlite::Result<Self> {
        let newest = connection.query_row(NEWEST, [], |row| row.get(0)).optional()?;
        Ok(Self { newest: Cell::new(UnixMillis(newest.unwrap_or(i64::MIN))) })
    }

    /// What is new of `batch` is accepted `now`, in the open transaction; passes on
    /// what was `written`.
    pub(super) fn note(
        &self,
        connection: &Connection,
        batch: &Batch,
        written: Vec<Written>,
        now: UnixMillis,
    ) -> rusqlite::Result<Vec<Written>> {
        // What was accepted before arrived before, unless the clock was set back.
        self.newest.set(self.newest.get().max(now));
        for (event, one) in batch.events.iter().zip(&written) {
            if one.recorded == Recorded::New {
                self.note_one(connection, event.received_at)?;
            }
        }
        Ok(written)
    }

    fn note_one(&self, connection: &Connection, arrived: UnixMillis) -> rusqlite::Result<()> {
        self.newest.set(self.newest.get().max(arrived));
        let late = self.newest.get().0.saturating_sub(arrived.0);
        if late <= ORDINARY_MS {
            return Ok(());
        }
        // In whole minutes: a burst that comes later and later does not change it every time.
        let minutes = late / 60_000 + 1;
        let mut update = connection.prepare_cached("UPDATE lateness SET most = ?1 WHERE most < ?1")?;
        update.execute([minutes.saturating_mul(60_000)]).map(drop)
    }
}
