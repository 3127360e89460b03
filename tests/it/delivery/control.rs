//! The actions of an operator on a target: pause, resume, test, and replay of an event.

use std::time::Duration;

use http::StatusCode;
use pepay_bridge::delivery::Settings;
use pepay_bridge::delivery::sign::SigningKey;
use pepay_bridge::domain::clock::Clock;
use pepay_bridge::domain::delivery::Ordering;
use pepay_bridge::domain::operator::{Action, BulkWork, Filter, OperationError};
use pepay_bridge::domain::status::Circuit;
use pepay_bridge::simulator::target::{Delivery, Options, Reaction, Target, Verifier};
use serde_json::json;
use tempfile::TempDir;
use tokio::task::JoinSet;
use tokio_util::sync::CancellationToken;

use crate::delivery::engine::{Engine, event, settings};
use crate::support::raw::{Act, OK, RawTarget};
use crate::support::world::{SIGNING_SECRET, World, listen};
use crate::support::{eventually, soon};

/// A sample target that is served as long as this lives, and the settings for deliveries to it.
struct Sample {
    target: Target,
    settings: Settings,
    _served: JoinSet<()>,
}

async fn sample() -> Sample {
    let verifier = Some(Verifier::new(&SIGNING_SECRET.into()).unwrap());
    let target = Target::new(Options { verifier, ..Options::default() }, Clock::system());
    let (listener, url) = listen().await;
    let (mut served, running) = (JoinSet::new(), target.clone());
    served.spawn(async move { running.serve(listener, CancellationToken::new()).await });
    let signing_keys = vec![SigningKey::parse(&SIGNING_SECRET.into()).unwrap()];
    let mut settings = Settings { signing_keys, ..settings(&url, Ordering::PerObject, 1) };
    settings.timeout = TIMEOUT;
    settings.headers.insert("authorization", "Bearer t0k".parse().unwrap());
    Sample { target, settings, _served: served }
}

impl Sample {
    async fn unique(&self, count: u64) {
        soon("the deliveries", self.target.until(|totals| totals.unique >= count)).await;
    }

    fn kinds(&self) -> Vec<String> {
        self.target.deliveries().into_iter().filter_map(|delivery| delivery.kind).collect()
    }
}

/// The time limit of a request, for targets that hang.
const TIMEOUT: Duration = Duration::from_secs(1);

const EVENT: &str = "commerce.order.updated";
const TEST: &str = "pepay_bridge.test";

#[tokio::test(flavor = "multi_thread")]
async fn a_paused_target_ends_what_is_on_the_wire_and_starts_nothing_until_it_goes_on() {
    let (sample, folder) = (sample().await, TempDir::new().unwrap());
    let engine = Engine::start(&folder, &sample.settings).await;
    sample.target.next(1, Reaction::Hang);
    engine.record(vec![event(1, 1), event(2, 2)]).await;
    engine.until("the first attempt", |status| status.in_flight == 1).await;
    engine.control.pause(true);
    assert!(engine.status.borrow().paused);
    engine.until("its end", |status| status.in_flight == 0 && status.last_error.is_some()).await;
    engine.record(vec![event(3, 3)]).await;
    for _ in 0..3 {
        assert!(engine.control.test().await.unwrap().acknowledged);
    }
    assert_eq!(sample.kinds(), [EVENT, TEST, TEST, TEST]);
    engine.control.pause(false);
    engine.until("the way on", |status| !status.paused).await;
    sample.unique(6).await;
    engine.stop().await;
    let attempts: Vec<_> = sample
        .target
        .deliveries()
        .iter()
        .filter(|delivery| delivery.kind.as_deref() == Some(EVENT))
        .map(|delivery| (delivery.object_id.as_deref().unwrap().to_owned(), delivery.attempt.unwrap()))
        .collect();
    assert_eq!(attempts.len(), 4, "each once, and the one that hung again: {attempts:?}");
    assert!(attempts.contains(&("1".to_owned(), 2)));
}

#[tokio::test(flavor = "multi_thread")]
async fn an_action_that_fails_neither_stops_nor_repeats_what_is_on_the_wire() {
    for ordering in [Ordering::PerObject, Ordering::None] {
        let target = RawTarget::scripted([Act::Hang]).await;
        let folder = TempDir::new().unwrap();
        let settings = Settings { timeout: TIMEOUT, ..settings(&target.url, ordering, 1) };
        let engine = Engine::start(&folder, &settings).await;
        let intruder = rusqlite::Connection::open(folder.path().join("model.db")).unwrap();
        // A first attempt that cannot be recorded stays pending, so that the action selects it.
        let refuse = "CREATE TRIGGER refuse BEFORE UPDATE ON delivery WHEN new.state IN ('sending', 'cancelled') \
                      BEGIN SELECT raise(ABORT, 'refused by the test'); END";
        intruder.execute_batch(refuse).unwrap();

        let events = [event(1, 1), event(2, 1)];
        let ids = [0, 1].map(|n: usize| events[n].event.id.to_string());
        engine.record(events.into()).await;
        target.until("the first attempt", |record| record.requests.len() == 1).await;
        let cancel = BulkWork::Act(Action::Cancel, Filter::default());
        let refused = engine.store.operator.act_on_all(&cancel, 2, |_| {}).await;
        assert!(refused.unwrap_err().to_string().contains("refused by the test"));
        target.until("both deliveries", |record| record.unique() == 2).await;
        engine.stop().await;
        let mut seen: Vec<_> =
            target.record().requests.into_iter().map(|seen| (seen.id, seen.attempt)).collect();
        seen.sort();
        let [first, second] = ids;
        assert_eq!(seen, [(first.clone(), 1), (first, 2), (second, 1)], "{ordering:?}");
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn a_target_that_begins_paused_waits_for_an_operator() {
    let (sample, folder) = (sample().await, TempDir::new().unwrap());
    let engine = Engine::start_as(&folder, &sample.settings, true).await;
    assert!(engine.status.borrow().paused);
    engine.record(vec![event(1, 1)]).await;
    assert!(engine.control.test().await.unwrap().acknowledged);
    assert_eq!(sample.kinds(), [TEST]);
    engine.control.pause(false);
    sample.unique(2).await;
    engine.stop().await;
    assert_eq!(sample.kinds(), [TEST, EVENT]);
}

#[tokio::test(flavor = "multi_thread")]
async fn a_test_event_is_signed_and_marked_and_leaves_no_trace() {
    let (sample, folder) = (sample().await, TempDir::new().unwrap());
    let engine = Engine::start(&folder, &sample.settings).await;
    let (first, second) = (engine.control.test().await.unwrap(), engine.control.test().await.unwrap());
    assert!(first.acknowledged && first.event_id.starts_with("evt_test_"), "{first:?}");
    assert_eq!((first.status, first.error), (Some(200), None));
    assert_ne!(first.event_id, second.event_id);
    let sent = &sample.target.deliveries()[0];
    assert_eq!((&*sent.id, sent.kind.as_deref()), (&*first.event_id, Some(TEST)));
    assert_eq!(sent.signature_valid, Some(true));
    for (name, value) in [
        ("pepay-bridge-test", "1"),
        ("pepay-bridge-attempt", "1"),
        ("x-pepay-event", TEST),
        ("idempotency-key", &first.event_id),
        ("content-type", "application/json"),
        ("authorization", "Bearer t0k"),
    ] {
        assert_eq!(sent.headers[name], value, "{name}");
    }
    for name in ["pepay-bridge-sequence", "pepay-bridge-source", "pepay-bridge-replay"] {
        assert!(!sent.headers.contains_key(name), "{name} tells of a stored event");
    }
    assert_eq!(engine.store.operator.summary().await.unwrap().last_sequence, 0);
    assert_eq!(engine.status.borrow().last_delivered_at, None);
    engine.stop().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn a_test_event_reports_its_failure_and_one_is_sent_at_a_time() {
    let (sample, folder) = (sample().await, TempDir::new().unwrap());
    let engine = Engine::start(&folder, &sample.settings).await;
    sample.target.next(1, Reaction::Hang);
    let (hung, busy) = tokio::join!(engine.control.test(), engine.control.test());
    assert_eq!(busy, Err(OperationError::Busy));
    let hung = hung.unwrap();
    assert_eq!((hung.acknowledged, hung.status), (false, None));
    assert_eq!(hung.error.as_deref(), Some("no answer within 1s"));
    assert!(hung.duration_ms >= 1000, "{hung:?}");
    sample.target.next(1, Reaction::Answer(StatusCode::GONE, None));
    let gone = engine.control.test().await.unwrap();
    assert_eq!((gone.acknowledged, gone.status), (false, Some(410)));
    assert_eq!(gone.error.as_deref(), Some("answered 410 Gone"));
    engine.stop().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn a_test_goes_out_while_the_circuit_is_open_and_does_not_close_it() {
    let (sample, folder) = (sample().await, TempDir::new().unwrap());
    let engine = Engine::start(&folder, &sample.settings).await;
    sample.target.fail_ratio(1.0, Reaction::Answer(StatusCode::SERVICE_UNAVAILABLE, None));
    engine.record((1..=40).map(|n| event(n, n)).collect()).await;
    engine.until("the open circuit", |status| status.circuit == Circuit::Open).await;
    engine.control.pause(true);
    engine
        .until("the end of probes", |status| status.in_flight == 0 && status.circuit == Circuit::Open)
        .await;
    sample.target.heal();
    assert!(engine.control.test().await.unwrap().acknowledged);
    assert_eq!(engine.status.borrow().circuit, Circuit::Open);
    engine.control.pause(false);
    engine.until("the closed circuit", |status| status.circuit == Circuit::Closed).await;
    engine.stop().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn a_replay_of_a_delivered_event_says_so_and_which_one_it_is() {
    let (sample, folder) = (sample().await, TempDir::new().unwrap());
    let engine = Engine::start(&folder, &sample.settings).await;
    let event = event(1, 1);
    let id = event.event.id.clone();
    engine.record(vec![event]).await;
    for replays in 1..=2 {
        sample.unique(1).await;
        // A replay is refused until the acknowledgement of the last delivery is recorded.
        let replay = async || engine.store.operator.replay("target", &id).await.ok();
        assert_eq!(eventually("the replay", replay).await, replays);
        soon("its delivery", sample.target.until(|totals| totals.acknowledged > u64::from(replays))).await;
    }
    engine.stop().await;
    let replays = |delivery: &Delivery| {
        delivery.headers.get("pepay-bridge-replay").map(|value| value.to_str().unwrap().to_owned())
    };
    let seen: Vec<_> = sample.target.deliveries().iter().map(replays).collect();
    assert_eq!(seen, [None, Some("1".to_owned()), Some("2".to_owned())]);
}

#[tokio::test(flavor = "multi_thread")]
async fn a_target_stays_paused_over_a_restart_of_the_bridge() {
    let mut world = World::new(World::with_duplicates()).await;
    let target = world.target("orders").await;
    let bridge = world.bridge().await;
    let (status, shown) = bridge.post("/api/v1/targets/orders/pause", &json!({})).await;
    assert_eq!((status, &shown["paused"]), (200, &json!(true)));
    let ids = world.simulator.play(5);
    bridge.until("the backlog", |status| status["targets"][0]["backlog"] == 5).await;
    assert!(bridge.stop().await.0.success());

    let bridge = world.bridge().await;
    let status = bridge.status().await;
    assert_eq!(status["targets"][0]["paused"], true);
    assert_eq!(status["ready"], true, "a paused target is no reason");
    let (status, outcome) = bridge.post("/api/v1/targets/orders/test", &json!({})).await;
    assert_eq!((status, &outcome["acknowledged"]), (200, &json!(true)), "{outcome}");
    assert_eq!(target.totals().received, 1, "the test alone");
    assert_eq!(bridge.post("/api/v1/targets/orders/resume", &json!({})).await.0, 200);
    soon("the deliveries", target.until(|totals| totals.unique == 6)).await;
    assert!(bridge.stop().await.0.success());
    assert_eq!(world.delivered("orders").len(), ids.len());
}

#[tokio::test(flavor = "multi_thread")]
async fn an_operator_does_not_wait_for_the_end_of_a_backlog() {
    const BACKLOG: usize = 3000;
    let folder = TempDir::new().unwrap();
    let (listener, url) = listen().await;
    let settings = settings(&url, Ordering::PerObject, 16);
    let target = RawTarget::on(listener, url, Duration::from_millis(5), |_| Act::Say(OK.to_vec()));
    let engine = Engine::start_as(&folder, &settings, true).await;
    let events: Vec<_> = (0..BACKLOG).map(|n| event(n, n)).collect();
    let last = events[BACKLOG - 1].event.id.clone();
    engine.record(events).await;
    engine.control.pause(false);
    target.until("the beginning", |record| record.unique() > 0).await;
    soon("the action", engine.store.operator.act(Action::Cancel, "target", &last)).await.unwrap();
    let so_far = target.record().unique();
    assert!(so_far < BACKLOG - 1, "{so_far} were delivered before it was done");
    let record = target.until("the others", |record| record.unique() == BACKLOG - 1).await;
    assert!(!record.requests.iter().any(|seen| seen.id == last.as_str()), "it was called off");
    engine.stop().await;
}
