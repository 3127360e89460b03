//! Gaps, after drops, after restarts, and from a server that replays less than it was asked for.

use pepay_bridge::domain::event::EventId;
use pepay_bridge::simulator::fault::{Channel, Ending, Fault, Frame};
use pepay_bridge::simulator::options::Options;
use pepay_bridge::simulator::switches::{ListShape, PageOrder, Switches};

use super::{caught_up, counted, delivered, gaps_counted, interrupt, live, without_webhooks};
use crate::support::world::{World, assert_each_once};

#[tokio::test(flavor = "multi_thread")]
async fn gaps_of_hundreds_of_events_over_several_drops_are_closed_under_either_page_order() {
    for (page_order, list_shape) in
        [(PageOrder::NextToCursor, ListShape::Wrapped), (PageOrder::Newest, ListShape::Bare)]
    {
        let switches = Switches { page_order, list_shape, ..Switches::default() };
        let options = Options { replay_retention: 40, snapshot: 10, switches, ..without_webhooks() };
        let mut world = World::new(options).await;
        let target = world.target("orders").await;
        let bridge = world.bridge().await;
        let mut ids = world.simulator.play(20);
        for ending in [
            Ending::Eof,
            Ending::Reset,
            Ending::Close { code: 1012, reason: "restart".to_owned() },
            Ending::Close { code: 4000, reason: String::new() },
        ] {
            interrupt(&world, ending);
            ids.extend(world.simulator.play(250));
            caught_up(&bridge, ids.last().unwrap()).await;
            ids.extend(world.simulator.play(5));
        }
        delivered(&target, ids.len()).await;
        assert!(bridge.metric(&gaps_counted("closed")).await >= 4.0);
        assert_eq!(counted(&bridge, &gaps_counted("unproven")).await, "0");
        assert!(bridge.stop().await.0.success());
        assert_each_once(&target, &ids);
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn a_long_gap_is_closed_in_order_under_either_page_order() {
    for page_order in [PageOrder::NextToCursor, PageOrder::Newest] {
        let switches = Switches { page_order, ..Switches::default() };
        let options = Options { replay_retention: 10, snapshot: 5, switches, ..without_webhooks() };
        let mut world = World::new(options).await;
        let target = world.target("orders").await;
        let bridge = world.bridge().await;
        let mut ids = world.simulator.play(5);
        caught_up(&bridge, ids.last().unwrap()).await;
        assert!(bridge.stop().await.0.success());
        ids.extend(world.simulator.play(2600));
        let before = world.simulator.statistics().rest_pages;
        let bridge = world.bridge().await;
        caught_up(&bridge, ids.last().unwrap()).await;
        let pages = world.simulator.statistics().rest_pages - before;
        assert!(pages <= 2600_u64.div_ceil(99) + 3, "{page_order:?}: {pages} pages");
        delivered(&target, ids.len()).await;
        assert_eq!(counted(&bridge, &gaps_counted("unproven")).await, "0");
        assert!(bridge.stop().await.0.success());
        assert_each_once(&target, &ids);
        let mut accepted: Vec<_> =
            target.deliveries().into_iter().map(|delivery| (delivery.sequence, delivery.id)).collect();
        accepted.sort();
        let accepted = accepted.iter().map(|(_, id)| &**id);
        assert!(accepted.eq(ids.iter().map(EventId::as_str)), "{page_order:?}");
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn events_that_a_replay_leaves_out_are_read_from_the_list() {
    let mut world = World::new(without_webhooks()).await;
    let target = world.target("orders").await;
    let bridge = world.bridge().await;
    let mut ids = world.simulator.play(10);
    caught_up(&bridge, ids.last().unwrap()).await;
    interrupt(&world, Ending::Eof);
    world.simulator.inject(Fault::Skip { channel: Channel::Replay, times: 30 }).unwrap();
    ids.extend(world.simulator.play(60));
    delivered(&target, ids.len()).await;
    assert!(bridge.stop().await.0.success());
    assert_each_once(&target, &ids);
}

#[tokio::test(flavor = "multi_thread")]
async fn events_of_the_time_that_the_bridge_was_down_are_read_after_its_start() {
    let mut world = World::new(Options { replay_retention: 10, ..without_webhooks() }).await;
    let target = world.target("orders").await;
    let bridge = world.bridge().await;
    let mut ids = world.simulator.play(30);
    caught_up(&bridge, ids.last().unwrap()).await;
    assert!(bridge.stop().await.0.success());
    ids.extend(world.simulator.play(220));
    let bridge = world.bridge().await;
    ids.extend(world.simulator.play(3));
    caught_up(&bridge, ids.last().unwrap()).await;
    bridge.kill().await;
    ids.extend(world.simulator.play(120));
    let bridge = world.bridge().await;
    delivered(&target, ids.len()).await;
    assert!(bridge.stop().await.0.success());
    let delivered: std::collections::BTreeSet<_> =
        target.deliveries().iter().map(|delivery| delivery.id.to_string()).collect();
    assert_eq!(delivered, ids.iter().map(ToString::to_string).collect());
}

#[tokio::test(flavor = "multi_thread")]
async fn the_first_event_ever_is_found_even_if_the_stream_drops_before_it() {
    let mut world = World::new(without_webhooks()).await;
    let target = world.target("orders").await;
    let bridge = world.bridge().await;
    live(&bridge).await;
    interrupt(&world, Ending::Reset);
    world.simulator.inject(Fault::Skip { channel: Channel::Replay, times: 1 }).unwrap();
    let ids = world.simulator.play(1);
    delivered(&target, 1).await;
    assert!(bridge.stop().await.0.success());
    assert_each_once(&target, &ids);
}

#[tokio::test(flavor = "multi_thread")]
async fn the_first_start_begins_where_it_is_told() {
    for (start_from, skipped) in [("now", 40), ("earliest", 0), ("id", 25)] {
        let mut world = World::new(without_webhooks()).await;
        let target = world.target("orders").await;
        let before = world.simulator.play(40);
        let start_from = if start_from == "id" { before[24].as_str() } else { start_from };
        world.set("STREAMS__COMMERCE__START_FROM", start_from);
        let bridge = world.bridge().await;
        live(&bridge).await;
        let mut ids = before[skipped..].to_vec();
        ids.extend(world.simulator.play(2));
        delivered(&target, ids.len()).await;
        assert!(bridge.stop().await.0.success());
        assert_each_once(&target, &ids);
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn a_cursor_that_pepay_no_longer_lists_is_logged_and_counted_as_an_unproven_gap() {
    let options = Options { replay_retention: 30, rest_retention: 30, snapshot: 5, ..without_webhooks() };
    let mut world = World::new(options).await;
    let target = world.target("orders").await;
    let bridge = world.bridge().await;
    let first = world.simulator.play(3);
    delivered(&target, 3).await;
    assert!(bridge.stop().await.0.success());
    let missed = world.simulator.play(100);
    let mut bridge = world.bridge().await;
    delivered(&target, 33).await;
    bridge.logged("some may be lost").await;
    assert_eq!(counted(&bridge, &gaps_counted("unproven")).await, "1");
    let named = |status: &serde_json::Value| status["streams"][0]["gap"]["state"] == "unproven";
    let status = bridge.until("the hole in the status", named).await;
    let gap = &status["streams"][0]["gap"];
    assert_eq!(gap["after"], first[2].as_str());
    assert_eq!(gap["before"], missed[70].as_str());
    assert!(bridge.stop().await.0.success());
    assert_each_once(&target, &[&first[..], &missed[70..]].concat());
}

#[tokio::test(flavor = "multi_thread")]
async fn a_control_frame_that_hints_at_a_gap_makes_the_stream_read_the_list() {
    let mut world = World::new(without_webhooks()).await;
    let target = world.target("orders").await;
    let bridge = world.bridge().await;
    live(&bridge).await;
    world.simulator.inject(Fault::Skip { channel: Channel::Live, times: 20 }).unwrap();
    let ids = world.simulator.play(20);
    let text = r#"{"object":"ws_control","type":"resync_required"}"#.to_owned();
    world.simulator.inject(Fault::Frame { frame: Frame::Text(text) }).unwrap();
    delivered(&target, ids.len()).await;
    assert!(bridge.stop().await.0.success());
    assert_each_once(&target, &ids);
}
