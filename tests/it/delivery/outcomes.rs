//! Outcomes that cannot be written when they are known.

use std::time::Duration;

use crate::delivery::failures;
use crate::support::raw::{Act, OK, RawTarget};
use crate::support::soon;
use crate::support::world::{World, listen};

#[tokio::test(flavor = "multi_thread")]
async fn an_outcome_that_cannot_be_written_is_tried_again_until_it_is_and_a_stop_waits_for_that() {
    let mut world = World::new(World::with_duplicates()).await;
    let (listener, url) = listen().await;
    let target = RawTarget::on(listener, url, Duration::from_secs(2), |_| Act::Say(OK.to_vec()));
    world.target_at("orders", &target.url);
    let mut bridge = world.bridge().await;
    world.simulator.play(1);
    soon("the webhooks", world.simulator.webhooks_settled()).await;
    soon("the record of the attempt", async {
        while world.look_up::<i64>("SELECT count(*) FROM delivery WHERE state = 'sending'") == 0 {
            tokio::task::yield_now().await;
        }
    })
    .await;
    // Another program writes to the database and does not come to an end.
    let intruder = rusqlite::Connection::open(world.database()).unwrap();
    intruder.busy_timeout(Duration::from_secs(5)).unwrap();
    intruder.execute_batch("BEGIN IMMEDIATE").unwrap();
    target.until("the answer", |record| record.unique() == 1).await;
    bridge.logged("the store cannot commit").await;
    bridge.terminate();
    bridge.logged("what is in hand is finished").await;
    intruder.execute_batch("ROLLBACK").unwrap();
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
    // Between the first attempt and the second there is time to stop.
    world.set_target("orders", "RETRY_MIN", "30s");
    world.set_target("orders", "RETRY_MAX", "30s");
    let bridge = world.bridge().await;
    world.simulator.play(1);
    soon("the webhooks", world.simulator.webhooks_settled()).await;
    soon("the record of the attempt", async {
        while world.look_up::<i64>("SELECT count(*) FROM delivery WHERE state = 'retrying'") == 0 {
            tokio::task::yield_now().await;
        }
    })
    .await;
    bridge.stop().await;
    // As it is where the clock was an hour ahead.
    let database = rusqlite::Connection::open(world.database()).unwrap();
    let hour = "UPDATE delivery SET due_at = due_at + 3600000 WHERE state = 'retrying'";
    assert_eq!(database.execute(hour, []).unwrap(), 1);
    drop(database);

    let mut bridge = world.bridge().await;
    crate::delivery::all_settled(&bridge).await;
    bridge.logged("retries lie beyond `retry_max`").await;
    bridge.stop().await;
}
