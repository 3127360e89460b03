//! The account that a store belongs to, and the permissions of its files.

use std::os::unix::fs::PermissionsExt;

use pepay_bridge::simulator::Simulator;
use serde_json::Value;

use crate::support::bridge::{Bridge, command, command_of, message, refused, run};
use crate::support::soon;
use crate::support::world::World;

/// Starts `run --adopt` with the configuration of `world`, and kills it once `pepay` has its stream.
async fn adopt(world: &World, pepay: &Simulator) {
    let opened = pepay.statistics().streams_opened;
    let mut child = command(&world.configuration).args(["run", "--adopt"]).spawn().unwrap();
    soon("the stream", pepay.until(|statistics| statistics.streams_opened > opened)).await;
    child.kill().await.unwrap();
}

async fn doctor(world: &World) -> Value {
    serde_json::from_str(&run(&world.configuration, &["doctor", "--json"]).await.stdout).unwrap()
}

fn check<'a>(report: &'a Value, name: &str) -> &'a Value {
    report["checks"].as_array().unwrap().iter().find(|check| check["name"] == name).unwrap()
}

#[tokio::test(flavor = "multi_thread")]
async fn a_store_of_another_pepay_is_refused_until_it_is_adopted() {
    let mut world = World::new(World::with_duplicates()).await;
    let target = world.target("orders").await;
    let bridge = world.bridge().await;
    world.simulator.play(3);
    soon("all deliveries", target.until(|totals| totals.unique == 3)).await;
    assert!(bridge.stop().await.0.success());
    let first = world.configuration["PEPAY__API_URL"].clone();

    let other = World::new(World::with_duplicates()).await;
    world.set("PEPAY__API_URL", &other.configuration["PEPAY__API_URL"]);
    let (code, said) = refused(&world.configuration).await;
    assert_eq!(code, Some(1), "{said}");
    assert!(said.contains(&first) && said.contains("run --adopt"), "{said}");
    assert_eq!(other.simulator.statistics().streams_opened, 0, "nothing was asked of the other one");
    let report = doctor(&world).await;
    assert_eq!(check(&report, "account")["verdict"], "failed", "{report}");

    adopt(&world, &other.simulator).await;
    drop(Bridge::start(&world.configuration).await);
    world.set("PEPAY__API_URL", &first);
    assert_eq!(refused(&world.configuration).await.0, Some(1), "it is the other's now");
}

#[tokio::test(flavor = "multi_thread")]
async fn a_key_of_another_account_stops_the_bridge_before_it_takes_in_an_event() {
    let mut world = World::new(World::with_duplicates()).await;
    world.target("orders").await;
    assert!(world.bridge().await.stop().await.0.success());
    let known = "SELECT count(*) FROM source_identity WHERE source = 'commerce' AND account = '123'";
    assert_eq!(world.look_up::<i64>(known), 1);
    let report = doctor(&world).await;
    assert!(check(&report, "account")["found"].as_str().unwrap().contains("account 123 at "), "{report}");

    world.execute("UPDATE source_identity SET account = '456' WHERE source = 'commerce'", []);
    let opened = world.simulator.statistics().streams_opened;
    let (status, log) = Bridge::start(&world.configuration).await.ended().await;
    assert_eq!(status.code(), Some(1));
    let says = |line: &Value| {
        message(line) == "pepay-bridge cannot go on"
            && line["error"].as_str().is_some_and(|error| error.contains("account 456 at "))
    };
    assert!(log.iter().any(says), "{log:?}");
    assert_eq!(world.simulator.statistics().streams_opened, opened);
    assert_eq!(check(&doctor(&world).await, "account")["verdict"], "failed");
    adopt(&world, &world.simulator).await;
    assert_eq!(world.look_up::<i64>(known), 1);
}

#[tokio::test(flavor = "multi_thread")]
async fn a_store_without_events_accepts_another_address_of_pepay() {
    let mut world = World::new(World::with_duplicates()).await;
    world.target("orders").await;
    let right = world.configuration["PEPAY__API_URL"].clone();
    world.set("PEPAY__API_URL", "http://127.0.0.1:9");
    assert!(Bridge::start(&world.configuration).await.stop().await.0.success());
    world.set("PEPAY__API_URL", &right);
    let report = doctor(&world).await;
    assert!(!report.to_string().contains("127.0.0.1:9\""), "{report}");
    assert!(world.bridge().await.stop().await.0.success());
    // The store belongs to the account once the stream has a cursor.
    world.set("PEPAY__API_URL", "http://127.0.0.1:9");
    let (code, said) = refused(&world.configuration).await;
    assert_eq!(code, Some(1), "{said}");
    assert!(said.contains(&right), "{said}");
}

#[tokio::test(flavor = "multi_thread")]
async fn a_store_without_an_identity_takes_the_first_account_it_connects_to() {
    let mut world = World::new(World::with_duplicates()).await;
    world.target("orders").await;
    assert!(world.bridge().await.stop().await.0.success());
    world.execute("DELETE FROM source_identity", []);
    assert!(world.bridge().await.stop().await.0.success());
    assert_eq!(world.look_up::<i64>("SELECT count(*) FROM source_identity"), 2);
}

#[tokio::test(flavor = "multi_thread")]
async fn a_reload_to_another_pepay_changes_nothing() {
    let mut world = World::new(World::with_duplicates()).await;
    world.target("orders").await;
    let mut bridge = world.bridge_on_file().await;
    world.set("PEPAY__API_URL", "http://127.0.0.1:9");
    world.save();
    let outcome = bridge.reload().await;
    assert!(message(&outcome).starts_with("configuration not reloaded"), "{outcome}");
    assert!(outcome["problem"].as_str().unwrap().contains("run --adopt"), "{outcome}");
    assert_eq!(bridge.status().await["streams"][0]["connected"], true);
    assert!(bridge.stop().await.0.success());
}

#[tokio::test(flavor = "multi_thread")]
async fn what_a_bridge_creates_is_for_its_owner_alone_under_any_umask() {
    let mut world = World::new(World::with_duplicates()).await;
    world.target("orders").await;
    let folder = world.folder.path().join("deep/data");
    world.set("STORE__URL", &format!("sqlite://{}", folder.join("bridge.db").display()));
    let script = ["-c", "umask 0; exec \"$0\" run"];
    let mut child = command_of("/bin/sh", &script, &world.configuration).spawn().unwrap();
    soon("the stream", world.simulator.until(|statistics| statistics.streams_opened > 0)).await;
    let mode = |path: &std::path::Path| path.metadata().unwrap().permissions().mode() & 0o777;
    for name in ["bridge.db", "bridge.db-wal", "bridge.db-shm", "bridge.db.lock"] {
        assert_eq!(mode(&folder.join(name)), 0o600, "{name}");
    }
    assert_eq!((mode(&folder), mode(folder.parent().unwrap())), (0o700, 0o700));
    child.kill().await.unwrap();

    let warned = async |world: &World| run(&world.configuration, &["check"]).await.stderr;
    assert!(!warned(&world).await.contains("store.url"));
    for (path, permissions, says) in [
        (folder.join("bridge.db"), 0o640, "which others than its owner may read (mode 0640)"),
        (folder.join("bridge.db"), 0o602, "which others than its owner may write (mode 0602)"),
        (folder.clone(), 0o730, "a folder in which others than its owner may replace files (mode 0730)"),
    ] {
        std::fs::set_permissions(&path, PermissionsExt::from_mode(permissions)).unwrap();
        let warned = warned(&world).await;
        assert!(warned.contains("warning: store.url: is at ") && warned.contains(says), "{warned}");
    }
    let found = doctor(&world).await;
    assert!(found.to_string().contains("others than its owner may replace files"), "{found}");
}
