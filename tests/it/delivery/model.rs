//! The dispatcher against a model, with a real store and real connections:
//! whatever comes in whatever order, and however the target fails.

use std::collections::{BTreeMap, BTreeSet};
use std::sync::Arc;
use std::thread::JoinHandle;
use std::time::Duration;

use pepay_bridge::delivery::{Settings, Target};
use pepay_bridge::domain::backoff::{Backoff, Jitter};
use pepay_bridge::domain::clock::Clock;
use pepay_bridge::domain::delivery::{OnUncertain, Ordering, RetryPolicy};
use pepay_bridge::domain::event::{Received, Source};
use pepay_bridge::domain::filter::TypeFilter;
use pepay_bridge::pepay::envelope;
use pepay_bridge::store::inbox::Batch;
use pepay_bridge::store::{self, Durability, Route, Store};
use proptest::prelude::*;
use tempfile::TempDir;
use tokio::task::JoinSet;
use tokio_util::sync::CancellationToken;

use crate::support::raw::{Act, OK, RawTarget, Record, Seen};
use crate::support::world::listen;

/// Whose events fail until everything else is delivered.
const POISONED: u8 = 0;

#[derive(Clone, Copy, Debug)]
enum Failure {
    Status(u16),
    Close,
    Reset,
}

#[derive(Clone, Debug)]
enum Step {
    /// Events about these objects come in together, each with the failures its attempts meet.
    Record(Vec<(u8, Vec<Failure>)>),
    /// The target sees another request, if there is to be one.
    Progress,
    /// The bridge is stopped and started again.
    Restart,
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

/// A bridge that has only a store and one dispatcher.
struct Bridge {
    store: Store,
    writer: JoinHandle<()>,
    dispatcher: JoinSet<()>,
    stop: CancellationToken,
}

impl Bridge {
    async fn start(folder: &TempDir, settings: &Settings) -> Self {
        let clock = Clock::system();
        let (types, ordering) = (settings.types.clone(), settings.ordering);
        let route = Route { target: Arc::clone(&settings.name), types, ordering };
        let file = store::Settings {
            path: folder.path().join("model.db"),
            durability: Durability::Normal,
            payload_retention: Duration::from_hours(24),
            dedupe_retention: Duration::from_hours(48),
        };
        let (mut store, writer) = Store::open(&file, vec![route], clock.clone()).await.unwrap();
        let writer = std::thread::spawn(|| writer.run());
        let jitter = Jitter::from_fn(|| rand::Rng::random(&mut rand::rng()));
        let (target, _) = Target::new(settings, store.outboxes.remove(0), clock, jitter).unwrap();
        let (mut dispatcher, stop) = (JoinSet::new(), CancellationToken::new());
        dispatcher.spawn(target.run(stop.clone(), CancellationToken::new()));
        Self { store, writer, dispatcher, stop }
    }

    async fn stop(self) {
        self.stop.cancel();
        self.dispatcher.join_all().await;
        self.store.close().await;
        self.writer.join().unwrap();
    }
}

fn settings(plan: &Plan, url: &str) -> Settings {
    Settings {
        name: "target".into(),
        url: url.parse().unwrap(),
        types: TypeFilter::new(vec!["*".parse().unwrap()]),
        signing_key: None,
        headers: http::HeaderMap::new(),
        timeout: Duration::from_secs(10),
        connect_timeout: Duration::from_secs(3),
        ca_file: None,
        client_identity: None,
        concurrency: plan.concurrency,
        ordering: plan.ordering,
        rate_limit: plan.rate_limit,
        retry: RetryPolicy {
            backoff: Backoff::new(Duration::from_millis(1), Duration::from_millis(20)).unwrap(),
            give_up_after: Duration::from_hours(1),
            on_uncertain: OnUncertain::Retry,
        },
        dead_on: BTreeSet::new(),
    }
}

fn event(n: usize, object: u8) -> Received {
    let body = format!(
        r#"{{"id":"evt_{}-{n}","object":"event","type":"commerce.order.updated","created":1734780000,
           "data":{{"object":{{"object":"commerce_order","id":"{object}"}}}}}}"#,
        1_734_780_000_000 + n
    );
    Received {
        event: envelope::parse(body.into()).unwrap(),
        source: Source::Stream,
        origin: "commerce".into(),
        environment: None,
        received_at: Clock::system().now(),
    }
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

/// The failures that the attempts at each event meet, by event id.
type Failures = BTreeMap<String, Vec<Failure>>;

fn react(failures: &Failures, seen: &Seen) -> Act {
    let met = failures[&seen.id].get(seen.attempt as usize - 1);
    met.map_or_else(|| Act::Say(OK.to_vec()), |failure| act(*failure))
}

fn is_poisoned(seen: &Seen) -> bool {
    seen.object == POISONED.to_string()
}

async fn play(plan: Plan) {
    // An error says that another test has installed it.
    let _ = rustls::crypto::ring::default_provider().install_default();
    let events: Vec<_> = plan
        .steps
        .iter()
        .flat_map(|step| if let Step::Record(all) = step { &all[..] } else { &[] })
        .collect();
    let all: Vec<_> = events.iter().enumerate().map(|(n, (object, _))| event(n, *object)).collect();
    let ids = all.iter().map(|event| event.event.id.to_string());
    let failures: Failures = ids.zip(&events).map(|(id, (_, failures))| (id, failures.clone())).collect();
    let patient = events.iter().filter(|(object, _)| *object != POISONED).count();

    let (listener, url) = listen().await;
    let settings = settings(&plan, &url);
    let target = RawTarget::on(listener, url, Duration::from_millis(plan.delay_ms), {
        let failures = failures.clone();
        move |seen| if is_poisoned(seen) { act(Failure::Status(500)) } else { react(&failures, seen) }
    });
    let folder = TempDir::new().unwrap();
    let mut bridge = Bridge::start(&folder, &settings).await;
    let (mut coming, mut recorded) = (all.into_iter(), 0);
    for step in &plan.steps {
        match step {
            Step::Record(some) => {
                let events: Vec<_> = coming.by_ref().take(some.len()).collect();
                recorded += events.len();
                bridge.store.inbox.record(Batch { events, cursor: None }).await.unwrap();
            }
            Step::Progress => {
                let before = target.record();
                let moved = |now: &Record| {
                    now.unique() == recorded
                        || now.requests.len() > before.requests.len()
                        || now.unique() > before.unique()
                };
                target.until("progress", moved).await;
            }
            Step::Restart => {
                bridge.stop().await;
                bridge = Bridge::start(&folder, &settings).await;
            }
        }
    }
    let delivered = |record: &Record| record.requests.iter().filter(|seen| seen.acknowledged).count();
    target.until("everything that can go on", |record| delivered(record) == patient).await;
    target.heal();
    target.until("everything", |record| record.unique() == events.len()).await;
    bridge.stop().await;
    judge(&plan, &failures, &target.record());
}

/// What must hold of everything that the target has seen.
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
    fn each_once_in_the_order_of_its_object_as_many_at_a_time_as_allowed_and_none_forgotten(plan in plans()) {
        let runtime = tokio::runtime::Builder::new_multi_thread().worker_threads(2).enable_all().build().unwrap();
        runtime.block_on(play(plan));
    }
}
