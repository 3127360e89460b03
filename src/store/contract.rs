//! The contract of every engine: the tests of a store that hold for any database, through the store's
//! handles and through the [`Engine`] below them.
//!
//! The tests are in `contract/suite.rs` and the files that it names. The tests of an engine load
//! these files, and name their [`Backend`] `UnderTest`:
//! ```ignore
//! use backend::Sqlite as UnderTest;
//! #[path = "../../contract/suite.rs"]
//! mod contract;
//! ```
//! The files, migrations and query plans of one engine are tested beside it. The suite reads and changes a
//! database by SQL that `SQLite` and `PostgreSQL` both understand; where theirs differs, [`Backend`] has a
//! method.

use std::collections::{HashMap, HashSet, VecDeque};
use std::sync::Arc;
use std::thread::JoinHandle;
use std::time::Duration;

use tokio::task::JoinSet;
use tokio_util::sync::CancellationToken;

use super::engine::Engine;
use super::lease::{Lease, Tenure};
use super::outbox::{Arrival, DeliveryLog, JobReceiver, Outbox, Request};
use super::settings::{Retention, Route};
use super::types::{Job, Scan, Search, Term};
use super::{Committer, Store};
use crate::domain::clock::{Clock, UnixMillis};
use crate::domain::delivery::Ordering;
use crate::domain::event::{Received, Source};
use crate::domain::filter::TypeFilter;
use crate::domain::operator::{Action, BulkWork, Filter};
use crate::pepay::envelope;

/// The time at which a store of the suite is, unless a test says otherwise.
pub(super) const NOW: UnixMillis = UnixMillis(1_800_000_000_000);

/// How long a [`Backend`] has to keep rows.
pub(super) const RETENTION: Retention = Retention {
    payloads: Duration::from_hours(24),
    ids: Duration::from_hours(48),
    dead: Duration::from_hours(96),
    audit: Duration::from_hours(48),
};

/// A database of the engine under test, which is removed when the value is dropped.
pub(super) trait Backend: Sized {
    /// Whether several processes may share the database.
    const IS_SHARED: bool;

    /// Creates the value; the database does not exist yet.
    async fn new() -> Self;

    /// Opens a store on the database. The first call creates the store.
    async fn open(&self, routes: Vec<Route>, clock: Clock) -> (Store, Committer);

    /// Opens the engine without a store.
    async fn engine(&self) -> Box<dyn Engine>;

    /// Takes `lease` for a test that uses the engine without a store. The earlier term is over then.
    fn term(&self, lease: &str) -> Term;

    /// Executes a statement on a connection beside the store's.
    fn execute(&self, statement: &str);

    /// Executes a statement without the checks of the schema, as if a later version had written it.
    fn execute_unchecked(&self, statement: &str);

    /// Returns the rows of a query with one column of numbers.
    fn numbers(&self, query: &str) -> Vec<i64>;

    /// Returns the rows of a query with one column of texts.
    fn texts(&self, query: &str) -> Vec<String>;

    /// Makes the database refuse, as "refused by the test", each `write` (such as `INSERT ON event`)
    /// whose row `new` fulfils `condition`. One `write` at a time.
    fn refuse(&self, write: &str, condition: &str);

    /// Makes the database accept such writes again.
    fn accept(&self, write: &str);

    /// Returns the only row of a query with one column of numbers.
    fn number(&self, query: &str) -> i64 {
        let rows = self.numbers(query);
        assert_eq!(rows.len(), 1, "{query}");
        rows[0]
    }
}

/// A store on a database of its own, with its committer on a thread.
pub(super) struct Fixture<B> {
    pub(super) store: Store,
    outboxes: VecDeque<(JobReceiver, DeliveryLog)>,
    /// The leases of the targets and streams that the test owns.
    owned: Vec<(Tenure, Lease)>,
    /// Tasks in place of dispatchers, which carry out operators' actions; and the task that counts the
    /// backlog.
    acting: JoinSet<()>,
    writer: JoinHandle<()>,
    pub(super) backend: B,
}

impl<B: Backend> Fixture<B> {
    pub(super) async fn new(routes: Vec<Route>) -> Self {
        Self::at(B::new().await, routes).await
    }

    pub(super) async fn at(backend: B, routes: Vec<Route>) -> Self {
        Self::timed(backend, routes, Clock::from_fn(|| NOW)).await
    }

    /// Opens a store with the time of `clock`.
    pub(super) async fn timed(backend: B, routes: Vec<Route>, clock: Clock) -> Self {
        let (mut store, committer) = backend.open(routes, clock).await;
        let outboxes = std::mem::take(&mut store.outboxes);
        let writer = std::thread::spawn(|| committer.run());
        let owned = Vec::new();
        // The task ends with the others, which abort it.
        let stop = CancellationToken::new();
        let mut acting = JoinSet::new();
        acting.spawn(store.recount(stop));
        let mut fixture = Self { store, outboxes: VecDeque::new(), owned, acting, writer, backend };
        for outbox in outboxes {
            let owned = fixture.own(outbox).await;
            fixture.outboxes.push_back(owned);
        }
        fixture
    }

    /// Becomes the owner of the target of `outbox`.
    pub(super) async fn own(&mut self, outbox: Outbox) -> (JobReceiver, DeliveryLog) {
        let Outbox { lease, arrivals, mut requests, log, .. } = outbox;
        let ledger = log.under(self.hold(lease).await);
        let acting = ledger.clone();
        self.acting.spawn(async move {
            loop {
                let Request { acts, answers, reply } = requests.next().await;
                // The caller may have gone.
                let _ = reply.send(acting.act(acts, Vec::new(), answers).await);
            }
        });
        (arrivals, ledger)
    }

    /// Becomes the reader of the stream called `name`. Returns the term.
    pub(super) async fn read_stream(&mut self, name: &str) -> Term {
        self.hold(self.store.inbox.stream_lease(name)).await
    }

    /// Returns whether each lease that the test owns may be used.
    #[cfg(feature = "postgres-tests")]
    pub(super) fn is_trusted(&self) -> bool {
        self.owned.iter().all(|(tenure, _)| tenure.is_trusted())
    }

    /// Waits until each lease that the test owns is over, and owns it again.
    #[cfg(feature = "postgres-tests")]
    pub(super) async fn own_again(&mut self) {
        for (tenure, lease) in std::mem::take(&mut self.owned) {
            let over = tokio::time::timeout(Duration::from_secs(20), tenure.over());
            over.await.expect("the lease is over by now");
            drop(tenure);
            self.hold(lease).await;
        }
    }

    async fn hold(&mut self, lease: Lease) -> Term {
        let held = tokio::time::timeout(Duration::from_secs(20), lease.held());
        let tenure = held.await.expect("the lease is held by now");
        let term = tenure.term();
        self.owned.push((tenure, lease));
        term
    }

    /// Closes the store. Returns its database.
    pub(super) async fn close(mut self) -> B {
        self.owned.clear();
        self.acting.shutdown().await;
        self.store.close().await;
        self.writer.join().unwrap();
        self.backend
    }

    /// Closes the store and opens it again, as a restart does.
    pub(super) async fn restart(self, routes: Vec<Route>) -> Self {
        Self::at(self.close().await, routes).await
    }

    /// Returns the next outbox, in the order of the routes.
    pub(super) fn outbox(&mut self) -> (JobReceiver, DeliveryLog) {
        self.outboxes.pop_front().unwrap()
    }
}

pub(super) fn route(target: &str, types: &str, ordering: Ordering) -> Route {
    let types = TypeFilter::new(types.split(',').map(|pattern| pattern.parse().unwrap()).collect());
    Route { target: target.into(), types, environment: None, condition: None, ordering }
}

/// Returns the bulk action `action` on all deliveries that pass `filter`.
pub(super) fn work(action: Action, filter: &Filter) -> BulkWork {
    BulkWork::Act(action, filter.clone())
}

/// Returns an event `id` about `object`.
pub(super) fn event(id: &str, object: &str) -> Received {
    let body = format!(
        r#"{{"id":"{id}","object":"event","type":"commerce.order.updated","created":1734780000,
           "data":{{"object":{{"object":"commerce_order","id":"{object}"}}}},  "extra": "é" }}"#
    );
    Received {
        event: envelope::parse(body.into(), UnixMillis(0)).unwrap(),
        source: Source::Webhook,
        origin: Arc::from("default"),
        environment: None,
        received_at: NOW,
    }
}

pub(super) async fn arrived(arrivals: &mut JobReceiver) -> Job {
    match arrivals.next().await {
        Arrival::New(arrived) => arrived.job.unwrap(),
        other => panic!("{other:?} instead of a delivery"),
    }
}

/// Calls `ask` until it returns something, at most for twenty seconds, with a pause after each call. A
/// database gives no notice of a change.
pub(super) async fn eventually<T>(what: &str, mut ask: impl AsyncFnMut() -> Option<T>) -> T {
    let found = async {
        loop {
            if let Some(found) = ask().await {
                return found;
            }
            tokio::time::sleep(Duration::from_millis(20)).await;
        }
    };
    let in_time = tokio::time::timeout(Duration::from_secs(20), found).await;
    in_time.unwrap_or_else(|_| panic!("{what} has not happened"))
}

/// Returns the search of a dispatcher that knows no delivery, for all that can be sent.
pub(super) fn everything(now: UnixMillis) -> Search {
    Search {
        now,
        lookups: Vec::new(),
        lanes: HashMap::new(),
        singles: HashSet::new(),
        retries: 5000,
        scan: Some(Scan { after: 0, limit: 5000 }),
        census: None,
    }
}

/// Returns the heads of the lanes and the deliveries without a lane that may be sent `now`.
pub(super) async fn heads(ledger: &DeliveryLog, now: UnixMillis) -> Vec<Job> {
    let found = ledger.search(everything(now)).await.unwrap();
    let mut heads = found.singles;
    heads.extend(found.lanes.into_iter().filter_map(|lane| lane.rows.into_iter().next()));
    heads.sort_by_key(|job| job.sequence);
    heads
}

pub(super) fn id(job: &Job) -> &str {
    job.event.event.id.as_str()
}
