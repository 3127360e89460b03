//! A writer that tells which statements it has run, for the tests.

use std::cell::RefCell;
use std::collections::BTreeSet;

use rusqlite::trace::{TraceEvent, TraceEventCodes};

use super::Writer;

thread_local! {
    /// What this thread's writer has run: SQLite takes a bare function, which has
    /// nowhere else to put it.
    static RUN: RefCell<BTreeSet<String>> = RefCell::default();
}

impl Writer {
    /// [Runs](Self::run), and answers every statement that it ran, once each and
    /// without the values bound to it.
    pub(in crate::store) fn run_watched(self) -> BTreeSet<String> {
        self.connection.trace_v2(TraceEventCodes::SQLITE_TRACE_STMT, Some(note));
        self.run();
        RUN.take()
    }
}

fn note(event: TraceEvent<'_>) {
    if let TraceEvent::Stmt(statement, _) = event {
        RUN.with_borrow_mut(|run| run.insert(statement.sql().into_owned()));
    }
}
