//! Connections to a target: how long they are kept, and what happens when the target closes them.

use std::time::Duration;

use crate::delivery::{all_settled, failures, targets};
use crate::support::raw::{Act, OK, RawTarget};
use crate::support::world::World;

/// Returns an answer that acknowledges, with this header line.
fn ok_with(line: &str) -> Act {
    Act::Say(format!("HTTP/1.1 200 OK\r\n{line}\r\ncontent-length: 2\r\n\r\nok").into_bytes())
}

#[tokio::test(flavor = "multi_thread")]
async fn a_connection_that_the_target_closes_when_idle_costs_nothing() {
    let mut world = World::new(World::with_duplicates()).await;
    let targets = targets(&mut world, [("orders".to_owned(), vec![Act::SayAndClose(OK.to_vec()); 5])]).await;
    let target = &targets["orders"];
    let bridge = world.bridge().await;
    for played in 1..=5 {
        world.simulator.play(1);
        target.until("a closed connection", |record| record.closed == played).await;
    }
    all_settled(&bridge).await;
    let (_, log) = bridge.stop().await;
    assert_eq!(target.attempts(), [1; 5]);
    assert_eq!(target.record().connections, 5);
    assert!(failures(&log, "orders").is_empty());
}

#[tokio::test(flavor = "multi_thread")]
async fn with_hold_no_attempt_is_uncertain_because_the_target_closes_an_idle_connection() {
    const EVENTS: usize = 200;
    let mut world = World::new(World::with_duplicates()).await;
    // Closes each connection after an answer that does not announce it.
    let target = RawTarget::new(|_| Act::SayAndClose(OK.to_vec())).await;
    world.target_at("orders", &target.url);
    world.set_target("orders", "ON_UNCERTAIN", "hold");
    let bridge = world.bridge().await;
    world.simulator.play(EVENTS);
    target.until("every delivery", |record| record.unique() == EVENTS).await;
    all_settled(&bridge).await;
    let status = bridge.status().await;
    assert_eq!(status["targets"][0]["held"], 0, "{status}");
    let (_, log) = bridge.stop().await;
    assert!(failures(&log, "orders").is_empty());
    assert_eq!(target.attempts(), [1; EVENTS]);
}

#[tokio::test(flavor = "multi_thread")]
async fn a_connection_is_kept_as_long_as_the_target_and_the_configuration_allow() {
    let mut world = World::new(World::with_duplicates()).await;
    let scripts = [
        ("kept", Act::Say(OK.to_vec()), 1),
        ("announced", ok_with("Keep-Alive: timeout=30, max=100"), 1),
        ("short", ok_with("Keep-Alive: timeout=1"), 3),
        ("never", Act::Say(OK.to_vec()), 3),
        ("hold", Act::Say(OK.to_vec()), 3),
    ];
    let acts = scripts.iter().map(|(name, act, _)| ((*name).to_owned(), vec![act.clone(); 3]));
    let targets = targets(&mut world, acts).await;
    world.set_target("never", "IDLE_TIMEOUT", "0s");
    world.set_target("hold", "ON_UNCERTAIN", "hold");
    let bridge = world.bridge().await;
    for played in 1..=3 {
        world.simulator.play(1);
        for target in targets.values() {
            target.until("a delivery", |record| record.unique() == played).await;
        }
        all_settled(&bridge).await;
    }
    for (name, _, connections) in scripts {
        assert_eq!(targets[name].attempts(), [1; 3], "{name}");
        assert_eq!(targets[name].record().connections, connections, "{name}");
    }
    bridge.stop().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn an_unused_connection_is_closed_after_its_time() {
    let mut world = World::new(World::with_duplicates()).await;
    let waiting = Act::SayAndWait(OK.to_vec());
    let targets = targets(&mut world, [("orders".to_owned(), vec![waiting])]).await;
    world.set_target("orders", "IDLE_TIMEOUT", "200ms");
    let bridge = world.bridge().await;
    world.simulator.play(1);
    let record = targets["orders"].until("the closing", |record| record.closed == 1).await;
    // The default is longer than this.
    let kept = record.requests[0].at.elapsed();
    assert!((Duration::from_millis(200)..Duration::from_secs(3)).contains(&kept), "{kept:?}");
    bridge.stop().await;
}
