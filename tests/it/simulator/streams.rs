//! Streams: filters, replay, snapshots, pings, limits.

use std::time::Duration;

use pepay_bridge::domain::event::Environment;
use pepay_bridge::simulator::options::{ApiKey, Copies, Options};
use tokio_tungstenite::tungstenite::Message;

use super::harness::{KEY, event, event_of, id, ids, options, soon, world, world_with};

#[tokio::test]
async fn a_live_event_reaches_every_open_stream_byte_for_byte() {
    let world = world().await;
    let mut commerce = world.stream("/ws/commerce/events?format=event_v1").await;
    let mut merchant = world.stream("/ws/merchant/events").await;
    let invoice = event_of("invoice.updated", 1, r#""object":"invoice","id":"i1""#);
    world.publish(&invoice);
    assert_eq!(commerce.text().await.as_bytes(), invoice.body);
    assert_eq!(merchant.text().await.as_bytes(), invoice.body);
}

#[tokio::test]
async fn a_stream_carries_only_what_its_filters_let_through() {
    let world = world().await;
    let events = [
        event_of("commerce.order.updated", 1, r#""object":"commerce_order","id":"o1","invoiceId":"i1""#),
        event_of(
            "invoice.updated",
            2,
            r#""object":"invoice","id":"i1","commerce_order_id":"o1","customer_id":"c1""#,
        ),
        event_of(
            "invoice_payment.created",
            3,
            r#""object":"invoice_payment","invoice_id":"i1","payer_wallet_network":"bsc","payer_wallet_address":"0x1""#,
        ),
        event_of(
            "invoice.updated",
            4,
            r#""object":"invoice","id":"i2","invoice_type":"standard","environment":"devnet""#,
        ),
        event_of("test.ping", 5, ""),
    ];
    let cases: [(&str, &[u32]); 9] = [
        ("/ws/commerce/events?order_id=o1", &[1, 2, 3]),
        ("/ws/commerce/events?invoice_id=i1", &[1, 2, 3]),
        ("/ws/commerce/events?customer_id=c1", &[2]),
        ("/ws/commerce/events?wallet_network=bsc&wallet_address=0x1", &[3]),
        ("/ws/commerce/events?types=invoice.*,test.ping", &[2, 4, 5]),
        ("/ws/commerce/events?types=invoice.*&order_id=o1", &[2]),
        ("/ws/merchant/events?invoice_type=standard", &[4]),
        ("/ws/merchant/events?environment=devnet", &[4]),
        ("/ws/merchant/events?types=*", &[2, 3, 4, 5]),
    ];
    let mut streams = Vec::new();
    for (path, _) in cases {
        streams.push(world.stream(path).await);
    }
    for event in &events {
        world.publish(event);
    }
    // A frame that no filter holds back follows the events and marks their end.
    world
        .simulator
        .inject(serde_json::from_str(r#"{"fault":"frame","frame":{"text":"{\"id\":\"end\"}"}}"#).unwrap())
        .unwrap();
    for ((path, numbers), stream) in cases.into_iter().zip(&mut streams) {
        let mut expected = ids(numbers.iter().copied());
        expected.push("end".to_owned());
        assert_eq!(stream.ids(expected.len()).await, expected, "{path}");
    }
}

#[tokio::test]
async fn an_unknown_subscription_is_refused() {
    let world = world().await;
    for query in [
        "types=",
        "types=invoice*",
        "format=event_v2",
        "since=",
        "since=a%20b",
        "order_id=",
        "order_id=a&order_id=b",
        "invoice_type=standard",
        "environment=devnet",
        "colour=blue",
    ] {
        let refusal = world.refusal(&format!("/ws/commerce/events?{query}")).await;
        assert_eq!(refusal.status, 400, "{query}");
        assert!(refusal.json()["error"].is_string() && refusal.json()["code"].is_string());
    }
    for query in ["order_id=o", "wallet_network=bsc", "environment=moon", "invoice_type=other"] {
        assert_eq!(world.refusal(&format!("/ws/merchant/events?{query}")).await.status, 400, "{query}");
    }
    assert_eq!(world.try_stream("/ws/commerce/events", None).await.err().unwrap().status, 401);
    assert_eq!(world.try_stream("/ws/commerce/events?token=x", None).await.err().unwrap().status, 401);
    assert_eq!(world.get("/ws/commerce/events").await.status, 400, "no upgrade was asked for");
}

#[tokio::test]
async fn since_replays_what_is_newer_and_goes_on_live() {
    let world = world().await;
    for n in 1..=150 {
        world.publish(&event(n));
    }
    let mut stream = world.stream(&format!("/ws/commerce/events?since={}", id(2))).await;
    world.publish(&event(151));
    assert_eq!(stream.ids(148).await, ids(3..=150));
    let control = stream.json().await;
    assert_eq!((&control["object"], &control["replayed"]), (&"ws_control".into(), &148.into()));
    assert_eq!(stream.ids(1).await, [id(151)]);
    let mut fresh = world.stream("/ws/commerce/events").await;
    world.publish(&event(152));
    assert_eq!(fresh.ids(1).await, [id(152)], "without `since` there is no replay");
}

#[tokio::test]
async fn a_since_that_is_too_old_is_answered_with_a_hint_and_a_snapshot() {
    let world = world_with(Options { replay_retention: 4, snapshot: 2, ..options() }).await;
    for n in 1..=6 {
        world.publish(&event(n));
    }
    for since in [id(2), "evt_unheard_of".to_owned()] {
        let mut stream = world.stream(&format!("/ws/commerce/events?since={since}")).await;
        let hint = stream.json().await;
        assert_eq!(hint["object"], "ws_control");
        assert_eq!(hint["type"], "resync_required");
        assert_eq!(hint["since"], *since);
        assert_eq!(stream.ids(2).await, ids([5, 6]));
    }
    let mut within = world.stream(&format!("/ws/commerce/events?since={}", id(3))).await;
    assert_eq!(within.ids(3).await, ids(4..=6));
    assert_eq!(world.simulator.statistics().snapshots, 2);
}

#[tokio::test]
async fn pings_are_answered_and_sent() {
    let world = world_with(Options { ping_interval: Some(Duration::from_millis(1)), ..options() }).await;
    let mut stream = world.stream("/ws/commerce/events").await;
    stream.send(Message::Ping("mine".into())).await;
    let (mut pings, mut answered) = (0, false);
    while pings < 2 || !answered {
        match stream.next().await.unwrap().unwrap() {
            Message::Ping(_) => pings += 1,
            Message::Pong(payload) => {
                assert_eq!(payload, "mine");
                answered = true;
            }
            other => panic!("{other:?}"),
        }
    }
    soon(world.simulator.until(|now| now.pings_received == 1 && now.pongs_received > 0)).await;
}

#[tokio::test]
async fn a_stream_beyond_the_limit_is_refused_with_429_until_another_one_ends() {
    let world = world_with(Options { max_streams: 1, ..options() }).await;
    let stream = world.stream("/ws/commerce/events").await;
    let refusal = world.refusal("/ws/commerce/events").await;
    assert_eq!(refusal.status, 429);
    assert_eq!(refusal.json()["code"], "RATE_LIMIT_EXCEEDED");
    drop(stream);
    soon(world.simulator.until(|now| now.streams_open == 0)).await;
    world.stream("/ws/commerce/events").await;
}

#[tokio::test]
async fn a_key_of_one_environment_sees_only_that() {
    let key = ApiKey { environment: Some(Environment::Devnet), ..ApiKey::new(KEY) };
    let world = world_with(Options { keys: vec![key], ..options() }).await;
    let token = world.mint("commerce").await;
    let mut stream =
        world.try_stream(&format!("/ws/commerce/events?token={token}"), None).await.ok().unwrap();
    world.publish(&event_of("invoice.updated", 1, r#""id":"i","environment":"mainnet""#));
    world.publish(&event_of("invoice.updated", 2, r#""id":"i","environment":"devnet""#));
    assert_eq!(stream.ids(1).await, [id(2)]);
    assert_eq!(world.page("").await.0, [id(2)]);
    assert_eq!(world.get(&format!("/api/v1/events/{}", id(1))).await.status, 404);
}

#[tokio::test]
async fn events_are_sent_as_often_as_asked_but_replayed_once() {
    let world = world_with(Options { copies: Copies { stream: 2, webhook: 1 }, ..options() }).await;
    let mut stream = world.stream("/ws/commerce/events").await;
    world.publish(&event(1));
    world.simulator.publish_with(event(2), Copies { stream: 0, webhook: 0 }).unwrap();
    world.publish(&event(3));
    assert_eq!(stream.ids(4).await, ids([1, 1, 3, 3]));
    let mut replay = world.stream(&format!("/ws/commerce/events?since={}", id(1))).await;
    assert_eq!(replay.ids(2).await, ids([2, 3]));
}

#[tokio::test]
async fn a_stream_that_is_too_old_is_closed() {
    let world = world_with(Options { max_stream_age: Some(Duration::ZERO), ..options() }).await;
    assert_eq!(world.stream("/ws/commerce/events").await.close_code().await, 1001);
}

#[tokio::test]
async fn a_restart_closes_streams_with_1001_and_keeps_the_account() {
    let mut world = world().await;
    world.publish(&event(1));
    let mut stream = world.stream("/ws/commerce/events").await;
    let (code, ()) = tokio::join!(stream.close_code(), world.shut_down());
    assert_eq!(code, 1001);
    world.serve().await;
    world.publish(&event(2));
    let mut stream = world.stream(&format!("/ws/commerce/events?since={}", id(1))).await;
    assert_eq!(stream.ids(1).await, [id(2)]);
}
