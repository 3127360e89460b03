//! Moves the write-ahead log into the database.
//!
//! By itself, `SQLite` tries this with every commit that finds the log longer than a thousand
//! pages, before that commit returns. While a reader holds a state from before the log began,
//! nothing can be moved, but each try sorts the whole log. Here the log is moved after the callers
//! have their replies. A failed try is repeated only when the log has grown by a part of its
//! length.

use std::cell::Cell;
use std::time::Duration;

use rusqlite::Connection;

use crate::store::engine::sqlite::open::BUSY_TIMEOUT;

/// The number of pages from which a log is moved.
const PAGES: i32 = 1000;

/// A log that could not be moved is tried again when it has grown by one part in this many.
const PART: i32 = 4;

/// How long to wait for readers of an old state. No group is written meanwhile.
const PATIENCE: Duration = Duration::from_millis(100);

thread_local! {
    /// The pages in the log after the newest commit of this thread. `SQLite` reports them to a
    /// plain function, which has no state.
    static IN_LOG: Cell<i32> = const { Cell::new(0) };
}

/// When the log of a connection is moved next.
#[derive(Debug)]
pub(super) struct Checkpoints {
    /// The pages in the log when it was last looked at.
    seen: i32,
    /// The number of pages from which it is moved.
    due: i32,
}

impl Checkpoints {
    /// Takes checkpoints over from `SQLite`, for a connection that one thread uses.
    pub(super) fn of(connection: &Connection) -> Self {
        connection.wal_hook(Some(|_, pages| {
            IN_LOG.set(pages);
            Ok(())
        }));
        Self { seen: 0, due: PAGES }
    }

    /// Moves the log as far as no reader needs it, if it is due.
    pub(super) fn after_commit(&mut self, connection: &Connection) {
        let pages = IN_LOG.get();
        if pages < self.seen {
            // The log has restarted.
            self.due = PAGES;
        }
        self.seen = pages;
        if pages < self.due {
            return;
        }
        self.due = pages.saturating_add(PAGES.max(pages / PART));
        if let Err(error) = connection.query_row("PRAGMA wal_checkpoint(PASSIVE)", [], |_| Ok(())) {
            not_moved(&error);
        }
    }
}

/// Moves the log into the database as far as no reader needs it. Truncates the log if all of it was
/// moved.
pub(super) fn truncate(connection: &Connection) {
    let done = connection.busy_timeout(PATIENCE).and_then(|()| {
        connection.query_row("PRAGMA wal_checkpoint(TRUNCATE)", [], |row| row.get::<_, bool>(0))
    });
    match done {
        Ok(false) => {}
        Ok(true) => {
            tracing::info!("a reader holds an old state of the store: its write-ahead log is kept for now");
        }
        Err(error) => not_moved(&error),
    }
    if let Err(error) = connection.busy_timeout(BUSY_TIMEOUT) {
        tracing::warn!(%error, "the store's patience could not be set");
    }
}

fn not_moved(error: &rusqlite::Error) {
    tracing::warn!(%error, "the write-ahead log could not be moved into the database");
}

#[cfg(test)]
mod tests {
    use rusqlite::params;
    use tempfile::TempDir;

    use super::*;

    /// The pages that one commit writes, and some more for the tree that holds them.
    const COMMIT: i32 = 100;
    const ROOM: i32 = 10;

    struct Log {
        connection: Connection,
        checkpoints: Checkpoints,
        folder: TempDir,
    }

    impl Log {
        fn new() -> Self {
            let folder = TempDir::new().unwrap();
            let connection = Connection::open(folder.path().join("log.db")).unwrap();
            connection.pragma_update(None, "journal_mode", "WAL").unwrap();
            connection.execute_batch("CREATE TABLE a (body BLOB)").unwrap();
            let checkpoints = Checkpoints::of(&connection);
            Self { connection, checkpoints, folder }
        }

        /// Commits. Returns the pages of the log afterwards, and whether a checkpoint was tried.
        fn commit(&mut self) -> (i32, bool) {
            let fill = "INSERT INTO a VALUES (zeroblob(?1))";
            self.connection.execute(fill, params![COMMIT * 4096]).unwrap();
            let due = self.checkpoints.due;
            self.checkpoints.after_commit(&self.connection);
            (IN_LOG.get(), self.checkpoints.due > due)
        }

        /// Returns a connection that reads the present state until it is dropped.
        fn reader(&self) -> Connection {
            let reader = Connection::open(self.folder.path().join("log.db")).unwrap();
            reader.execute_batch("BEGIN; SELECT count(*) FROM a").unwrap();
            reader
        }
    }

    #[test]
    fn the_log_stays_short_without_a_reader_of_an_old_state() {
        let mut log = Log::new();
        let longest = (0..50).map(|_| log.commit().0).max();
        assert!(longest.is_some_and(|pages| (PAGES..PAGES + COMMIT + ROOM).contains(&pages)), "{longest:?}");
    }

    #[test]
    fn a_checkpoint_that_a_reader_prevents_is_tried_with_growing_pauses() {
        let mut log = Log::new();
        let reader = log.reader();
        let tries = (0..200).filter(|_| log.commit().1).count();
        assert!(IN_LOG.get() > 200 * COMMIT, "it has to stay");
        assert!((5..20).contains(&tries), "{tries} tries, of which each sorts the log");
        drop(reader);
        truncate(&log.connection);
        let longest = (0..50).map(|_| log.commit().0).max();
        assert!(longest.is_some_and(|pages| (PAGES..PAGES + COMMIT + ROOM).contains(&pages)), "{longest:?}");
    }
}
