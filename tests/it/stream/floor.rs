//! Events from before the first start are never delivered, whatever the list shows.

use pepay_bridge::domain::clock::UnixMillis;
use pepay_bridge::domain::event::EventId;
use pepay_bridge::pepay::envelope;
use pepay_bridge::simulator::fault::list::{PageFault, When};
use pepay_bridge::simulator::fault::{Ending, Fault};
use pepay_bridge::simulator::options::Copies;
use pepay_bridge::simulator::target::Target;
use serde_json::Value;

use super::{caught_up, counted, delivered, gaps_counted, interrupt, live, without_webhooks};
use crate::support::bridge::Bridge;
use crate::support::pepay::{event, now};
use crate::support::world::{World, assert_each_once, webhook};

/// Makes Pepay list more than two pages of events of the last months. Returns them.
fn months_of_history(world: &World) -> Vec<String> {
    let began = now() - 90 * 24 * 3600;
    let events: Vec<_> = (0..220).map(|n| event(began + i64::from(n) * 3600 * 9, n)).collect();
    for event in &events {
        let event = envelope::parse(event.clone().into(), UnixMillis(0)).unwrap();
        world.simulator.publish_with(event, Copies { stream: 0, webhook: 0 }).unwrap();
    }
    events
}

/// Makes the next `times` first pages of the list empty.
fn empty(world: &World, times: u32) {
    let page = PageFault::Empty { has_more: false };
    world.simulator.inject(Fault::List { when: When::First, times, page }).unwrap();
}

/// Interrupts the stream, plays events that it misses, and waits for their delivery.
async fn miss_some(world: &World, bridge: &Bridge, target: &Target, ids: &mut Vec<EventId>) {
    interrupt(world, Ending::Reset);
    ids.extend(world.simulator.play(4));
    delivered(target, ids.len()).await;
    live(bridge).await;
}

#[tokio::test(flavor = "multi_thread")]
async fn no_old_event_is_taken_in_after_an_empty_list_at_any_start() {
    for first in [true, false] {
        let mut world = World::new(without_webhooks()).await;
        let target = world.target("orders").await;
        let history = months_of_history(&world);
        if first {
            empty(&world, 1);
        }
        let bridge = world.bridge().await;
        live(&bridge).await;
        let mut ids = world.simulator.play(3);
        caught_up(&bridge, ids.last().unwrap()).await;
        if !first {
            // Repeated empty pages do no more harm than one.
            empty(&world, 3);
        }
        miss_some(&world, &bridge, &target, &mut ids).await;
        miss_some(&world, &bridge, &target, &mut ids).await;
        assert_each_once(&target, &ids);
        assert_eq!(counted(&bridge, &gaps_counted("unproven")).await, "0");

        // A webhook of an old event is delivered.
        webhook(&bridge, &history[7]).await;
        delivered(&target, ids.len() + 1).await;
        let (exit, log) = bridge.stop().await;
        assert!(exit.success() && !format!("{log:?}").contains("may be lost"));
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn no_old_event_is_taken_in_and_no_gap_reported_when_filters_change_and_change_back() {
    let mut world = World::new(without_webhooks()).await;
    let target = world.target("orders").await;
    months_of_history(&world);
    world.set("STREAMS__COMMERCE__TYPES", "invoice.*");
    let mut bridge = world.bridge_on_file().await;
    live(&bridge).await;
    let changes = [
        ("TYPES", "*"),
        ("ORDER_ID", "none-such"),
        ("ORDER_ID", ""),
        ("TYPES", "commerce.order.*"),
        ("TYPES", "*"),
        ("INVOICE_ID", "none-such"),
        ("INVOICE_ID", ""),
    ];
    for (opened, (key, value)) in (2..).zip(changes) {
        world.set(&format!("STREAMS__COMMERCE__{key}"), value);
        world.save();
        bridge.reload().await;
        crate::support::soon(key, world.simulator.until(|seen| seen.streams_opened >= opened)).await;
        live(&bridge).await;
    }
    let mut ids = world.simulator.play(3);
    caught_up(&bridge, ids.last().unwrap()).await;
    miss_some(&world, &bridge, &target, &mut ids).await;
    assert_each_once(&target, &ids);
    assert_eq!(counted(&bridge, &gaps_counted("unproven")).await, "0");
    let (exit, log) = bridge.stop().await;
    assert!(exit.success() && !format!("{log:?}").contains("may be lost"));
}

#[tokio::test(flavor = "multi_thread")]
async fn a_bridge_on_a_restored_database_reads_events_since_the_backup_and_none_from_before_its_first_start()
{
    let mut world = World::new(without_webhooks()).await;
    let target = world.target("orders").await;
    months_of_history(&world);
    let bridge = world.bridge().await;
    live(&bridge).await;
    let early = world.simulator.play(5);
    delivered(&target, 5).await;
    assert!(bridge.stop().await.0.success());
    let copy = world.folder.path().join("copy.db");
    std::fs::copy(world.database(), &copy).unwrap();

    let bridge = world.bridge().await;
    let late = world.simulator.play(30);
    delivered(&target, 35).await;
    assert!(bridge.stop().await.0.success());
    for beside in ["-wal", "-shm"] {
        let _gone = std::fs::remove_file(format!("{}{beside}", world.database().display()));
    }
    std::fs::copy(&copy, world.database()).unwrap();

    empty(&world, 2);
    let bridge = world.bridge().await;
    live(&bridge).await;
    let all: Vec<_> = early.iter().chain(&late).map(ToString::to_string).collect();
    let has_all = |status: &Value| status["store"]["events"] == all.len();
    bridge.until("what came since", has_all).await;
    assert!(bridge.stop().await.0.success());
    let seen: std::collections::BTreeSet<_> =
        target.deliveries().iter().map(|delivery| delivery.id.to_string()).collect();
    assert_eq!(seen, all.into_iter().collect());
}
