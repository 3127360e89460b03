//! The actions of an operator on deliveries.

use std::sync::atomic::{AtomicI64, Ordering::Relaxed};

use super::*;
use crate::domain::delivery::{Next, State};
use crate::domain::event::EventId;
use crate::domain::operator::{Action, Filter};
use crate::store::error::{ActError, BulkError, RecordError};
use crate::store::operator::OperatorStore;
use crate::store::outbox::{Outbox, Request};
use crate::store::types::{Act, Acted, AttemptStarted, Settlement};
use crate::store::view::{AttemptEntry, BulkProgress, RetryAfter, StoredPause};

fn per_object() -> Vec<Route> {
    vec![route("orders", "*", Ordering::PerObject)]
}

fn event_id(text: &str) -> EventId {
    text.parse().unwrap()
}

async fn record(fixture: &Fixture, id: &str, object: &str) {
    fixture.store.inbox.try_record(event(id, object)).await.unwrap();
}

async fn settle(ledger: &DeliveryLog, job: &Job, next: Next) {
    ledger.settle(vec![job.settlement(NOW, Duration::ZERO, next)]).await.unwrap();
}

async fn begin(ledger: &DeliveryLog, job: &Job) {
    let begun = AttemptStarted { sequence: job.sequence, number: job.attempts + 1, at: NOW };
    ledger.begin(begun).await.unwrap();
}

async fn due(ledger: &DeliveryLog) -> Vec<Job> {
    heads(ledger, NOW).await
}

async fn due_ids(ledger: &DeliveryLog) -> Vec<String> {
    due(ledger).await.iter().map(|job| id(job).to_owned()).collect()
}

async fn state(operator: &OperatorStore, id: &str) -> State {
    operator.delivery("orders", &event_id(id)).await.unwrap().unwrap().delivery.state
}

/// Returns the event that the delivery of `id` waits for.
async fn waits_for(operator: &OperatorStore, id: &str) -> Option<String> {
    operator.delivery("orders", &event_id(id)).await.unwrap().unwrap().delivery.waits_for
}

async fn act(operator: &OperatorStore, action: Action, id: &str) -> Result<(), ActError> {
    operator.act(action, "orders", &event_id(id)).await
}

#[tokio::test]
async fn a_delivery_that_an_operator_sends_again_is_due_at_once_and_its_time_starts_again() {
    let later = NOW.plus(Duration::from_hours(1));
    let cases = [
        (Next::Dead, Some(Action::Retry)),
        (Next::Retrying { due_at: later.plus(Duration::from_hours(1)) }, Some(Action::Retry)),
        (Next::Held, Some(Action::Release)),
        (Next::Delivered, None),
    ];
    for (before, action) in cases {
        let time = Arc::new(AtomicI64::new(NOW.0));
        let now = Arc::clone(&time);
        let clock = Clock::from_fn(move || UnixMillis(now.load(Relaxed)));
        let mut fixture = Fixture::timed(UnderTest::new().await, per_object(), clock).await;
        let operator = fixture.store.operator.clone();
        let (mut arrivals, ledger) = fixture.outbox();
        record(&fixture, "evt_1000-1", "a").await;
        let job = arrived(&mut arrivals).await;
        settle(&ledger, &job, before).await;
        time.store(later.0, Relaxed);
        match action {
            Some(action) => act(&operator, action, "evt_1000-1").await.unwrap(),
            None => assert_eq!(operator.replay("orders", &event_id("evt_1000-1")).await, Ok(1)),
        }
        let again = heads(&ledger, later).await.remove(0);
        let replays = u32::from(action.is_none());
        let expected = (1, Some(later), replays);
        assert_eq!((again.attempts, again.first_attempt_at, again.replays), expected, "{before:?}");
        settle(&ledger, &again, Next::Delivered).await;
        assert_eq!(state(&operator, "evt_1000-1").await, State::Delivered);
    }
}

#[tokio::test]
async fn a_retried_delivery_enters_its_lane_at_its_place() {
    let mut fixture = Fixture::new(per_object()).await;
    let operator = fixture.store.operator.clone();
    let (mut arrivals, ledger) = fixture.outbox();
    for id in ["evt_1000-1", "evt_2000-1", "evt_3000-1"] {
        record(&fixture, id, "a").await;
    }
    let (first, second) = (arrived(&mut arrivals).await, "evt_2000-1");
    settle(&ledger, &first, Next::Dead).await;
    assert_eq!(due_ids(&ledger).await, [second]);
    act(&operator, Action::Retry, "evt_1000-1").await.unwrap();
    assert_eq!(due_ids(&ledger).await, ["evt_1000-1"], "the one before it goes first");
    assert_eq!(waits_for(&operator, "evt_3000-1").await.as_deref(), Some(second));

    let first = due(&ledger).await.remove(0);
    act(&operator, Action::Cancel, second).await.unwrap();
    act(&operator, Action::Retry, second).await.unwrap();
    assert_eq!(due_ids(&ledger).await, ["evt_1000-1"]);
    settle(&ledger, &first, Next::Delivered).await;
    assert_eq!(due_ids(&ledger).await, [second]);
}

#[tokio::test]
async fn a_late_event_waits_for_the_delivery_on_its_way_and_names_it() {
    let mut fixture = Fixture::new(per_object()).await;
    let operator = fixture.store.operator.clone();
    let (mut arrivals, ledger) = fixture.outbox();
    record(&fixture, "evt_2000-1", "a").await;
    let on_its_way = arrived(&mut arrivals).await;
    begin(&ledger, &on_its_way).await;
    for late_and_later in ["evt_1000-1", "evt_1500-1", "evt_3000-1"] {
        record(&fixture, late_and_later, "a").await;
    }
    let expected = [
        ("evt_2000-1", None),
        ("evt_1000-1", Some("evt_2000-1")),
        ("evt_1500-1", Some("evt_1000-1")),
        ("evt_3000-1", Some("evt_1500-1")),
    ];
    for (id, before) in expected {
        assert_eq!(waits_for(&operator, id).await.as_deref(), before, "{id}");
    }

    // The late events are sent before its next attempt.
    settle(&ledger, &on_its_way, Next::Retrying { due_at: NOW }).await;
    assert_eq!(waits_for(&operator, "evt_2000-1").await.as_deref(), Some("evt_1500-1"));
    for id in ["evt_1000-1", "evt_1500-1", "evt_2000-1", "evt_3000-1"] {
        assert_eq!(due_ids(&ledger).await, [id]);
        let job = due(&ledger).await.remove(0);
        settle(&ledger, &job, Next::Delivered).await;
    }
}

#[tokio::test]
async fn a_held_delivery_is_released_or_closed_and_its_lane_goes_on() {
    for action in [Action::Release, Action::Close, Action::Cancel] {
        let mut fixture = Fixture::new(per_object()).await;
        let operator = fixture.store.operator.clone();
        let (mut arrivals, ledger) = fixture.outbox();
        record(&fixture, "evt_1000-1", "a").await;
        record(&fixture, "evt_2000-1", "a").await;
        let job = arrived(&mut arrivals).await;
        settle(&ledger, &job, Next::Held).await;
        assert_eq!(due_ids(&ledger).await, [""; 0]);
        act(&operator, action, "evt_1000-1").await.unwrap();
        let (expected, next) = match action {
            Action::Release => (State::Retrying, "evt_1000-1"),
            Action::Close => (State::Closed, "evt_2000-1"),
            _ => (State::Cancelled, "evt_2000-1"),
        };
        assert_eq!(state(&operator, "evt_1000-1").await, expected);
        assert_eq!(due_ids(&ledger).await, [next]);
    }
}

#[tokio::test]
async fn a_delivery_cancelled_before_its_first_attempt_is_retried_from_the_first() {
    for ordering in [Ordering::PerObject, Ordering::None] {
        let mut fixture = Fixture::new(vec![route("orders", "*", ordering)]).await;
        let operator = fixture.store.operator.clone();
        let (_arrivals, ledger) = fixture.outbox();
        record(&fixture, "evt_1", "a").await;
        act(&operator, Action::Cancel, "evt_1").await.unwrap();
        assert_eq!(due_ids(&ledger).await, [""; 0]);
        act(&operator, Action::Retry, "evt_1").await.unwrap();
        assert_eq!(state(&operator, "evt_1").await, State::Pending);
        assert_eq!(due(&ledger).await.remove(0).attempts, 0);
    }
}

#[tokio::test]
async fn a_delivery_on_the_wire_is_left_alone() {
    let mut fixture = Fixture::new(vec![route("orders", "*", Ordering::None)]).await;
    let operator = fixture.store.operator.clone();
    let (mut arrivals, ledger) = fixture.outbox();
    record(&fixture, "evt_1", "a").await;
    let job = arrived(&mut arrivals).await;
    begin(&ledger, &job).await;
    for action in Action::ALL {
        assert_eq!(act(&operator, action, "evt_1").await, Err(ActError::OnTheWire));
    }
    assert_eq!(operator.replay("orders", &event_id("evt_1")).await, Err(ActError::OnTheWire));
    settle(&ledger, &job, Next::Delivered).await;
    let refused = act(&operator, Action::Cancel, "evt_1").await.unwrap_err();
    assert_eq!(
        refused.to_string(),
        "the delivery is delivered; this can be done to one that is pending, retrying, held, dead"
    );
}

#[tokio::test]
async fn a_delivered_event_is_replayed_and_numbered() {
    let routes =
        vec![route("orders", "commerce.*", Ordering::PerObject), route("all", "x.*", Ordering::None)];
    let mut fixture = Fixture::new(routes).await;
    let operator = fixture.store.operator.clone();
    let (mut arrivals, ledger) = fixture.outbox();
    record(&fixture, "evt_1", "a").await;
    let job = arrived(&mut arrivals).await;
    settle(&ledger, &job, Next::Delivered).await;
    for n in 1..=2 {
        assert_eq!(operator.replay("orders", &event_id("evt_1")).await, Ok(n));
        let refused = operator.replay("orders", &event_id("evt_1")).await;
        assert!(matches!(refused, Err(ActError::NotAllowed { state: State::Retrying, .. })), "{refused:?}");
        let again = due(&ledger).await.remove(0);
        assert_eq!((again.replays, again.attempts), (n, n));
        settle(&ledger, &again, Next::Delivered).await;
    }
    // A target that it did not match gets it for the first time.
    assert_eq!(operator.replay("all", &event_id("evt_1")).await, Ok(1));
    let (_, all) = fixture.outbox();
    let first = due(&all).await.remove(0);
    assert_eq!((id(&first), first.replays, first.attempts), ("evt_1", 1, 0));
}

#[tokio::test]
async fn an_action_on_a_missing_event_delivery_or_target_names_it() {
    let fixture = Fixture::new(vec![route("orders", "x.*", Ordering::None)]).await;
    let operator = &fixture.store.operator;
    record(&fixture, "evt_1", "a").await;
    assert_eq!(act(operator, Action::Retry, "evt_2").await, Err(ActError::NoSuchEvent));
    assert_eq!(act(operator, Action::Retry, "evt_1").await, Err(ActError::NoSuchDelivery));
    let elsewhere = operator.act(Action::Retry, "elsewhere", &event_id("evt_1")).await;
    assert_eq!(elsewhere, Err(ActError::NoSuchTarget));
    fixture.backend.execute("UPDATE event SET body = NULL");
    assert_eq!(operator.replay("orders", &event_id("evt_1")).await, Err(ActError::PayloadGone));
    assert_eq!(operator.set_paused("elsewhere", Some("by a test")).await, Err(ActError::NoSuchTarget));
}

#[tokio::test]
async fn a_bulk_action_is_done_if_as_many_deliveries_match_as_were_confirmed() {
    let mut fixture = Fixture::new(vec![route("orders", "*", Ordering::None)]).await;
    let operator = fixture.store.operator.clone();
    let (mut arrivals, ledger) = fixture.outbox();
    for n in 0..450 {
        record(&fixture, &format!("evt_{n}"), if n < 10 { "a" } else { "b" }).await;
        let job = arrived(&mut arrivals).await;
        settle(&ledger, &job, Next::Dead).await;
    }
    let of_a = Filter { object_id: Some("a".to_owned()), ..Filter::default() };
    assert_eq!(operator.count(&work(Action::Retry, &of_a)).await, Ok(10));
    assert_eq!(operator.count(&work(Action::Release, &of_a)).await, Ok(0));
    let all = Filter { state: Some(State::Dead), ..Filter::default() };
    let refused = operator.act_on_all(&work(Action::Retry, &all), 449, |_| {}).await;
    assert_eq!(refused, Err(BulkError::Changed { matching: 450 }));
    assert_eq!(due_ids(&ledger).await.len(), 0);
    let told = std::sync::Mutex::new(Vec::new());
    let changed =
        operator.act_on_all(&work(Action::Retry, &all), 450, |step| told.lock().unwrap().push(step)).await;
    assert_eq!(changed, Ok(450));
    let steps = [200, 400, 450].map(|far| BulkProgress { gone_through: far, changed: far });
    assert_eq!(*told.lock().unwrap(), steps);
    assert_eq!(due_ids(&ledger).await.len(), 450);
    assert_eq!(operator.count(&work(Action::Cancel, &Filter::default())).await, Ok(450));
}

/// Holds a delivery whose attempt was cut off.
const HOLD_201: &str = "UPDATE delivery SET state = 'held', due_at = NULL, attempts = 1, first_attempt_at = 1 \
                        WHERE sequence = 201";

#[tokio::test]
async fn a_bulk_action_leaves_deliveries_that_no_longer_pass_the_filter() {
    let fixture = Fixture::new(vec![route("orders", "*", Ordering::None)]).await;
    let operator = fixture.store.operator.clone();
    for n in 0..202 {
        record(&fixture, &format!("evt_{n}"), "a").await;
    }
    let between_steps = |so_far: BulkProgress| {
        if so_far.gone_through == 200 {
            fixture.backend.execute(HOLD_201);
        }
    };
    let pending = Filter { state: Some(State::Pending), ..Filter::default() };
    assert_eq!(operator.act_on_all(&work(Action::Cancel, &pending), 202, between_steps).await, Ok(201));
    assert_eq!(state(&operator, "evt_200").await, State::Held, "held ones were not asked for");
    assert_eq!(state(&operator, "evt_201").await, State::Cancelled);
    // Without a state in the filter, the action goes to every delivery that it applies to.
    assert_eq!(operator.act_on_all(&work(Action::Cancel, &Filter::default()), 1, |_| {}).await, Ok(1));
    assert_eq!(state(&operator, "evt_200").await, State::Cancelled);
}

#[tokio::test]
async fn a_bulk_change_that_cannot_be_finished_tells_how_many_were_changed() {
    let fixture = Fixture::new(vec![route("orders", "*", Ordering::None)]).await;
    let operator = fixture.store.operator.clone();
    for n in 0..450 {
        record(&fixture, &format!("evt_{n}"), "a").await;
    }
    let told = std::sync::Mutex::new(Vec::new());
    let progress = |so_far: BulkProgress| {
        if so_far.gone_through == 200 {
            fixture.backend.execute(HOLD_201);
            fixture.backend.refuse("UPDATE ON delivery", "new.sequence > 400");
        }
        told.lock().unwrap().push(so_far);
    };
    let pending = Filter { state: Some(State::Pending), ..Filter::default() };
    let failed = operator.act_on_all(&work(Action::Cancel, &pending), 450, progress).await.unwrap_err();
    assert!(failed.to_string().contains("refused by the test"), "{failed}");
    let steps =
        [(200, 200), (400, 399)].map(|(gone_through, changed)| BulkProgress { gone_through, changed });
    assert_eq!(*told.lock().unwrap(), steps);
    let left = Filter { state: Some(State::Cancelled), ..Filter::default() };
    assert_eq!(operator.count(&work(Action::Retry, &left)).await, Ok(399));
}

#[tokio::test]
async fn a_stopped_target_is_remembered_across_a_restart() {
    let fixture = Fixture::new(per_object()).await;
    fixture.store.operator.set_paused("orders", Some("by a test")).await.unwrap();
    let fixture = fixture.restart(per_object()).await;
    let operator = &fixture.store.operator;
    let paused = StoredPause { target: "orders".into(), reason: Some("by a test".to_owned()) };
    assert_eq!(operator.pauses().await.unwrap(), [paused]);
    operator.set_paused("orders", None).await.unwrap();
    assert!(operator.pauses().await.unwrap().is_empty());

    let retry_after = RetryAfter { until: NOW, address: "digest".to_owned() };
    operator.set_retry_after("orders", Some(retry_after)).await.unwrap();
    let mut fixture = fixture.restart(per_object()).await;
    let (_arrivals, log) = fixture.outbox();
    assert_eq!(log.retry_after("digest").await, Ok(Some(NOW)));
    assert_eq!(log.retry_after("another").await, Ok(None));
    fixture.store.operator.set_retry_after("orders", None).await.unwrap();
    assert_eq!(log.retry_after("digest").await, Ok(None));
}

#[tokio::test]
async fn an_operators_action_goes_through_the_dispatcher_while_there_is_one() {
    let fixture = Fixture::new(Vec::new()).await;
    let operator = fixture.store.operator.clone();
    let routes = vec![route("orders", "*", Ordering::None)];
    let mut opened = fixture.store.reroute(Vec::new(), routes).await.unwrap();
    let Outbox { lease, arrivals: _arrivals, mut requests, log, .. } = opened.remove(0);
    let tenure = lease.held().await;
    record(&fixture, "evt_1", "a").await;
    let id = event_id("evt_1");
    let dispatcher = async {
        let Request { acts, reply, .. } = requests.next().await;
        let refused =
            |act: &Act| Acted { sequence: act.sequence, lane: None, result: Err(ActError::OnTheWire) };
        reply.send(Ok(acts.iter().map(refused).collect())).unwrap();
    };
    let (acted, ()) = tokio::join!(operator.act(Action::Cancel, "orders", &id), dispatcher);
    assert_eq!(acted, Err(ActError::OnTheWire));

    // A dispatcher that ends without an answer has done nothing.
    let asked = operator.act(Action::Cancel, "orders", &id);
    let ends = async {
        drop(requests.next().await);
        drop((requests, log, tenure, lease));
    };
    let mut acted = tokio::join!(asked, ends).0;
    // The store itself acts once the lease was given back, which may be by now.
    let held = Err(ActError::Store(RecordError::Superseded));
    if UnderTest::IS_SHARED && acted == held {
        acted = eventually("the end of the lease", async || {
            Some(operator.act(Action::Cancel, "orders", &id).await).filter(|acted| *acted != held)
        })
        .await;
    }
    assert_eq!(acted, Ok(()));
    assert_eq!(state(&operator, "evt_1").await, State::Cancelled);
}

#[tokio::test]
async fn a_first_success_is_in_the_log_before_and_after_a_replay() {
    let mut fixture = Fixture::new(per_object()).await;
    let operator = fixture.store.operator.clone();
    let (mut arrivals, ledger) = fixture.outbox();
    record(&fixture, "evt_1", "a").await;
    let job = arrived(&mut arrivals).await;
    let ended = job.settlement(NOW, Duration::from_millis(7), Next::Delivered);
    ledger.settle(vec![Settlement { status: Some(204), ..ended }]).await.unwrap();
    let log = || async {
        let detail = operator.delivery("orders", &event_id("evt_1")).await.unwrap().unwrap();
        let entry = |one: &AttemptEntry| (one.number, one.duration_ms, one.status, one.started_at);
        (detail.delivery.last_status, detail.attempt_log.iter().map(entry).collect::<Vec<_>>())
    };
    assert_eq!(log().await, (Some(204), vec![(1, 7, Some(204), NOW)]));
    operator.replay("orders", &event_id("evt_1")).await.unwrap();
    assert_eq!(log().await, (Some(204), vec![(1, 7, Some(204), NOW)]));
    settle(&ledger, &due(&ledger).await.remove(0), Next::Delivered).await;
    assert_eq!(log().await, (None, vec![(1, 7, Some(204), NOW), (2, 0, None, NOW)]));
}
