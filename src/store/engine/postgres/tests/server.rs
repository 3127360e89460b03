//! Behaviour that only a server has: several processes, and connections that are cut.

use std::thread;
use std::time::{Duration, Instant};

use tokio::runtime::Handle;
use tokio::task::block_in_place;
use tokio_util::sync::CancellationToken;

use super::super::connect::{Address, Purpose};
use super::super::membership::Membership;
use super::backend::Postgres;
use crate::domain::clock::{Clock, UnixMillis};
use crate::domain::delivery::{Next, Ordering};
use crate::domain::event::Received;
use crate::lifecycle::Tasks;
use crate::store::contract::{Backend as _, Fixture, NOW, arrived, event, eventually, everything, id, route};
use crate::store::error::RecordError;
use crate::store::lease::Leases;
use crate::store::settings::Durability;
use crate::store::types::{AttemptStarted, Recorded};
use crate::store::{Store, server_check};

type Stored = Fixture<Postgres>;

async fn stored() -> Stored {
    Fixture::new(vec![route("orders", "*", Ordering::PerObject)]).await
}

const TAKE_OVER: &str = "UPDATE lease SET holder = 'another', term = term + 1, \
                         expires_at = clock_timestamp() + interval '1 hour' WHERE name = 'target/orders'";

#[tokio::test(flavor = "multi_thread")]
async fn what_a_second_process_stores_is_handed_to_the_one_that_has_the_target() {
    let mut fixture = stored().await;
    let (mut arrivals, _ledger) = fixture.outbox();
    let routes = vec![route("orders", "*", Ordering::PerObject)];
    let (mut second, writer) = fixture.backend.open(routes, Clock::from_fn(|| NOW)).await;
    let writer = thread::spawn(|| writer.run());
    for (n, inbox) in (0..).zip([&second.inbox, &fixture.store.inbox].into_iter().cycle().take(20)) {
        assert_eq!(inbox.try_record(event(&format!("evt_{n}"), "a")).await, Ok(Recorded::New));
    }
    assert_eq!(second.inbox.try_record(event("evt_1", "a")).await, Ok(Recorded::Duplicate));
    for n in 0..20 {
        let job = tokio::time::timeout(Duration::from_secs(5), arrived(&mut arrivals)).await.unwrap();
        assert_eq!((id(&job), job.sequence), (&*format!("evt_{n}"), n + 1));
    }
    assert!(arrivals.take_ready().is_none());
    assert!(second.outboxes[0].arrivals.take_ready().is_none());
    second.close().await;
    writer.join().unwrap();
}

#[tokio::test(flavor = "multi_thread")]
async fn a_process_that_was_replaced_writes_no_outcome_and_still_stores_events() {
    let mut fixture = stored().await;
    let (mut arrivals, ledger) = fixture.outbox();
    fixture.store.inbox.try_record(event("evt_1", "a")).await.unwrap();
    let job = arrived(&mut arrivals).await;
    fixture.backend.execute(TAKE_OVER);
    let begun = AttemptStarted { sequence: job.sequence, number: 1, at: NOW };
    assert_eq!(ledger.begin(begun).await, Err(RecordError::Superseded));
    let settled = ledger.settle(vec![job.settlement(NOW, Duration::ZERO, Next::Delivered)]).await;
    assert_eq!(settled, Err(RecordError::Superseded));
    assert_eq!(fixture.backend.texts("SELECT state FROM delivery"), ["pending"]);
    assert_eq!(fixture.store.inbox.try_record(event("evt_2", "a")).await, Ok(Recorded::New));
    fixture.store.operator.probe().await.unwrap();
}

#[tokio::test]
async fn an_attempt_of_a_removed_target_of_a_killed_process_is_held_once_its_lease_is_over() {
    let mut fixture = stored().await;
    let (mut arrivals, ledger) = fixture.outbox();
    fixture.store.inbox.try_record(event("evt_1", "a")).await.unwrap();
    let job = arrived(&mut arrivals).await;
    ledger.begin(AttemptStarted { sequence: job.sequence, number: 1, at: NOW }).await.unwrap();
    let backend = fixture.close().await;
    // The lease is as a killed process leaves it.
    backend.term("target/orders");
    let fixture = Stored::at(backend, vec![route("invoices", "*", Ordering::PerObject)]).await;
    let state = || fixture.backend.texts("SELECT state FROM delivery").concat();
    assert_eq!(state(), "sending", "another process may still answer for it");
    fixture.backend.execute("UPDATE lease SET expires_at = '-infinity' WHERE name = 'target/orders'");
    eventually("the hold", async || (state() == "held").then_some(())).await;
    let backlogs = fixture.store.operator.backlogs().await.unwrap();
    let removed = backlogs.into_iter().find(|backlog| &*backlog.target == "orders").unwrap();
    assert_eq!((removed.open, removed.held), (0, 1));
}

#[tokio::test(flavor = "multi_thread")]
async fn connections_that_are_cut_are_made_anew() {
    let fixture = stored().await;
    fixture.store.inbox.try_record(event("evt_1", "a")).await.unwrap();
    // Cuts only the connection that waits to write to the table of this test.
    let cut = "DO $$ DECLARE writer integer; BEGIN \
                 LOCK TABLE event IN EXCLUSIVE MODE; \
                 FOR i IN 1..1000 LOOP \
                   SELECT pid INTO writer FROM pg_locks WHERE relation = 'event'::regclass AND NOT granted; \
                   EXIT WHEN writer IS NOT NULL; \
                   PERFORM pg_sleep(0.01); \
                 END LOOP; \
                 IF NOT coalesce(pg_terminate_backend(writer), false) THEN RAISE 'no writer'; END IF; \
               END $$";
    let is_locked = "SELECT count(*)::text FROM pg_locks \
                     WHERE relation = 'event'::regclass AND mode = 'ExclusiveLock' AND granted";
    let outcome = block_in_place(|| {
        thread::scope(|scope| {
            let cutting = scope.spawn(|| fixture.backend.execute(cut));
            while fixture.backend.number(is_locked) == 0 {
                assert!(!cutting.is_finished(), "the table was not locked");
                thread::sleep(Duration::from_millis(5));
            }
            // The group whose connection is cut is refused; the event is offered again.
            Handle::current().block_on(fixture.store.inbox.try_record(event("evt_2", "a")))
        })
    });
    assert!(matches!(outcome, Err(RecordError::Unavailable(_))), "{outcome:?}");
    let again = async || fixture.store.inbox.try_record(event("evt_2", "a")).await.ok();
    let recorded = eventually("the return of the connection", again).await;
    assert!(matches!(recorded, Recorded::New | Recorded::Duplicate), "{recorded:?}");
    assert_eq!(fixture.backend.texts("SELECT id FROM event ORDER BY sequence"), ["evt_1", "evt_2"]);
}

#[tokio::test(flavor = "multi_thread")]
async fn what_is_unfinished_is_counted_again_after_a_group_whose_outcome_is_not_known() {
    let fixture = stored().await;
    let open = async || fixture.store.operator.backlogs().await.unwrap()[0].open;
    fixture.store.inbox.try_record(event("evt_1", "a")).await.unwrap();
    assert_eq!(open().await, 1);
    // A settlement seems to be committed while its reply was lost.
    fixture.backend.execute("UPDATE delivery SET state = 'cancelled', lane = NULL, settled_at = 1");
    fixture.backend.execute("ALTER TABLE event RENAME TO away");
    let outcome = fixture.store.inbox.try_record(event("evt_2", "a")).await;
    assert!(matches!(outcome, Err(RecordError::Unavailable(_))), "{outcome:?}");
    fixture.backend.execute("ALTER TABLE away RENAME TO event");
    eventually("the new count", async || (open().await == 0).then_some(())).await;
    // The commit of a group that was given up ends only now.
    fixture.backend.execute("UPDATE delivery SET state = 'pending', settled_at = NULL");
    eventually("the count of a late commit", async || (open().await == 1).then_some(())).await;
}

#[tokio::test(flavor = "multi_thread")]
async fn a_text_with_a_nul_is_stored_all_the_same() {
    let fixture = stored().await;
    let recorded = fixture.store.inbox.try_record(event("evt_1", "a\\u0000b")).await;
    assert_eq!(recorded, Ok(Recorded::New));
    assert_eq!(fixture.backend.texts("SELECT object_id FROM event"), ["a\u{fffd}b"]);
}

#[tokio::test(flavor = "multi_thread")]
async fn a_schema_of_another_application_or_a_later_version_is_left_alone() {
    let fixture = stored().await;
    let settings = fixture.backend.settings();
    let backend = fixture.close().await;
    let note = "INSERT INTO pepay_bridge_migration (version, works_from, name) VALUES";
    backend.execute(&format!("{note} (999, 999, 'later')"));
    let refused = Store::open(&settings, vec![], Clock::from_fn(|| NOW)).await.unwrap_err().to_string();
    assert!(refused.contains("has version 999, for programs that know version 999"), "{refused}");
    let checked = server_check::examine(&backend.server, settings.durability).await;
    assert!(checked.unwrap_err().to_string().contains("version 999"));
    backend.execute("DROP TABLE pepay_bridge_migration");
    let refused = Store::open(&settings, vec![], Clock::from_fn(|| NOW)).await.unwrap_err().to_string();
    assert!(refused.contains("tables of another application"), "{refused}");
}

/// Changes that a later version may make while this one goes on: none takes anything away.
const EXPANDED: [&str; 9] = [
    "ALTER TABLE event ADD COLUMN later text",
    "ALTER TABLE event ADD COLUMN given bigint NOT NULL DEFAULT 7",
    "ALTER TABLE delivery ADD COLUMN later text",
    "ALTER TABLE lease ADD COLUMN later text",
    "ALTER TABLE stream_cursor ADD COLUMN later text",
    "ALTER TABLE attempt ADD COLUMN later text",
    "CREATE TABLE later (id bigint)",
    "CREATE INDEX later_type ON event (type)",
    "INSERT INTO pepay_bridge_migration (version, works_from, name) VALUES (999, 1, 'later')",
];

#[tokio::test(flavor = "multi_thread")]
async fn a_schema_with_only_additions_of_a_later_version_is_used_in_operation_and_at_a_start() {
    let mut fixture = stored().await;
    let (mut arrivals, ledger) = fixture.outbox();
    // One by one: in one transaction, their locks and those of the lease keeper may deadlock.
    for statement in EXPANDED {
        fixture.backend.execute(statement);
    }
    fixture.store.inbox.try_record(event("evt_1", "a")).await.unwrap();
    let job = arrived(&mut arrivals).await;
    let settlement = job.settlement(NOW, Duration::ZERO, Next::Retrying { due_at: NOW });
    ledger.settle(vec![settlement]).await.unwrap();
    let routes = vec![route("orders", "*", Ordering::PerObject)];
    let (mut second, writer) = fixture.backend.open(routes, Clock::from_fn(|| NOW)).await;
    let writer = thread::spawn(|| writer.run());
    assert_eq!(second.inbox.try_record(event("evt_2", "b")).await, Ok(Recorded::New));
    assert_eq!(fixture.backend.texts("SELECT id || given FROM event ORDER BY 1"), ["evt_17", "evt_27"]);
    let checked = server_check::examine(&fixture.backend.server, fixture.backend.settings().durability).await;
    assert_eq!(checked.unwrap().schema, Some(999));
    second.close().await;
    writer.join().unwrap();
}

#[tokio::test(flavor = "multi_thread")]
async fn after_the_database_was_set_back_in_time_a_lease_of_a_dead_process_is_soon_taken() {
    let backend = Postgres::new().await;
    drop(backend.engine().await);
    // The dead process has renewed both an hour from now.
    backend.term("target/orders");
    backend.execute(
        "INSERT INTO replica (id, about, wants, joined_at, expires_at) \
         VALUES ('dead', '{}', '{}', clock_timestamp(), clock_timestamp() + interval '1 hour')",
    );
    let fixture = Stored::at(backend, vec![route("orders", "*", Ordering::PerObject)]).await;
    let living = "SELECT count(*) FROM replica WHERE expires_at > clock_timestamp()";
    eventually("the end of the dead process", async || (fixture.backend.number(living) == 1).then_some(()))
        .await;
}

#[tokio::test(flavor = "multi_thread")]
async fn events_of_another_process_are_no_reason_to_renew_leases() {
    let mut fixture = stored().await;
    let (mut arrivals, _ledger) = fixture.outbox();
    let routes = vec![route("orders", "*", Ordering::PerObject)];
    let (mut second, writer) = fixture.backend.open(routes, Clock::from_fn(|| NOW)).await;
    let writer = thread::spawn(|| writer.run());
    fixture.backend.execute(
        "CREATE SEQUENCE renewals; \
         CREATE FUNCTION tell() RETURNS trigger LANGUAGE plpgsql AS $$ BEGIN \
           PERFORM nextval('renewals'); RETURN new; END $$; \
         CREATE TRIGGER tell BEFORE UPDATE ON replica FOR EACH ROW EXECUTE FUNCTION tell()",
    );
    let began = Instant::now();
    // One at a time: hints of events that come together are one.
    for n in 0..100 {
        assert_eq!(second.inbox.try_record(event(&format!("evt_{n}"), "a")).await, Ok(Recorded::New));
        arrived(&mut arrivals).await;
    }
    let renewals = fixture.backend.number("SELECT last_value FROM renewals");
    let most = 2 * (began.elapsed().as_secs() + 3);
    assert!(u64::try_from(renewals).unwrap() <= most, "{renewals} renewals, at most {most}");
    second.close().await;
    writer.join().unwrap();
}

/// Returns a clock that is wrong by `by` milliseconds.
fn wrong(by: i64) -> Clock {
    let system = Clock::system();
    Clock::from_fn(move || UnixMillis(system.now().0 + by)).adjustable()
}

#[tokio::test(flavor = "multi_thread")]
async fn replicas_whose_clocks_differ_agree_on_when_an_event_came_and_a_retry_is_due() {
    const WAIT: Duration = Duration::from_secs(30);
    let (ahead, behind) = (wrong(60_000), wrong(-60_000));
    let routes = || vec![route("orders", "*", Ordering::PerObject)];
    let mut fixture = Stored::timed(Postgres::new().await, routes(), ahead.clone()).await;
    let (mut arrivals, ledger) = fixture.outbox();
    let received_at = Clock::system().now().plus(Duration::from_mins(1));
    let sent = Received { received_at, ..event("evt_1", "a") };
    fixture.store.inbox.try_record(sent).await.unwrap();
    let job = arrived(&mut arrivals).await;
    let due_at = ahead.now().plus(WAIT);
    let settlement = job.settlement(ahead.now(), Duration::ZERO, Next::Retrying { due_at });
    ledger.settle(vec![settlement]).await.unwrap();

    let (mut second, writer) = fixture.backend.open(routes(), behind.clone()).await;
    let writer = thread::spawn(|| writer.run());
    // When it learns of the other replica, it has set its clock.
    let mut cluster = second.peers().unwrap().cluster();
    let met = tokio::time::timeout(Duration::from_secs(20), cluster.wait_for(|cluster| cluster.has_others()));
    drop(met.await.unwrap().unwrap());
    let now = behind.now();
    let found = second.outboxes[0].log.search(everything(now)).await.unwrap();
    assert!(found.lanes.is_empty(), "{found:?}");
    let waits = found.next_due.unwrap().since(now);
    assert!(waits > Duration::ZERO && waits <= WAIT + Duration::from_secs(1), "{waits:?}");
    let age = now.since(job.event.received_at);
    assert!(age < WAIT && job.event.received_at <= now.plus(Duration::from_secs(1)), "{age:?}");
    second.close().await;
    writer.join().unwrap();
}

#[tokio::test]
async fn a_part_of_what_keeps_the_leases_that_panics_is_noticed_and_the_others_end_with_the_store() {
    let backend = Postgres::new().await;
    drop(backend.engine().await);
    let address = Address::of(&backend.server, Durability::Normal).unwrap();
    let joining = (&address, address.pool(1, Purpose::Leases), &*backend.server.schema);
    let look = || panic!("a test");
    let mut membership =
        Membership::join(joining, (Leases::shared(), Clock::system()), look, Default::default());
    let (mut tasks, stop) = (Tasks::default(), CancellationToken::new());
    for task in membership.take_tasks() {
        tasks.spawn(task.name, stop.clone(), task.run);
    }
    let ended = tasks.next().await.unwrap();
    assert!(ended.is_crash() && ended.to_string() == "lease keeper has crashed", "{ended:?}");
    stop.cancel();
    membership.leave().await;
    while let Some(ended) = tasks.next().await {
        assert!(!ended.is_crash(), "{ended:?}");
    }
}
