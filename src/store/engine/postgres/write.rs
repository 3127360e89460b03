//! Implements the engine: each verb is a call over the connection that writes.

use std::collections::{BTreeMap, HashMap};
use std::sync::Arc;

use sqlx::Row as _;
use sqlx::postgres::PgPool;

use super::connect::{Address, Purpose};
use super::session::{Connection, Failed, Session};
use super::{act, append, audit, fence, hold, identity, log, migrate, retain, search, settle};
use crate::domain::audit::Entry;
use crate::domain::clock::UnixMillis;
use crate::domain::delivery::OnUncertain;
use crate::domain::event::EventId;
use crate::store::blocking;
use crate::store::cluster::LogPage;
use crate::store::counts::Backlog;
use crate::store::engine::{
    Authority, COUNTS, Engine, EngineError, GroupContext, GroupKind, Retained, RetentionStep, Rewound,
    not_claimable,
};
use crate::store::error::{ActError, OpenError};
use crate::store::identity::SourceIdentity;
use crate::store::progress::Progress;
use crate::store::settings::{Durability, Server};
use crate::store::types::{
    Act, Acted, Appended, AttemptStarted, Batch, Found, InterruptedAttempt, Key, Search, Settlement,
    TargetId, Term,
};
use crate::store::view::RetryAfter;

/// A schema of a server, to which other processes may write too.
#[derive(Debug)]
pub(in crate::store) struct PostgresEngine {
    connection: Connection,
    /// The sequence of the newest event that is known to be committed.
    newest: i64,
    /// The sequence of the newest event, with those of the open group.
    appended: i64,
    /// The latest time of arrival of any event that this process has accepted.
    newest_arrival: UnixMillis,
    /// The names of the leases of targets that were needed until now.
    leases: HashMap<TargetId, Arc<str>>,
    /// The names of the registered targets, by number.
    targets: BTreeMap<i64, String>,
    /// Whether the server has gone on from an older state that is not dealt with yet.
    goes_back: bool,
    /// The state that the server has gone on from, until [`rewound`](Engine::rewound) returns it.
    rewound: Option<Rewound>,
}

/// The address of a server, and a pool of connections to it.
pub(in crate::store) type Reached = (Address, PgPool);

impl PostgresEngine {
    /// Opens the store of `server` and migrates its schema. `progress` is notified of each response
    /// of the server.
    pub(in crate::store) async fn open(
        server: &Server,
        durability: Durability,
        progress: Arc<Progress>,
    ) -> Result<(Self, Reached), OpenError> {
        let address = Address::of(server, durability)?;
        migrate::migrate(&address, &server.schema).await?;
        let pool = address.pool(server.connections, Purpose::Reader);
        let connection =
            Connection::new(address.options_for(Purpose::Writer), address.shared.clone(), progress);
        let connection = connection.map_err(|error| address.error(&error))?;
        let newest_arrival = UnixMillis(i64::MIN);
        let mut engine = Self {
            connection,
            newest: 0,
            appended: 0,
            newest_arrival,
            leases: HashMap::new(),
            targets: BTreeMap::new(),
            goes_back: false,
            rewound: None,
        };
        let read = blocking::apart(move || engine.read_newest().map(|()| engine)).await;
        Ok((read.map_err(|error| address.error(&error))?, (address, pool)))
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
        self.newest_arrival = self.newest_arrival.max(UnixMillis(arrival.unwrap_or(i64::MIN)));
        Ok(())
    }

    /// Begins a group. Returns whether the server has gone on from an older state.
    fn begin_group(&mut self, kind: GroupKind) -> Result<bool, EngineError> {
        self.appended = self.newest;
        self.connection.call(async |session| {
            session.begin(kind).await?;
            Ok::<_, sqlx::Error>(session.take_gone_back())
        })
    }

    /// Adapts to a server that has gone on from an older state: registers the targets again, and
    /// reads the newest event again.
    fn go_back(&mut self) -> Result<(), EngineError> {
        let before = self.newest;
        self.restore_targets()?;
        self.read_newest()?;
        let terms = self.alone(GroupKind::Reads, async |session| {
            let rows = session.rows(sqlx::query("SELECT name, term FROM lease")).await?;
            rows.iter().map(|row| Ok((row.try_get("name")?, Term(row.try_get("term")?)))).collect()
        })?;
        self.rewound = Some(Rewound { newest: self.newest, terms });
        tracing::error!(
            newest_before = before,
            newest = self.newest,
            "the database is another server than before, or was restored: what it had not received is lost there. All \
             leases are taken anew, and what Pepay still lists is stored again"
        );
        Ok(())
    }

    fn restore_targets(&mut self) -> Result<(), EngineError> {
        let restore = "INSERT INTO target (id, name) OVERRIDING SYSTEM VALUE \
                       SELECT g.id, g.name FROM unnest($1::bigint[], $2::text[]) AS g (id, name) ON CONFLICT DO NOTHING";
        let number = "SELECT setval('target_id_seq', t.id) FROM (SELECT max(id) AS id FROM target) t, target_id_seq s \
                      WHERE t.id > s.last_value";
        let differing = "SELECT g.name FROM unnest($1::bigint[], $2::text[]) AS g (id, name) \
                         WHERE NOT EXISTS (SELECT 1 FROM target t WHERE t.id = g.id AND t.name = g.name)";
        let ids: Vec<_> = self.targets.keys().copied().collect();
        let names: Vec<_> = self.targets.values().cloned().collect();
        let differing = self.alone(GroupKind::Writes, async |session| {
            session.execute(sqlx::query(restore).bind(&ids).bind(&names)).await?;
            session.rows(sqlx::query(number)).await?;
            let rows = session.rows(sqlx::query(differing).bind(&ids).bind(&names)).await?;
            rows.first().map(|row| row.try_get::<String, _>(0)).transpose()
        })?;
        match differing {
            None => Ok(()),
            // This happens only if another process has registered the target anew after its row was
            // lost.
            Some(name) => Err(EngineError::Unavailable(format!(
                "the database has gone on from an older state, and has another number for the target \"{name}\": \
                 restart this replica"
            ))),
        }
    }

    /// Returns the name of the lease of `target`, which never changes.
    fn lease(&mut self, target: TargetId) -> Result<Arc<str>, EngineError> {
        if let Some(lease) = self.leases.get(&target) {
            return Ok(Arc::clone(lease));
        }
        let lease = self.connection.call(async |session| fence::lease_of(session, target).await)?;
        Ok(Arc::clone(self.leases.entry(target).or_insert_with(|| lease.into())))
    }

    /// Carries out `work` in a transaction of its own.
    fn alone<T: Send>(
        &mut self,
        kind: GroupKind,
        work: impl AsyncFnOnce(&mut Session) -> Result<T, sqlx::Error> + Send,
    ) -> Result<T, EngineError> {
        self.connection.call(async |session| {
            session.begin(kind).await?;
            let done = work(session).await?;
            session.commit().await?;
            Ok::<_, sqlx::Error>(done)
        })
    }
}

impl Engine for PostgresEngine {
    fn begin(&mut self, kind: GroupKind) -> Result<(), EngineError> {
        self.goes_back |= self.begin_group(kind)?;
        if self.goes_back {
            self.roll_back()?;
            self.go_back()?;
            self.goes_back = self.begin_group(kind)?;
        }
        Ok(())
    }

    fn rewound(&mut self) -> Option<Rewound> {
        self.rewound.take()
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
        let registered: Vec<TargetId> = self.alone(GroupKind::Writes, async |session| {
            session.execute(sqlx::query(insert).bind(&names)).await?;
            let rows = session.rows(sqlx::query(select).bind(&names)).await?;
            rows.iter().map(|row| Ok(TargetId(row.try_get("id")?))).collect()
        })?;
        self.targets.extend(registered.iter().map(|target| target.0).zip(names));
        Ok(registered)
    }

    fn count(&mut self) -> Result<Backlog, EngineError> {
        self.alone(GroupKind::Reads, async |session| {
            let mut backlog = Backlog::default();
            for row in session.rows(sqlx::query(COUNTS)).await? {
                // A state that this version does not know is not counted.
                if let Ok(state) = row.try_get::<&str, _>("state")?.parse() {
                    backlog.add(TargetId(row.try_get("target_id")?), state, row.try_get("number")?);
                }
            }
            Ok(backlog)
        })
    }

    fn append(
        &mut self,
        batches: &[&Batch],
        context: &mut GroupContext<'_>,
    ) -> Result<Vec<Vec<Appended>>, EngineError> {
        let newest_arrival = &mut self.newest_arrival;
        let append =
            async |session: &mut Session| append::all(session, batches, newest_arrival, context).await;
        let appended = self.connection.call(append)?;
        let newest = appended.iter().flatten().map(|one| one.sequence).max().unwrap_or(0);
        self.appended = self.appended.max(newest);
        Ok(appended)
    }

    fn read_log(
        &mut self,
        range: (i64, Option<i64>),
        targets: &[TargetId],
        limit: usize,
    ) -> Result<LogPage, EngineError> {
        self.connection.call(async |session| log::read(session, range, targets, limit).await)
    }

    fn answer(&mut self, request: &str, answer: &str) -> Result<bool, EngineError> {
        let update = "UPDATE request SET answer = $2::jsonb WHERE id = $1 AND answer IS NULL";
        let query = sqlx::query(update).bind(request).bind(answer);
        self.connection.call(async |session| session.execute(query).await.map(|changed| changed == 1))
    }

    fn claim(&mut self, term: Term, target: TargetId, attempt: AttemptStarted) -> Result<(), EngineError> {
        let lease = self.lease(target)?;
        let claim =
            async |session: &mut Session| settle::claim(session, (target, &lease, term), attempt).await;
        if self.connection.call(claim)? {
            return Ok(());
        }
        Err(not_claimable())
    }

    fn settle(
        &mut self,
        term: Term,
        target: TargetId,
        settlements: &[&Settlement],
        context: &mut GroupContext<'_>,
    ) -> Result<(), EngineError> {
        let lease = self.lease(target)?;
        let settle = async |session: &mut Session| {
            settle::all(session, (target, &lease, term), settlements, context).await
        };
        self.connection.call(settle)
    }

    fn recover(
        &mut self,
        authority: Authority,
        target: TargetId,
        on_uncertain: OnUncertain,
        context: &mut GroupContext<'_>,
    ) -> Result<Vec<InterruptedAttempt>, EngineError> {
        let lease = self.lease(target)?;
        self.connection.call(async |session| {
            fence::hold(session, &lease, authority).await?;
            Ok::<_, Failed>(settle::recover(session, target, on_uncertain, context).await?)
        })
    }

    fn search(&mut self, target: TargetId, search: &Search) -> Result<Found, EngineError> {
        self.connection.call(async |session| search::find(session, target, search).await)
    }

    fn find(&mut self, target: &str, id: &EventId) -> Result<Result<Key, ActError>, EngineError> {
        self.connection.call(async |session| act::find(session, target, id).await)
    }

    fn act(
        &mut self,
        authority: Authority,
        target: TargetId,
        acts: &[Act],
        context: &mut GroupContext<'_>,
    ) -> Result<Vec<Acted>, EngineError> {
        let lease = self.lease(target)?;
        self.connection.call(async |session| {
            fence::hold(session, &lease, authority).await?;
            act::all(session, target, acts, context).await
        })
    }

    fn pause(
        &mut self,
        target: &str,
        reason: Option<&str>,
        now: UnixMillis,
    ) -> Result<Result<(), ActError>, EngineError> {
        self.connection.call(async |session| hold::pause(session, target, reason, now).await)
    }

    fn set_retry_after(
        &mut self,
        target: &str,
        retry_after: Option<&RetryAfter>,
    ) -> Result<Result<(), ActError>, EngineError> {
        self.connection.call(async |session| hold::set_retry_after(session, target, retry_after).await)
    }

    fn retry_after(&mut self, target: TargetId) -> Result<Option<RetryAfter>, EngineError> {
        self.connection.call(async |session| hold::retry_after(session, target).await)
    }

    fn audit(&mut self, key: i64, entry: &Entry) -> Result<(), EngineError> {
        self.connection.call(async |session| audit::write(session, key, entry).await)
    }

    fn retain(
        &mut self,
        step: RetentionStep,
        context: &mut GroupContext<'_>,
    ) -> Result<Retained, EngineError> {
        self.connection.call(async |session| retain::step(session, step, context).await)
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
