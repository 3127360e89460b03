//! When a failed delivery is retried, and when it is given up.

use std::time::Duration;

use http::StatusCode;
use pepay_bridge::simulator::target::Reaction;
use serde_json::Value;

use crate::delivery::{all_settled, failures, targets};
use crate::support::raw::Act;
use crate::support::soon;
use crate::support::world::{World, assert_each_once};

fn refusal(status: u16, retry_after: &str) -> Act {
    let head = format!("HTTP/1.1 {status} No\r\ncontent-length: 0\r\nretry-after: {retry_after}\r\n\r\n");
    Act::Say(head.into_bytes())
}

/// Returns the wait in milliseconds that was logged with the first failure of `target`.
fn wait(log: &[Value], target: &str) -> u64 {
    failures(log, target)[0]["retry_in_ms"].as_u64().unwrap()
}

#[tokio::test(flavor = "multi_thread")]
async fn retry_after_lengthens_the_wait_up_to_its_maximum_and_nonsense_does_not() {
    let in_an_hour =
        |clock: std::time::SystemTime| httpdate::fmt_http_date(clock + Duration::from_secs(3600));
    let clock = pepay_bridge::domain::clock::Clock::system();
    let date = in_an_hour(clock.now().into());
    let wishes = [
        ("seconds", 429, "3600"),
        ("date", 503, &*date),
        ("past", 503, "Sun, 06 Nov 1994 08:49:37 GMT"),
        ("nonsense", 429, "soon"),
        ("negative", 503, "-3600"),
        ("endless", 429, "99999999999999999999999999"),
        ("unasked", 500, "3600"),
    ];
    let mut world = World::new(World::with_duplicates()).await;
    let scripts = wishes.map(|(name, status, wish)| (name.to_owned(), vec![refusal(status, wish)]));
    let targets = targets(&mut world, scripts).await;
    let bridge = world.bridge().await;
    world.simulator.play(1);
    all_settled(&bridge).await;
    let (_, log) = bridge.stop().await;
    for (name, target) in &targets {
        assert_eq!(target.attempts(), [1, 2], "{name}");
        let longest = if ["seconds", "date", "endless"].contains(&&**name) { 1000 } else { 50 };
        assert!(wait(&log, name) <= longest, "{name}: {}", wait(&log, name));
    }
    // Without `Retry-After` the wait would be at most 50 ms. The logged wait does not include the time
    // of the commit, so the clock of the target measures the whole wait.
    for wished in ["seconds", "date", "endless"] {
        let requests = targets[wished].record().requests;
        assert!(requests[1].at - requests[0].at > Duration::from_millis(500), "{wished}");
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn retry_after_is_waited_for() {
    let mut world = World::new(World::with_duplicates()).await;
    let target = world.target("orders").await;
    target.next(1, Reaction::Answer(StatusCode::TOO_MANY_REQUESTS, Some("1".to_owned())));
    let bridge = world.bridge().await;
    let ids = world.simulator.play(1);
    soon("the delivery", target.until(|totals| totals.unique == 1)).await;
    let times: Vec<_> = target.deliveries().iter().map(|delivery| delivery.received_at).collect();
    assert!(times[1].since(times[0]) >= Duration::from_secs(1));
    bridge.stop().await;
    assert_each_once(&target, &ids);
}

#[tokio::test(flavor = "multi_thread")]
async fn answers_that_are_not_worth_retrying_are_dead_at_once_and_others_after_give_up() {
    let mut world = World::new(World::with_duplicates()).await;
    let (picky, slow) = (world.target("picky").await, world.target("slow").await);
    world.set_target("picky", "DEAD_ON", "410,422");
    world.set_target("slow", "GIVE_UP_AFTER", "1s");
    picky.fail_ratio(1.0, Reaction::Answer(StatusCode::GONE, None));
    slow.fail_ratio(1.0, Reaction::Answer(StatusCode::FOUND, None));
    let bridge = world.bridge().await;
    world.simulator.play(1);
    bridge
        .until("a dead delivery of each", |status| {
            status["targets"].as_array().unwrap().iter().all(|target| target["dead"] == 1)
        })
        .await;
    assert_eq!(picky.totals().received, 1);
    assert!(slow.totals().received > 1, "tried for a while");
    for target in ["picky", "slow"] {
        let dead = format!("pepay_bridge_deliveries_total{{target=\"{target}\",outcome=\"dead\"}}");
        assert!((bridge.metric(&dead).await - 1.0).abs() < f64::EPSILON, "{target}");
    }
    bridge.stop().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn a_dead_delivery_lets_the_next_of_its_object_pass() {
    let mut world = World::new(World::with_duplicates()).await;
    let target = world.target("picky").await;
    world.set_target("picky", "DEAD_ON", "422");
    target.next(1, Reaction::Answer(StatusCode::UNPROCESSABLE_ENTITY, None));
    let bridge = world.bridge().await;
    let ids = world.simulator.play(60);
    soon("all but one", target.until(|totals| totals.unique == ids.len() as u64 - 1)).await;
    let status = bridge.until("the end", |status| status["targets"][0]["backlog"] == 0).await;
    assert_eq!(status["targets"][0]["dead"], 1);
    bridge.stop().await;
    assert_eq!(target.totals().received, ids.len() as u64);
}
