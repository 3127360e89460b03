//! Targets that are added, changed and removed.

use std::collections::{BTreeMap, BTreeSet};
use std::sync::atomic::{AtomicUsize, Ordering::Relaxed};
use std::time::Duration;

use pepay_bridge::domain::event::EventId;

use super::reload;
use crate::stream::without_webhooks;
use crate::support::raw::{Act, OK, RawTarget, Record, Seen};
use crate::support::soon;
use crate::support::world::{World, acknowledged, listen};

fn refuse() -> Act {
    Act::Say(b"HTTP/1.1 500 No\r\ncontent-length: 0\r\n\r\n".to_vec())
}

/// Starts a target that works on each request for 5 ms, so that some are in flight at a reload.
async fn slow(plan: impl Fn(&Seen) -> Act + Send + Sync + 'static) -> RawTarget {
    let (listener, url) = listen().await;
    RawTarget::on(listener, url, Duration::from_millis(5), plan)
}

/// Fails unless each of `ids` was acknowledged exactly once by all these targets together, attempt
/// numbers had no gap, and events of one object were sent one at a time and in order.
fn assert_in_order(ids: &[EventId], records: &[Record]) {
    let place = |id: &str| ids.iter().position(|known| known.as_str() == id).unwrap();
    let mut attempts = BTreeMap::<&str, u32>::new();
    let mut acknowledgements = BTreeSet::new();
    let mut last = BTreeMap::<&str, &Seen>::new();
    for (index, record) in records.iter().enumerate() {
        for seen in &record.requests {
            let attempt = attempts.entry(&seen.id).or_default();
            *attempt += 1;
            assert_eq!(seen.attempt, *attempt, "{}", seen.id);
            assert!(!acknowledgements.contains(&seen.id), "{} was sent after its acknowledgement", seen.id);
            if seen.acknowledged {
                acknowledgements.insert(seen.id.clone());
            }
            if let Some(before) = last.insert(&seen.object, seen) {
                assert!(place(&before.id) <= place(&seen.id), "{} came after {}", seen.id, before.id);
                assert!(before.id == seen.id || before.acknowledged, "{} overtook {}", seen.id, before.id);
                let same_target = records[index].requests.iter().any(|seen| std::ptr::eq(seen, before));
                assert!(
                    !same_target || before.left < Some(seen.arrived),
                    "{} and {} overlap",
                    before.id,
                    seen.id
                );
            }
        }
    }
    assert_eq!(acknowledgements.len(), ids.len());
}

#[tokio::test(flavor = "multi_thread")]
async fn a_new_target_receives_what_is_accepted_from_then_on_and_the_others_do_not_notice() {
    let mut world = World::new(World::with_duplicates()).await;
    let old = slow(|_| Act::Say(OK.to_vec())).await;
    world.target_at("old", &old.url);
    let mut bridge = world.bridge_on_file().await;
    let before = world.simulator.play(50);
    bridge.until("all events", |status| status["store"]["last_sequence"] == 50).await;
    let new = world.target("new").await;
    let during = world.simulator.play(50);
    assert_eq!(reload(&world, &mut bridge).await, ["targets.new added"]);
    let after = world.simulator.play(100);
    old.until("everything", |record| record.unique() == 200).await;
    bridge
        .until("an empty backlog", |status| {
            status["targets"].as_array().unwrap().iter().all(|target| target["backlog"] == 0)
                && status["store"]["last_sequence"] == 200
        })
        .await;
    soon("the webhooks", world.simulator.webhooks_settled()).await;
    assert_eq!(world.simulator.statistics().streams_opened, 1, "the stream keeps its connection");
    assert_eq!(world.simulator.statistics().webhooks_given_up, 0);
    assert!(bridge.stop().await.0.success());

    let requests = old.record().requests;
    assert_eq!(requests.len(), 200, "each once");
    assert!(requests.iter().all(|seen| seen.attempt == 1));
    let received = acknowledged(&new);
    assert!(received.values().all(|deliveries| deliveries.len() == 1));
    let count = |ids: &[EventId]| ids.iter().filter(|id| received.contains_key(id.as_str())).count();
    assert_eq!((count(&before), count(&after)), (0, 100));
    assert_eq!(received.len(), count(&during) + 100);
}

#[tokio::test(flavor = "multi_thread")]
async fn waiting_deliveries_go_to_the_new_url_in_order() {
    let mut world = World::new(without_webhooks()).await;
    let broken = slow(|_| refuse()).await;
    world.target_at("orders", &broken.url);
    let mut bridge = world.bridge_on_file().await;
    let mut ids = world.simulator.play(60);
    let failure = "answered 500 Internal Server Error";
    bridge.until("a failure", |status| status["targets"][0]["last_error"]["error"] == failure).await;
    let sound = slow(|_| Act::Say(OK.to_vec())).await;
    world.target_at("orders", &sound.url);
    assert_eq!(reload(&world, &mut bridge).await, ["targets.orders changed"]);
    ids.extend(world.simulator.play(40));
    sound.until("everything", |record| record.unique() == 100).await;
    let status = bridge.status().await;
    assert_eq!(status["targets"][0]["last_error"]["error"], failure, "what was known of it still is");
    assert!(bridge.stop().await.0.success());
    assert_in_order(&ids, &[broken.record(), sound.record()]);
}

#[tokio::test(flavor = "multi_thread")]
async fn the_order_of_an_object_holds_while_its_failing_target_is_replaced_again_and_again() {
    let mut world = World::new(without_webhooks()).await;
    let count = AtomicUsize::new(0);
    let target =
        slow(
            move |_| {
                if count.fetch_add(1, Relaxed).is_multiple_of(3) { refuse() } else { Act::Say(OK.to_vec()) }
            },
        );
    let target = target.await;
    world.target_at("orders", &target.url);
    world.set_target("orders", "RETRY_MAX", "50ms");
    let mut bridge = world.bridge_on_file().await;
    let mut ids = Vec::new();
    for concurrency in 2..10 {
        ids.extend(world.simulator.play(30));
        world.set_target("orders", "CONCURRENCY", &concurrency.to_string());
        let seen = target.record().requests.len();
        assert_eq!(reload(&world, &mut bridge).await, ["targets.orders changed"]);
        target.until("progress", |record| record.requests.len() > seen).await;
    }
    target.until("everything", |record| record.unique() == ids.len()).await;
    assert_eq!(world.simulator.statistics().streams_opened, 1);
    assert!(bridge.stop().await.0.success());
    assert_in_order(&ids, &[target.record()]);
}

#[tokio::test(flavor = "multi_thread")]
async fn a_target_that_is_taken_out_finishes_what_is_under_way_and_goes_on_when_it_is_back() {
    let mut world = World::new(without_webhooks()).await;
    let (target, other) = (slow(|_| Act::Say(OK.to_vec())).await, slow(|_| Act::Say(OK.to_vec())).await);
    world.target_at("orders", &target.url);
    // Slow enough that most of the deliveries are open when the target is removed.
    world.set_target("orders", "RATE_LIMIT", "1");
    world.target_at("other", &other.url);
    let mut bridge = world.bridge_on_file().await;
    let with_orders = world.configuration.clone();
    let mut ids = world.simulator.play(60);
    target.until("a delivery", |record| !record.requests.is_empty()).await;
    bridge.until("all events", |status| status["store"]["last_sequence"] == 60).await;

    world.configuration.retain(|key, _| !key.starts_with("TARGETS__ORDERS__"));
    assert_eq!(reload(&world, &mut bridge).await, ["targets.orders removed"]);
    bridge.logged("deliveries wait for a target that is not configured any more").await;
    let status = bridge.status().await;
    let targets = status["targets"].as_array().unwrap();
    let shown: Vec<_> = targets.iter().map(|target| (&target["name"], &target["state"])).collect();
    assert_eq!(shown, [(&"other".into(), &"configured".into()), (&"orders".into(), &"removed".into())]);
    let metrics = bridge.admin("/metrics").await.text().await.unwrap();
    assert!(!metrics.contains("pepay_bridge_backlog{target=\"orders\",configured=\"true\"}"), "{metrics}");
    assert!(metrics.contains("pepay_bridge_backlog{target=\"orders\",configured=\"false\"}"), "{metrics}");
    let missed = world.simulator.play(20);
    other.until("the others", |record| record.unique() == 80).await;

    world.configuration = with_orders;
    world.configuration.remove("TARGETS__ORDERS__RATE_LIMIT");
    assert_eq!(reload(&world, &mut bridge).await, ["targets.orders added"]);
    ids.extend(world.simulator.play(20));
    target.until("everything", |record| record.unique() == ids.len()).await;
    assert!(bridge.stop().await.0.success());
    assert_in_order(&ids, &[target.record()]);
    let received = target.record().requests;
    assert!(received.iter().all(|seen| missed.iter().all(|id| id.as_str() != seen.id)));
    assert_eq!(other.record().requests.len(), 100);
}
