//! New events are sent before a backlog and before many due retries, which make progress nevertheless.

use std::time::{Duration, Instant};

use pepay_bridge::domain::clock::Clock;

use crate::delivery::backlog::store_backlog;
use crate::support::raw::{Act, OK, RawTarget, Record, Seen};
use crate::support::soon;
use crate::support::world::{World, listen};

/// The time that the target works on a request.
const DELAY: Duration = Duration::from_millis(20);
const EVENTS: usize = 100;
/// The longest time for the new events. At [`DELAY`] and a concurrency of 16 the stored deliveries take
/// longer.
const BOUND: Duration = Duration::from_secs(10);

fn is_stored(seen: &Seen) -> bool {
    seen.object.starts_with("backlog")
}

/// Returns the number of acknowledged new events, and of acknowledged stored ones.
fn taken(record: &Record) -> (usize, usize) {
    let (stored, new): (Vec<_>, Vec<_>) =
        record.requests.iter().filter(|seen| seen.acknowledged).partition(|seen| is_stored(seen));
    (new.len(), stored.len())
}

/// Turns all stored deliveries into retries that are due now.
fn make_retries(world: &World) {
    let now = Clock::system().now().0;
    let retry = "UPDATE delivery SET state = 'retrying', attempts = 3, first_attempt_at = ?1, due_at = ?1, \
                 lane = NULL, rank = 0 WHERE settled_at IS NULL";
    world.execute(retry, [now]);
}

/// Starts a world with `backlog` stored events, and a target that answers these with `answer` and
/// others with [`OK`].
async fn world(answer: &'static [u8], backlog: usize) -> (World, RawTarget) {
    let mut world = World::new(World::with_duplicates()).await;
    let (listener, url) = listen().await;
    let target = RawTarget::on(listener, url, DELAY, move |seen| {
        Act::Say(if is_stored(seen) { answer } else { OK }.to_vec())
    });
    world.target_at("orders", &target.url);
    for (key, value) in [("RETRY_MIN", "1s"), ("RETRY_MAX", "1h"), ("CONCURRENCY", "16")] {
        world.set_target("orders", key, value);
    }
    store_backlog(&world.database(), "orders", backlog).await;
    (world, target)
}

#[tokio::test(flavor = "multi_thread")]
async fn fifty_thousand_retries_due_at_once_keep_no_new_event_waiting() {
    let (world, target) = world(b"HTTP/1.1 500 No\r\ncontent-length: 0\r\n\r\n", 50_000).await;
    make_retries(&world);
    // The second round follows a restart.
    for round in 1..=2 {
        let bridge = world.bridge().await;
        let began = Instant::now();
        world.simulator.play(EVENTS);
        target.until("the new events", |record| taken(record).0 == round * EVENTS).await;
        assert!(began.elapsed() < BOUND, "{:?}", began.elapsed());
        let tried = target.record().requests.iter().filter(|seen| is_stored(seen)).count();
        target
            .until("the retries to go on", |record| {
                record.requests.iter().filter(|seen| is_stored(seen)).count() > tried + 20
            })
            .await;
        soon("the webhooks", world.simulator.webhooks_settled()).await;
        assert!(bridge.stop().await.0.success());
    }
    let requests = target.record().requests;
    let repeated = requests.iter().filter(|seen| is_stored(seen) && seen.attempt > 4).count();
    assert!(repeated < requests.len() / 2, "{repeated}: not the same ones again and again");
}

#[tokio::test(flavor = "multi_thread")]
async fn new_events_go_before_a_backlog_which_goes_on() {
    let (world, target) = world(OK, 20_000).await;
    let bridge = world.bridge().await;
    target.until("the backlog to begin", |record| taken(record).1 > 100).await;
    let began = Instant::now();
    let before = taken(&target.record()).1;
    world.simulator.play(EVENTS);
    let record = target.until("the new events", |record| taken(record).0 == EVENTS).await;
    assert!(began.elapsed() < BOUND, "{:?}", began.elapsed());
    // New events take at most half of the places.
    assert!(
        taken(&record).1 - before >= EVENTS / 4,
        "{} of the backlog meanwhile",
        taken(&record).1 - before
    );
    assert!(taken(&record).1 < 19_000, "the backlog is still there");
    soon("the webhooks", world.simulator.webhooks_settled()).await;
    bridge.stop().await;
    let record = target.record();
    assert_eq!(record.unique(), record.requests.len(), "each once");
}

#[tokio::test(flavor = "multi_thread")]
async fn a_target_that_is_too_busy_receives_only_probes_however_many_retries_are_due() {
    let mut world = World::new(World::with_duplicates()).await;
    let target = RawTarget::new(|_| Act::Say(b"HTTP/1.1 429 No\r\ncontent-length: 0\r\n\r\n".to_vec())).await;
    world.target_at("orders", &target.url);
    for (key, value) in [("RETRY_MIN", "200ms"), ("RETRY_MAX", "1h")] {
        world.set_target("orders", key, value);
    }
    store_backlog(&world.database(), "orders", 4_000).await;
    make_retries(&world);
    let mut bridge = world.bridge().await;
    world.simulator.play(EVENTS);
    bridge.logged("target is down").await;
    soon("the webhooks", world.simulator.webhooks_settled()).await;
    let enough = target.record().requests.len() + 4;
    let record = target.until("probes", |record| record.requests.len() >= enough).await;
    assert!(record.requests.len() < 150, "{} requests", record.requests.len());
    let probes = &record.requests[record.requests.len() - 4..];
    let mut objects: Vec<_> = probes.iter().map(|seen| &seen.object).collect();
    objects.sort_unstable();
    objects.dedup();
    assert_eq!(objects.len(), 4, "no probe is about what was probed before");
    target.heal();
    bridge.logged("target is up").await;
    target.until("everything", |record| record.unique() == 4_000 + EVENTS).await;
    assert!(bridge.stop().await.0.success());
}
