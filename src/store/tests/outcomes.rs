use std::collections::HashSet;

use super::super::types::{Begun, CutOff, Due, Kind, Left, PerKind, Search, Settlement};
use super::*;
use crate::domain::delivery::{Next, OnUncertain};

fn per_object() -> Vec<Route> {
    vec![route("orders", "*", Ordering::PerObject)]
}

fn settlement(job: &Job, next: Next) -> Settlement {
    job.settlement(NOW, Duration::from_millis(3), next)
}

async fn due(ledger: &Ledger, now: UnixMillis) -> Due {
    ledger.due(Search { now, known: HashSet::new(), limits: PerKind::from_fn(|_| 100) }).await.unwrap()
}

async fn due_ids(ledger: &Ledger, now: UnixMillis) -> Vec<String> {
    due(ledger, now).await.jobs.iter().map(|job| id(job).to_owned()).collect()
}

fn later(seconds: u64) -> UnixMillis {
    NOW.plus(Duration::from_secs(seconds))
}

#[tokio::test]
async fn an_event_becomes_one_delivery_for_each_target_it_matches() {
    let routes = vec![
        route("orders", "commerce.order.*", Ordering::PerObject),
        route("all", "*", Ordering::None),
        route("invoices", "invoice.*", Ordering::PerObject),
    ];
    let mut fixture = Fixture::new(routes).await;
    let inbox = fixture.store.inbox.clone();
    inbox.try_record(event("evt_1", "a")).await.unwrap();
    inbox.try_record(event("evt_1", "a")).await.unwrap();
    let (mut orders, _) = fixture.outbox();
    let (mut all, _) = fixture.outbox();
    let (_, invoices) = fixture.outbox();
    assert_eq!(id(&arrived(&mut orders).await), "evt_1");
    assert_eq!(id(&arrived(&mut all).await), "evt_1");
    assert!(orders.take_ready().is_none() && all.take_ready().is_none());
    assert!(due(&invoices, later(60)).await.jobs.is_empty());
}

#[tokio::test]
async fn of_one_object_only_the_first_is_let_out_until_it_is_settled() {
    let mut fixture = Fixture::new(per_object()).await;
    let (mut arrivals, ledger) = fixture.outbox();
    for (id, object) in [("evt_1", "a"), ("evt_2", "a"), ("evt_3", "b"), ("evt_4", "a")] {
        fixture.store.inbox.try_record(event(id, object)).await.unwrap();
    }
    let (first, other) = (arrived(&mut arrivals).await, arrived(&mut arrivals).await);
    assert_eq!((id(&first), id(&other)), ("evt_1", "evt_3"));
    assert!(arrivals.take_ready().is_none());
    assert_eq!(due_ids(&ledger, NOW).await, ["evt_1", "evt_3"]);

    ledger.settle(vec![settlement(&first, Next::Retrying { due_at: later(5) })]).await.unwrap();
    assert_eq!(due_ids(&ledger, NOW).await, ["evt_3"], "a failing one holds back its own object");

    let again = due(&ledger, later(5)).await.jobs.remove(0);
    assert_eq!((id(&again), again.attempts, again.first_attempt_at), ("evt_1", 1, Some(NOW)));
    ledger.settle(vec![settlement(&again, Next::Dead)]).await.unwrap();
    let second = arrived(&mut arrivals).await;
    assert_eq!(id(&second), "evt_2");
    ledger.settle(vec![settlement(&second, Next::Delivered)]).await.unwrap();
    assert_eq!(id(&arrived(&mut arrivals).await), "evt_4");
}

#[tokio::test]
async fn those_that_wait_in_a_lane_leave_in_pepays_order() {
    let mut fixture = Fixture::new(per_object()).await;
    let (mut arrivals, ledger) = fixture.outbox();
    for id in ["evt_1000-1", "evt_3000-1", "evt_2000-10", "evt_2000-9"] {
        fixture.store.inbox.try_record(event(id, "a")).await.unwrap();
    }
    let mut order = Vec::new();
    for _ in 0..4 {
        let job = arrived(&mut arrivals).await;
        order.push(id(&job).to_owned());
        ledger.settle(vec![settlement(&job, Next::Delivered)]).await.unwrap();
    }
    assert_eq!(order, ["evt_1000-1", "evt_2000-9", "evt_2000-10", "evt_3000-1"]);
}

#[tokio::test]
async fn an_older_event_goes_before_one_that_waits_and_after_one_that_was_started() {
    let mut fixture = Fixture::new(per_object()).await;
    let (mut arrivals, ledger) = fixture.outbox();
    let inbox = fixture.store.inbox.clone();
    inbox.try_record(event("evt_2000-1", "a")).await.unwrap();
    let later = arrived(&mut arrivals).await;
    inbox.try_record(event("evt_1000-1", "a")).await.unwrap();
    let older = arrived(&mut arrivals).await;
    assert!(!ledger.start(&later) && ledger.start(&older));

    inbox.try_record(event("evt_500-1", "a")).await.unwrap();
    fixture.store.operator.probe().await.unwrap();
    assert!(arrivals.take_ready().is_none(), "what has been started is not called back");
    let mut seen = vec![id(&older).to_owned()];
    ledger.settle(vec![settlement(&older, Next::Delivered)]).await.unwrap();
    for _ in 0..2 {
        let job = arrived(&mut arrivals).await;
        assert!(ledger.start(&job));
        seen.push(id(&job).to_owned());
        ledger.settle(vec![settlement(&job, Next::Delivered)]).await.unwrap();
    }
    assert_eq!(seen, ["evt_1000-1", "evt_500-1", "evt_2000-1"]);
}

#[tokio::test]
async fn outcomes_are_written_as_one_or_not_at_all() {
    let mut fixture = Fixture::new(per_object()).await;
    let (mut arrivals, ledger) = fixture.outbox();
    for (id, object) in [("evt_1", "a"), ("evt_2", "b"), ("evt_3", "a")] {
        fixture.store.inbox.try_record(event(id, object)).await.unwrap();
    }
    let (first, second) = (arrived(&mut arrivals).await, arrived(&mut arrivals).await);
    let both = vec![settlement(&first, Next::Delivered), settlement(&second, Next::Delivered)];
    let door = fixture.side_door();
    door.execute("INSERT INTO attempt VALUES (1, ?1, 1, 0, 0, NULL, NULL, NULL)", [second.sequence]).unwrap();
    assert!(ledger.settle(both.clone()).await.is_err(), "the second has an attempt of this number");
    assert_eq!(due_ids(&ledger, NOW).await, ["evt_1", "evt_2"], "nothing of it was written");
    assert!(arrivals.take_ready().is_none(), "nothing of it was let out");

    door.execute("DELETE FROM attempt", []).unwrap();
    ledger.settle(both).await.unwrap();
    assert_eq!(id(&arrived(&mut arrivals).await), "evt_3");
    assert_eq!(due_ids(&ledger, NOW).await, ["evt_3"]);
}

#[tokio::test]
async fn a_settled_delivery_never_changes_again() {
    let mut fixture = Fixture::new(per_object()).await;
    let (mut arrivals, ledger) = fixture.outbox();
    fixture.store.inbox.try_record(event("evt_1", "a")).await.unwrap();
    let job = arrived(&mut arrivals).await;
    ledger.settle(vec![settlement(&job, Next::Delivered)]).await.unwrap();
    ledger.settle(vec![settlement(&job, Next::Retrying { due_at: NOW })]).await.unwrap();
    assert!(due(&ledger, later(60)).await.jobs.is_empty());
    let row: (String, i64) = fixture
        .side_door()
        .query_row("SELECT state, (SELECT count(*) FROM attempt) FROM delivery", [], |row| {
            Ok((row.get(0)?, row.get(1)?))
        })
        .unwrap();
    assert_eq!(row, ("delivered".to_owned(), 1));
}

#[tokio::test]
async fn everything_undelivered_is_found_again_after_a_restart() {
    let mut fixture = Fixture::new(per_object()).await;
    let (mut arrivals, ledger) = fixture.outbox();
    for n in 1..=3 {
        fixture.store.inbox.try_record(event(&format!("evt_{n}"), &format!("{n}"))).await.unwrap();
    }
    let (done, failed) = (arrived(&mut arrivals).await, arrived(&mut arrivals).await);
    ledger.settle(vec![settlement(&done, Next::Delivered)]).await.unwrap();
    ledger.settle(vec![settlement(&failed, Next::Retrying { due_at: later(9) })]).await.unwrap();

    let mut fixture = fixture.restart(per_object()).await;
    let (_, ledger) = fixture.outbox();
    let found = due(&ledger, NOW).await;
    assert_eq!(found.jobs.iter().map(id).collect::<Vec<_>>(), ["evt_3"]);
    assert_eq!(found.jobs[0].event.event.body, event("evt_3", "3").event.body);
    assert_eq!(found.left[Kind::Retry], Left { more: false, next_due: Some(later(9)) });
    assert_eq!(found.left[Kind::Waiting], Left::default());
}

#[tokio::test]
async fn a_search_passes_over_what_is_in_hand_and_says_when_there_is_more() {
    let mut fixture = Fixture::new(vec![route("orders", "*", Ordering::None)]).await;
    let (_arrivals, ledger) = fixture.outbox();
    for n in 1..=5 {
        fixture.store.inbox.try_record(event(&format!("evt_{n}"), "a")).await.unwrap();
    }
    let found =
        ledger.due(Search { now: NOW, known: HashSet::from([1, 3]), limits: oldest(2) }).await.unwrap();
    assert_eq!(found.jobs.iter().map(|job| job.sequence).collect::<Vec<_>>(), [2, 4]);
    assert!(found.left[Kind::Waiting].more);
}

/// So many of those that have waited for the longest, and no others.
fn oldest(limit: usize) -> PerKind<usize> {
    PerKind::from_fn(|kind| if kind == Kind::Waiting { limit } else { 0 })
}

/// The sequences and kinds that a search for so many of each kind finds.
async fn found(ledger: &Ledger, known: HashSet<i64>, limit: usize) -> Vec<(i64, Kind)> {
    let search = Search { now: NOW, known, limits: PerKind::from_fn(|_| limit) };
    ledger.due(search).await.unwrap().jobs.iter().map(|job| (job.sequence, job.kind)).collect()
}

#[tokio::test]
async fn a_crowd_of_retries_and_a_backlog_do_not_stand_before_what_is_new() {
    let mut fixture = Fixture::new(vec![route("orders", "*", Ordering::None)]).await;
    let (mut arrivals, ledger) = fixture.outbox();
    let long_ago = UnixMillis(NOW.0 - 3_600_000);
    let of = |n: i64| {
        // Ten that are retried, ten that have waited for long, ten that have just come.
        let received_at = if n <= 20 { UnixMillis(long_ago.0 + n) } else { UnixMillis(NOW.0 - 30 + n) };
        Received { received_at, ..event(&format!("evt_{n}"), &format!("{n}")) }
    };
    let events = (1..=30).map(of).collect();
    fixture.store.inbox.record(types::Batch { events, cursor: None }).await.unwrap();
    for n in 1..=10 {
        let job = arrived(&mut arrivals).await;
        ledger
            .settle(vec![settlement(&job, Next::Retrying { due_at: UnixMillis(NOW.0 - 20 + n) })])
            .await
            .unwrap();
    }
    let three = found(&ledger, HashSet::new(), 3).await;
    let (new, waiting, retry) = (Kind::New, Kind::Waiting, Kind::Retry);
    let wanted = [
        (1, retry),
        (10, retry),
        (2, retry),
        (11, waiting),
        (12, waiting),
        (13, waiting),
        (30, new),
        (29, new),
        (28, new),
    ];
    assert_eq!(three, wanted);
    let known = three.into_iter().map(|(sequence, _)| sequence).collect();
    let wanted = [(3, retry), (9, retry), (14, waiting), (15, waiting), (27, new), (26, new)];
    assert_eq!(found(&ledger, known, 2).await, wanted);
}

#[tokio::test]
async fn the_next_of_a_lane_is_due_since_its_event_was_accepted() {
    let mut fixture = Fixture::new(per_object()).await;
    let (mut arrivals, ledger) = fixture.outbox();
    let earlier = |n: i64, object: &str| Received {
        received_at: UnixMillis(NOW.0 - 100 + n),
        ..event(&format!("evt_{n}"), object)
    };
    let events = vec![earlier(1, "a"), earlier(2, "a"), earlier(3, "b")];
    fixture.store.inbox.record(types::Batch { events, cursor: None }).await.unwrap();
    let first = arrived(&mut arrivals).await;
    assert_eq!(first.kind, Kind::New);
    ledger.settle(vec![settlement(&first, Next::Delivered)]).await.unwrap();
    let oldest = ledger.due(Search { now: NOW, known: HashSet::new(), limits: oldest(1) }).await.unwrap();
    assert_eq!(oldest.jobs[0].sequence, 2, "before what was accepted later");
    assert_eq!(oldest.jobs[0].kind, Kind::Waiting);
}

#[tokio::test]
async fn what_does_not_fit_in_memory_is_announced_and_stays_in_the_store() {
    let mut fixture = Fixture::new(vec![route("orders", "*", Ordering::None)]).await;
    let (mut arrivals, ledger) = fixture.outbox();
    let events = (0..2000).map(|n| event(&format!("evt_{n}"), "a")).collect();
    fixture.store.inbox.record(types::Batch { events, cursor: None }).await.unwrap();
    // The writer takes one thing after the other: once it answers this, it has handed all over.
    fixture.store.operator.probe().await.unwrap();
    let in_memory = std::iter::from_fn(|| arrivals.take_ready()).count();
    assert!(in_memory < 2000, "{in_memory}");
    assert!(matches!(arrivals.next().await, Arrival::Overflow));
    let all = ledger
        .due(Search { now: NOW, known: HashSet::new(), limits: PerKind::from_fn(|_| 5000) })
        .await
        .unwrap();
    assert_eq!(all.jobs.len(), 2000);
}

#[tokio::test]
async fn an_attempt_cut_off_by_a_crash_is_held_or_repeated_as_configured() {
    for (on_uncertain, state, due_again) in
        [(OnUncertain::Hold, "held", 0), (OnUncertain::Retry, "retrying", 1)]
    {
        let mut fixture = Fixture::new(per_object()).await;
        let (mut arrivals, ledger) = fixture.outbox();
        fixture.store.inbox.try_record(event("evt_1", "a")).await.unwrap();
        fixture.store.inbox.try_record(event("evt_2", "a")).await.unwrap();
        let job = arrived(&mut arrivals).await;
        ledger.begin(Begun { sequence: job.sequence, number: 1, at: NOW }).await.unwrap();
        assert!(due(&ledger, NOW).await.jobs.is_empty(), "on the wire is not due");

        let mut fixture = fixture.restart(per_object()).await;
        let (_, ledger) = fixture.outbox();
        let cut_off = CutOff { event_id: "evt_1".to_owned(), number: 1 };
        assert_eq!(ledger.recover(on_uncertain).await, Ok(vec![cut_off]));
        assert_eq!(ledger.recover(on_uncertain).await, Ok(Vec::new()));
        let found = due(&ledger, NOW).await;
        assert_eq!(found.jobs.len(), due_again);
        assert!(found.jobs.iter().all(|job| job.attempts == 1 && id(job) == "evt_1"));
        let stored: String = fixture
            .side_door()
            .query_row("SELECT state FROM delivery WHERE sequence = 1", [], |row| row.get(0))
            .unwrap();
        assert_eq!(stored, state);
    }
}

#[tokio::test]
async fn an_attempt_that_is_not_due_cannot_begin() {
    let mut fixture = Fixture::new(per_object()).await;
    let (mut arrivals, ledger) = fixture.outbox();
    fixture.store.inbox.try_record(event("evt_1", "a")).await.unwrap();
    let job = arrived(&mut arrivals).await;
    let begun = Begun { sequence: job.sequence, number: 1, at: NOW };
    ledger.begin(begun).await.unwrap();
    assert!(ledger.begin(begun).await.is_err());
    ledger.settle(vec![settlement(&job, Next::Delivered)]).await.unwrap();
    assert!(ledger.begin(begun).await.is_err());
}

#[tokio::test]
async fn the_backlog_counts_what_waits_what_is_held_and_what_is_dead() {
    let mut fixture = Fixture::new(per_object()).await;
    let (mut arrivals, ledger) = fixture.outbox();
    for n in 1..=6 {
        let received_at = NOW.plus(Duration::from_secs(n));
        let event = Received { received_at, ..event(&format!("evt_{n}"), &n.to_string()) };
        fixture.store.inbox.try_record(event).await.unwrap();
    }
    let outcomes = [Next::Delivered, Next::Held, Next::Dead, Next::Retrying { due_at: later(60) }];
    for next in outcomes {
        let job = arrived(&mut arrivals).await;
        ledger.settle(vec![settlement(&job, next)]).await.unwrap();
    }
    let backlog = fixture.store.operator.backlogs().await.unwrap().remove(0);
    let expected =
        view::Backlog { target: "orders".into(), open: 3, oldest: Some(later(4)), held: 1, dead: 1 };
    assert_eq!(backlog, expected);
}
