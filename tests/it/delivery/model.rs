//! The dispatcher against a model, with a real store and real connections: random events in
//! random order, and random failures of the target.

use std::collections::BTreeMap;
use std::time::Duration;

use pepay_bridge::delivery::Settings;
use pepay_bridge::domain::delivery::Ordering;
use proptest::prelude::*;
use tempfile::TempDir;

use crate::delivery::engine::{Engine, event, settings};
use crate::support::raw::{Act, OK, RawTarget, Record, Seen};
use crate::support::within;
use crate::support::world::listen;

/// The object whose events fail until all others are delivered.
const POISONED: u8 = 0;

#[derive(Clone, Copy, Debug)]
enum Failure {
    Status(u16),
    Close,
    Reset,
}

#[derive(Clone, Debug)]
enum Step {
    /// Events about these objects are stored together. Each has the failures of its first attempts.
    Record(Vec<(u8, Vec<Failure>)>),
    /// The test waits until the target sees another request, if one is due.
    Progress,
    /// The bridge is stopped and started again.
    Restart,
    /// The dispatcher is replaced while it works.
    Replace,
}

#[derive(Clone, Debug)]
struct Plan {
    ordering: Ordering,
    concurrency: usize,
    rate_limit: Option<f64>,
    delay_ms: u64,
    steps: Vec<Step>,
}

fn plans() -> impl Strategy<Value = Plan> {
    let failure = prop_oneof![
        4 => prop::sample::select(vec![302, 404, 408, 429, 500, 503]).prop_map(Failure::Status),
        1 => Just(Failure::Close),
        1 => Just(Failure::Reset),
    ];
    let failures = prop_oneof![2 => Just(Vec::new()), 1 => prop::collection::vec(failure, 1..4)];
    let step = prop_oneof![
        4 => prop::collection::vec((0..6_u8, failures), 1..12).prop_map(Step::Record),
        4 => Just(Step::Progress),
        1 => Just(Step::Restart),
        2 => Just(Step::Replace),
    ];
    let ordering = prop::sample::select(vec![Ordering::PerObject, Ordering::PerObject, Ordering::None]);
    let rate_limit = prop::sample::select(vec![None, None, Some(500.0)]);
    (ordering, 1..6_usize, rate_limit, 0..3_u64, prop::collection::vec(step, 1..16)).prop_map(
        |(ordering, concurrency, rate_limit, delay_ms, steps)| Plan {
            ordering,
            concurrency,
            rate_limit,
            delay_ms,
            steps,
        },
    )
}

fn act(failure: Failure) -> Act {
    match failure {
        Failure::Status(status) => {
            let head = format!("HTTP/1.1 {status} No\r\ncontent-length: 0\r\nretry-after: 0\r\n\r\n");
            Act::Say(head.into_bytes())
        }
        Failure::Close => Act::SayAndClose(Vec::new()),
        Failure::Reset => Act::SayAndReset(Vec::new()),
    }
}

/// The failures of the first attempts at each event, by event id.
type Failures = BTreeMap<String, Vec<Failure>>;

fn react(failures: &Failures, seen: &Seen) -> Act {
    let met = failures[&seen.id].get(seen.attempt as usize - 1);
    met.map_or_else(|| Act::Say(OK.to_vec()), |failure| act(*failure))
}

fn is_poisoned(seen: &Seen) -> bool {
    seen.object == POISONED.to_string()
}

async fn play(plan: Plan) {
    let events: Vec<_> = plan
        .steps
        .iter()
        .flat_map(|step| if let Step::Record(all) = step { &all[..] } else { &[] })
        .collect();
    let all: Vec<_> =
        events.iter().enumerate().map(|(n, (object, _))| event(n, usize::from(*object))).collect();
    let ids = all.iter().map(|event| event.event.id.to_string());
    let failures: Failures = ids.zip(&events).map(|(id, (_, failures))| (id, failures.clone())).collect();
    let deliverable = events.iter().filter(|(object, _)| *object != POISONED).count();

    let (listener, url) = listen().await;
    let settings = Settings {
        rate_limit: plan.rate_limit,
        // The limits are longer than any stop of the machine: a request that is sent again after a timeout
        // has no place in the model.
        timeout: Duration::from_hours(1),
        connect_timeout: Duration::from_hours(1),
        ..settings(&url, plan.ordering, plan.concurrency)
    };
    let target = RawTarget::on(listener, url, Duration::from_millis(plan.delay_ms), {
        let failures = failures.clone();
        move |seen| if is_poisoned(seen) { act(Failure::Status(500)) } else { react(&failures, seen) }
    });
    let folder = TempDir::new().unwrap();
    let mut engine = Engine::start(&folder, &settings).await;
    let (mut coming, mut recorded) = (all.into_iter(), 0);
    for step in &plan.steps {
        match step {
            Step::Record(some) => {
                let events: Vec<_> = coming.by_ref().take(some.len()).collect();
                recorded += events.len();
                engine.record(events).await;
            }
            Step::Progress => {
                let before = target.record();
                let moved = |now: &Record| {
                    now.unique() == recorded
                        || now.requests.len() > before.requests.len()
                        || now.unique() > before.unique()
                };
                until(&engine, &target, "progress", moved).await;
            }
            Step::Restart => {
                engine.stop().await;
                engine = Engine::start(&folder, &settings).await;
            }
            Step::Replace => engine.replace(&settings).await,
        }
    }
    let delivered = |record: &Record| record.requests.iter().filter(|seen| seen.acknowledged).count();
    until(&engine, &target, "all that can go on", |record| delivered(record) >= deliverable).await;
    target.heal();
    until(&engine, &target, "everything", |record| record.unique() == events.len()).await;
    engine.stop().await;
    judge(&plan, &failures, &target.record());
}

/// Waits until `reached` holds. If it waits in vain, the panic shows the status and the last requests.
async fn until(engine: &Engine, target: &RawTarget, what: &str, reached: impl FnMut(&Record) -> bool) {
    let waiting = target.until(what, reached);
    if within(Duration::from_secs(40), waiting).await.is_none() {
        let Record { requests, in_flight, connections, .. } = target.record();
        let last = &requests[requests.len().saturating_sub(10)..];
        let status = engine.status.borrow();
        panic!(
            "{what}: {} requests, {in_flight} out, {connections} connections; {last:#?}; {status:#?}",
            requests.len()
        );
    }
}

/// Fails unless the requests that the target has seen keep the promises of a delivery.
fn judge(plan: &Plan, failures: &Failures, record: &Record) {
    assert!(record.max_in_flight <= plan.concurrency, "{} at a time", record.max_in_flight);
    for (id, failures) in failures {
        let requests: Vec<_> = record.requests.iter().filter(|seen| &seen.id == id).collect();
        let attempts: Vec<_> = requests.iter().map(|seen| seen.attempt).collect();
        assert_eq!(attempts, (1..=u32::try_from(attempts.len()).unwrap()).collect::<Vec<_>>(), "{id}");
        let acknowledged = requests.iter().filter(|seen| seen.acknowledged).count();
        assert_eq!(acknowledged, 1, "{id}");
        assert!(requests.last().unwrap().acknowledged, "{id} was sent after its acknowledgement");
        assert!(is_poisoned(requests[0]) || requests.len() == failures.len() + 1, "{id}: {attempts:?}");
    }
    if plan.ordering == Ordering::PerObject {
        let mut last = BTreeMap::<&str, &Seen>::new();
        for seen in &record.requests {
            if let Some(before) = last.insert(&seen.object, seen) {
                assert!(before.left < Some(seen.arrived), "{} came while {} was out", seen.id, before.id);
                assert!(before.id <= seen.id, "{} came after {}", seen.id, before.id);
                assert!(before.id == seen.id || before.acknowledged, "{} overtook {}", seen.id, before.id);
            }
        }
    }
}

proptest! {
    #![proptest_config(ProptestConfig { cases: 24, failure_persistence: None, ..ProptestConfig::default() })]

    #[test]
    fn every_event_is_delivered_once_in_object_order_within_the_concurrency(plan in plans()) {
        let runtime = tokio::runtime::Builder::new_multi_thread().worker_threads(2).enable_all().build().unwrap();
        runtime.block_on(play(plan));
    }
}
