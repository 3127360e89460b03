//! The engine: each verb of the trait as a call over the connection that writes.

use std::sync::Arc;

use sqlx::Row as _;
use sqlx::postgres::PgPool;
use tokio_util::sync::CancellationToken;

use super::connect::Address;
use super::lease::Lease;
use super::session::{Connection, Session};
use super::{act, append, audit, hold, identity, migrate, retain, search, settle};
use crate::domain::audit::Entry;
use crate::domain::clock::UnixMillis;
use crate::domain::delivery::OnUncertain;
use crate::domain::event::EventId;
use crate::store::counts::BacklogChanges;
use crate::store::engine::{Engine, EngineError, GroupKind, Retained, RetentionStep, Term};
use crate::store::error::{ActError, OpenError};
use crate::store::identity::SourceIdentity;
use crate::store::routing::RoutingTable;
use crate::store::settings::{Durability, Server};
use crate::store::types::{
    Act, Acted, Appended, AttemptStarted, Batch, Found, InterruptedAttempt, Key, Search, Settlement, TargetId,
};
use crate::store::view::RetryAfter;

/// A schema of a server, to which this process alone writes.
#[derive(Debug)]
pub(in crate::store) struct PostgresEngine {
    connection: Connection,
    lease: Lease,
    /// The sequence of the newest event that is known to be committed.
    newest: i64,
    /// The same with those of the group that is open.
    appended: i64,
    /// No event that this process has accepted arrived later.
    newest_arrival: UnixMillis,
}

/// A pool that reads, and what begins its transactions where sessions are shared.
pub(in crate::store) type Pool = (PgPool, Option<Arc<str>>);

impl PostgresEngine {
    /// Opens the store of `server`: brings its schema up to date and takes its lease.
    pub(in crate::store) async fn open(
        server: &Server,
        durability: Durability,
    ) -> Result<(Self, Pool), OpenError> {
        let address = Address::of(server, durability)?;
        migrate::migrate(&address, &server.schema).await?;
        let pool = address.pool(server.connections);
        let lease = Lease::take(pool.clone(), &address, &server.schema).await?;
        let connection = Connection::new(address.options.clone(), address.shared.clone(), lease.term);
        let connection = connection.map_err(|error| address.error(&error))?;
        let newest_arrival = UnixMillis(i64::MIN);
        let mut engine = Self { connection, lease, newest: 0, appended: 0, newest_arrival };
        engine.read_newest().map_err(|error| address.error(&error))?;
        Ok((engine, (pool, address.shared)))
    }

    /// Is cancelled once another process has taken over the store.
    pub(in crate::store) fn lost(&self) -> CancellationToken {
        self.lease.lost.clone()
    }

    fn read_newest(&mut self) -> Result<(), EngineError> {
        let query = "SELECT greatest((SELECT max(sequence) FROM event), \
                                     (SELECT events_through FROM retention)) AS newest, \
                            (SELECT received_at FROM event ORDER BY sequence DESC LIMIT 1) AS arrival";
        let (newest, arrival) = self.alone(GroupKind::Reads, async |session| {
            let rows = session.rows(sqlx::query(query)).await?;
            let row = rows.first().ok_or(sqlx::Error::RowNotFound)?;
            Ok((row.try_get("newest")?, row.try_get::<Option<i64>, _>("arrival")?))
        })?;
        (self.newest, self.appended) = (newest, newest);
        self.newest_arrival = UnixMillis(arrival.unwrap_or(i64::MIN));
        Ok(())
    }

    /// Does `work` in a transaction of its own.
    fn alone<T: Send>(
        &mut self,
        kind: GroupKind,
        work: impl AsyncFnOnce(&mut Session) -> Result<T, sqlx::Error> + Send,
    ) -> Result<T, EngineError> {
        self.connection.call(async |session| {
            session.begin(kind).await?;
            let done = work(session).await?;
            session.commit().await?;
            Ok(done)
        })
    }
}

impl Drop for PostgresEngine {
    fn drop(&mut self) {
        // Without it the next process waits until the lease has expired.
        let resignation = self.lease.resignation();
        let resigned = self.connection.call(async move |session| session.resign(resignation).await);
        if let Err(error) = resigned {
            tracing::debug!(%error, "the lease of the store could not be given back");
        }
    }
}

impl Engine for PostgresEngine {
    fn begin(&mut self, kind: GroupKind) -> Result<(), EngineError> {
        self.appended = self.newest;
        self.connection.call(async |session| session.begin(kind).await)
    }

    fn commit(&mut self) -> Result<(), EngineError> {
        self.connection.call(async |session| session.commit().await)?;
        self.newest = self.appended;
        Ok(())
    }

    fn roll_back(&mut self) -> Result<(), EngineError> {
        self.appended = self.newest;
        self.connection.call(async |session| session.roll_back().await)
    }

    fn tidy(&mut self) {}

    fn checkpoint(&mut self) {}

    fn newest(&self) -> i64 {
        self.newest
    }

    fn register(&mut self, targets: &[Arc<str>]) -> Result<Vec<TargetId>, EngineError> {
        let insert = "INSERT INTO target (name) SELECT g.name FROM unnest($1::text[]) WITH ORDINALITY AS g (name, n) \
                      WHERE NOT EXISTS (SELECT 1 FROM target t WHERE t.name = g.name) ORDER BY g.n \
                      ON CONFLICT DO NOTHING";
        let select = "SELECT t.id FROM unnest($1::text[]) WITH ORDINALITY AS g (name, n) \
                      JOIN target t ON t.name = g.name ORDER BY g.n";
        let names: Vec<String> = targets.iter().map(|name| (**name).to_owned()).collect();
        self.alone(GroupKind::Writes, async |session| {
            session.execute(sqlx::query(insert).bind(&names)).await?;
            let rows = session.rows(sqlx::query(select).bind(&names)).await?;
            rows.iter().map(|row| Ok(TargetId(row.try_get("id")?))).collect()
        })
    }

    fn count(&mut self) -> Result<BacklogChanges, EngineError> {
        self.alone(GroupKind::Reads, async |session| {
            let mut changes = BacklogChanges::default();
            for row in session.rows(sqlx::query(COUNTS)).await? {
                // What this version does not know is counted as nothing.
                if let Ok(state) = row.try_get::<&str, _>("state")?.parse() {
                    changes.change(TargetId(row.try_get("target_id")?), state, row.try_get("number")?);
                }
            }
            Ok(changes)
        })
    }

    fn append(
        &mut self,
        batches: &[&Batch],
        routes: &RoutingTable,
        changes: &mut BacklogChanges,
        now: UnixMillis,
    ) -> Result<Vec<Vec<Appended>>, EngineError> {
        let newest_arrival = &mut self.newest_arrival;
        let append = async |session: &mut Session| {
            append::all(session, (routes, changes), batches, newest_arrival, now).await
        };
        let appended = self.connection.call(append)?;
        let newest = appended.iter().flatten().map(|one| one.sequence).max().unwrap_or(0);
        self.appended = self.appended.max(newest);
        Ok(appended)
    }

    fn claim(&mut self, _: Term, target: TargetId, attempt: AttemptStarted) -> Result<(), EngineError> {
        if self.connection.call(async |session| settle::claim(session, target, attempt).await)? {
            return Ok(());
        }
        Err(EngineError::Rejected("the delivery is neither pending nor retrying".to_owned()))
    }

    fn settle(
        &mut self,
        _: Term,
        target: TargetId,
        settlements: &[Settlement],
        changes: &mut BacklogChanges,
        now: UnixMillis,
    ) -> Result<(), EngineError> {
        let settle =
            async |session: &mut Session| settle::all(session, changes, target, settlements, now).await;
        self.connection.call(settle)
    }

    fn recover(
        &mut self,
        _: Term,
        target: TargetId,
        on_uncertain: OnUncertain,
        changes: &mut BacklogChanges,
        now: UnixMillis,
    ) -> Result<Vec<InterruptedAttempt>, EngineError> {
        let recover =
            async |session: &mut Session| settle::recover(session, changes, target, on_uncertain, now).await;
        self.connection.call(recover)
    }

    fn search(&mut self, target: TargetId, search: &Search) -> Result<Found, EngineError> {
        self.connection.call(async |session| search::find(session, target, search).await)
    }

    fn find(&mut self, target: &str, id: &EventId) -> Result<Result<Key, ActError>, EngineError> {
        self.connection.call(async |session| act::find(session, target, id).await)
    }

    fn act(
        &mut self,
        target: TargetId,
        acts: &[Act],
        routes: &RoutingTable,
        changes: &mut BacklogChanges,
        now: UnixMillis,
    ) -> Result<Vec<Acted>, EngineError> {
        let act = async |session: &mut Session| act::all(session, (routes, changes), target, acts, now).await;
        self.connection.call(act)
    }

    fn pause(
        &mut self,
        target: &str,
        reason: Option<&str>,
        now: UnixMillis,
    ) -> Result<Result<(), ActError>, EngineError> {
        self.connection.call(async |session| hold::pause(session, target, reason, now).await)
    }

    fn leave_alone(
        &mut self,
        target: &str,
        wish: Option<&RetryAfter>,
    ) -> Result<Result<(), ActError>, EngineError> {
        self.connection.call(async |session| hold::leave_alone(session, target, wish).await)
    }

    fn audit(&mut self, key: i64, entry: &Entry) -> Result<(), EngineError> {
        self.connection.call(async |session| audit::write(session, key, entry).await)
    }

    fn retain(
        &mut self,
        step: RetentionStep,
        changes: &mut BacklogChanges,
        now: UnixMillis,
    ) -> Result<Retained, EngineError> {
        self.connection.call(async |session| retain::step(session, changes, step, now).await)
    }

    fn identities(&mut self) -> Result<Vec<SourceIdentity>, EngineError> {
        self.connection.call(async |session| identity::all(session).await)
    }

    fn identify(&mut self, identity: &SourceIdentity, now: UnixMillis) -> Result<(), EngineError> {
        self.connection.call(async |session| identity::note(session, identity, now).await)
    }

    fn forget_identities(&mut self) -> Result<(), EngineError> {
        let forget = "DELETE FROM source_identity";
        self.connection.call(async |session| session.execute(sqlx::query(forget)).await.map(drop))
    }

    fn beat(&mut self, now: UnixMillis) -> Result<(), EngineError> {
        let beat =
            "INSERT INTO heartbeat (id, at) VALUES (1, $1) ON CONFLICT (id) DO UPDATE SET at = excluded.at";
        self.connection.call(async |session| session.execute(sqlx::query(beat).bind(now.0)).await.map(drop))
    }
}

const COUNTS: &str = "SELECT target_id, state, count(*) AS number FROM delivery WHERE settled_at IS NULL \
                      GROUP BY target_id, state \
                      UNION ALL SELECT target_id, 'dead', count(*) FROM delivery WHERE state = 'dead' \
                      GROUP BY target_id";
