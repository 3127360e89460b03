//! A server that goes on from an older state, like an asynchronous standby that is promoted while
//! it lags behind.

use std::thread;
use std::time::Duration;

use futures_util::FutureExt as _;

use super::backend::Postgres;
use super::engines::Engines;
use crate::domain::clock::Clock;
use crate::domain::delivery::{Next, Ordering};
use crate::store::contract::{Backend as _, Fixture, NOW, arrived, event, heads, id, route};
use crate::store::engine::{Engine, EngineError, GroupKind, Rewound};
use crate::store::error::RecordError;
use crate::store::settings::Route;
use crate::store::types::{Recorded, Settlement, Term};

const LEASE: &str = "target/orders";

/// The lowest term of the new timeline.
const LEAST: Term = Term(2_000_000);

fn routes() -> Vec<Route> {
    vec![route("orders", "*", Ordering::PerObject)]
}

/// Removes all but the first event, and gives the server another timeline.
fn go_back(backend: &Postgres) {
    backend.execute("DELETE FROM delivery WHERE sequence > 1; DELETE FROM event WHERE sequence > 1");
    backend.execute(
        "CREATE OR REPLACE FUNCTION current_history() RETURNS text LANGUAGE sql AS $$ SELECT '1/3' $$",
    );
}

/// Runs `work` while every call fails and its connection is dropped.
async fn while_nothing_works<T>(backend: &Postgres, work: impl AsyncFnOnce() -> T) -> T {
    backend.execute("ALTER TABLE event RENAME TO away");
    let done = work().await;
    backend.execute("ALTER TABLE away RENAME TO event");
    done
}

/// Has the connection of `engine` opened again, as after a fail-over.
async fn reconnect(backend: &Postgres, engine: &mut dyn Engine) {
    let counted = while_nothing_works(backend, async || {
        engine.begin(GroupKind::Writes)?;
        let read = engine.read_log((0, None), &[], 1);
        engine.roll_back()?;
        read
    });
    assert!(matches!(counted.await, Err(EngineError::Unavailable(_))));
}

#[tokio::test]
async fn after_a_restore_no_earlier_term_writes_and_no_term_is_given_twice() {
    let mut engines = Engines::new(1, routes()).await;
    assert_eq!(engines.append(0, ["evt_1", "evt_2", "evt_3"].map(|id| event(id, "a")).into()), [1, 2, 3]);
    let (target, before) = (engines.targets[0], engines.backend.term(LEASE));
    go_back(&engines.backend);
    reconnect(&engines.backend, &mut *engines.all[0]).await;

    // Another process stores an event, which gets the sequence of a lost one.
    let second = engines.backend.engine().await;
    engines.all.push(second);
    assert_eq!(engines.append(1, vec![event("evt_9", "a")]), [2]);

    let lost = Settlement {
        sequence: 2,
        number: 1,
        started_at: NOW,
        duration: Duration::ZERO,
        status: Some(200),
        error: None,
        answer: Vec::new(),
        next: Next::Delivered,
    };
    let settle = |engines: &mut Engines, term| {
        engines.group(0, |group| group.engine.settle(term, target, &[&lost], &mut group.context))
    };
    assert_eq!(settle(&mut engines, before), Err(EngineError::Superseded));
    assert_eq!(engines.backend.texts("SELECT state FROM delivery WHERE sequence = 2"), ["pending"]);
    let Rewound { newest, terms } = engines.all[0].rewound().unwrap();
    assert_eq!(newest, 2);
    assert!(terms[LEASE] >= LEAST && terms[LEASE] > before, "{terms:?}");
    assert_eq!(engines.all[0].rewound(), None, "it is told once");

    let next = engines.backend.term(LEASE);
    assert!(next > LEAST && next > before, "{next:?}");
    assert_eq!(settle(&mut engines, next), Ok(()));
    // The row of the lease may have been lost, and its term with it.
    assert!(engines.backend.term("target/new") > LEAST);
}

#[tokio::test]
async fn a_second_standby_with_the_timeline_of_the_first_is_another_server() {
    let mut engines = Engines::new(1, routes()).await;
    assert_eq!(engines.append(0, vec![event("evt_1", "a")]), [1]);
    let before = "SELECT server FROM server_history";
    let primary = engines.backend.texts(before).concat();
    go_back(&engines.backend);
    reconnect(&engines.backend, &mut *engines.all[0]).await;
    assert_eq!(engines.append(0, vec![event("evt_2", "a")]), [2]);
    assert_eq!(engines.all[0].rewound().unwrap().newest, 1);
    let of_first = (1..5).map(|_| engines.backend.term(LEASE)).last().unwrap();
    // The second one has received nothing of what the first one has stored.
    go_back(&engines.backend);
    engines.backend.execute(&format!("UPDATE server_history SET server = '{primary}', mark = ''"));
    engines.backend.execute("UPDATE lease SET term = 1");
    reconnect(&engines.backend, &mut *engines.all[0]).await;
    assert_eq!(engines.append(0, vec![event("evt_3", "a")]), [2]);
    let Rewound { newest, terms } = engines.all[0].rewound().unwrap();
    assert_eq!(newest, 1);
    assert!(terms[LEASE] > of_first, "{terms:?} after {of_first:?}");
    assert!(engines.backend.term("target/new") > of_first);
}

#[tokio::test]
async fn a_server_that_was_only_restarted_keeps_its_terms() {
    let mut engines = Engines::new(1, routes()).await;
    assert_eq!(engines.append(0, vec![event("evt_1", "a")]), [1]);
    let term = engines.backend.term(LEASE);
    reconnect(&engines.backend, &mut *engines.all[0]).await;
    assert_eq!(engines.append(0, vec![event("evt_2", "a")]), [2]);
    assert_eq!(engines.all[0].rewound(), None);
    let kept = engines.backend.number(&format!("SELECT term FROM lease WHERE name = '{LEASE}'"));
    assert_eq!(Term(kept), term);
}

#[tokio::test]
async fn a_target_that_was_lost_has_its_number_again() {
    let mut engines = Engines::new(1, routes()).await;
    let backend = &engines.backend;
    let engine = &mut *engines.all[0];
    let late = engine.register(&["late".into()]).unwrap()[0];
    go_back(backend);
    backend.execute(&format!(
        "DELETE FROM target WHERE id = {0}; ALTER SEQUENCE target_id_seq RESTART {0}",
        late.0
    ));
    reconnect(backend, engine).await;
    engine.begin(GroupKind::Reads).unwrap();
    engine.roll_back().unwrap();
    assert_eq!(engine.register(&["late".into()]).unwrap(), [late]);
    assert_ne!(engine.register(&["later".into()]).unwrap(), [late]);
}

#[tokio::test]
async fn a_copy_by_logical_replication_numbers_on_behind_what_it_has() {
    let engines = Engines::new(1, routes()).await;
    let backend = &engines.backend;
    go_back(backend);
    // Such a copy has the rows and not the sequences.
    backend.execute("ALTER SEQUENCE target_id_seq RESTART; ALTER SEQUENCE audit_id_seq RESTART 1");
    backend.execute(
        "INSERT INTO audit (id, key, at, kind, client, action, count, outcome) OVERRIDING SYSTEM VALUE \
         VALUES (1, 1, 1, 'change', '', '', 1, '')",
    );
    let mut started = backend.engine().await;
    assert_ne!(started.register(&["later".into()]).unwrap(), engines.targets);
    assert_eq!(backend.number("SELECT nextval('audit_id_seq')"), 2);
}

#[tokio::test]
async fn a_target_that_has_another_number_now_needs_a_restart() {
    let mut engines = Engines::new(1, routes()).await;
    let backend = &engines.backend;
    let engine = &mut *engines.all[0];
    let late = engine.register(&["late".into()]).unwrap()[0];
    go_back(backend);
    backend.execute(&format!("UPDATE target SET name = 'of another process' WHERE id = {}", late.0));
    reconnect(backend, engine).await;
    for _ in 0..2 {
        let refused = engine.begin(GroupKind::Writes).unwrap_err().to_string();
        assert!(refused.contains("another number for the target \"late\""), "{refused}");
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn what_another_process_stores_afterwards_is_handed_over_though_its_number_was_seen() {
    let mut fixture = Fixture::<Postgres>::new(routes()).await;
    let (mut arrivals, ledger) = fixture.outbox();
    for name in ["evt_1", "evt_2", "evt_3"] {
        assert_eq!(fixture.store.inbox.try_record(event(name, "a")).await, Ok(Recorded::New));
    }
    let mut jobs = Vec::new();
    for _ in 0..3 {
        jobs.push(arrived(&mut arrivals).await);
    }
    go_back(&fixture.backend);
    let failed = while_nothing_works(&fixture.backend, async || {
        fixture.store.inbox.try_record(event("evt_4", "a")).await
    });
    assert!(matches!(failed.await, Err(RecordError::Unavailable(_))));
    assert_eq!(fixture.store.inbox.try_record(event("evt_1", "a")).await, Ok(Recorded::Duplicate));
    // Events are handed over only to the holder of the lease. The renewal ends the old term.
    fixture.own_again().await;

    let (mut second, writer) = fixture.backend.open(routes(), Clock::from_fn(|| NOW)).await;
    let writer = thread::spawn(|| writer.run());
    assert_eq!(second.inbox.try_record(event("evt_8", "a")).await, Ok(Recorded::New));
    assert_eq!(fixture.store.inbox.try_record(event("evt_9", "a")).await, Ok(Recorded::New));
    for (name, sequence) in [("evt_8", 2), ("evt_9", 3)] {
        let job = tokio::time::timeout(Duration::from_secs(5), arrived(&mut arrivals)).await.unwrap();
        assert_eq!((id(&job), job.sequence), (name, sequence));
    }
    // The outcome of a lost event is not stored for the event that has its sequence now.
    let settled = ledger.settle(vec![jobs[1].settlement(NOW, Duration::ZERO, Next::Delivered)]).await;
    assert_eq!(settled, Err(RecordError::Superseded));
    assert_eq!(fixture.backend.texts("SELECT DISTINCT state FROM delivery WHERE sequence > 1"), ["pending"]);
    second.close().await;
    writer.join().unwrap();
}

#[tokio::test(flavor = "multi_thread")]
async fn nothing_is_handed_over_under_an_earlier_term() {
    let mut fixture = Fixture::<Postgres>::new(routes()).await;
    let (mut arrivals, ledger) = fixture.outbox();
    assert_eq!(fixture.store.inbox.try_record(event("evt_1", "a")).await, Ok(Recorded::New));
    assert_eq!(id(&arrived(&mut arrivals).await), "evt_1");
    go_back(&fixture.backend);
    // Another process is the first to find it so, and stores an event.
    let (mut second, writer) = fixture.backend.open(routes(), Clock::from_fn(|| NOW)).await;
    let writer = thread::spawn(|| writer.run());
    assert_eq!(second.inbox.try_record(event("evt_2", "a")).await, Ok(Recorded::New));
    let failed = while_nothing_works(&fixture.backend, async || {
        fixture.store.inbox.try_record(event("evt_3", "a")).await
    });
    assert!(matches!(failed.await, Err(RecordError::Unavailable(_))));
    assert_eq!(fixture.store.inbox.try_record(event("evt_3", "a")).await, Ok(Recorded::New));
    // It would be sent before the one that the other process has stored.
    assert!(!fixture.is_trusted(), "the term is over that the database was left under");
    assert!(arrivals.next().now_or_never().is_none());
    second.close().await;
    writer.join().unwrap();
    fixture.own_again().await;
    let found = heads(&ledger, NOW).await;
    assert_eq!(found.iter().map(id).collect::<Vec<_>>(), ["evt_1"]);
}
