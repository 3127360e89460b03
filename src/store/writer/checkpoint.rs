//! Moving the write-ahead log into the database and cutting it off.

use std::time::Duration;

use rusqlite::Connection;

/// How long to wait for readers of an old state. Meanwhile nothing is written.
const PATIENCE: Duration = Duration::from_millis(100);

/// What a statement has otherwise.
pub(in crate::store) const BUSY_TIMEOUT: Duration = Duration::from_secs(5);

/// Moves the log into the database as far as nobody reads it, and cuts it off if
/// that was all of it.
pub(super) fn truncate(connection: &Connection) {
    let done = connection.busy_timeout(PATIENCE).and_then(|()| {
        connection.query_row("PRAGMA wal_checkpoint(TRUNCATE)", [], |row| row.get::<_, bool>(0))
    });
    match done {
        Ok(false) => {}
        Ok(true) => {
            tracing::info!("somebody reads an old state of the store: its write-ahead log is kept for now");
        }
        Err(error) => tracing::warn!(%error, "the write-ahead log could not be moved into the database"),
    }
    if let Err(error) = connection.busy_timeout(BUSY_TIMEOUT) {
        tracing::warn!(%error, "the store's patience could not be set");
    }
}
