//! Retention while another process writes.

use std::thread;
use std::time::Duration;

use sqlx::postgres::PgConnection;
use sqlx::{Connection as _, Executor as _};
use tokio::runtime::Handle;
use tokio::task::block_in_place;

use super::super::connect::Address;
use super::backend::Postgres;
use super::engines::{Engines, group};
use crate::domain::clock::UnixMillis;
use crate::domain::delivery::{Next, Ordering};
use crate::store::committer::Group;
use crate::store::contract::{Backend as _, NOW, event, route};
use crate::store::engine::{Authority, Engine, EngineError, GroupContext, GroupKind, RetentionStep};
use crate::store::error::ActError;
use crate::store::settings::Durability;
use crate::store::types::{Act, ActKind, Settlement, TargetId, Term};

const BODIES: &str = "SELECT count(*) FROM event WHERE body IS NOT NULL";
const PAYLOADS: RetentionStep = RetentionStep::Payloads { before: UnixMillis(i64::MAX) };

/// Returns two processes with an event for each of the targets, and the numbers and terms of the
/// targets.
async fn with_one_event(targets: &[&str]) -> (Engines, Vec<(TargetId, Term)>) {
    with_events(1, targets).await
}

/// Like [`with_one_event`], with this number of events.
async fn with_events(number: usize, targets: &[&str]) -> (Engines, Vec<(TargetId, Term)>) {
    let routes = targets.iter().map(|name| route(name, "*", Ordering::PerObject)).collect();
    let mut engines = Engines::new(2, routes).await;
    engines.append(0, (1..=number).map(|n| event(&format!("evt_{n}"), &n.to_string())).collect());
    let terms = targets.iter().map(|name| engines.backend.term(&format!("target/{name}")));
    let owned = engines.targets.iter().copied().zip(terms).collect();
    (engines, owned)
}

fn delivered(sequence: i64) -> [Settlement; 1] {
    [Settlement {
        sequence,
        number: 1,
        started_at: NOW,
        duration: Duration::ZERO,
        status: Some(200),
        error: None,
        answer: Vec::new(),
        next: Next::Delivered,
    }]
}

fn settle(group: &mut Group<'_>, owned: (TargetId, Term)) -> Result<(), EngineError> {
    settle_one(group, owned, 1)
}

fn settle_one(
    group: &mut Group<'_>,
    (target, term): (TargetId, Term),
    sequence: i64,
) -> Result<(), EngineError> {
    group.engine.settle(term, target, &delivered(sequence).each_ref(), &mut group.context)
}

fn retain(group: &mut Group<'_>, step: RetentionStep) -> Result<(), EngineError> {
    group.engine.retain(step, &mut group.context).map(drop)
}

fn look_again(group: &mut Group<'_>) -> Result<(), EngineError> {
    retain(group, RetentionStep::Recheck)
}

fn replay(group: &mut Group<'_>, (target, term): (TargetId, Term)) -> Result<(), EngineError> {
    let acts = [Act { sequence: 1, kind: ActKind::Replay }];
    let owner = Authority::Owner(term);
    let acted = group.engine.act(owner, target, &acts, &mut group.context)?;
    match &acted[0].result {
        Ok(_) => Ok(()),
        Err(ActError::PayloadGone) => Err(EngineError::Rejected("the body is gone".to_owned())),
        Err(error) => panic!("{error:?}"),
    }
}

/// Returns how many transactions wait for a row of `table`.
fn waiting(backend: &Postgres, table: &str) -> i64 {
    let locks = "SELECT count(*) FROM pg_locks WHERE locktype = 'tuple' AND relation = '{}'::regclass";
    backend.number(&locks.replace("{}", table))
}

#[tokio::test]
async fn a_body_whose_last_delivery_was_being_settled_during_a_recheck_is_removed_by_the_next() {
    let (mut engines, owned) = with_one_event(&["orders", "all"]).await;
    engines.group(0, |group| retain(group, PAYLOADS)).unwrap();
    engines.group(0, |group| settle(group, owned[0])).unwrap();
    let (second, mut context) = (&mut engines.all[1], GroupContext::new(&engines.routes, engines.now));
    second.begin(GroupKind::Writes).unwrap();
    second.settle(owned[1].1, owned[1].0, &delivered(1).each_ref(), &mut context).unwrap();
    engines.group(0, look_again).unwrap();
    engines.all[1].commit().unwrap();
    assert_eq!(engines.backend.number(BODIES), 1);
    engines.group(0, look_again).unwrap();
    assert_eq!((engines.backend.number(BODIES), engines.backend.number("SELECT count(*) FROM ripe")), (0, 0));
}

#[tokio::test(flavor = "multi_thread")]
async fn what_ends_while_it_is_looked_at_again_is_found_later() {
    let (mut engines, owned) = with_events(2, &["orders", "all"]).await;
    engines.group(0, |group| retain(group, PAYLOADS)).unwrap();
    for (target, sequence) in [(0, 1), (1, 1), (0, 2)] {
        engines.group(0, |group| settle_one(group, owned[target], sequence)).unwrap();
    }
    // The body of the first event is removed after the deliveries of the second one were looked at. This
    // removal waits for a lock that no other step needs.
    engines.backend.execute(
        "CREATE FUNCTION wait_for_conflicts() RETURNS trigger LANGUAGE plpgsql AS \
         'BEGIN LOCK TABLE conflict IN ROW EXCLUSIVE MODE; RETURN NEW; END'",
    );
    engines.backend.execute(
        "CREATE TRIGGER waiting BEFORE UPDATE ON event FOR EACH ROW EXECUTE FUNCTION wait_for_conflicts()",
    );
    let address = Address::of(&engines.backend.server, Durability::Normal).unwrap();
    let mut holder = PgConnection::connect_with(&address.options).await.unwrap();
    let schema = &engines.backend.server.schema;
    let hold = format!(
        "BEGIN; SET LOCAL idle_in_transaction_session_timeout = 0; LOCK TABLE \"{schema}\".conflict IN SHARE MODE"
    );
    holder.execute(sqlx::AssertSqlSafe(hold)).await.unwrap();
    let Engines { all, routes, backend, now, .. } = &mut engines;
    let [first, second] = &mut all[..] else { panic!("there are two") };
    block_in_place(|| {
        thread::scope(|scope| {
            let looking = scope.spawn(|| group(&mut **first, routes, *now, look_again));
            let waits = "SELECT count(*) FROM pg_locks WHERE NOT granted AND relation = 'conflict'::regclass";
            while backend.number(waits) == 0 {
                assert!(!looking.is_finished(), "it has not waited for the lock");
            }
            group(&mut **second, routes, *now, |group| settle_one(group, owned[1], 2)).unwrap();
            Handle::current().block_on(holder.execute("ROLLBACK")).unwrap();
            looking.join().unwrap().unwrap();
            group(&mut **second, routes, *now, look_again).unwrap();
        });
    });
    assert_eq!((engines.backend.number(BODIES), engines.backend.number("SELECT count(*) FROM ripe")), (0, 0));
}

#[tokio::test]
async fn old_events_that_end_at_two_targets_in_a_different_order_do_not_wait_for_each_other() {
    let (mut engines, owned) = with_events(2, &["orders", "all"]).await;
    engines.group(0, |group| retain(group, PAYLOADS)).unwrap();
    engines.group(0, look_again).unwrap();
    assert_eq!(engines.backend.number("SELECT count(*) FROM ripe"), 0);
    let Engines { all, routes, now, .. } = &mut engines;
    let one = |engine: &mut dyn Engine, (target, term): (TargetId, Term), sequence: i64| {
        let (settled, mut context) = (delivered(sequence), GroupContext::new(routes, *now));
        engine.settle(term, target, &settled.each_ref(), &mut context).unwrap();
    };
    let [first, second] = &mut all[..] else { panic!("there are two") };
    first.begin(GroupKind::Writes).unwrap();
    second.begin(GroupKind::Writes).unwrap();
    one(&mut **first, owned[0], 1);
    one(&mut **second, owned[1], 2);
    thread::scope(|scope| {
        scope.spawn(|| one(&mut **first, owned[0], 2));
        one(&mut **second, owned[1], 1);
    });
    first.commit().unwrap();
    second.commit().unwrap();
    engines.group(0, look_again).unwrap();
    assert_eq!((engines.backend.number(BODIES), engines.backend.number("SELECT count(*) FROM ripe")), (0, 0));
}

#[tokio::test(flavor = "multi_thread")]
async fn a_body_whose_delivery_ends_by_an_older_statement_than_the_recheck_is_removed_later() {
    let (mut engines, owned) = with_one_event(&["orders"]).await;
    let address = Address::of(&engines.backend.server, Durability::Normal).unwrap();
    let mut holder = PgConnection::connect_with(&address.options).await.unwrap();
    let schema = &engines.backend.server.schema;
    let hold = format!(
        "BEGIN; SET LOCAL idle_in_transaction_session_timeout = 0; \
         SELECT 1 FROM \"{schema}\".lease WHERE name = 'target/orders' FOR UPDATE"
    );
    holder.execute(sqlx::AssertSqlSafe(hold)).await.unwrap();
    let Engines { all, routes, backend, now, .. } = &mut engines;
    let [first, second] = &mut all[..] else { panic!("there are two") };
    block_in_place(|| {
        thread::scope(|scope| {
            let settling =
                scope.spawn(|| group(&mut **second, routes, *now, |group| settle(group, owned[0])));
            while waiting(backend, "lease") == 0 {
                assert!(!settling.is_finished(), "it has not waited for the lease");
            }
            group(&mut **first, routes, *now, |group| retain(group, PAYLOADS)).unwrap();
            Handle::current().block_on(holder.execute("ROLLBACK")).unwrap();
            settling.join().unwrap().unwrap();
            group(&mut **first, routes, *now, look_again).unwrap();
        });
    });
    assert_eq!((engines.backend.number(BODIES), engines.backend.number("SELECT count(*) FROM ripe")), (0, 0));
}

#[tokio::test]
async fn old_events_are_looked_at_again_in_a_database_that_publishes_its_changes() {
    let (mut engines, owned) = with_one_event(&["orders"]).await;
    let schema = engines.backend.server.schema.clone();
    engines.backend.execute(&format!("CREATE PUBLICATION {schema} FOR TABLE ripe"));
    engines.group(0, |group| retain(group, PAYLOADS)).unwrap();
    engines.group(0, |group| settle(group, owned[0])).unwrap();
    engines.group(0, look_again).unwrap();
    assert_eq!((engines.backend.number(BODIES), engines.backend.number("SELECT count(*) FROM ripe")), (0, 0));
}

#[tokio::test]
async fn a_dead_delivery_that_an_operator_is_just_deciding_on_does_not_hold_up_the_others() {
    let (mut engines, owned) = with_events(2, &["orders"]).await;
    let (target, term) = owned[0];
    for sequence in [1, 2] {
        let [settled] = delivered(sequence);
        let dead = Settlement { next: Next::Dead, ..settled };
        engines.group(0, |group| group.engine.settle(term, target, &[&dead], &mut group.context)).unwrap();
    }
    let Engines { all, routes, backend, now, .. } = &mut engines;
    let [first, second] = &mut all[..] else { panic!("there are two") };
    second.begin(GroupKind::Writes).unwrap();
    let context = GroupContext::new(routes, *now);
    replay(&mut Group { engine: &mut **second, context }, owned[0]).unwrap();
    let expire = RetentionStep::Dead { before: UnixMillis(i64::MAX) };
    group(&mut **first, routes, *now, |group| retain(group, expire)).unwrap();
    second.commit().unwrap();
    assert_eq!(backend.texts("SELECT state FROM delivery ORDER BY sequence"), ["retrying", "cancelled"]);
}

#[tokio::test]
async fn an_event_that_is_just_being_sent_again_keeps_its_body() {
    let (mut engines, owned) = with_one_event(&["orders"]).await;
    engines.group(0, |group| settle(group, owned[0])).unwrap();
    let Engines { all, routes, backend, now, .. } = &mut engines;
    let [first, second] = &mut all[..] else { panic!("there are two") };
    second.begin(GroupKind::Writes).unwrap();
    let context = GroupContext::new(routes, *now);
    replay(&mut Group { engine: &mut **second, context }, owned[0]).unwrap();
    thread::scope(|scope| {
        let removing = scope.spawn(|| group(&mut **first, routes, *now, |group| retain(group, PAYLOADS)));
        while waiting(backend, "event") == 0 {
            assert!(!removing.is_finished(), "it has not waited for the event");
        }
        second.commit().unwrap();
        removing.join().unwrap().unwrap();
    });
    assert_eq!(backend.number(BODIES), 1);
    assert_eq!(backend.texts("SELECT state FROM delivery"), ["retrying"]);
}

#[tokio::test]
async fn an_event_whose_body_is_just_being_removed_is_not_sent_again() {
    let (mut engines, owned) = with_one_event(&["orders"]).await;
    engines.group(0, |group| settle(group, owned[0])).unwrap();
    let Engines { all, routes, backend, now, .. } = &mut engines;
    let [first, second] = &mut all[..] else { panic!("there are two") };
    first.begin(GroupKind::Writes).unwrap();
    let context = GroupContext::new(routes, *now);
    retain(&mut Group { engine: &mut **first, context }, PAYLOADS).unwrap();
    let replayed = thread::scope(|scope| {
        let replaying = scope.spawn(|| group(&mut **second, routes, *now, |group| replay(group, owned[0])));
        while waiting(backend, "event") == 0 {
            assert!(!replaying.is_finished(), "it has not waited for the event");
        }
        first.commit().unwrap();
        replaying.join().unwrap()
    });
    assert_eq!(replayed, Err(EngineError::Rejected("the body is gone".to_owned())));
    assert_eq!(backend.texts("SELECT state FROM delivery"), ["delivered"]);
}
