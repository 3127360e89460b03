//! The deliveries of a removed target, and the events that a new target has missed.

use tokio::runtime::Handle;
use tokio::task::block_in_place;

use super::*;
use crate::domain::delivery::{Next, State};
use crate::domain::event::Environment;
use crate::domain::operator::{Action, BulkMove, BulkReplay, BulkWork, Filter};
use crate::pepay::condition::Condition;
use crate::store::error::{ActError, BulkError};
use crate::store::types::{AttemptStarted, Batch};
use crate::store::view::BulkProgress;

fn moved() -> BulkWork {
    moved_if(Filter::default())
}

fn moved_if(filter: Filter) -> BulkWork {
    BulkWork::Move(BulkMove { from: "old".to_owned(), to: "new".to_owned(), filter })
}

fn replayed(filter: Filter, missing: bool) -> BulkWork {
    BulkWork::Replay(BulkReplay { target: "new".to_owned(), filter, missing })
}

fn to(target: &str) -> Vec<Route> {
    vec![route(target, "*", Ordering::PerObject)]
}

async fn record(fixture: &Fixture, id: &str, object: &str) {
    fixture.store.inbox.try_record(event(id, object)).await.unwrap();
}

/// Returns a store whose target `old` was removed, with one delivery in each state; the last two are
/// about one object.
async fn with_leftovers() -> Fixture {
    let mut fixture = Fixture::new(to("old")).await;
    let (mut arrivals, ledger) = fixture.outbox();
    let cases = [
        ("evt_1000-1", "a", Some(Next::Delivered)),
        ("evt_2000-1", "b", Some(Next::Dead)),
        ("evt_3000-1", "c", Some(Next::Held)),
        ("evt_4000-1", "d", Some(Next::Retrying { due_at: NOW })),
        ("evt_5000-1", "d", None),
    ];
    for (id, object, next) in cases {
        record(&fixture, id, object).await;
        let job = arrived(&mut arrivals).await;
        if let Some(next) = next {
            ledger.settle(vec![job.settlement(NOW, Duration::ZERO, next)]).await.unwrap();
        }
    }
    fixture.restart(to("new")).await
}

/// Returns target, event, state and attempts of every delivery.
fn deliveries(fixture: &Fixture) -> Vec<String> {
    fixture.backend.texts(
        "SELECT t.name || ' ' || d.sequence || ' ' || d.state || ' ' || d.attempts FROM delivery d \
         JOIN target t ON t.id = d.target_id ORDER BY d.sequence, t.name",
    )
}

#[tokio::test]
async fn the_deliveries_of_a_removed_target_move_to_another_one_unchanged_and_in_order() {
    let mut fixture = with_leftovers().await;
    let operator = fixture.store.operator.clone();
    assert_eq!(operator.count(&moved()).await, Ok(4));
    let refused = operator.act_on_all(&moved(), 3, |_| {}).await;
    assert_eq!(refused, Err(BulkError::Changed { matching: 4 }));
    assert_eq!(operator.act_on_all(&moved(), 4, |_| {}).await, Ok(4));
    assert_eq!(
        deliveries(&fixture),
        ["old 1 delivered 1", "new 2 dead 1", "new 3 held 1", "new 4 retrying 1", "new 5 pending 0"]
    );
    let kept = "SELECT count(*) FROM attempt a JOIN target t ON t.id = a.target_id WHERE t.name = 'new'";
    assert_eq!(fixture.backend.number(kept), 3);
    let backlogs = operator.backlogs().await.unwrap();
    let counted = |name: &str| {
        let found = backlogs.iter().find(|backlog| &*backlog.target == name).unwrap();
        (found.open, found.held, found.dead)
    };
    assert_eq!((counted("old"), counted("new")), ((0, 0, 0), (2, 1, 1)));

    // The later event of an object waits for the earlier one.
    let (_, ledger) = fixture.outbox();
    let job = heads(&ledger, NOW).await;
    assert_eq!(job.iter().map(id).collect::<Vec<_>>(), ["evt_4000-1"]);
    ledger.settle(vec![job[0].settlement(NOW, Duration::ZERO, Next::Delivered)]).await.unwrap();
    assert_eq!(id(&heads(&ledger, NOW).await[0]), "evt_5000-1");
    operator.act(Action::Retry, "new", &"evt_2000-1".parse().unwrap()).await.unwrap();
    assert_eq!(operator.count(&moved()).await, Ok(0));

    // The held delivery holds back its object, also an earlier event that arrives late.
    record(&fixture, "evt_2500-1", "c").await;
    let heads = heads(&ledger, NOW).await;
    assert_eq!(heads.iter().map(id).collect::<Vec<_>>(), ["evt_2000-1", "evt_5000-1"]);
}

#[tokio::test]
async fn deliveries_that_pass_the_filter_are_moved_and_the_rest_stays() {
    let fixture = with_leftovers().await;
    let operator = &fixture.store.operator;
    let dead = moved_if(Filter { state: Some(State::Dead), ..Filter::default() });
    assert_eq!(operator.act_on_all(&dead, 1, |_| {}).await, Ok(1));
    let of_d = Filter { object_id: Some("d".to_owned()), ..Filter::default() };
    // The move is of deliveries of the removed target, whatever target the filter names.
    let of_d = moved_if(Filter { target: Some("new".to_owned()), ..of_d });
    assert_eq!(operator.act_on_all(&of_d, 2, |_| {}).await, Ok(2));
    let delivered = moved_if(Filter { state: Some(State::Delivered), ..Filter::default() });
    assert_eq!(operator.count(&delivered).await, Ok(0));
    assert_eq!(
        deliveries(&fixture),
        ["old 1 delivered 1", "new 2 dead 1", "old 3 held 1", "new 4 retrying 1", "new 5 pending 0"]
    );
}

#[tokio::test]
async fn deliveries_that_the_other_target_does_not_take_are_counted_and_stay() {
    let fixture = Fixture::new(to("old")).await;
    for (id, environment) in [("evt_1", Environment::Devnet), ("evt_2", Environment::Mainnet)] {
        let mut received = event(id, id);
        received.environment = Some(environment);
        fixture.store.inbox.try_record(received).await.unwrap();
    }
    let mut only_mainnet = route("new", "*", Ordering::PerObject);
    only_mainnet.environment = Some(Environment::Mainnet);
    let fixture = fixture.restart(vec![only_mainnet]).await;
    let operator = &fixture.store.operator;
    let BulkWork::Move(wanted) = moved() else { unreachable!() };
    assert_eq!((operator.count(&moved()).await, operator.not_taken(&wanted).await), (Ok(1), Ok(1)));
    assert_eq!(operator.act_on_all(&moved(), 1, |_| {}).await, Ok(1));
    assert_eq!(deliveries(&fixture), ["old 1 pending 0", "new 2 pending 0"]);

    let mut only_paid = route("new", "*", Ordering::PerObject);
    only_paid.condition = Condition::new([("data.object.status".to_owned(), "paid".to_owned())]).unwrap();
    let fixture = fixture.restart(vec![only_paid]).await;
    let operator = &fixture.store.operator;
    assert_eq!((operator.count(&moved()).await, operator.not_taken(&wanted).await), (Ok(0), Ok(1)));
}

#[tokio::test]
async fn deliveries_that_the_other_target_has_already_are_not_doubled() {
    let both = || [to("old"), to("new")].concat();
    let fixture = Fixture::new(both()).await;
    record(&fixture, "evt_1", "a").await;
    let fixture = fixture.restart(to("new")).await;
    let operator = &fixture.store.operator;
    assert_eq!(operator.act_on_all(&moved(), 1, |_| {}).await, Ok(0));
    assert_eq!(deliveries(&fixture), ["new 1 pending 0", "old 1 cancelled 0"]);
}

#[tokio::test]
async fn deliveries_are_moved_from_a_removed_target_to_a_configured_one_alone() {
    let fixture = Fixture::new([to("old"), to("new")].concat()).await;
    let operator = &fixture.store.operator;
    assert_eq!(operator.count(&moved()).await, Err(BulkError::InUse("old".to_owned())));
    let fixture = fixture.restart(to("other")).await;
    let operator = &fixture.store.operator;
    assert_eq!(operator.count(&moved()).await, Err(BulkError::NoSuchTarget("new".to_owned())));
    let nowhere = BulkMove { from: "nobody".to_owned(), to: "other".to_owned(), filter: Filter::default() };
    let nowhere = BulkWork::Move(nowhere);
    assert_eq!(operator.count(&nowhere).await, Err(BulkError::NoSuchTarget("nobody".to_owned())));
}

#[tokio::test(flavor = "multi_thread")]
async fn a_target_that_is_configured_again_during_a_move_keeps_what_it_has_left() {
    let fixture = Fixture::new(to("old")).await;
    let events = (0..250).map(|n| event(&format!("evt_{n}"), &n.to_string())).collect();
    fixture.store.inbox.record(Batch { events, cursor: None }).await.unwrap();
    let fixture = fixture.restart(to("new")).await;
    let configure_again = |so_far: BulkProgress| {
        if so_far.changed == so_far.gone_through {
            let again = fixture.store.reroute(vec!["new".into()], to("old"));
            block_in_place(|| Handle::current().block_on(again)).unwrap();
        }
    };
    let operator = &fixture.store.operator;
    let ended = operator.act_on_all(&moved(), 250, configure_again).await;
    assert_eq!(ended, Err(BulkError::InUse("old".to_owned())));
    let of = "SELECT count(*) FROM delivery d JOIN target t ON t.id = d.target_id WHERE t.name = ";
    let count = |name: &str| fixture.backend.number(&format!("{of}'{name}' AND d.state = 'pending'"));
    assert_eq!((count("new"), count("old")), (200, 50));
}

#[tokio::test]
async fn an_attempt_of_a_removed_target_on_the_wire_waits_for_an_operator() {
    let mut fixture = Fixture::new(to("old")).await;
    let (mut arrivals, ledger) = fixture.outbox();
    record(&fixture, "evt_1", "a").await;
    let job = arrived(&mut arrivals).await;
    ledger.begin(AttemptStarted { sequence: job.sequence, number: 1, at: NOW }).await.unwrap();
    let fixture = fixture.restart(to("new")).await;
    // A process that ends may have no time to give its leases back.
    eventually("the hold", async || (deliveries(&fixture) == ["old 1 held 1"]).then_some(())).await;
    let operator = &fixture.store.operator;
    let of_old =
        operator.backlogs().await.unwrap().into_iter().find(|backlog| &*backlog.target == "old").unwrap();
    assert_eq!((of_old.open, of_old.held), (0, 1));
    operator.act(Action::Cancel, "old", &"evt_1".parse().unwrap()).await.unwrap();
    assert_eq!(deliveries(&fixture), ["old 1 cancelled 1"]);
}

#[tokio::test]
async fn a_dead_delivery_of_a_removed_target_is_cancelled_or_moved_and_not_retried() {
    let fixture = with_leftovers().await;
    let (operator, dead) = (&fixture.store.operator, "evt_2000-1".parse().unwrap());
    assert_eq!(operator.act(Action::Retry, "old", &dead).await, Err(ActError::NotConfigured));
    operator.act(Action::Cancel, "old", &dead).await.unwrap();
    assert_eq!(operator.count(&moved()).await, Ok(3));
}

#[tokio::test]
async fn a_new_target_gets_the_events_it_has_missed_once() {
    let fixture = Fixture::new(to("old")).await;
    for (id, object) in [("evt_1", "a"), ("evt_2", "b"), ("evt_3", "a")] {
        record(&fixture, id, object).await;
    }
    let routes = vec![route("new", "commerce.order.*", Ordering::PerObject)];
    let mut fixture = fixture.restart(routes).await;
    let operator = fixture.store.operator.clone();
    let missing = replayed(Filter::default(), true);
    assert_eq!(operator.count(&replayed(Filter::default(), false)).await, Ok(3), "it takes all of them");
    let of_a = Filter { object_id: Some("a".to_owned()), ..Filter::default() };
    assert_eq!(operator.act_on_all(&replayed(of_a, true), 2, |_| {}).await, Ok(2));
    assert_eq!(operator.act_on_all(&missing, 1, |_| {}).await, Ok(1));
    assert_eq!(operator.count(&missing).await, Ok(0));
    let (_, ledger) = fixture.outbox();
    let first: Vec<_> =
        heads(&ledger, NOW).await.iter().map(|job| (id(job).to_owned(), job.replays)).collect();
    assert_eq!(first, [("evt_1".to_owned(), 0), ("evt_2".to_owned(), 0)], "evt_3 waits for evt_1");
}

#[tokio::test]
async fn a_bulk_replay_keeps_the_order_of_objects_and_counts_as_replays() {
    let mut fixture = Fixture::new(to("new")).await;
    let (mut arrivals, ledger) = fixture.outbox();
    for n in 0..450 {
        record(&fixture, &format!("evt_{n}"), &format!("{}", n % 7)).await;
        let job = arrived(&mut arrivals).await;
        let next = if n % 2 == 0 { Next::Delivered } else { Next::Dead };
        ledger.settle(vec![job.settlement(NOW, Duration::ZERO, next)]).await.unwrap();
    }
    let operator = fixture.store.operator.clone();
    let dead = Filter { state: Some(State::Dead), ..Filter::default() };
    assert_eq!(operator.count(&replayed(dead, false)).await, Ok(225));
    let all = replayed(Filter::default(), false);
    assert_eq!(operator.act_on_all(&all, 450, |_| {}).await, Ok(450));
    let waiting = "SELECT count(*) FROM delivery WHERE replays = 1 AND state = 'retrying'";
    assert_eq!(fixture.backend.number(waiting), 450);
    assert_eq!(heads(&ledger, NOW).await.len(), 7, "one of each object");
}

#[tokio::test]
async fn a_target_gets_no_event_that_its_types_leave_out() {
    let fixture = Fixture::new(to("old")).await;
    record(&fixture, "evt_1", "a").await;
    let fixture = fixture.restart(vec![route("new", "invoice.*", Ordering::PerObject)]).await;
    assert_eq!(fixture.store.operator.count(&replayed(Filter::default(), true)).await, Ok(0));
    assert_eq!(fixture.store.operator.count(&replayed(Filter::default(), false)).await, Ok(0));
}
