//! Notes the statements that the writing connection runs, for tests.

use std::cell::RefCell;
use std::collections::BTreeSet;

use rusqlite::trace::{TraceEvent, TraceEventCodes};

use super::write::SqliteEngine;

thread_local! {
    /// The statements that this thread has run. SQLite takes a plain function, which has no state.
    static RUN: RefCell<BTreeSet<String>> = RefCell::default();
}

impl SqliteEngine {
    /// Notes every statement from here on, for the thread that runs it.
    pub(in crate::store) fn watch(&self) {
        self.connection.trace_v2(TraceEventCodes::SQLITE_TRACE_STMT, Some(note));
    }
}

/// Returns every statement that this thread has run while it was watched, once and without bound
/// values.
pub(in crate::store) fn run() -> BTreeSet<String> {
    RUN.take()
}

fn note(event: TraceEvent<'_>) {
    if let TraceEvent::Stmt(statement, _) = event {
        RUN.with_borrow_mut(|run| run.insert(statement.sql().into_owned()));
    }
}
