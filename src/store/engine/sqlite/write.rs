//! The connection that writes.

use std::path::Path;
use std::sync::Arc;

use rusqlite::{Connection, ErrorCode, params};

use super::append::{Append, ArrivalSkew};
use super::checkpoint::{self, Checkpoints};
use super::file::Lock;
use super::open;
use super::retain::Positions;
use super::{act, audit, identity, retain, search, settle};
use crate::domain::audit::Entry;
use crate::domain::clock::UnixMillis;
use crate::domain::delivery::OnUncertain;
use crate::domain::event::EventId;
use crate::store::cluster::LogPage;
use crate::store::counts::Backlog;
use crate::store::engine::{
    Authority, COUNTS, Engine, EngineError, GroupContext, GroupKind, Retained, RetentionStep, not_claimable,
};
use crate::store::error::{ActError, OpenError};
use crate::store::identity::SourceIdentity;
use crate::store::settings::Durability;
use crate::store::types::{
    Act, Acted, Appended, AttemptStarted, Batch, Found, InterruptedAttempt, Key, Search, Settlement,
    TargetId, Term,
};
use crate::store::view::RetryAfter;

/// A database file to which only this process writes.
#[derive(Debug)]
pub(in crate::store) struct SqliteEngine {
    pub(super) connection: Connection,
    /// The sequence of the newest committed event.
    newest: i64,
    /// The sequence of the newest event, with those of the open group.
    appended: i64,
    retained: Positions,
    skew: ArrivalSkew,
    checkpoints: Checkpoints,
    /// The last field, so that the database is closed before another process may open it.
    _lock: Lock,
}

impl SqliteEngine {
    /// Opens the database at `path`, which has been created and migrated.
    pub(in crate::store) fn open(path: &Path, durability: Durability, lock: Lock) -> Result<Self, OpenError> {
        let connection = open::open_writer(path, durability)?;
        let read = || -> rusqlite::Result<_> {
            let newest = "SELECT coalesce(max(sequence), 0) FROM event";
            let newest: i64 = connection.query_row(newest, [], |row| row.get(0))?;
            let retained = Positions::read(&connection)?;
            // The sequences of removed events are not used again, even if all events have been
            // removed.
            Ok((newest.max(retained.events_through), retained, ArrivalSkew::read(&connection)?))
        };
        let (newest, retained, skew) = read().map_err(|error| open::database(path, &error))?;
        let checkpoints = Checkpoints::of(&connection);
        Ok(Self { connection, newest, appended: newest, retained, skew, checkpoints, _lock: lock })
    }

    fn execute(&self, statement: &str) -> Result<(), EngineError> {
        Ok(self.connection.prepare_cached(statement)?.execute([]).map(drop)?)
    }
}

impl Engine for SqliteEngine {
    fn begin(&mut self, _: GroupKind) -> Result<(), EngineError> {
        self.roll_back()?;
        self.execute("BEGIN IMMEDIATE")
    }

    fn commit(&mut self) -> Result<(), EngineError> {
        self.execute("COMMIT")?;
        self.newest = self.appended;
        Ok(())
    }

    fn roll_back(&mut self) -> Result<(), EngineError> {
        self.appended = self.newest;
        // SQLite may have rolled back itself, as it does when the disk is full.
        if self.connection.is_autocommit() { Ok(()) } else { self.execute("ROLLBACK") }
    }

    fn tidy(&mut self) {
        self.checkpoints.after_commit(&self.connection);
    }

    fn checkpoint(&mut self) {
        checkpoint::truncate(&self.connection);
    }

    fn newest(&self) -> i64 {
        self.newest
    }

    fn register(&mut self, targets: &[Arc<str>]) -> Result<Vec<TargetId>, EngineError> {
        self.roll_back()?;
        let transaction = self.connection.transaction()?;
        let numbers = targets.iter().map(|name| {
            let insert = "INSERT INTO target (name) VALUES (?1) ON CONFLICT DO NOTHING";
            transaction.execute(insert, params![name])?;
            let select = "SELECT id FROM target WHERE name = ?1";
            transaction.query_row(select, params![name], |row| row.get("id").map(TargetId))
        });
        let numbers = numbers.collect::<rusqlite::Result<_>>()?;
        transaction.commit()?;
        Ok(numbers)
    }

    fn count(&mut self) -> Result<Backlog, EngineError> {
        let mut backlog = Backlog::default();
        let mut select = self.connection.prepare(COUNTS)?;
        let mut rows = select.query([])?;
        while let Some(row) = rows.next()? {
            // A state that this version does not know is not counted.
            if let Ok(state) = row.get::<_, String>("state")?.parse() {
                backlog.add(TargetId(row.get("target_id")?), state, row.get("number")?);
            }
        }
        Ok(backlog)
    }

    fn append(
        &mut self,
        batches: &[&Batch],
        context: &mut GroupContext<'_>,
    ) -> Result<Vec<Vec<Appended>>, EngineError> {
        let (connection, sequence) = (&self.connection, &mut self.appended);
        let mut append = Append::begin(connection, context.routes)?;
        let mut all = Vec::with_capacity(batches.len());
        for batch in batches {
            let appended = append.batch(batch, sequence, context)?;
            self.skew.note(connection, batch, &appended, context.now)?;
            all.push(appended);
        }
        append.finish()?;
        Ok(all)
    }

    fn read_log(&mut self, _: (i64, Option<i64>), _: &[TargetId], _: usize) -> Result<LogPage, EngineError> {
        Ok(LogPage::default())
    }

    fn answer(&mut self, _: &str, _: &str) -> Result<bool, EngineError> {
        Ok(true)
    }

    fn claim(&mut self, _: Term, target: TargetId, attempt: AttemptStarted) -> Result<(), EngineError> {
        if settle::claim(&self.connection, target, attempt)? {
            return Ok(());
        }
        Err(not_claimable())
    }

    fn settle(
        &mut self,
        _: Term,
        target: TargetId,
        settlements: &[&Settlement],
        context: &mut GroupContext<'_>,
    ) -> Result<(), EngineError> {
        Ok(settle::all(&self.connection, &self.retained, target, settlements, context)?)
    }

    fn recover(
        &mut self,
        _: Authority,
        target: TargetId,
        on_uncertain: OnUncertain,
        context: &mut GroupContext<'_>,
    ) -> Result<Vec<InterruptedAttempt>, EngineError> {
        Ok(settle::recover(&self.connection, target, on_uncertain, context)?)
    }

    fn search(&mut self, target: TargetId, search: &Search) -> Result<Found, EngineError> {
        Ok(search::find(&self.connection, target, search)?)
    }

    fn find(&mut self, target: &str, id: &EventId) -> Result<Result<Key, ActError>, EngineError> {
        Ok(act::find(&self.connection, target, id)?)
    }

    fn act(
        &mut self,
        _: Authority,
        target: TargetId,
        acts: &[Act],
        context: &mut GroupContext<'_>,
    ) -> Result<Vec<Acted>, EngineError> {
        Ok(act::all(&self.connection, &self.retained, target, acts, context)?)
    }

    fn pause(
        &mut self,
        target: &str,
        reason: Option<&str>,
        now: UnixMillis,
    ) -> Result<Result<(), ActError>, EngineError> {
        Ok(act::pause(&self.connection, target, reason, now)?)
    }

    fn set_retry_after(
        &mut self,
        target: &str,
        retry_after: Option<&RetryAfter>,
    ) -> Result<Result<(), ActError>, EngineError> {
        Ok(act::set_retry_after(&self.connection, target, retry_after)?)
    }

    fn retry_after(&mut self, target: TargetId) -> Result<Option<RetryAfter>, EngineError> {
        Ok(act::retry_after(&self.connection, target)?)
    }

    fn audit(&mut self, key: i64, entry: &Entry) -> Result<(), EngineError> {
        Ok(audit::write(&self.connection, key, entry)?)
    }

    fn retain(
        &mut self,
        step: RetentionStep,
        context: &mut GroupContext<'_>,
    ) -> Result<Retained, EngineError> {
        Ok(retain::step(&self.connection, &mut self.retained, step, context)?)
    }

    fn identities(&mut self) -> Result<Vec<SourceIdentity>, EngineError> {
        Ok(identity::all(&self.connection)?)
    }

    fn identify(&mut self, identity: &SourceIdentity, now: UnixMillis) -> Result<(), EngineError> {
        Ok(identity::note(&self.connection, identity, now)?)
    }

    fn forget_identities(&mut self) -> Result<(), EngineError> {
        self.execute("DELETE FROM source_identity")
    }

    fn beat(&mut self, now: UnixMillis) -> Result<(), EngineError> {
        let beat = "INSERT INTO heartbeat (id, at) VALUES (1, ?1) ON CONFLICT (id) DO UPDATE SET at = ?1";
        Ok(self.connection.prepare_cached(beat)?.execute(params![now.0]).map(drop)?)
    }
}

impl From<rusqlite::Error> for EngineError {
    /// Separates errors of one task from those of the whole database.
    fn from(error: rusqlite::Error) -> Self {
        match error.sqlite_error_code() {
            Some(ErrorCode::ConstraintViolation | ErrorCode::TypeMismatch | ErrorCode::TooBig) | None => {
                Self::Rejected(error.to_string())
            }
            Some(_) => Self::Unavailable(error.to_string()),
        }
    }
}
