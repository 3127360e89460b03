//! A target that has been down for long, beside one that works.

use std::path::Path;
use std::time::Duration;

use pepay_bridge::domain::clock::{Clock, UnixMillis};
use pepay_bridge::domain::delivery::Ordering;
use pepay_bridge::domain::event::{Received, Source};
use pepay_bridge::domain::filter::TypeFilter;
use pepay_bridge::pepay::envelope;
use pepay_bridge::store::types::Batch;
use pepay_bridge::store::{Durability, Place, Retention, Route, Settings, Store};

use crate::support::raw::{Act, OK, RawTarget};
use crate::support::soon;
use crate::support::world::{World, assert_each_once, hold};

const DAY: Duration = Duration::from_hours(24);

const BACKLOG: usize = 100_000;
const OBJECTS: usize = 20_000;
/// The number of events played before the backlog is stored, and again after.
const EVENTS: usize = 300;
/// The number of deliveries of the backlog that the test waits for. All of them would take minutes.
const SAMPLE: usize = 2_000;

/// Returns an event of the backlog, about as large as those of Pepay.
fn event(n: usize, clock: &Clock) -> Received {
    let (object, note) = (n % OBJECTS, "n".repeat(700));
    let body = format!(
        r#"{{"id":"evt_backlog_{n}","object":"event","type":"commerce.order.updated","created":1734780000,
           "data":{{"object":{{"object":"commerce_order","id":"backlog-{object}","note":"{note}"}}}}}}"#
    );
    Received {
        event: envelope::parse(body.into(), UnixMillis(0)).unwrap(),
        source: Source::Stream,
        origin: "commerce".into(),
        environment: None,
        received_at: clock.now(),
    }
}

/// Stores `backlog` events for `target`, as days without it would.
pub async fn store_backlog(database: &Path, target: &str, backlog: usize) {
    let clock = Clock::system();
    let settings = Settings {
        place: Place::File(database.to_owned()),
        durability: Durability::Normal,
        retention: Retention { payloads: DAY, ids: DAY, dead: DAY, audit: DAY },
    };
    let types = TypeFilter::new(vec!["*".parse().unwrap()]);
    let (environment, condition, ordering) = (None, None, Ordering::PerObject);
    let route = Route { target: target.into(), types, environment, condition, ordering };
    let (mut store, writer) = Store::open(&settings, vec![route], clock.clone()).await.unwrap();
    let writer = std::thread::spawn(|| writer.run());
    for first in (0..backlog).step_by(2000) {
        let events = (first..first + 2000).map(|n| event(n, &clock)).collect();
        store.inbox.record(Batch { events, cursor: None }).await.unwrap();
    }
    store.close().await;
    writer.join().unwrap();
}

#[tokio::test(flavor = "multi_thread")]
async fn a_hundred_thousand_deliveries_for_a_dead_target_take_bounded_memory_and_delay_no_other() {
    let mut world = World::new(World::with_duplicates()).await;
    let healthy = world.target("healthy").await;
    let (socket, url) = hold();
    world.target_at("dead", &url);

    let bridge = world.bridge().await;
    let mut ids = world.simulator.play(EVENTS);
    soon("the healthy target", healthy.until(|totals| totals.unique == EVENTS as u64)).await;
    soon("the webhooks", world.simulator.webhooks_settled()).await;
    let memory_without = bridge.memory();
    assert!(bridge.stop().await.0.success());

    store_backlog(&world.database(), "dead", BACKLOG).await;
    let mut bridge = world.bridge().await;
    bridge.logged("target is down").await;
    ids.extend(world.simulator.play(EVENTS));
    soon("the healthy target", healthy.until(|totals| totals.unique == 2 * EVENTS as u64)).await;
    soon("the webhooks", world.simulator.webhooks_settled()).await;
    let memory_with = bridge.memory();
    assert!(
        memory_with < 2 * memory_without + (16 << 10),
        "{memory_with} KiB, and {memory_without} KiB without a backlog"
    );
    let status = bridge.status().await;
    let dead = status["targets"].as_array().unwrap().iter().find(|target| target["name"] == "dead").unwrap();
    assert_eq!(dead["backlog"], BACKLOG + 2 * EVENTS, "{dead}");
    assert_each_once(&healthy, &ids);

    let listener = socket.listen(1024).unwrap();
    let dead = RawTarget::on(listener, url, Duration::ZERO, |_| Act::Say(OK.to_vec()));
    dead.until("much of the backlog", |record| record.requests.len() >= SAMPLE).await;
    assert!(bridge.memory() < 2 * memory_without + (16 << 10));
    assert!(bridge.stop().await.0.success());
    let record = dead.record();
    assert_eq!(record.unique(), record.requests.len(), "each once");
    let left = "SELECT count(*) FROM delivery JOIN target ON id = target_id WHERE name = 'dead' AND settled_at IS NULL";
    assert_eq!(
        world.look_up::<i64>(left),
        i64::try_from(BACKLOG + 2 * EVENTS - record.unique()).unwrap(),
        "none forgotten"
    );
}
