//! Outcomes that cannot be recorded at once, and retries that a wrong clock planned.

use std::time::Duration;

use crate::delivery::failures;
use crate::support::bridge::message;
use crate::support::raw::{Act, OK, RawTarget};
use crate::support::soon;
use crate::support::world::{World, assert_each_once, listen};

#[tokio::test(flavor = "multi_thread")]
async fn an_outcome_that_cannot_be_written_is_tried_again_until_it_is_and_a_stop_waits_for_that() {
    let mut world = World::new(World::with_duplicates()).await;
    let (listener, url) = listen().await;
    let target = RawTarget::on(listener, url, Duration::from_secs(2), |_| Act::Say(OK.to_vec()));
    world.target_at("orders", &target.url);
    let mut bridge = world.bridge().await;
    world.simulator.play(1);
    soon("the webhooks", world.simulator.webhooks_settled()).await;
    let sending = "SELECT count(*) FROM delivery WHERE state = 'sending'";
    world.until_found("the record of the attempt", sending).await;
    // Another program begins a transaction that writes, and does not end it.
    let other_writer = rusqlite::Connection::open(world.database()).unwrap();
    other_writer.busy_timeout(Duration::from_secs(5)).unwrap();
    other_writer.execute_batch("BEGIN IMMEDIATE").unwrap();
    target.until("the answer", |record| record.unique() == 1).await;
    bridge.logged("the store cannot commit").await;
    bridge.terminate();
    bridge.logged("what is in hand is finished").await;
    other_writer.execute_batch("ROLLBACK").unwrap();
    let (status, log) = bridge.ended().await;
    assert!(status.success(), "{status}");
    assert!(failures(&log, "orders").is_empty());
    assert_eq!(world.look_up::<i64>("SELECT count(*) FROM delivery WHERE state = 'delivered'"), 1);

    let bridge = world.bridge().await;
    crate::delivery::all_settled(&bridge).await;
    bridge.stop().await;
    assert_eq!(target.attempts(), [1]);
}

#[tokio::test(flavor = "multi_thread")]
async fn a_retry_that_was_planned_by_a_clock_set_back_since_is_made_soon() {
    let mut world = World::new(World::with_duplicates()).await;
    let fails = b"HTTP/1.1 500 No\r\ncontent-length: 0\r\n\r\n";
    let target = RawTarget::scripted([Act::Say(fails.to_vec())]).await;
    world.target_at("orders", &target.url);
    // The bridge stops between the first attempt and the second.
    world.set_target("orders", "RETRY_MIN", "30s");
    world.set_target("orders", "RETRY_MAX", "30s");
    let bridge = world.bridge().await;
    world.simulator.play(1);
    soon("the webhooks", world.simulator.webhooks_settled()).await;
    let retrying = "SELECT count(*) FROM delivery WHERE state = 'retrying'";
    world.until_found("the record of the attempt", retrying).await;
    bridge.stop().await;
    // The time of the retry is as a clock that is an hour ahead sets it.
    let hour = "UPDATE delivery SET due_at = due_at + 3600000 WHERE state = 'retrying'";
    assert_eq!(world.execute(hour, []), 1);

    let mut bridge = world.bridge().await;
    crate::delivery::all_settled(&bridge).await;
    bridge.logged("retries lie beyond `retry_max`").await;
    bridge.stop().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn attempts_that_the_store_does_not_record_are_no_flood_of_log_lines() {
    let mut world = World::new(World::with_duplicates()).await;
    let target = world.target("orders").await;
    world.set_target("orders", "ON_UNCERTAIN", "hold");
    world.set("LOG__FILTER", "info,pepay_bridge::delivery=debug");
    let mut bridge = world.bridge().await;
    world.execute(
        "CREATE TRIGGER refuse BEFORE UPDATE ON delivery WHEN new.state = 'sending' \
         BEGIN SELECT RAISE(ABORT, 'refused by the test'); END",
        [],
    );
    let ids = world.simulator.play(50);
    bridge.logged_times("sending", 60).await;
    world.execute("DROP TRIGGER refuse", []);
    soon("the deliveries", target.until(|totals| totals.unique >= 50)).await;
    let (status, log) = bridge.stop().await;
    assert!(status.success());
    for text in ["an attempt could not be recorded", "a task of the store was refused"] {
        let lines = log.iter().filter(|line| message(line).contains(text)).count();
        assert!((1..=3).contains(&lines), "{lines} lines: {text}");
    }
    assert_each_once(&target, &ids);
}
