//! Several bridges on one database: one that hangs, and actions that another one has to carry out.

use std::time::{Duration, Instant};

use pepay_bridge::simulator::target::Reaction;
use reqwest::StatusCode;
use serde_json::{Value, json};
use sqlx::Executor as _;

use super::{Database, LIVING, OWNED, TAKE_OVER, ready, world};
use crate::support::bridge::Bridge;
use crate::support::raw::{Act, RawTarget};
use crate::support::world::assert_each_once;
use crate::support::{eventually, soon};

/// Returns the holder of the target's lease; empty if there is none.
const HOLDER: &str = "SELECT coalesce((SELECT holder FROM pepay_bridge.lease WHERE name = 'target/orders' \
                      AND expires_at > clock_timestamp()), '')";

/// Returns the id of the server process for the writing connection. There has to be one bridge.
const WRITER: &str = "SELECT pid::text FROM pg_stat_activity WHERE datname = current_database() \
                      AND application_name = 'pepay-bridge writer'";

fn signal(pid: &str, signal: &str) {
    assert!(std::process::Command::new("kill").args([signal, pid]).status().unwrap().success());
}

/// Stops the process of the server for the connection that writes, between two transactions: in
/// one it would have locked what the other bridges need as well. Returns when it was stopped.
async fn stop_while_idle(database: &Database, writer: &str) -> Instant {
    let state = format!("SELECT state FROM pg_stat_activity WHERE pid = {writer}");
    for _ in 0..1000 {
        let stopped = Instant::now();
        signal(writer, "-STOP");
        // Only one that is stopped stays as it is seen.
        if database.text(&state).await == "idle" {
            return stopped;
        }
        signal(writer, "-CONT");
    }
    panic!("the connection is never idle");
}

#[tokio::test(flavor = "multi_thread")]
#[ignore = "needs a PostgreSQL server: run tests/postgres.sh"]
async fn a_bridge_whose_connection_that_writes_hangs_gives_its_leases_back_until_it_works_again() {
    let (mut world, database) = world().await;
    let target = world.target("orders").await;
    let mut first = world.bridge().await;
    database.until(OWNED, "1").await;
    let (holder, writer) = (database.text(HOLDER).await, database.text(WRITER).await);
    let second = Bridge::start(&world.configuration).await;
    database.until(LIVING, "2").await;
    let stopped = stop_while_idle(&database, &writer).await;
    database.until_it(HOLDER, |now| !now.is_empty() && now != holder).await;
    assert!(stopped.elapsed() < TAKE_OVER, "{:?}", stopped.elapsed());
    first.logged("all leases are given back").await;
    let said = ready(&first, 503).await;
    assert!(said.contains("its connection that writes completes nothing"), "{said}");
    first.until_metric("pepay_bridge_leases_given_up_total", 1.0).await;
    let ids = world.simulator.play(20);
    soon("the deliveries", target.until(|totals| totals.unique >= 20)).await;
    signal(&writer, "-CONT");
    first.logged("works again").await;
    ready(&first, 200).await;
    assert_each_once(&target, &ids);
    assert!(second.stop().await.0.success());
    database.until(HOLDER, &holder).await;
}

#[tokio::test(flavor = "multi_thread")]
#[ignore = "needs a PostgreSQL server: run tests/postgres.sh"]
async fn what_is_asked_about_a_target_whose_owner_is_just_stopping_is_done() {
    let (mut world, database) = world().await;
    let target = world.target("orders").await;
    world.set_target("orders", "DEAD_ON", "410");
    target.fail_ratio(1.0, Reaction::Answer(StatusCode::GONE, None));
    let owner = world.bridge().await;
    database.until(OWNED, "1").await;
    let other = Bridge::start(&world.configuration).await;
    database.until(LIVING, "2").await;
    let ids = world.simulator.play(30);
    let dead = "SELECT count(*)::text FROM pepay_bridge.delivery WHERE state = 'dead'";
    database.until(dead, "30").await;
    target.heal();
    let mut stopping = None;
    for (n, id) in ids.iter().enumerate() {
        let path = format!("/api/v1/deliveries/orders/{id}/retry");
        let (status, answer) = other.post(&path, &json!({})).await;
        assert_eq!(status, 200, "call {n}: {answer}");
        if n == 10 {
            owner.terminate();
            stopping = Some(Instant::now());
        }
    }
    assert!(stopping.is_some_and(|at| at.elapsed() < TAKE_OVER * 2), "{stopping:?}");
    assert!(owner.ended().await.0.success());
    soon("the deliveries", target.until(|totals| totals.unique >= 30)).await;
    assert_each_once(&target, &ids);
}

#[tokio::test(flavor = "multi_thread")]
#[ignore = "needs a PostgreSQL server: run tests/postgres.sh"]
async fn nothing_is_moved_from_a_target_that_another_bridge_alone_is_configured_with() {
    let (mut world, database) = world().await;
    let orders = world.target("orders").await;
    let with_one = world.configuration.clone();
    let (_silent, url) = crate::support::world::hold();
    world.target_at("archive", &url);
    let both = world.bridge().await;
    database.until(OWNED, "2").await;
    let one = Bridge::start(&with_one).await;
    database.until(LIVING, "2").await;
    let ids = world.simulator.play(5);
    soon("the deliveries", orders.until(|totals| totals.unique >= 5)).await;
    let body = json!({ "from": "archive", "to": "orders", "dry_run": true });
    eventually("the refusal", async || {
        let (status, answer) = one.post("/api/v1/deliveries/move", &body).await;
        assert!(status < 500, "{status} {answer}");
        (answer.to_string().contains("archive") && status == 409).then_some(())
    })
    .await;
    assert!(both.stop().await.0.success());
    // Now no replica is configured with the target.
    let body = json!({ "from": "archive", "to": "orders", "confirm": 5 });
    let answer = eventually("the move", async || {
        let (status, answer) = one.post("/api/v1/deliveries/move", &body).await;
        (status == 200).then_some(answer)
    })
    .await;
    assert_eq!(answer["changed"], 0, "it has a delivery of each already: {answer}");
    assert_each_once(&orders, &ids);
}

fn asks_to_wait(seconds: u64) -> Act {
    Act::Say(format!("HTTP/1.1 503 Busy\r\nretry-after: {seconds}\r\ncontent-length: 0\r\n\r\n").into_bytes())
}

fn waits(status: &Value) -> bool {
    !status["targets"][0]["retry_after_until"].is_null()
}

#[tokio::test(flavor = "multi_thread")]
#[ignore = "needs a PostgreSQL server: run tests/postgres.sh"]
async fn what_a_target_has_asked_an_owner_for_with_retry_after_holds_for_the_next_one() {
    // Longer than a take-over.
    let wait = TAKE_OVER + Duration::from_secs(3);
    let (mut world, database) = world().await;
    let target = RawTarget::scripted([asks_to_wait(wait.as_secs())]).await;
    world.target_at("orders", &target.url);
    world.set_target("orders", "RETRY_MAX", "1h");
    let owner = world.bridge().await;
    database.until(OWNED, "1").await;
    let other = Bridge::start(&world.configuration).await;
    database.until(LIVING, "2").await;
    world.simulator.play(1);
    target.until("the answer", |record| record.requests.len() == 1).await;
    // It is known to the others as soon as it is stored, and not with the next report of the owner.
    database.until("SELECT count(retry_after_until)::text FROM pepay_bridge.target", "1").await;
    owner.kill().await;
    let asked = target.record().requests[0].at;
    world.simulator.play(5);
    other.until("the wait", waits).await;
    let requests = target.until("the others", |record| record.unique() >= 6).await.requests;
    // The answer takes a moment to arrive, and the clocks of replicas are compared with some error.
    let waited = requests[1].at.duration_since(asked);
    let (error, late) = (Duration::from_millis(250), Duration::from_millis(2500));
    assert!(wait <= waited + error && waited <= wait + late, "{waited:?}");
    assert!(other.stop().await.0.success());
}

#[tokio::test(flavor = "multi_thread")]
#[ignore = "needs a PostgreSQL server: run tests/postgres.sh"]
async fn another_address_of_a_target_has_not_asked_for_the_retry_after_of_the_last_owner() {
    let (mut world, database) = world().await;
    let target = RawTarget::scripted([asks_to_wait(3600)]).await;
    world.target_at("orders", &target.url);
    world.set_target("orders", "RETRY_MAX", "1h");
    let owner = world.bridge().await;
    database.until(OWNED, "1").await;
    world.simulator.play(1);
    owner.until("the wait", waits).await;
    world.set_target("orders", "URL", &format!("{}/moved", target.url));
    let other = Bridge::start(&world.configuration).await;
    // It shows what the owner says of the target.
    other.until("the wait of the owner", waits).await;
    world.simulator.play(5);
    soon("the webhooks", world.simulator.webhooks_settled()).await;
    assert_eq!(target.record().requests.len(), 1);
    assert!(owner.stop().await.0.success());
    target.until("the others", |record| record.unique() >= 5).await;
    assert!(other.stop().await.0.success());
}

#[tokio::test(flavor = "multi_thread")]
#[ignore = "needs a PostgreSQL server: run tests/postgres.sh"]
async fn every_replica_shows_the_connection_of_a_stream_as_the_one_that_reads_it() {
    let (mut world, _database) = world().await;
    world.target("orders").await;
    let bridges = [world.bridge().await, Bridge::start(&world.configuration).await];
    let connected = "pepay_bridge_stream_connected{stream=\"commerce\"}";
    for bridge in &bridges {
        bridge.until_metric(connected, 1.0).await;
        let status = bridge.status().await;
        assert_eq!(status["streams"][0]["connected"], true, "{status}");
    }
}

/// Selects the server processes that wait for a lock in a call about leases.
const WAITING: &str = "SELECT coalesce(string_agg(pid::text, ' '), '') FROM pg_stat_activity \
                       WHERE datname = current_database() AND application_name = 'pepay-bridge leases' \
                       AND wait_event_type = 'Lock'";

#[tokio::test(flavor = "multi_thread")]
#[ignore = "needs a PostgreSQL server: run tests/postgres.sh"]
async fn leases_are_renewed_although_earlier_calls_about_them_are_never_answered() {
    let (mut world, database) = world().await;
    let _target = world.target("orders").await;
    let bridge = world.bridge().await;
    database.until(OWNED, "1").await;
    let mut holder = database.connect().await;
    holder.execute("BEGIN; LOCK TABLE pepay_bridge.replica IN ACCESS EXCLUSIVE MODE").await.unwrap();
    // As many calls as there are connections for them.
    database.until_it(WAITING, |waiting| waiting.split_whitespace().count() >= 2).await;
    let waiting = database.text(WAITING).await;
    let waiting: Vec<_> = waiting.split_whitespace().collect();
    // A process that is stopped answers as little as one on a machine that is gone.
    for pid in &waiting {
        signal(pid, "-STOP");
    }
    holder.execute("ROLLBACK").await.unwrap();
    let released = database.text("SELECT clock_timestamp()::text").await;
    let renewed = format!(
        "SELECT (expires_at > '{released}'::timestamptz + interval '4 s')::text FROM pepay_bridge.lease \
         WHERE name = 'target/orders'"
    );
    database.until(&renewed, "true").await;
    for pid in &waiting {
        signal(pid, "-CONT");
    }
    assert!(bridge.stop().await.0.success());
}
