//! The store's promises, on real files.

mod backup;
mod conflicts;
mod listing;
mod migration;
mod opening;
mod operating;
mod orders;
mod outcomes;
mod plans;
mod recording;
mod retention;
mod routes;
mod sightings;
mod states;

use std::collections::{HashMap, HashSet};
use std::path::Path;
use std::sync::Arc;
use std::thread::JoinHandle;
use std::time::Duration;

use tempfile::TempDir;

use super::outbox::{Arrival, Arrivals, DeliveryLog};
use super::types::{Job, Scan, Search};
use super::*;
use crate::domain::clock::UnixMillis;
use crate::domain::delivery::Ordering;
use crate::domain::event::{Received, Source};
use crate::domain::filter::TypeFilter;
use crate::pepay::envelope;

const NOW: UnixMillis = UnixMillis(1_800_000_000_000);

/// A store in a folder of its own, its writer on a thread.
struct Fixture {
    store: Store,
    /// Without a dispatcher, operators act on the store itself.
    outboxes: Vec<(Arrivals, DeliveryLog)>,
    writer: JoinHandle<()>,
    folder: TempDir,
}

fn settings(folder: &Path) -> Settings {
    Settings {
        path: folder.join("data/test.db"),
        durability: Durability::Normal,
        payload_retention: Duration::from_hours(24),
        dedupe_retention: Duration::from_hours(48),
    }
}

fn route(target: &str, types: &str, ordering: Ordering) -> Route {
    let types = TypeFilter::new(types.split(',').map(|pattern| pattern.parse().unwrap()).collect());
    Route { target: target.into(), types, environment: None, ordering }
}

async fn open(folder: &Path, routes: Vec<Route>) -> Result<(Store, Committer), OpenError> {
    Store::open(&settings(folder), routes, Clock::from_fn(|| NOW)).await
}

impl Fixture {
    async fn new(routes: Vec<Route>) -> Self {
        Self::at(TempDir::new().unwrap(), routes).await
    }

    async fn at(folder: TempDir, routes: Vec<Route>) -> Self {
        let (store, writer) = open(folder.path(), routes).await.unwrap();
        Self::of(store, writer, folder)
    }

    fn of(mut store: Store, writer: Committer, folder: TempDir) -> Self {
        let without_requests = |outbox: Outbox| {
            let (arrivals, _, ledger) = outbox.split();
            (arrivals, ledger)
        };
        let outboxes = store.outboxes.drain(..).map(without_requests).collect();
        let writer = std::thread::spawn(|| writer.run());
        Self { store, outboxes, writer, folder }
    }

    /// Closes the store and answers its folder.
    async fn close(self) -> TempDir {
        self.store.close().await;
        self.writer.join().unwrap();
        self.folder
    }

    /// Closes the store and opens it again, as a restart does.
    async fn restart(self, routes: Vec<Route>) -> Self {
        Self::at(self.close().await, routes).await
    }

    /// A second connection, as an operator's own tool would open.
    fn side_door(&self) -> rusqlite::Connection {
        rusqlite::Connection::open(settings(self.folder.path()).path).unwrap()
    }

    fn outbox(&mut self) -> (Arrivals, DeliveryLog) {
        self.outboxes.remove(0)
    }
}

/// An event of `id` about `object`.
fn event(id: &str, object: &str) -> Received {
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

async fn arrived(arrivals: &mut Arrivals) -> Job {
    match arrivals.next().await {
        Arrival::New(arrived) => arrived.job.unwrap(),
        other => panic!("{other:?} instead of a delivery"),
    }
}

/// Nothing is known: everything that can be sent is searched for.
fn everything(now: UnixMillis) -> Search {
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

/// The heads of the lanes and what is in none, as far as they may be sent `now`.
async fn heads(ledger: &DeliveryLog, now: UnixMillis) -> Vec<Job> {
    let found = ledger.search(everything(now)).await.unwrap();
    let mut heads = found.singles;
    heads.extend(found.lanes.into_iter().filter_map(|lane| lane.rows.into_iter().next()));
    heads.sort_by_key(|job| job.sequence);
    heads
}

fn id(job: &Job) -> &str {
    job.event.event.id.as_str()
}
