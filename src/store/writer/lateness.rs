//! How far events are out of the order in which they arrived.
//!
//! They are numbered as they are accepted. Frames that a stream holds back while
//! Pepay's list fails are accepted long after they arrived, and a clock that is set
//! back makes late what is not. Whoever looks for a time among the sequences has to
//! know how far around it to look, so the writer keeps the most there has been.
//!
//! It is kept as `user_version` of the database, in seconds: a number in the header
//! that is part of the transaction and needs no table (SQLite file format, section
//! 1.3.12). It is touched only by an event that is later than is ordinary.

use std::cell::Cell;

use rusqlite::Connection;

use super::record::Written;
use crate::domain::clock::UnixMillis;
use crate::store::inbox::{Batch, Recorded};

/// Up to this much, in milliseconds, is never noted and always reckoned with.
pub(in crate::store) const ORDINARY_MS: i64 = 5 * 60 * 1000;

/// The newest arrival is among the events accepted last: far more than a stream holds back.
const NEWEST: &str = "SELECT coalesce(max(received_at), 0) FROM (SELECT received_at FROM event ORDER BY sequence DESC LIMIT 20000)";

/// What is known of it by the writer.
#[derive(Debug)]
pub(super) struct Lateness {
    /// The newest arrival so far. One that was noted and not committed does no harm.
    newest: Cell<i64>,
}

impl Lateness {
    pub(super) fn read(connection: &Connection) -> rusqlite::Result<Self> {
        connection.query_row(NEWEST, [], |row| row.get(0)).map(|newest| Self { newest: Cell::new(newest) })
    }

    /// What is new of `batch` is accepted, in the open transaction; passes on what was `written`.
    pub(super) fn note(
        &self,
        connection: &Connection,
        batch: &Batch,
        written: Vec<Written>,
    ) -> rusqlite::Result<Vec<Written>> {
        let new = batch.events.iter().zip(&written).filter(|(_, one)| one.recorded == Recorded::New);
        new.map(|(event, _)| event.received_at)
            .try_for_each(|arrived| self.note_one(connection, arrived))
            .map(|()| written)
    }

    fn note_one(&self, connection: &Connection, arrived: UnixMillis) -> rusqlite::Result<()> {
        let newest = self.newest.get().max(arrived.0);
        self.newest.set(newest);
        let late = newest.saturating_sub(arrived.0);
        if late <= ORDINARY_MS {
            return Ok(());
        }
        let known: i64 = connection.pragma_query_value(None, "user_version", |row| row.get(0))?;
        if late <= known.saturating_mul(1000) {
            return Ok(());
        }
        // In whole minutes: a burst that comes later and later does not change it every time.
        let minutes = late / 60_000 + 1;
        let seconds = i32::try_from(minutes.saturating_mul(60)).unwrap_or(i32::MAX);
        connection.pragma_update(None, "user_version", seconds)
    }
}
