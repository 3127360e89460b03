//! Large answers: memory stays bounded, and health checks are answered.

use std::sync::Arc;
use std::sync::atomic::{AtomicU32, Ordering};
use std::time::{Duration, Instant};

use super::{delivered, live, without_webhooks};
use crate::support::bridge::Bridge;
use crate::support::pepay::{Act, Asked, RawPepay, news};
use crate::support::soon;
use crate::support::world::World;

/// The size of an answer in bytes.
const BYTES: usize = 30_000_000;
/// The most that such answers may add to the resident memory, in KiB. The bridge reads at most
/// 8 MiB of a page, holds it twice while the buffer grows, and needs memory for the parser.
const ADDED: u64 = 64 * 1024;
/// The longest time for `/healthz` meanwhile, on a busy machine.
const HEALTHY: Duration = Duration::from_secs(10);
/// How often Pepay gives each answer.
const TIMES: u32 = 2;

/// Returns an answer of [`BYTES`]: `head`, then `item` repeated, then `tail`.
fn filled(head: &str, item: &str, tail: &str) -> Vec<u8> {
    let items = item.repeat((BYTES - head.len() - tail.len()) / item.len());
    [head, &items, tail].concat().into_bytes()
}

#[tokio::test(flavor = "multi_thread")]
async fn large_answers_at_every_endpoint_take_bounded_memory_and_delay_no_health_check() {
    let mut world = World::new(without_webhooks()).await;
    let target = world.target("orders").await;
    let pepay = RawPepay::of(&mut world, |_| Act::Usual).await;
    let bridge = Bridge::start(&world.configuration).await;
    live(&bridge).await;
    let values = filled(r#"{"success":false,"details":["#, "0,", r#"0],"error_code":"INTERNAL"}"#);
    let text = filled(r#"{"message":""#, "x", r#"","error_code":"INTERNAL"}"#);
    let zeros =
        filled(r#"{"success":true,"data":{"object":"list","data":["#, "0,", r#"0],"has_more":false}}"#);
    let objects = filled(r#"{"data":["#, "{},", r#"{"id":"evt_1"}],"has_more":false}"#);
    let nested = filled(r#"{"data":"#, "[", "");
    let (error, ok) = ("HTTP/1.1 500 Oops", "HTTP/1.1 200 OK");
    let before = bridge.peak_memory();
    let mut sent = 0;
    for (endpoint, head, body) in [
        (Asked::Token, error, &values),
        (Asked::Token, ok, &values),
        (Asked::Stream, error, &text),
        (Asked::Stream, ok, &values),
        (Asked::List, error, &values),
        (Asked::List, error, &text),
        (Asked::List, ok, &values),
        (Asked::List, ok, &zeros),
        (Asked::List, ok, &objects),
        (Asked::List, ok, &nested),
    ] {
        let what = format!("{endpoint:?} {head} {:.40}", String::from_utf8_lossy(&body[..40]));
        let (left, body) = (AtomicU32::new(TIMES), Arc::new(body.clone()));
        pepay.change(move |request| {
            let meets = request.asked == endpoint
                && left
                    .fetch_update(Ordering::Relaxed, Ordering::Relaxed, |left| left.checked_sub(1))
                    .is_ok();
            if meets { Act::Say(head, body.to_vec()) } else { Act::Usual }
        });
        let opened = pepay.record().ended;
        let path = "/api/v1/streams/commerce/reconnect";
        assert_eq!(bridge.post(path, &serde_json::json!({})).await.0, 202);
        // Once the stream is live again, the bridge has read them all.
        let mut pace = tokio::time::interval(Duration::from_millis(50));
        soon(&what, async {
            loop {
                pace.tick().await;
                let asked = Instant::now();
                let health = reqwest::get(format!("{}/healthz", bridge.public)).await.unwrap();
                assert_eq!(health.status(), 200);
                assert!(asked.elapsed() < HEALTHY, "{what}: {:?}", asked.elapsed());
                if pepay.record().ended > opened && bridge.status().await["streams"][0]["phase"] == "live" {
                    return;
                }
            }
        })
        .await;
        pepay.publish(news(sent));
        sent += 1;
        delivered(&target, sent as usize).await;
        let peak = bridge.peak_memory();
        assert!(peak < before + ADDED, "{what}: {before} KiB before and {peak} KiB at the most");
    }
    assert!(bridge.stop().await.0.success());
}
