//! Targets that cannot be reached: nothing has arrived, so no delivery is held.

use std::time::Duration;

use serde_json::Value;
use tokio::net::{TcpListener, TcpSocket, TcpStream};

use crate::delivery::failures;
use crate::support::bridge::Bridge;
use crate::support::raw::{Act, OK, RawTarget};
use crate::support::soon;
use crate::support::world::{World, hold};

/// Waits for the log line about the failure of this attempt at `target`.
async fn failure(bridge: &mut Bridge, target: &str, attempt: u64) -> Value {
    let wanted =
        |line: &Value| line["target"] == target && line["attempt"] == attempt && line["error"].is_string();
    bridge.logged_where(&format!("attempt {attempt} at {target}"), wanted).await
}

fn says(line: &Value, error: &str) {
    assert!(line["error"].as_str().unwrap().starts_with(error), "{line}");
}

#[tokio::test(flavor = "multi_thread")]
async fn a_refused_connection_is_tried_again_at_once_one_time_and_then_with_patience() {
    let mut world = World::new(World::with_duplicates()).await;
    let (socket, url) = hold();
    world.target_at("patient", &url);
    world.set_target("patient", "RETRY_MIN", "1h");
    world.set_target("patient", "RETRY_MAX", "1h");
    world.target_at("orders", &url);
    world.set_target("orders", "ON_UNCERTAIN", "hold");
    let mut bridge = world.bridge().await;
    world.simulator.play(1);
    let first = failure(&mut bridge, "patient", 1).await;
    says(&first, "cannot connect: Connection refused");
    assert_eq!(first["retry_in_ms"], 0);
    let second = failure(&mut bridge, "patient", 2).await;
    assert!(second["retry_in_ms"].as_u64() > Some(0), "{second}");

    failure(&mut bridge, "orders", 3).await;
    let listener = socket.listen(1024).unwrap();
    let target = RawTarget::on(listener, url, Duration::ZERO, |_| Act::Say(OK.to_vec()));
    target.until("the delivery", |record| record.unique() == 1).await;
    let (_, log) = bridge.stop().await;
    assert_eq!(failures(&log, "patient").len(), 2);
    assert!(target.attempts()[0] > 3);
}

#[tokio::test(flavor = "multi_thread")]
async fn an_attempt_whose_host_name_does_not_resolve_is_retried() {
    let mut world = World::new(World::with_duplicates()).await;
    for name in ["patient", "hasty"] {
        world.target_at(name, "http://not-started-yet.invalid:8000/pepay-events");
        world.set_target(name, "ON_UNCERTAIN", "hold");
        world.set_target(name, "RETRY_MAX", "200ms");
        world.set_target(name, "CONNECT_TIMEOUT", "500ms");
        world.set_target(name, "DEAD_ON", "410,422");
    }
    world.set_target("hasty", "GIVE_UP_AFTER", "1s");
    let mut bridge = world.bridge().await;
    world.simulator.play(1);
    says(&failure(&mut bridge, "patient", 8).await, "cannot connect: ");
    let dead = |status: &Value, target: &str| {
        let all = status["targets"].as_array().unwrap().clone();
        all.into_iter().find(|one| one["name"] == target).unwrap()["dead"] == 1
    };
    let status = bridge.until("the end of patience", |status| dead(status, "hasty")).await;
    assert!(!dead(&status, "patient"));
    let line = bridge.logged_where("it", |line| line["target"] == "hasty" && line["level"] == "ERROR").await;
    assert!(line["attempt"].as_u64() > Some(1) && line["event_id"].is_string(), "{line}");
    bridge.stop().await;
}

/// Returns a listener whose queue is full, so that further connections are not accepted, its URL, and
/// the connections in the queue.
async fn full() -> (TcpListener, String, Vec<TcpStream>) {
    let socket = TcpSocket::new_v4().unwrap();
    socket.bind("127.0.0.1:0".parse().unwrap()).unwrap();
    let listener = socket.listen(1).unwrap();
    let address = listener.local_addr().unwrap();
    let mut waiting = Vec::new();
    // The queue is full once a connection is not accepted within this time.
    while let Ok(taken) = tokio::time::timeout(Duration::from_millis(300), TcpStream::connect(address)).await
    {
        waiting.push(taken.unwrap());
    }
    (listener, format!("http://{address}"), waiting)
}

#[tokio::test(flavor = "multi_thread")]
async fn an_attempt_that_cannot_connect_in_time_has_no_uncertain_outcome() {
    let mut world = World::new(World::with_duplicates()).await;
    let (listener, url, waiting) = full().await;
    // The shorter of the two limits holds.
    for (name, timeout, connect_timeout) in [("connect", "10s", "200ms"), ("total", "200ms", "10s")] {
        world.target_at(name, &url);
        world.set_target(name, "ON_UNCERTAIN", "hold");
        world.set_target(name, "TIMEOUT", timeout);
        world.set_target(name, "CONNECT_TIMEOUT", connect_timeout);
    }
    let mut bridge = world.bridge().await;
    world.simulator.play(1);
    says(&failure(&mut bridge, "connect", 2).await, "cannot connect: ");
    says(&failure(&mut bridge, "total", 2).await, "no connection within 200ms");
    let status = bridge.status().await;
    assert!(status["targets"].as_array().unwrap().iter().all(|target| target["held"] == 0), "{status}");

    // The connections in the queue are accepted and end without a request.
    drop(waiting);
    let target = RawTarget::on(listener, url, Duration::ZERO, |_| Act::Say(OK.to_vec()));
    target
        .until("both deliveries", |record| {
            record.requests.iter().filter(|seen| seen.acknowledged).count() == 2
        })
        .await;
    soon("the webhooks", world.simulator.webhooks_settled()).await;
    bridge.stop().await;
}
