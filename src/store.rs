//! The store keeps events, deliveries and cursors, behind narrow handles and plain values.
//!
//! | file | holds |
//! |---|---|
//! | [`inbox`] | the handle of the sources: records events and cursors |
//! | [`outbox`] | the handle of a target: hands out deliveries, writes their outcomes |
//! | `handoff` | bounded queues in memory, from the committer to a dispatcher |
//! | [`operator`] | the handle of the operator: reads the store, carries out actions |
//! | [`lease`], [`cluster`] | which process delivers to a target, reads a stream or keeps house |
//! | [`types`], [`view`], [`error`] | the plain values and errors of the handles |
//! | `committer`, `progress` | the thread that writes, in groups; whether it makes progress |
//! | `remote` | the requests of an operator to another replica, as JSON |
//! | `blocking` | runs calls that block apart from the runtime |
//! | `routing`, `counts`, `retention`, `identity`, `source_comparison` | logic that all engines share; no SQL |
//! | `engine` | the trait of a database, `SQLite` and `PostgreSQL`; all SQL |
//! | `contract` | the tests that every engine has to pass |
//! | [`backup`], [`restore`], [`check`] | copies a store that may be in use; puts a copy back; reads a store for `doctor` |
//!
//! One thread owns the engine and commits in groups; readers are a small pool. No type
//! of an engine leaves this module.

mod blocking;
pub mod cluster;
mod committer;
mod counts;
mod engine;
pub mod error;
mod handoff;
mod identity;
pub mod inbox;
pub mod lease;
pub mod operator;
pub mod outbox;
mod progress;
mod remote;
mod retention;
mod routing;
mod settings;
mod source_comparison;
pub mod types;
pub mod view;

use std::sync::Arc;
use std::time::Duration;

use tokio::sync::{mpsc, watch};
use tokio::time::Instant;
use tokio_util::sync::CancellationToken;

use crate::domain::clock::Clock;

pub use committer::Committer;
pub use engine::postgres::membership::LeaseTask;
pub use engine::postgres::peers::{AskError, Peers};
pub use engine::postgres::{check as server_check, import};
pub use engine::sqlite::file::Disk;
pub use engine::sqlite::{backup, check, restore};
pub use error::OpenError;
pub use retention::Janitor;
pub use settings::{Durability, Place, Retention, Route, Server, Settings};
pub use source_comparison::Comparison;

use cluster::Asked;
use committer::{Control, Counted, Tasks, count_backlog};
use counts::Counters;
use engine::postgres::connect::Purpose;
use engine::postgres::membership::Membership;
use engine::postgres::write::PostgresEngine;
use engine::read::Reader;
use engine::sqlite::open;
use engine::sqlite::write::SqliteEngine;
use engine::{Engine, EngineError};
use error::RecordError;
use handoff::Owners;
use identity::{ClaimError, OtherIdentity, SourceIdentity};
use inbox::{Inbox, note_identities};
use lease::{Housekeeping, Leases};
use operator::OperatorStore;
use outbox::Outbox;
use progress::Progress;
use routing::RoutingTable;

/// How many commands may wait for the committer. A queue longer than a few groups only adds
/// latency: the caller of a full queue is told to come back.
const QUEUE: usize = 1024;

/// Number of the connections that renew leases and ask other replicas.
const LEASE_CONNECTIONS: u32 = 2;

/// The shortest time between two counts of the unfinished deliveries.
const RECOUNT: Duration = Duration::from_secs(2);

/// How many counts follow a group that may be stored all the same. A server that waits for a standby
/// may end the commit of such a group later than a count sees.
const DOUBTFUL: u32 = 15;

/// The pause after a count, as a multiple of the count's duration: the committer does other work
/// then.
const RECOUNT_SHARE: u32 = 20;

/// An open store: its handles, to be passed to the parts that use them.
#[derive(Debug)]
pub struct Store {
    /// The handle of the sources.
    pub inbox: Inbox,
    /// The handle of the operator.
    pub operator: OperatorStore,
    /// The handles of the dispatchers, one for each route and in the order of the routes.
    pub outboxes: Vec<Outbox>,
    tasks: Tasks,
    reader: Reader,
    counters: Arc<Counters>,
    clock: Clock,
    retention: watch::Sender<Retention>,
    /// The last source that was refused because it belongs to another account.
    refused: watch::Receiver<Option<Box<OtherIdentity>>>,
    /// The sequence of the newest event when the store was opened.
    newest: i64,
    /// Whether at that time an attempt on the wire was left to another process.
    left_to_another: bool,
    leases: Leases,
    /// The task that keeps the leases, if several processes may share the store.
    membership: Option<Membership>,
}

/// An opened database, and what goes with its kind.
struct Database {
    engine: Box<dyn Engine>,
    reader: Reader,
    leases: Leases,
    progress: Arc<Progress>,
}

impl Store {
    /// Opens the store, creates or migrates it as needed, and takes its lock or lease. Nothing is
    /// committed until [`Committer::run`] runs on a thread of its own. If several processes may
    /// share the store and `clock` is adjustable, the database's clock sets it.
    ///
    /// # Errors
    /// [`OpenError`] names the file or server and the reason; the file or server is unchanged.
    pub async fn open(
        settings: &Settings,
        routes: Vec<Route>,
        clock: Clock,
    ) -> Result<(Self, Committer), OpenError> {
        let durability = settings.durability;
        match &settings.place {
            Place::File(path) => {
                let lock = open::prepare(path).await?;
                let file = path.clone();
                let engine = blocking::apart(move || SqliteEngine::open(&file, durability, lock)).await?;
                let reader = Reader::of_sqlite(open::open_reader_pool(path).await?, path);
                let (engine, leases, progress) = (Box::new(engine), Leases::sole(), Arc::default());
                let database = Database { engine, reader, leases, progress };
                let opened = Self::counted(database, settings, routes, clock).await;
                opened.map_err(|error| open::database(path, &error))
            }
            Place::Server(server) => {
                let progress = Arc::<Progress>::default();
                let open = PostgresEngine::open(server, durability, Arc::clone(&progress));
                let (engine, (address, pool)) = open.await?;
                let (engine, leases) = (Box::new(engine), Leases::shared());
                let reader = Reader::of_postgres(pool, address.shared.clone());
                let database = Database { engine, reader, leases: leases.clone(), progress };
                let opened = Self::counted(database, settings, routes, clock).await;
                let (mut store, committer) = opened.map_err(|error| address.error(&error))?;
                let (tasks, writer) = (store.tasks.clone(), (committer.progress(), committer.stored()));
                let look = move || tasks.wake();
                // A pool of its own, so that the leases never wait for queries of readers.
                let joining = (&address, address.pool(LEASE_CONNECTIONS, Purpose::Leases), &*server.schema);
                let membership = Membership::join(joining, (leases, store.clock.clone()), look, writer);
                // No other code sets it, so it is empty here.
                let _ = store.operator.peers.set(membership.peers());
                store.membership = Some(membership);
                Ok((store, committer))
            }
        }
    }

    /// Does [`on`](Self::on) apart from the runtime: the count may read every unfinished delivery.
    async fn counted(
        database: Database,
        settings: &Settings,
        routes: Vec<Route>,
        clock: Clock,
    ) -> Result<(Self, Committer), EngineError> {
        let settings = settings.clone();
        blocking::apart(move || Self::on(database, &settings, routes, clock)).await
    }

    /// Wires the handles and the committer of a store on `database`, and counts the unfinished deliveries.
    fn on(
        database: Database,
        settings: &Settings,
        routes: Vec<Route>,
        clock: Clock,
    ) -> Result<(Self, Committer), EngineError> {
        let Database { mut engine, reader, leases, progress } = database;
        let (tasks, queue) = Tasks::new(QUEUE);
        let counters = Arc::<Counters>::default();
        for route in &routes {
            counters.add_target(&route.target);
        }
        let names: Vec<_> = routes.iter().map(|route| Arc::clone(&route.target)).collect();
        let targets = engine.register(&names)?;
        let (owners, newest) = (Owners::default(), engine.newest());
        let mut table = RoutingTable::new(owners.clone(), leases.clone());
        let opened = table.replace(&[], routes.into_iter().zip(targets));
        let Counted { unfinished, left_to_another } = count_backlog(&mut *engine, &table, clock.now())?;
        counters.set_unfinished(unfinished);
        let outboxes = opened.into_iter().map(|opened| Outbox::new(opened, tasks.clone(), clock.clone()));
        let outboxes = outboxes.collect();
        let counted = Arc::clone(&counters);
        let committer = Committer::new(engine, queue, table, &leases, clock.clone(), counted, progress);
        let (refusing, refused) = watch::channel(None);
        let store = Self {
            inbox: Inbox {
                tasks: tasks.clone(),
                reader: reader.clone(),
                leases: leases.clone(),
                clock: clock.clone(),
                refusing,
            },
            operator: OperatorStore {
                tasks: tasks.clone(),
                owners,
                reader: reader.clone(),
                counters: Arc::clone(&counters),
                clock: clock.clone(),
                peers: Arc::default(),
            },
            outboxes,
            tasks,
            reader,
            counters,
            clock,
            retention: watch::Sender::new(settings.retention),
            refused,
            newest,
            left_to_another,
            leases,
            membership: None,
        };
        Ok((store, committer))
    }

    /// Replaces the routes, in one step between two commits. The targets in `kept` go on unchanged.
    /// Each route in `opened` gets an outbox, in the order of `opened`. Every other target receives
    /// no event from now on; its undelivered events stay stored.
    ///
    /// A target that had an outbox gets a new one. The dispatcher of the old outbox has to end
    /// before the new outbox is used; see [`Outbox`].
    ///
    /// # Errors
    /// [`RecordError`]; then nothing has changed.
    pub async fn reroute(&self, kept: Vec<Arc<str>>, opened: Vec<Route>) -> Result<Vec<Outbox>, RecordError> {
        for route in &opened {
            self.counters.add_target(&route.target);
        }
        let opened = self.tasks.control(|reply| Control::Reroute { kept, opened, reply }).await?;
        let outbox = |opened| Outbox::new(opened, self.tasks.clone(), self.clock.clone());
        Ok(opened.into_iter().map(outbox).collect())
    }

    /// Returns the replicas that share the store; `None` for a store of one process.
    pub fn peers(&self) -> Option<Peers> {
        self.membership.as_ref().map(Membership::peers)
    }

    /// Returns the requests of other replicas that are not about deliveries. Can be taken once.
    pub fn take_asked(&mut self) -> Option<mpsc::Receiver<Asked>> {
        self.membership.as_mut()?.asked.take()
    }

    /// Returns the tasks that keep the leases; empty for a store of one process. They can be taken
    /// once and have to run until the store is [closed](Self::close).
    pub fn take_lease_tasks(&mut self) -> Vec<LeaseTask> {
        self.membership.as_mut().map(Membership::take_tasks).unwrap_or_default()
    }

    /// Counts the unfinished deliveries from time to time until `stop`: while other replicas change
    /// them, and after a failed group that may be stored all the same. The count also holds the
    /// attempts on the wire of a target that no replica is configured with any more.
    pub fn recount(&self, stop: CancellationToken) -> impl Future<Output = ()> + Send + use<> {
        let (tasks, cluster) = (self.tasks.clone(), self.peers().map(|peers| peers.cluster()));
        let (mut counts, counters) = (u32::from(self.left_to_another), Arc::clone(&self.counters));
        async move {
            let mut rest = RECOUNT;
            while stop.run_until_cancelled(tokio::time::sleep(rest)).await.is_some() {
                let is_shared = cluster.as_ref().is_some_and(|cluster| cluster.borrow().has_others());
                if counters.take_doubt() {
                    counts = DOUBTFUL;
                }
                if counts > 0 || is_shared {
                    let began = Instant::now();
                    // The committer logs trouble of the database at a higher level.
                    let counted = tasks.control(|reply| Control::Recount { reply }).await;
                    // Counts once more after the others have left: their last changes are not counted
                    // yet.
                    counts = match counted {
                        Ok(is_left) => counts.saturating_sub(1).max(u32::from(is_shared || is_left)),
                        Err(_) => counts.max(1),
                    };
                    rest = RECOUNT.max(began.elapsed() * RECOUNT_SHARE);
                }
            }
        }
    }

    /// Asks for the lease of the work that one process at a time does for the whole store.
    pub fn housekeeping(&self) -> Housekeeping {
        Housekeeping::new(&self.leases)
    }

    /// Returns whether the store holds no event and no place from which a stream goes on. So it
    /// may be given to other sources. Returns false if the store cannot be read, or if several
    /// processes may share it: another one may be about to store something.
    pub async fn is_untouched(&self) -> bool {
        self.membership.is_none() && self.reader.holds_anything().await == Ok(false)
    }

    /// Notes that `sources`, all configured ones, bring this store its events. With `adopt`,
    /// earlier notes about them are dropped first.
    ///
    /// # Errors
    /// [`ClaimError::Other`] if the store holds events of another Pepay or of another account; then
    /// nothing has changed.
    pub async fn claim(&self, sources: Vec<SourceIdentity>, adopt: bool) -> Result<(), ClaimError> {
        let claim = move |group: &mut committer::Group<'_>| {
            if adopt {
                group.engine.forget_identities()?;
            }
            let stored = group.engine.identities()?;
            note_identities(group, &stored, &sources)
        };
        Ok(self.tasks.write(claim).await??)
    }

    /// Resolves once a source turns out to belong to another account than the store. Returns both
    /// identities.
    pub async fn refusal(&mut self) -> Box<OtherIdentity> {
        loop {
            let refused = self.refused.borrow_and_update().clone();
            if let Some(refused) = refused {
                return refused;
            }
            if self.refused.changed().await.is_err() {
                return std::future::pending().await;
            }
        }
    }

    /// Returns the task that removes events and audit entries that are older than their retention.
    pub fn janitor(&self) -> Janitor {
        let retention = self.retention.subscribe();
        Janitor::new(self.tasks.clone(), self.reader.clone(), self.clock.clone(), retention)
    }

    /// Sets how long rows are kept. The janitor goes by it from its next round on.
    pub fn retain(&self, retention: Retention) {
        self.retention.send_replace(retention);
    }

    /// Returns the task that compares the stream with the webhooks.
    pub fn comparison(&self) -> Comparison {
        let (reader, counters) = (self.reader.clone(), Arc::clone(&self.counters));
        Comparison::new(reader, counters, self.clock.clone(), self.newest)
    }

    /// Ends the committer after it has committed all earlier commands and made a checkpoint. Later
    /// commands are refused as unavailable.
    pub async fn close(&mut self) {
        if let Some(membership) = self.membership.take() {
            membership.leave().await;
        }
        // An error means that the committer has ended already.
        let _ = self.tasks.control(|reply| Control::Close { reply }).await;
    }
}

#[cfg(test)]
mod contract;
