//! Upgrades as servers and proxies answer them, and a peer that does not read.

use super::{counted, delivered, reconnects, without_webhooks};
use crate::support::bridge::Bridge;
use crate::support::pepay::{ACCEPT, Act, Asked, RawPepay, SWITCHING, Then, news, stream};
use crate::support::world::World;

/// A `Sec-WebSocket-Accept` that belongs to no request of the test.
const WRONG: &str = "BwcHBwcHBwcHBwcHBwcHBwcHBwc=";

#[tokio::test(flavor = "multi_thread")]
async fn an_upgrade_is_taken_however_its_head_arrives() {
    let mut world = World::new(without_webhooks()).await;
    let target = world.target("orders").await;
    let odd = SWITCHING
        .replace("connection: Upgrade", "Connection: keep-alive, Upgrade")
        .replace("upgrade: websocket", "Upgrade: WebSocket")
        .replace("\r\n\r\n", "\r\nkeep-alive: timeout=5\r\nx-filler: ~\r\n\r\n")
        .replace('~', &"x".repeat(4000));
    let heads = [
        vec![SWITCHING.to_owned()],
        // One byte at a time, except the value, which is known only when it is sent.
        SWITCHING
            .split_inclusive(ACCEPT)
            .flat_map(|part| match part.strip_suffix(ACCEPT) {
                Some(before) => {
                    before.chars().map(String::from).chain([ACCEPT.to_owned()]).collect::<Vec<_>>()
                }
                None => part.chars().map(String::from).collect(),
            })
            .collect(),
        vec!["HTTP/1.1 100 Continue\r\n\r\n".to_owned(), SWITCHING.to_owned()],
        vec![["HTTP/1.1 100 Continue\r\n\r\n", "HTTP/1.1 103 Early Hints\r\n\r\n", SWITCHING].concat()],
        vec![odd],
    ];
    let pepay = RawPepay::of(&mut world, |_| Act::Usual).await;
    for (n, head) in (0..).zip(heads) {
        let said = format!("{head:.200?}");
        pepay.change(move |request| match request.asked {
            Asked::Stream => Act::Stream(head.clone(), Then::Live),
            _ => Act::Usual,
        });
        let bridge = Bridge::start(&world.configuration).await;
        bridge.until(&said, |status| status["streams"][0]["phase"] == "live").await;
        pepay.publish(news(n));
        delivered(&target, n as usize + 1).await;
        let record = pepay.record();
        assert_eq!((record.open, record.ended), (1, n as usize), "{said}");
        assert!(bridge.stop().await.0.success());
    }
    let by_stream = |delivery: &pepay_bridge::simulator::target::Delivery| {
        delivery.headers["pepay-bridge-source"] == "stream"
    };
    assert!(target.deliveries().iter().all(by_stream));
}

#[tokio::test(flavor = "multi_thread")]
async fn an_answer_that_only_looks_like_an_upgrade_is_none() {
    let mut world = World::new(without_webhooks()).await;
    world.target("orders").await;
    let pepay = RawPepay::of(&mut world, |_| Act::Usual).await;
    for (head, says) in [
        (SWITCHING.replace(ACCEPT, WRONG), "without the right Sec-WebSocket-Accept"),
        (
            SWITCHING.replace("sec-websocket-accept: {accept}\r\n", ""),
            "without the right Sec-WebSocket-Accept",
        ),
        ("HTTP/1.1 200 OK\r\ncontent-length: 0\r\n\r\n".to_owned(), "Pepay answered 200"),
        ("HTTP/1.1 101 Switching".to_owned(), ""),
    ] {
        pepay.change(move |request| match request.asked {
            Asked::Stream => Act::Segments(vec![head.replace(ACCEPT, "").into_bytes()]),
            _ => Act::Usual,
        });
        let bridge = Bridge::start(&world.configuration).await;
        let told = |status: &serde_json::Value| {
            status["streams"][0]["problem"].as_str().is_some_and(|problem| problem.contains(says))
        };
        bridge.until(says, told).await;
        assert_eq!(bridge.status().await["streams"][0]["connected"], false);
        assert!(bridge.stop().await.0.success());
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn a_peer_that_pings_without_end_and_reads_nothing_is_disconnected_and_takes_no_memory() {
    let mut world = World::new(without_webhooks()).await;
    let target = world.target("orders").await;
    world.set("STREAMS__COMMERCE__IDLE_TIMEOUT", "2s");
    world.set("STREAMS__COMMERCE__PING_INTERVAL", "300ms");
    let pepay = RawPepay::of(&mut world, |request| match (request.asked, request.number) {
        (Asked::Stream, 0) => stream(Then::Deaf),
        _ => Act::Usual,
    })
    .await;
    let bridge = Bridge::start(&world.configuration).await;
    let before = bridge.peak_memory();
    pepay.until("another connection", |record| record.open == 1 && record.ended == 1).await;
    let after = bridge.peak_memory();
    assert!(after < before + 32 * 1024, "{before} KiB before and {after} KiB after");
    assert_eq!(counted(&bridge, &reconnects("network")).await, "1");
    pepay.publish(news(0));
    delivered(&target, 1).await;
    assert!(bridge.stop().await.0.success());
}
