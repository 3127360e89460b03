//! Events and objects that a target always refuses: events that it takes do not wait for them,
//! however many there are and in whatever order they arrive.

use std::collections::HashSet;
use std::time::{Duration, Instant};

use pepay_bridge::delivery::Settings;
use pepay_bridge::domain::backoff::Backoff;
use pepay_bridge::domain::delivery::{Ordering, RetryPolicy};
use proptest::prelude::*;
use tempfile::TempDir;

use crate::delivery::engine::{Engine, event, settings};
use crate::support::raw::{Act, OK, RawTarget, Record};
use crate::support::soon;
use crate::support::world::World;

/// The longest time for the deliveries that the target takes. If they waited for the breaker's
/// probes, which have intervals of up to a minute, they would take longer.
const BOUND: Duration = Duration::from_secs(10);

/// The target takes objects with this number and above, and refuses those below.
const TAKEN: usize = 1000;

#[derive(Clone, Debug)]
struct Plan {
    refusal: Act,
    concurrency: usize,
    /// The events that are stored together: whether the target refuses each, and the number of its
    /// object, one of ten; `None` is an object of its own. The bridge restarts between two batches.
    batches: Vec<Vec<(bool, Option<u8>)>>,
}

/// Returns refusals of an event. Those of the target, such as 503, are not among them: many in a row
/// look like a target that is down.
fn refusals() -> impl Strategy<Value = Act> {
    prop::sample::select(vec![400, 404, 408, 422, 500, 502]).prop_map(|status| {
        Act::Say(format!("HTTP/1.1 {status} No\r\ncontent-length: 0\r\n\r\n").into_bytes())
    })
}

fn plans() -> impl Strategy<Value = Plan> {
    // A random share of the events is refused.
    let share = (0..=20_u32, prop::collection::vec((0..20_u32, prop::option::of(0..10_u8)), 1..120))
        .prop_map(|(share, all)| all.into_iter().map(|(at, object)| (at < share, object)).collect());
    // Many events in a row are refused, then one is taken.
    let row = (0..300_usize).prop_map(|length| (0..=length).map(|n| (n < length, None)).collect::<Vec<_>>());
    let batch = prop_oneof![share, row];
    (refusals(), prop::sample::select(vec![1, 2, 16]), prop::collection::vec(batch, 1..4))
        .prop_map(|(refusal, concurrency, batches)| Plan { refusal, concurrency, batches })
}

/// Returns settings with the default retries: the first after a second, later ones after longer.
fn with_default_retries(url: &str, concurrency: usize) -> Settings {
    let settings = settings(url, Ordering::PerObject, concurrency);
    let backoff = Backoff::new(Duration::from_secs(1), Duration::from_hours(1)).unwrap();
    Settings { retry: RetryPolicy { backoff, ..settings.retry }, ..settings }
}

async fn play(plan: Plan) {
    let refusal = plan.refusal.clone();
    let target = RawTarget::new(move |seen| {
        let refused = seen.object.parse::<usize>().unwrap() < TAKEN;
        if refused { refusal.clone() } else { Act::Say(OK.to_vec()) }
    })
    .await;
    let settings = with_default_retries(&target.url, plan.concurrency);
    let folder = TempDir::new().unwrap();
    let mut engine = Engine::start(&folder, &settings).await;
    let (mut number, mut wanted) = (0, 0);
    for batch in &plan.batches {
        let events: Vec<_> = batch
            .iter()
            .map(|(refused, object)| {
                number += 1;
                wanted += usize::from(!refused);
                let object = object.map_or(100 + number % 900, usize::from);
                event(number, if *refused { object } else { TAKEN + number })
            })
            .collect();
        let began = Instant::now();
        engine.record(events).await;
        target.until("all that is taken", |record: &Record| record.unique() == wanted).await;
        assert!(began.elapsed() < BOUND, "{:?} for {wanted}", began.elapsed());
        engine.stop().await;
        engine = Engine::start(&folder, &settings).await;
    }
    engine.stop().await;
    assert!(target.record().max_in_flight <= plan.concurrency);
}

proptest! {
    #![proptest_config(ProptestConfig { cases: 24, failure_persistence: None, ..ProptestConfig::default() })]

    #[test]
    fn events_that_a_target_accepts_do_not_wait_for_those_it_refuses(plan in plans()) {
        let runtime = tokio::runtime::Builder::new_multi_thread().worker_threads(2).enable_all().build().unwrap();
        runtime.block_on(play(plan));
    }
}

/// Returns whether the target refuses `object`: about one object in ten, by the sum of its bytes.
fn is_refused(object: &str) -> bool {
    object.bytes().map(usize::from).sum::<usize>() % 10 == 0
}

#[tokio::test(flavor = "multi_thread")]
async fn one_failing_object_in_ten_delays_no_other_in_operation_or_after_a_restart() {
    let refusals = [
        ("internal", Act::Say(b"HTTP/1.1 500 No\r\ncontent-length: 0\r\n\r\n".to_vec())),
        ("unavailable", Act::Say(b"HTTP/1.1 503 No\r\ncontent-length: 0\r\n\r\n".to_vec())),
        ("unprocessable", Act::Say(b"HTTP/1.1 422 No\r\ncontent-length: 0\r\n\r\n".to_vec())),
        ("reset", Act::SayAndReset(Vec::new())),
        ("hanging", Act::Hang),
    ];
    let mut world = World::new(World::with_duplicates()).await;
    let mut targets = Vec::new();
    for (name, refusal) in refusals {
        let target =
            RawTarget::new(
                move |seen| {
                    if is_refused(&seen.object) { refusal.clone() } else { Act::Say(OK.to_vec()) }
                },
            );
        let target = target.await;
        world.target_at(name, &target.url);
        world.set_target(name, "RETRY_MIN", "1s");
        world.set_target(name, "RETRY_MAX", "1h");
        world.set_target(name, "TIMEOUT", "1s");
        targets.push((name, target));
    }
    // By id: on a busy machine an acknowledgement may exceed the time limit, and its event is sent again.
    let taken = |record: &Record| {
        let healthy = record.requests.iter().filter(|seen| !is_refused(&seen.object) && seen.acknowledged);
        healthy.map(|seen| &seen.id).collect::<HashSet<_>>().len()
    };
    let mut played = Vec::new();
    for _restart in 0..2 {
        let bridge = world.bridge().await;
        played.extend(world.simulator.play(600));
        soon("the webhooks", world.simulator.webhooks_settled()).await;
        // On a busy machine Pepay may give up a webhook; the stream brings its event later.
        bridge.until("all events", |status| status["store"]["events"] == played.len()).await;
        let objects = "SELECT id, object_id FROM event";
        let healthy = world.rows(objects).into_iter().filter(|(_, object)| !is_refused(object)).count();
        assert!(healthy < played.len(), "some are refused");
        for (name, target) in &targets {
            let began = Instant::now();
            target.until(name, |record| taken(record) == healthy).await;
            assert!(began.elapsed() < BOUND, "{name}: {:?}", began.elapsed());
        }
        bridge.stop().await;
    }
}
