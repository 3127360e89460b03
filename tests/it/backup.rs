//! A backup of a running bridge, and the bridge that is started from it.

use std::path::Path;

use serde_json::Value;

use crate::support::bridge::{Bridge, Ended, run};
use crate::support::soon;
use crate::support::world::World;

/// Runs `backup` on the world's database, beside a bridge if one runs.
async fn backup(world: &World, arguments: &[&str]) -> Ended {
    run(&world.configuration, &[&["backup"][..], arguments].concat()).await
}

fn text(path: &Path) -> &str {
    path.to_str().unwrap()
}

#[tokio::test(flavor = "multi_thread")]
async fn a_bridge_on_the_backup_of_a_busy_one_repeats_no_delivery_and_loses_no_event() {
    let mut world = World::new(World::with_duplicates()).await;
    let target = world.target("orders").await;
    let bridge = world.bridge().await;
    world.simulator.play(200);
    soon("some deliveries", target.until(|totals| totals.unique >= 50)).await;

    let copy = world.folder.path().join("copy.db");
    let output = backup(&world, &[text(&copy), "--json"]).await;
    assert_eq!(output.code, Some(0), "{}", output.stderr);
    let copied: Value = serde_json::from_str(&output.stdout).unwrap();
    let events = copied["events"].as_i64().unwrap();
    assert!((50..=200).contains(&events), "{copied}");
    assert_eq!(copied["newest_sequence"], events, "the sequence has no gap");

    let again = backup(&world, &[text(&copy)]).await;
    assert_eq!(again.code, Some(1));
    assert!(again.stderr.contains("is there already"), "{}", again.stderr);

    soon("all deliveries", target.until(|totals| totals.unique == 200)).await;
    soon("the webhooks", world.simulator.webhooks_settled()).await;
    bridge.kill().await;

    world.set("STORE__URL", &format!("sqlite://{}", copy.display()));
    let delivered = target.totals();
    let restored = world.bridge().await;
    // Pepay still has the events that are not in the copy. The bridge reads these again and no others.
    restored.until("all events", |status| status["store"]["events"] == 200).await;
    restored.until("an empty backlog", |status| status["targets"][0]["backlog"] == 0).await;
    assert!(target.totals().unique == delivered.unique, "nothing is new to the target");
    assert!(restored.stop().await.0.success());
}

#[tokio::test(flavor = "multi_thread")]
async fn a_backup_needs_the_store_alone_and_says_what_it_copied() {
    let mut world = World::new(World::with_duplicates()).await;
    world.target_at("orders", "http://127.0.0.1:1/");
    let bridge = Bridge::start(&world.configuration).await;
    assert!(bridge.stop().await.0.success());

    // `backup` reads no secrets: the key's file does not exist.
    world.configuration.remove("PEPAY__API_KEY");
    world.set("PEPAY__API_KEY_FILE", "/no/such/file");
    let copy = world.folder.path().join("copy.db");
    let output = backup(&world, &[text(&copy)]).await;
    assert_eq!(output.code, Some(0), "{}", output.stderr);
    for line in ["events           0", "newest sequence  0", "integrity        sound"] {
        assert!(output.stdout.lines().any(|shown| shown == line), "{line:?} is not in\n{}", output.stdout);
    }

    world.set("STORE__URL", "sqlite://nowhere/to/be/found.db");
    let output = backup(&world, &[text(&world.folder.path().join("other.db"))]).await;
    assert_eq!(output.code, Some(1));
    assert!(output.stderr.contains("there is no database at nowhere/to/be/found.db"), "{}", output.stderr);
    world.set("STORE__URL", "postgres://x");
    assert_eq!(backup(&world, &["other.db"]).await.code, Some(2));
}
