//! Groups of the committer beside transactions of other processes.

use std::sync::Arc;
use std::thread;
use std::time::Duration;

use futures_util::FutureExt as _;
use sqlx::postgres::PgConnection;
use sqlx::{AssertSqlSafe, Connection as _, Executor as _};
use tokio::time::Instant;

use super::super::connect::Address;
use super::backend::Postgres;
use super::engines::Engines;
use crate::domain::clock::Clock;
use crate::domain::delivery::Ordering;
use crate::store::Committer;
use crate::store::committer::Tasks;
use crate::store::contract::{Backend as _, NOW, event, route};
use crate::store::handoff::Owners;
use crate::store::lease::{self, Leases};
use crate::store::routing::RoutingTable;
use crate::store::settings::{Durability, Route};

fn two_targets() -> Vec<Route> {
    ["orders", "all"].map(|name| route(name, "*", Ordering::PerObject)).into()
}

#[tokio::test(flavor = "multi_thread")]
async fn a_group_that_the_server_undoes_because_of_a_deadlock_is_carried_out_again() {
    let backend = Postgres::new().await;
    let (mut store, writer) = backend.open(two_targets(), Clock::from_fn(|| NOW)).await;
    let schema = &backend.server.schema;
    let address = Address::of(&backend.server, Durability::Normal).unwrap();
    let mut other = PgConnection::connect_with(&address.options).await.unwrap();
    let touch = |target: &str| format!("UPDATE \"{schema}\".target SET name = name WHERE name = '{target}'");
    // The other session is not the one that notices the deadlock.
    let begin =
        "BEGIN; SET LOCAL idle_in_transaction_session_timeout = 0; SET LOCAL deadlock_timeout = '1min'";
    other.execute(AssertSqlSafe(format!("{begin}; {}", touch("all")))).await.unwrap();
    // The tasks are queued before the committer runs, so that they form one group.
    let operator = store.operator.clone();
    let both = async {
        let paused = |target| operator.set_paused(target, Some("a test"));
        tokio::join!(paused("orders"), paused("all"))
    };
    let crossed = async {
        tokio::task::yield_now().await;
        let writer = thread::spawn(|| writer.run());
        let waits = "SELECT count(*) FROM pg_locks w JOIN pg_locks h ON h.pid = w.pid AND h.granted \
                     AND h.relation = 'target'::regclass WHERE NOT w.granted";
        while backend.number(waits) == 0 {
            tokio::time::sleep(Duration::from_millis(10)).await;
        }
        other.execute(AssertSqlSafe(touch("orders"))).await.unwrap();
        other.execute("COMMIT").await.unwrap();
        writer
    };
    let ((first, second), writer) = tokio::join!(both, crossed);
    assert_eq!((first, second), (Ok(()), Ok(())));
    assert_eq!(backend.number("SELECT count(*) FROM target WHERE paused_at IS NOT NULL"), 2);
    store.operator.probe().await.unwrap();
    store.close().await;
    writer.join().unwrap();
}

#[tokio::test]
async fn events_of_others_are_read_though_the_queue_had_no_room_for_a_hint_of_them() {
    let mut engines = Engines::new(1, two_targets()).await;
    let (mut engine, leases) = (engines.backend.engine().await, Leases::shared());
    let targets = engine.register(&["orders".into()]).unwrap();
    let mut table = RoutingTable::new(Owners::default(), leases.clone());
    let mut opened = table.replace(&[], two_targets().into_iter().zip(targets));
    let name = lease::of_target("orders");
    leases.hold(&name, engines.backend.term(&name), Instant::now() + Duration::from_hours(1));
    let (tasks, queue) = Tasks::new(1);
    let (clock, counters, progress) = (Clock::from_fn(|| NOW), Arc::default(), Arc::default());
    let committer = Committer::new(engine, queue, table, &leases, clock, counters, progress);
    engines.append(0, vec![event("evt_1", "a")]);
    // It fills the queue, and reads nothing.
    let mut probe = Box::pin(tasks.probe());
    assert!((&mut probe).now_or_never().is_none());
    tasks.wake();
    let committer = thread::spawn(|| committer.run());
    probe.await.unwrap();
    let arrived = opened[0].arrivals.take_ready();
    assert_eq!(arrived.map(|arrived| arrived.sequence), Some(1));
    drop(tasks);
    committer.join().unwrap();
}
