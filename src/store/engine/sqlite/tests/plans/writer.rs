//! No statement of the committer reads a whole large table. The tests run the real committer, and
//! read SQLite's plan for each statement that ran.

use std::cell::RefCell;
use std::collections::BTreeSet;
use std::sync::Arc;

use rusqlite::config::DbConfig;
use rusqlite::trace::{TraceEvent, TraceEventCodes};
use rusqlite::{Connection, StatementStatus};

use super::super::super::open;
use super::super::super::write::SqliteEngine;
use super::*;
use crate::domain::delivery::{Next, OnUncertain};
use crate::domain::event::EventId;
use crate::domain::operator::Action;
use crate::store::Database;
use crate::store::engine::read::Reader;
use crate::store::lease::Leases;
use crate::store::outbox::Outbox;
use crate::store::settings::Durability;
use crate::store::types::{AttemptStarted, Batch, CursorMove, Position, Recorded, Search, Settlement, Term};

thread_local! {
    /// The statements that this thread has run, without bound values. SQLite takes a plain function, which
    /// has no state.
    static RUN: RefCell<BTreeSet<String>> = RefCell::default();
}

fn note(event: TraceEvent<'_>) {
    if let TraceEvent::Stmt(statement, _) = event {
        RUN.with_borrow_mut(|run| run.insert(statement.sql().into_owned()));
    }
}

/// The statements that must have run. Without them the test has not seen all work of the committer.
const WORK: [&str; 44] = [
    "INSERT INTO event ",
    "INSERT INTO delivery (target_id, sequence, state, lane, rank) ",
    "INSERT INTO stream_cursor ",
    "SELECT sequence, received_at, source <> ?2, digest FROM event WHERE id = ?1",
    "INSERT INTO conflict ",
    "SELECT count(*) FROM conflict WHERE sequence = ?1",
    "INSERT INTO order_link ",
    "SELECT order_id FROM order_link WHERE invoice_id = ?1",
    "UPDATE conflict SET body = NULL",
    "DELETE FROM order_link WHERE sequence = ?1",
    "INSERT INTO sighting ",
    "UPDATE delivery SET state = 'sending'",
    "UPDATE delivery SET state = ?3, due_at = ?4, attempts = ?5, settled_at = ?6",
    "INSERT INTO attempt ",
    "DELETE FROM attempt WHERE target_id = ?1 AND sequence = ?2 AND number <= ?3",
    "WHERE d.target_id = ?1 AND d.lane = ?2 AND (d.rank, d.sequence) > (?3, ?4)",
    "INDEXED BY delivery_due WHERE target_id = ?1 AND due_at <= ?2 ORDER BY due_at, sequence",
    "INDEXED BY delivery_due WHERE target_id = ?1 AND due_at <= ?2 ORDER BY due_at DESC",
    "SELECT min(due_at) FROM delivery INDEXED BY delivery_due",
    "SELECT max(due_at) FROM delivery INDEXED BY delivery_due",
    "state = 'pending' AND sequence > ?2 ORDER BY sequence LIMIT ?3",
    "WITH RECURSIVE known (lane)",
    "FROM delivery d CROSS JOIN event e ON e.sequence = d.sequence WHERE d.target_id = ?1 AND d.sequence = ?2",
    "SELECT e.id, d.attempts FROM delivery d ",
    "INSERT OR IGNORE INTO attempt ",
    "UPDATE delivery INDEXED BY delivery_open SET state = ?2, due_at = ?3, rank",
    "SELECT sequence FROM event WHERE id = ?1",
    "SELECT state, lane, attempts, replays FROM delivery",
    "UPDATE delivery SET state = 'retrying', due_at = ?3",
    "UPDATE delivery SET state = ?3, due_at = NULL, lane = NULL",
    "UPDATE delivery SET state = ?3, lane = ?4, rank = ?5",
    "INSERT INTO delivery (target_id, sequence, state, lane, rank, replays) ",
    "INSERT INTO attempt (target_id, sequence, number, started_at, duration_ms, status) ",
    "UPDATE target SET paused_at",
    "UPDATE target SET retry_after_until",
    "SELECT retry_after_until, retry_after_address FROM target ",
    "INSERT INTO ripe ",
    "SELECT target_id, sequence FROM delivery INDEXED BY delivery_dead_age WHERE state = 'dead'",
    "SELECT coalesce(max(sequence), 0) FROM event",
    "SELECT sequence, received_at FROM event WHERE sequence > ?1 AND sequence <= ?2",
    "UPDATE event SET body = NULL",
    "DELETE FROM delivery WHERE sequence = ?1",
    "DELETE FROM event WHERE sequence = ?1",
    "INSERT INTO heartbeat ",
];

fn event_id(text: &str) -> EventId {
    text.parse().unwrap()
}

/// Returns an event about `a` that is older than every retention.
fn old(id: &str, source: Source) -> Received {
    Received { source, received_at: UnixMillis(NOW.0 - 72 * 3_600_000), ..event(id, "a") }
}

async fn record(store: &Store, id: &str, source: Source) -> Recorded {
    store.inbox.try_record(old(id, source)).await.unwrap()
}

async fn due(ledger: &DeliveryLog) -> Job {
    heads(ledger, NOW).await.remove(0)
}

async fn begin(ledger: &DeliveryLog, job: &Job) {
    ledger.begin(AttemptStarted { sequence: job.sequence, number: job.attempts + 1, at: NOW }).await.unwrap();
}

async fn settle(ledger: &DeliveryLog, job: &Job, next: Next) {
    ledger.settle(vec![job.settlement(NOW, Duration::ZERO, next)]).await.unwrap();
}

async fn act(store: &Store, action: Action, target: &str, id: &str) {
    store.operator.act(action, target, &event_id(id)).await.unwrap();
}

async fn sweep(store: &Store) {
    let mut janitor = store.janitor();
    janitor.newest_kept = 0;
    janitor.sweep().await.unwrap();
}

/// Has the committer do all kinds of its work: recording events, delivering, actions of an
/// operator, and retention.
async fn work(store: &mut Store) {
    let Outbox { mut arrivals, log: orders, .. } = store.outboxes.remove(0);
    let Outbox { arrivals: mut all_arrivals, log: all, .. } = store.outboxes.remove(0);
    drop(store.outboxes.remove(0));

    let position = Position { event: Some(event_id("evt_2000-1")), created: 1 };
    let cursor = Some(CursorMove { stream: "commerce".into(), position, history: None, term: Term::SOLE });
    let events = vec![old("evt_2000-1", Source::Stream), old("evt_2000-1", Source::Stream)];
    store.inbox.record(Batch { events, cursor }).await.unwrap();
    assert_eq!(record(store, "evt_2000-1", Source::Webhook).await, Recorded::Duplicate);
    let other = Received { event: event("evt_2000-1", "b").event, ..old("evt_2000-1", Source::Stream) };
    assert_eq!(store.inbox.try_record(other).await.unwrap(), Recorded::Conflict);
    record(store, "evt_3000-1", Source::Stream).await;
    record(store, "evt_1000-1", Source::Stream).await;
    assert_eq!(id(&arrived(&mut arrivals).await), "evt_2000-1");
    let first = due(&orders).await;
    begin(&orders, &first).await;
    settle(&orders, &first, Next::Retrying { due_at: NOW }).await;
    let first = due(&orders).await;
    assert_eq!(id(&first), "evt_1000-1");
    let many_later = Settlement { number: 101, ..first.settlement(NOW, Duration::ZERO, Next::Delivered) };
    orders.settle(vec![many_later]).await.unwrap();
    orders.search(Search { census: Some(9), scan: None, ..everything(NOW) }).await.unwrap();

    let second = due(&orders).await;
    assert_eq!(id(&second), "evt_2000-1");
    settle(&orders, &second, Next::Held).await;
    act(store, Action::Release, "orders", "evt_2000-1").await;
    settle(&orders, &due(&orders).await, Next::Held).await;
    act(store, Action::Close, "orders", "evt_2000-1").await;
    settle(&orders, &due(&orders).await, Next::Dead).await;
    act(store, Action::Retry, "orders", "evt_3000-1").await;
    act(store, Action::Cancel, "orders", "evt_3000-1").await;
    store.operator.replay("orders", &event_id("evt_1000-1")).await.unwrap();
    store.operator.replay("others", &event_id("evt_1000-1")).await.unwrap();
    store.operator.set_paused("orders", Some("by a test")).await.unwrap();
    store.operator.set_retry_after("orders", None).await.unwrap();
    store.operator.probe().await.unwrap();

    assert!(!heads(&all, NOW).await.is_empty());
    begin(&all, &arrived(&mut all_arrivals).await).await;
    assert_eq!(all.recover(OnUncertain::Hold).await.unwrap().len(), 1);
    assert_eq!(all.retry_after("digest").await, Ok(None));
    act(store, Action::Cancel, "all", "evt_3000-1").await;
    sweep(store).await;
    // An event that was passed over has ended, and is looked at again.
    act(store, Action::Close, "all", "evt_2000-1").await;
    sweep(store).await;
    for (id, object) in
        [("evt_1-1", r#"{"orderId":"o","invoiceId":"i"}"#), ("evt_1-2", r#"{"invoice_id":"i"}"#)]
    {
        let body = format!(r#"{{"id":"{id}","type":"y","data":{{"object":{object}}}}}"#);
        let event = envelope::parse(body.into(), NOW).unwrap();
        store.inbox.try_record(Received { event, ..old(id, Source::Stream) }).await.unwrap();
    }
    store.reroute(vec!["orders".into()], vec![route("more", "*", Ordering::None)]).await.unwrap();
}

/// Returns SQLite's plan for `statement`, with the work that it causes by a foreign key.
fn plan(connection: &Connection, statement: &str) -> Vec<String> {
    let mut explain = connection.prepare(&format!("EXPLAIN QUERY PLAN {statement}")).unwrap();
    // The program of a foreign key begins with a row without a text.
    let rows = explain.raw_query().mapped(|row| row.get::<_, Option<String>>("detail"));
    rows.filter_map(Result::unwrap).collect()
}

fn has_a_plan(statement: &str) -> bool {
    ["SELECT", "INSERT", "UPDATE", "DELETE", "WITH"].iter().any(|verb| statement.starts_with(verb))
}

/// Returns every statement of the committer's work on a new database in `folder`.
async fn run_all(folder: &Path) -> BTreeSet<String> {
    let routes = vec![
        route("orders", "commerce.*", Ordering::PerObject),
        route("all", "*", Ordering::None),
        route("others", "x.*", Ordering::PerOrder),
    ];
    let (settings, path) = (settings(folder), database(folder));
    let lock = open::prepare(&path).await.unwrap();
    let engine = SqliteEngine::open(&path, Durability::Normal, lock).unwrap();
    engine.connection.trace_v2(TraceEventCodes::SQLITE_TRACE_STMT, Some(note));
    let pool = open::open_reader_pool(&path).await.unwrap();
    let reader = Reader::of_sqlite(pool, &path);
    let clock = Clock::from_fn(|| NOW);
    let (engine, leases, progress) = (Box::new(engine), Leases::sole(), Arc::default());
    let database = Database { engine, reader, leases, progress };
    let (mut store, committer) = Store::on(database, &settings, routes, clock).unwrap();
    let writer = std::thread::spawn(|| {
        committer.run();
        RUN.take()
    });
    work(&mut store).await;
    store.close().await;
    writer.join().unwrap()
}

#[tokio::test]
async fn no_write_scans_a_large_table() {
    let folder = TempDir::new().unwrap();
    let run = run_all(folder.path()).await;

    for work in WORK {
        assert!(run.iter().any(|statement| statement.contains(work)), "not seen: {work}\n{run:#?}");
    }
    let connection = Connection::open(database(folder.path())).unwrap();
    connection.pragma_update(None, "foreign_keys", true).unwrap();
    connection.set_db_config(DbConfig::SQLITE_DBCONFIG_TRIGGER_EQP, true).unwrap();
    for statement in run.iter().filter(|statement| has_a_plan(statement)) {
        let plan = plan(&connection, statement);
        assert!(walks(&plan).is_empty() && !goes_through_a_target(&plan), "{statement}\n{plan:#?}");
    }
    let removal = plan(&connection, "DELETE FROM delivery WHERE target_id = ?1 AND sequence = ?2");
    assert!(removal.iter().any(|step| step.contains("attempt")), "what it takes along is told: {removal:?}");
    let walk = plan(&connection, "DELETE FROM sighting WHERE source = ?1");
    assert!(!walks(&walk).is_empty(), "the test sees a walk");
    let unnamed =
        "SELECT min(sequence) FROM delivery WHERE target_id = ?1 AND state = 'pending' AND sequence > ?2";
    let walk = plan(&connection, unnamed);
    assert!(goes_through_a_target(&walk), "the test sees that an index is missing: {walk:?}");
}

/// Returns how often SQLite prepares `select` again when it is bound and run twice.
fn prepared_anew(connection: &Connection, select: &str) -> i32 {
    let mut statement = connection.prepare(select).unwrap();
    for value in 1..=2 {
        for parameter in 1..=statement.parameter_count() {
            statement.raw_bind_parameter(parameter, value).unwrap();
        }
        let _ = statement.raw_query().next().unwrap();
    }
    statement.get_status(StatementStatus::RePrepare)
}

#[tokio::test]
async fn the_statements_of_the_writer_are_prepared_once_for_all_values() {
    let folder = TempDir::new().unwrap();
    let run = run_all(folder.path()).await;
    let of_itself = Connection::open(database(folder.path())).unwrap();
    let writer = open::open_writer(&database(folder.path()), Durability::Normal).unwrap();
    let selects =
        run.iter().filter(|statement| statement.starts_with("SELECT") || statement.starts_with("WITH"));
    let mut seen = 0;
    for select in selects {
        seen += prepared_anew(&of_itself, select);
        assert_eq!(prepared_anew(&writer, select), 0, "{select}");
    }
    assert!(seen > 0, "the test sees what SQLite does of itself");
}
