//! The same events under each value of the switches, which stand for what Pepay's documentation
//! leaves open.

use std::time::Duration;

use futures_util::future::join_all;
use pepay_bridge::domain::event::EventId;
use pepay_bridge::simulator::fault::Ending;
use pepay_bridge::simulator::options::Options;
use pepay_bridge::simulator::switches::{
    Created, ErrorShape, ExpiredToken, ForeignTypes, ListShape, ListSort, ObjectIds, OldCursor, OrderShape,
    PageOrder, PaymentLinks, Presence, Switches, UnknownParameters,
};
use pepay_bridge::simulator::target::Target;

use super::{caught_up, counted, delivered, gaps_counted, interrupt, without_webhooks};
use crate::support::bridge::Bridge;
use crate::support::soon;
use crate::support::world::{World, assert_each_once};

/// Returns options of a Pepay under `switches` that replays few events, so that gaps are closed by the
/// list.
fn forgetful(switches: Switches) -> Options {
    Options { replay_retention: 10, snapshot: 5, switches, ..without_webhooks() }
}

/// Starts a bridge that delivers five events, misses 150, and delivers those by closing the gap.
async fn after_a_gap(options: Options) -> (World, Target, Bridge, Vec<EventId>) {
    let mut world = World::new(options).await;
    let target = world.target("orders").await;
    let bridge = world.bridge().await;
    let mut ids = world.simulator.play(5);
    caught_up(&bridge, ids.last().unwrap()).await;
    interrupt(&world, Ending::Eof);
    ids.extend(world.simulator.play(150));
    caught_up(&bridge, ids.last().unwrap()).await;
    delivered(&target, ids.len()).await;
    (world, target, bridge, ids)
}

#[tokio::test(flavor = "multi_thread")]
async fn old_cursors_lose_nothing_however_pepay_answers_them() {
    for old_cursor in [OldCursor::Snapshot, OldCursor::Refused, OldCursor::Error] {
        let switches = Switches { old_cursor, ..Switches::default() };
        let (world, target, bridge, mut ids) = after_a_gap(forgetful(switches)).await;
        ids.extend(world.simulator.play(3));
        delivered(&target, ids.len()).await;
        assert!(bridge.stop().await.0.success());
        assert_each_once(&target, &ids);
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn tokens_that_expire_and_connections_that_age_lose_nothing() {
    let expires = Switches { expired_token: ExpiredToken::EndsStream, ..Switches::default() };
    let no_url = Switches { ws_url: Presence::Absent, ..Switches::default() };
    let old = Some(Duration::from_millis(300));
    for (switches, max_stream_age, age_close_code) in
        [(expires, None, 1001), (no_url, old, 1001), (Switches::default(), old, 4000)]
    {
        let options = Options { switches, max_stream_age, age_close_code, ..without_webhooks() };
        let mut world = World::new(options).await;
        world.set("STREAMS__COMMERCE__TOKEN_TTL", "1s");
        let target = world.target("orders").await;
        let bridge = world.bridge().await;
        let mut ids = world.simulator.play(3);
        for connections in 2..=4 {
            soon("another connection", world.simulator.until(|now| now.streams_opened >= connections)).await;
            ids.extend(world.simulator.play(20));
        }
        delivered(&target, ids.len()).await;
        assert!(bridge.stop().await.0.success());
        assert_each_once(&target, &ids);
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn a_gap_is_closed_under_either_list_and_either_shape_of_event() {
    let default = Switches::default();
    let all = [
        Switches {
            unknown_parameters: UnknownParameters::Ignored,
            error_shape: ErrorShape::Nested,
            ..default
        },
        Switches { list_sort: ListSort::Created, error_shape: ErrorShape::Plain, ..default },
        Switches { order_shape: OrderShape::Snapshot, object_ids: ObjectIds::Number, ..default },
        Switches { created: Created::Iso, payment_links: PaymentLinks::Order, ..default },
        Switches { created: Created::Float, order_shape: OrderShape::Snapshot, ..default },
        Switches { created: Created::Text, object_ids: ObjectIds::Number, ..default },
        Switches { created: Created::Missing, ..default },
        Switches { has_more: Presence::Absent, list_shape: ListShape::Bare, ..default },
        Switches { has_more: Presence::Absent, page_order: PageOrder::Newest, ..default },
        Switches { date_offset: 3 * 3600, ..default },
        Switches { date_offset: -3 * 3600, ..default },
    ];
    let play = async |switches: Switches| {
        let (_world, target, bridge, ids) = after_a_gap(forgetful(switches)).await;
        assert_eq!(counted(&bridge, &gaps_counted("unproven")).await, "0", "{switches:?}");
        assert!(bridge.stop().await.0.success());
        assert_each_once(&target, &ids);
        // An event of an order names it in every shape, so those of one order are sent one at a time.
        assert!(target.deliveries().iter().all(|delivery| delivery.object_id.is_some()), "{switches:?}");
        assert_eq!(target.totals().overlapping, 0, "{switches:?}");
    };
    join_all(all.into_iter().map(play)).await;
}

#[tokio::test(flavor = "multi_thread")]
async fn each_endpoint_brings_its_types_whatever_pepay_makes_of_those_of_the_other() {
    let all = [ForeignTypes::LeftOut, ForeignTypes::Refused, ForeignTypes::Sent].into_iter().flat_map(
        |foreign_types| {
            [("commerce", None), ("merchant", None), ("merchant", Some("*"))].map(|of| (foreign_types, of))
        },
    );
    let play = async |(foreign_types, (endpoint, types)): (ForeignTypes, (&str, Option<&str>))| {
        let what = format!("{foreign_types:?}, {endpoint}, {types:?}");
        let switches = Switches { foreign_types, ..Switches::default() };
        let mut world = World::new(Options { switches, ..without_webhooks() }).await;
        let target = world.target("orders").await;
        world.set("STREAMS__COMMERCE__ENDPOINT", endpoint);
        world.set("STREAMS__COMMERCE__RECONCILE_INTERVAL", "1s");
        match types {
            Some(types) => world.set("STREAMS__COMMERCE__TYPES", types),
            None => drop(world.configuration.remove("STREAMS__COMMERCE__TYPES")),
        }
        let bridge = world.bridge().await;
        bridge.until(&what, |status| status["streams"][0]["phase"] == "live").await;
        let mut ids = Vec::new();
        // Each sweep finds events that the stream did not subscribe to. That is no fault of the stream.
        for _ in 0..4 {
            ids.extend(world.simulator.play(15));
            let pages = world.simulator.statistics().rest_pages;
            soon(&what, world.simulator.until(|seen| seen.rest_pages > pages)).await;
        }
        let brought = |of_orders: bool| {
            let is_wanted = |kind: &str| kind.starts_with("commerce.") == of_orders;
            let delivered = target.deliveries();
            delivered.iter().filter(|event| is_wanted(event.kind.as_deref().unwrap())).count()
        };
        let status = bridge.status().await;
        assert!(status["streams"][0]["problem"].is_null() && status["ready"] == true, "{what}: {status}");
        assert_eq!(world.simulator.statistics().streams_opened, 1, "{what}");
        assert!(brought(false) > 0, "{what}");
        assert_eq!(brought(true) > 0, endpoint == "commerce" || types.is_some(), "{what}");
        if endpoint == "commerce" {
            assert_each_once(&target, &ids);
        }
        assert!(bridge.stop().await.0.success());
    };
    join_all(all.map(play)).await;
}
