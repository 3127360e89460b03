//! Which statements the connection that writes has run, for the tests.

use std::cell::RefCell;
use std::collections::BTreeSet;

use rusqlite::trace::{TraceEvent, TraceEventCodes};

use super::write::SqliteEngine;

thread_local! {
    /// What this thread has run: SQLite takes a bare function, which has
    /// nowhere else to put it.
    static RUN: RefCell<BTreeSet<String>> = RefCell::default();
}

impl SqliteEngine {
    /// Notes every statement that is run from here on, by the thread that runs it.
    pub(in crate::store) fn watch(&self) {
        self.connection.trace_v2(TraceEventCodes::SQLITE_TRACE_STMT, Some(note));
    }
}

/// Every statement that this thread has run while it was watched, once each and without
/// the values bound to it.
pub(in crate::store) fn run() -> BTreeSet<String> {
    RUN.take()
}

fn note(event: TraceEvent<'_>) {
    if let TraceEvent::Stmt(statement, _) = event {
        RUN.with_borrow_mut(|run| run.insert(statement.sql().into_owned()));
    }
}
