//! The connection that writes: its transaction, its time limits and its errors.

use std::io;
use std::sync::Arc;
use std::thread;
use std::time::{Duration, Instant};

use sqlx::postgres::{PgArguments, PgConnectOptions, PgRow};
use sqlx::query::Query;
use sqlx::{AssertSqlSafe, ConnectOptions as _, Executor as _, PgConnection, Postgres, Row as _};
use tokio::runtime::{Handle, Runtime};
use tokio::time::timeout;

use super::connect::BEGIN;
use crate::store::engine::{EngineError, GroupKind};
use crate::store::progress::Progress;

/// How long a connection may take to be made.
const CONNECT_LIMIT: Duration = Duration::from_secs(3);

/// How long one call may take. One that takes longer is not cancelled: its connection is
/// given up, and its outcome is not known.
const CALL_LIMIT: Duration = Duration::from_secs(10);

/// After a connection could not be made, so long every group fails at once.
const PAUSE: Duration = Duration::from_millis(250);

/// Finds out what the server is. Where it was another one before, every term is over.
const COMPARE: &str = "SELECT compare_history()";

/// Why a verb was not carried out.
#[derive(Debug)]
pub(super) enum Failed {
    /// The term is over under which it was to be done.
    Superseded,
    /// The database has refused it, or does not work.
    Database(sqlx::Error),
}

impl From<sqlx::Error> for Failed {
    fn from(error: sqlx::Error) -> Self {
        Self::Database(error)
    }
}

/// A connection, made anew when it is lost, and the runtime that drives it.
///
/// The committer's thread blocks on a runtime of its own: no other thread has to be woken
/// for a call.
#[derive(Debug)]
pub(super) struct Connection {
    /// `None` once dropped.
    runtime: Option<Runtime>,
    session: Session,
}

/// What a verb is carried out with.
#[derive(Debug)]
pub(super) struct Session {
    options: PgConnectOptions,
    /// What begins a transaction where sessions are shared; `None` where they are not.
    shared: Option<Arc<str>>,
    connection: Option<PgConnection>,
    in_transaction: bool,
    failed_at: Option<Instant>,
    /// What the server was when it was last looked at; `None` before that.
    history: Option<String>,
    /// Whether it has become another one since that was last asked for.
    has_gone_back: bool,
    /// Told whenever the server has done something.
    progress: Arc<Progress>,
}

impl Connection {
    /// A connection that is made when it is first needed.
    pub(super) fn new(
        options: PgConnectOptions,
        shared: Option<Arc<str>>,
        progress: Arc<Progress>,
    ) -> io::Result<Self> {
        let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build()?;
        let session = Session {
            options,
            shared,
            connection: None,
            in_transaction: false,
            failed_at: None,
            history: None,
            has_gone_back: false,
            progress,
        };
        Ok(Self { runtime: Some(runtime), session })
    }

    /// Does `work` and waits for it.
    pub(super) fn call<T: Send, E: Into<Failed>>(
        &mut self,
        work: impl AsyncFnOnce(&mut Session) -> Result<T, E> + Send,
    ) -> Result<T, EngineError> {
        let Some(runtime) = &self.runtime else {
            return Err(EngineError::Unavailable("the connection has ended".to_owned()));
        };
        let session = &mut self.session;
        let wait = move || {
            runtime.block_on(async {
                match timeout(CALL_LIMIT, work(&mut *session)).await {
                    Ok(Ok(done)) => Ok(done),
                    Ok(Err(error)) => Err(match error.into() {
                        Failed::Superseded => EngineError::Superseded,
                        Failed::Database(error) => session.failed(&error),
                    }),
                    Err(_) => {
                        session.give_up();
                        let limit = CALL_LIMIT.as_secs();
                        Err(EngineError::Unavailable(format!("PostgreSQL has not answered within {limit} s")))
                    }
                }
            })
        };
        // A store is opened from a task, where a thread must not block on another runtime.
        if Handle::try_current().is_err() {
            return wait();
        }
        let waited = thread::scope(|scope| scope.spawn(wait).join());
        waited.unwrap_or_else(|_| Err(EngineError::Unavailable("the call has failed".to_owned())))
    }
}

impl Drop for Connection {
    fn drop(&mut self) {
        // Dropped in a task, a runtime that waits for its threads panics.
        if let Some(runtime) = self.runtime.take() {
            runtime.shutdown_background();
        }
    }
}

impl Session {
    /// Begins a group. Where it is a single call, that is a transaction by itself.
    pub(super) async fn begin(&mut self, kind: GroupKind) -> Result<(), sqlx::Error> {
        self.roll_back().await?;
        self.connect().await?;
        let begin = match (&self.shared, kind) {
            (None, GroupKind::Appends) => return Ok(()),
            (None, GroupKind::Reads) => "BEGIN ISOLATION LEVEL REPEATABLE READ, READ ONLY".to_owned(),
            (None, GroupKind::Writes) => BEGIN.to_owned(),
            // Each transaction may have another connection, and another server.
            (Some(begin), _) => format!("{begin}; {COMPARE}"),
        };
        let rows = sqlx::raw_sql(AssertSqlSafe(begin)).fetch_all(self.open()?).await?;
        self.answered();
        self.in_transaction = true;
        if let Some(row) = rows.first() {
            self.note(row.try_get(0)?);
        }
        Ok(())
    }

    /// Whether the server has gone on from an older state since this was last asked.
    pub(super) fn take_gone_back(&mut self) -> bool {
        std::mem::take(&mut self.has_gone_back)
    }

    /// The server is `history`.
    fn note(&mut self, history: String) {
        let before = self.history.replace(history);
        self.has_gone_back |= before.is_some() && before != self.history;
    }

    /// Makes the group durable.
    pub(super) async fn commit(&mut self) -> Result<(), sqlx::Error> {
        if self.in_transaction {
            self.in_transaction = false;
            self.open()?.execute("COMMIT").await?;
            self.answered();
        }
        Ok(())
    }

    /// Undoes the group.
    pub(super) async fn roll_back(&mut self) -> Result<(), sqlx::Error> {
        if self.in_transaction {
            self.in_transaction = false;
            if let Some(connection) = &mut self.connection
                && connection.execute("ROLLBACK").await.is_err()
            {
                // A transaction ends with its connection.
                self.give_up();
            }
        }
        Ok(())
    }

    /// The rows of `query`.
    pub(super) async fn rows(
        &mut self,
        query: Query<'_, Postgres, PgArguments>,
    ) -> Result<Vec<PgRow>, sqlx::Error> {
        let query = query.persistent(self.shared.is_none());
        query.fetch_all(self.open()?).await.inspect(|_| self.answered())
    }

    /// Has `query` carried out. Returns how many rows it has changed.
    pub(super) async fn execute(
        &mut self,
        query: Query<'_, Postgres, PgArguments>,
    ) -> Result<u64, sqlx::Error> {
        let query = query.persistent(self.shared.is_none());
        let done = query.execute(self.open()?).await?;
        self.answered();
        Ok(done.rows_affected())
    }

    fn answered(&self) {
        self.progress.answered(Instant::now().into());
    }

    fn open(&mut self) -> Result<&mut PgConnection, sqlx::Error> {
        self.connection.as_mut().ok_or(sqlx::Error::PoolClosed)
    }

    async fn connect(&mut self) -> Result<(), sqlx::Error> {
        if self.connection.is_some() {
            return Ok(());
        }
        if self.failed_at.is_some_and(|at| at.elapsed() < PAUSE) {
            return Err(unusable("PostgreSQL could not be reached a moment ago"));
        }
        let connected = timeout(CONNECT_LIMIT, self.establish()).await;
        let connected = connected.unwrap_or_else(|_| {
            Err(unusable(&format!("PostgreSQL could not be reached within {} s", CONNECT_LIMIT.as_secs())))
        });
        self.failed_at = connected.is_err().then(Instant::now);
        let (connection, history) = connected?;
        self.connection = Some(connection);
        if let Some(history) = history {
            self.note(history);
        }
        Ok(())
    }

    /// A new connection to a server that takes writes, and what that is, where it stays the same.
    async fn establish(&self) -> Result<(PgConnection, Option<String>), sqlx::Error> {
        let mut connection = self.options.connect().await?;
        let state = "SELECT (pg_is_in_recovery() OR current_setting('transaction_read_only')::boolean)::text";
        let row = sqlx::raw_sql(state).fetch_one(&mut connection).await?;
        let reads_only: &str = row.try_get(0)?;
        if reads_only == "true" {
            return Err(unusable("PostgreSQL takes no writes: it is a standby, or read-only"));
        }
        if self.shared.is_some() {
            return Ok((connection, None));
        }
        let row = sqlx::raw_sql(COMPARE).fetch_one(&mut connection).await?;
        let history = row.try_get(0)?;
        Ok((connection, Some(history)))
    }

    /// Closes the connection without a word; the server undoes what is open.
    fn give_up(&mut self) {
        self.connection = None;
        self.in_transaction = false;
    }

    /// Separates what concerns one task from what concerns the whole database, whose
    /// connection is made anew.
    fn failed(&mut self, error: &sqlx::Error) -> EngineError {
        if let sqlx::Error::Database(refused) = error {
            let code = refused.code().unwrap_or_default();
            if code.starts_with("22") || code.starts_with("23") {
                return EngineError::Rejected(refused.message().to_owned());
            }
        }
        self.give_up();
        EngineError::Unavailable(error.to_string())
    }
}

/// What sqlx has no error for: a server that cannot be used.
fn unusable(why: &str) -> sqlx::Error {
    sqlx::Error::Io(io::Error::other(why.to_owned()))
}
