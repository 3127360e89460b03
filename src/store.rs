//! The store: everything that is kept, behind narrow handles and plain values.
//!
//! | file | holds |
//! |---|---|
//! | [`inbox`] | the sources' handle: records what they bring |
//! | [`outbox`] | a target's handle: hands out deliveries, takes their outcomes |
//! | `handoff` | bounded queues in memory, from the committer to a dispatcher |
//! | [`operator`] | the operator's handle: shows what is stored, does what is asked |
//! | [`lease`], [`cluster`] | which process delivers to a target, reads a stream, keeps house |
//! | [`types`], [`view`], [`error`] | plain values and errors of these |
//! | `committer`, `progress` | the thread that writes: group commit, and what follows a commit; whether it gets on |
//! | `remote` | what an operator asks of another replica, in writing |
//! | `routing`, `counts`, `retention`, `identity`, `source_comparison` | what every engine shares; no SQL |
//! | `engine` | the trait of a database, `SQLite` and `PostgreSQL`; all SQL |
//! | `contract` | the tests of every engine |
//! | [`backup`], [`restore`], [`check`] | a copy of a store that may be in use, putting one back, a look at one |
//!
//! One thread owns the engine and commits in groups; readers are a small pool. No type
//! of an engine leaves this module.

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
pub use settings::{Durability, Place, Route, Server, Settings};
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
use inbox::Inbox;
use lease::{Housekeeping, Leases};
use operator::OperatorStore;
use outbox::Outbox;
use progress::Progress;
use retention::Retention;
use routing::RoutingTable;

/// Commands that may wait for the committer. A queue longer than a few groups only
/// adds latency; a caller that finds it full is asked to come back.
const QUEUE: usize = 1024;

/// Connections by which leases are renewed and other replicas asked.
const LEASE_CONNECTIONS: u32 = 2;

/// Between two counts of what is unfinished, at least.
const RECOUNT: Duration = Duration::from_secs(2);

/// So many times as long as a count takes is left to others.
const RECOUNT_SHARE: u32 = 20;

/// An open store: its handles, to be given to those who need them.
#[derive(Debug)]
pub struct Store {
    /// For the sources.
    pub inbox: Inbox,
    /// For the operator.
    pub operator: OperatorStore,
    /// For the dispatchers, one for each route and in their order.
    pub outboxes: Vec<Outbox>,
    tasks: Tasks,
    reader: Reader,
    counters: Arc<Counters>,
    clock: Clock,
    retention: watch::Sender<Retention>,
    /// The last source that was refused for being another account's.
    refused: watch::Receiver<Option<Box<OtherIdentity>>>,
    /// The sequence of the newest event when the store was opened.
    newest: i64,
    /// Whether something on the wire was left to another process then.
    left_to_another: bool,
    leases: Leases,
    /// What keeps the leases, where several processes may share the store.
    membership: Option<Membership>,
}

impl Store {
    /// Opens the store, creating or migrating it as needed, and takes its lock or lease.
    /// Nothing is committed until [`Committer::run`] is running on a thread of its own. A `clock`
    /// that is adjustable is set by the database's, where several processes may share the store.
    ///
    /// # Errors
    /// [`OpenError`] names the file or server and what is wrong; it is left as it was.
    pub async fn open(
        settings: &Settings,
        routes: Vec<Route>,
        clock: Clock,
    ) -> Result<(Self, Committer), OpenError> {
        let durability = settings.durability;
        match &settings.place {
            Place::File(path) => {
                let lock = open::prepare(path).await?;
                let engine = SqliteEngine::open(path, durability, lock)?;
                let reader = Reader::of_sqlite(open::open_reader_pool(path).await?, path);
                Self::on(
                    (Box::new(engine), reader),
                    (settings, routes),
                    clock,
                    (Leases::sole(), Arc::default()),
                )
                .map_err(|error| open::database(path, &error))
            }
            Place::Server(server) => {
                let progress = Arc::<Progress>::default();
                let open = PostgresEngine::open(server, durability, Arc::clone(&progress));
                let (engine, (address, pool)) = open.await?;
                let (leases, reader) = (Leases::shared(), Reader::of_postgres(pool, address.shared.clone()));
                let (mut store, committer) = Self::on(
                    (Box::new(engine), reader),
                    (settings, routes),
                    clock,
                    (leases.clone(), progress),
                )
                .map_err(|error| address.error(&error))?;
                let (tasks, writer) = (store.tasks.clone(), (committer.progress(), committer.stored()));
                let look = move || tasks.wake();
                // Of its own: the leases do not wait for what readers are asked.
                let joining = (&address, address.pool(LEASE_CONNECTIONS, Purpose::Leases), &*server.schema);
                let membership = Membership::join(joining, (leases, store.clock.clone()), look, writer);
                // It is set nowhere else.
                let _ = store.operator.peers.set(membership.peers());
                store.membership = Some(membership);
                Ok((store, committer))
            }
        }
    }

    /// Wires the handles and the committer of a store on `engine`.
    fn on(
        (mut engine, reader): (Box<dyn Engine>, Reader),
        (settings, routes): (&Settings, Vec<Route>),
        clock: Clock,
        (leases, progress): (Leases, Arc<Progress>),
    ) -> Result<(Self, Committer), EngineError> {
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
        let times = (clock.clone(), Arc::clone(&counters));
        let committer = Committer::new(engine, queue, table, &leases, times, progress);
        let (refusing, refused) = watch::channel(None);
        let store = Self {
            inbox: Inbox::new(tasks.clone(), reader.clone(), leases.clone(), (clock.clone(), refusing)),
            operator: OperatorStore::new(
                tasks.clone(),
                owners,
                reader.clone(),
                Arc::clone(&counters),
                clock.clone(),
            ),
            outboxes,
            tasks,
            reader,
            counters,
            clock,
            retention: watch::Sender::new(settings.into()),
            refused,
            newest,
            left_to_another,
            leases,
            membership: None,
        };
        Ok((store, committer))
    }

    /// Replaces the routes, in one step between two commits: the targets in `kept`
    /// go on as they are, each of `opened` gets an outbox, in that order, and every
    /// other target receives nothing from here on. What is undelivered stays stored.
    ///
    /// A target that had an outbox before gets a new one. The dispatcher of the old one
    /// has to end before the new one is used; see [`Outbox`].
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

    /// The replicas that share the store; `None` of a store of one process.
    pub fn peers(&self) -> Option<Peers> {
        self.membership.as_ref().map(Membership::peers)
    }

    /// What other replicas ask of this one, and is not about deliveries; to be taken once.
    pub fn take_asked(&mut self) -> Option<mpsc::Receiver<Asked>> {
        self.membership.as_mut()?.asked.take()
    }

    /// What keeps the leases; to be taken once, and run until the store is
    /// [closed](Self::close). Empty of a store of one process.
    pub fn take_lease_tasks(&mut self) -> Vec<LeaseTask> {
        self.membership.as_mut().map(Membership::take_tasks).unwrap_or_default()
    }

    /// Counts what is unfinished now and then, while other replicas change it, and after a group
    /// of which it is not known whether it was stored, until `stop`.
    /// What a target that no replica is configured with any more has on the wire is held.
    pub fn recount(&self, stop: CancellationToken) -> impl Future<Output = ()> + Send + use<> {
        let (tasks, cluster) = (self.tasks.clone(), self.peers().map(|peers| peers.cluster()));
        let (mut once_more, counters) = (self.left_to_another, Arc::clone(&self.counters));
        async move {
            let mut rest = RECOUNT;
            while stop.run_until_cancelled(tokio::time::sleep(rest)).await.is_some() {
                let is_shared = cluster.as_ref().is_some_and(|cluster| cluster.borrow().has_others());
                once_more |= counters.take_doubt();
                // Once more when they have gone: what they did last is not counted yet.
                if std::mem::replace(&mut once_more, is_shared) || is_shared {
                    let began = Instant::now();
                    // The committer says at a higher level that the database is in trouble.
                    once_more |= tasks.control(|reply| Control::Recount { reply }).await != Ok(false);
                    rest = RECOUNT.max(began.elapsed() * RECOUNT_SHARE);
                }
            }
        }
    }

    /// Asks for what one process at a time does for the whole store.
    pub fn housekeeping(&self) -> Housekeeping {
        Housekeeping::new(&self.leases)
    }

    /// Notes that `sources` bring this store its events, all that are configured. With
    /// `adopt`, whatever they were before.
    ///
    /// # Errors
    /// [`ClaimError::Other`] if the store holds another Pepay's or another account's; then
    /// nothing has changed.
    pub async fn claim(&self, sources: Vec<SourceIdentity>, adopt: bool) -> Result<(), ClaimError> {
        let claim = move |group: &mut committer::Group<'_>| {
            if adopt {
                group.engine.forget_identities()?;
            }
            let changed = match identity::reconcile(&group.engine.identities()?, &sources) {
                Ok(changed) => changed,
                Err(other) => return Ok(Err(other)),
            };
            for identity in changed {
                group.engine.identify(&identity, group.now)?;
            }
            Ok(Ok(()))
        };
        Ok(self.tasks.write(claim).await??)
    }

    /// Resolves once a source turns out to be of another account than the store, with the
    /// reason.
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

    /// Removes what is older than it is to be kept.
    pub fn janitor(&self) -> Janitor {
        let retention = self.retention.subscribe();
        Janitor::new(self.tasks.clone(), self.reader.clone(), self.clock.clone(), retention)
    }

    /// Sets the retentions of `settings`, which count from the janitor's next round on.
    pub fn retain(&self, settings: &Settings) {
        self.retention.send_replace(settings.into());
    }

    /// Compares the live sources.
    pub fn comparison(&self) -> Comparison {
        let (reader, counters) = (self.reader.clone(), Arc::clone(&self.counters));
        Comparison::new(reader, counters, self.clock.clone(), self.newest)
    }

    /// Ends the committer once it has committed what was handed to it before, and has
    /// checkpointed. Later commands are refused as unavailable.
    pub async fn close(&mut self) {
        if let Some(membership) = self.membership.take() {
            membership.leave().await;
        }
        // An error says that the committer is gone already, which is what was asked for.
        let _ = self.tasks.control(|reply| Control::Close { reply }).await;
    }
}

#[cfg(test)]
mod contract;
