//! The same history under each value of what Pepay's documentation leaves open.

use std::time::Duration;

use pepay_bridge::simulator::fault::Ending;
use pepay_bridge::simulator::options::Options;
use pepay_bridge::simulator::switches::{
    Created, ErrorShape, ExpiredToken, ListSort, ObjectIds, OldCursor, OrderShape, Presence, Switches,
    UnknownParameters,
};

use super::{caught_up, delivered, interrupt, without_webhooks};
use crate::support::soon;
use crate::support::world::{World, assert_each_once};

#[tokio::test(flavor = "multi_thread")]
async fn old_cursors_lose_nothing_however_pepay_answers_them() {
    for old_cursor in [OldCursor::Snapshot, OldCursor::Refused, OldCursor::Error] {
        let switches = Switches { old_cursor, ..Switches::default() };
        let options = Options { replay_retention: 10, snapshot: 5, switches, ..without_webhooks() };
        let mut world = World::new(options).await;
        let target = world.target("orders").await;
        let bridge = world.bridge().await;
        let mut ids = world.simulator.play(5);
        caught_up(&bridge, ids.last().unwrap()).await;
        interrupt(&world, Ending::Eof);
        ids.extend(world.simulator.play(150));
        caught_up(&bridge, ids.last().unwrap()).await;
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
    for switches in [
        Switches {
            unknown_parameters: UnknownParameters::Ignored,
            error_shape: ErrorShape::Nested,
            ..default
        },
        Switches { list_sort: ListSort::Created, error_shape: ErrorShape::Plain, ..default },
        Switches { order_shape: OrderShape::Snapshot, object_ids: ObjectIds::Number, ..default },
        Switches { created: Created::Iso, ..default },
        Switches { created: Created::Float, order_shape: OrderShape::Snapshot, ..default },
        Switches { created: Created::Text, object_ids: ObjectIds::Number, ..default },
        Switches { created: Created::Missing, ..default },
    ] {
        let options = Options { replay_retention: 10, snapshot: 5, switches, ..without_webhooks() };
        let mut world = World::new(options).await;
        let target = world.target("orders").await;
        let bridge = world.bridge().await;
        let mut ids = world.simulator.play(5);
        caught_up(&bridge, ids.last().unwrap()).await;
        interrupt(&world, Ending::Eof);
        ids.extend(world.simulator.play(150));
        caught_up(&bridge, ids.last().unwrap()).await;
        delivered(&target, ids.len()).await;
        assert!(bridge.stop().await.0.success());
        assert_each_once(&target, &ids);
        // Every event of an order names it in any shape: one at a time, for each.
        assert!(target.deliveries().iter().all(|delivery| delivery.object_id.is_some()), "{switches:?}");
        assert_eq!(target.totals().overlapping, 0, "{switches:?}");
    }
}
