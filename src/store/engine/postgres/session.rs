//! The connection that writes: its transaction, its time limits and its errors.

use std::io;
use std::pin::Pin;
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

/// The time limit for opening a connection.
const CONNECT_LIMIT: Duration = Duration::from_secs(3);

/// The time limit of one call. A call that takes longer is not cancelled: its connection is
/// dropped, and its outcome is unknown.
const CALL_LIMIT: Duration = Duration::from_secs(10);

/// How long every group fails at once after a connection could not be opened.
const PAUSE: Duration = Duration::from_millis(250);

/// The SQLSTATEs of a transaction that the server has undone because of another one: a failed
/// serialization and a deadlock.
const UNDONE: [&str; 2] = ["40001", "40P01"];

/// Reads the identity of the server's history. If the history has changed, every term is over.
const COMPARE: &str = "SELECT compare_history()";

/// Why a verb was not carried out.
#[derive(Debug)]
pub(super) enum Failed {
    /// The term of the call is over.
    Superseded,
    /// The database has refused the call, or does not work.
    Database(sqlx::Error),
}

impl From<sqlx::Error> for Failed {
    fn from(error: sqlx::Error) -> Self {
        Self::Database(error)
    }
}

/// A connection, which is opened again when it is lost, and the runtime that drives it.
///
/// The committer's thread blocks on a runtime of its own, so that no call has to wake another
/// thread.
#[derive(Debug)]
pub(super) struct Connection {
    /// `None` once dropped.
    runtime: Option<Runtime>,
    session: Session,
}

/// The session in which a verb is carried out.
#[derive(Debug)]
pub(super) struct Session {
    options: PgConnectOptions,
    /// The statement that begins a transaction if sessions are shared; `None` otherwise.
    shared: Option<Arc<str>>,
    connection: Option<PgConnection>,
    in_transaction: bool,
    failed_at: Option<Instant>,
    /// The last known history of the server; `None` before the first look.
    history: Option<String>,
    /// Whether the history has changed since the last call of
    /// [`take_gone_back`](Self::take_gone_back).
    has_gone_back: bool,
    /// Notified of each response of the server.
    progress: Arc<Progress>,
}

impl Connection {
    /// Creates a connection that is opened on demand.
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

    /// Carries out `work` and waits for its result.
    pub(super) fn call<T: Send, E: Into<Failed>>(
        &mut self,
        work: impl AsyncFnOnce(&mut Session) -> Result<T, E> + Send,
    ) -> Result<T, EngineError> {
        let Some(runtime) = &self.runtime else {
            return Err(EngineError::Unavailable("the connection has ended".to_owned()));
        };
        let session = &mut self.session;
        let mut outcome = None;
        let wait = || {
            let work: Pin<Box<dyn Future<Output = ()> + '_>> = Box::pin(async {
                outcome = Some(match timeout(CALL_LIMIT, work(&mut *session)).await {
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
                });
            });
            runtime.block_on(work);
        };
        run_outside_of_tasks(Box::new(wait));
        outcome.unwrap_or_else(|| Err(EngineError::Unavailable("the call has failed".to_owned())))
    }
}

/// Runs `wait`, which blocks on a runtime, on this thread, or on one of its own if this one belongs to a
/// task. A store is opened in a task, whose thread must not block on another runtime.
///
/// The type of `wait` is erased, and so is that of the work that it waits for: otherwise each call of the
/// engine would be compiled with a runtime and a thread of its own.
fn run_outside_of_tasks(wait: Box<dyn FnOnce() + Send + '_>) {
    if Handle::try_current().is_err() {
        return wait();
    }
    // A panic is reported where it happens, and leaves no outcome.
    let _ = thread::scope(|scope| scope.spawn(wait).join());
}

impl Drop for Connection {
    fn drop(&mut self) {
        // A runtime that waits for its threads panics if it is dropped in a task.
        if let Some(runtime) = self.runtime.take() {
            runtime.shutdown_background();
        }
    }
}

impl Session {
    /// Begins a group. A group of a single call is a transaction without this, unless sessions are
    /// shared.
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

    /// Returns whether the server has gone on from an older state since the last call of this
    /// function.
    pub(super) fn take_gone_back(&mut self) -> bool {
        std::mem::take(&mut self.has_gone_back)
    }

    /// Notes the history of the server.
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

    /// Returns the rows of `query`.
    pub(super) async fn rows(
        &mut self,
        query: Query<'_, Postgres, PgArguments>,
    ) -> Result<Vec<PgRow>, sqlx::Error> {
        let query = query.persistent(self.shared.is_none());
        query.fetch_all(self.open()?).await.inspect(|_| self.answered())
    }

    /// Executes `query`. Returns how many rows it has changed.
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

    /// Opens a connection to a server that takes writes. Returns it with the history of the server,
    /// unless sessions are shared.
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

    /// Drops the connection without a message. The server undoes an open transaction.
    fn give_up(&mut self) {
        self.connection = None;
        self.in_transaction = false;
    }

    /// Separates errors of one task from those of the whole database. In the second case the
    /// connection is dropped, and opened again for the next group.
    fn failed(&mut self, error: &sqlx::Error) -> EngineError {
        if let sqlx::Error::Database(refused) = error {
            let code = refused.code().unwrap_or_default();
            if code.starts_with("22") || code.starts_with("23") {
                return EngineError::Rejected(refused.message().to_owned());
            }
            if UNDONE.contains(&&*code) {
                return EngineError::Undone(refused.message().to_owned());
            }
        }
        self.give_up();
        EngineError::Unavailable(error.to_string())
    }
}

/// Returns an error that sqlx has no variant for: a server that cannot be used.
fn unusable(why: &str) -> sqlx::Error {
    sqlx::Error::Io(io::Error::other(why.to_owned()))
}
