//! Export of events, backup and restore of the store, metrics of the process.

use super::*;
use crate::support::soon;
use crate::support::world::World;

#[tokio::test(flavor = "multi_thread")]
async fn events_are_exported_with_body_and_outcomes_while_more_arrive() {
    let mut world = World::new(World::with_duplicates()).await;
    let target = world.target("orders").await;
    let bridge = world.bridge().await;
    let ids = world.simulator.play(450);
    soon("all deliveries", target.until(|totals| totals.unique == 450)).await;
    let shell = Shell::beside(&bridge, &world.configuration);
    let more = world.simulator.play(50);
    let exported = shell.done("events export").await;
    let lines: Vec<Value> = exported.lines().map(|line| serde_json::from_str(line).unwrap()).collect();
    let sequences: Vec<_> = lines.iter().map(|line| line["sequence"].as_i64().unwrap()).collect();
    assert!(
        sequences.is_sorted_by(|one, next| *one == *next + 1),
        "newest first, none twice and none left out"
    );
    assert_eq!(sequences.last(), Some(&1));
    assert!((ids.len()..=ids.len() + more.len()).contains(&lines.len()), "{}", lines.len());
    let truth = world.truth(&ids[..1]).await;
    let one = lines.iter().find(|line| line["id"] == ids[0].as_str()).unwrap();
    assert_eq!(one["body"].as_str().unwrap().as_bytes(), truth[ids[0].as_str()]);
    assert_eq!(
        (&one["deliveries"][0]["state"], &one["deliveries"][0]["attempts"]),
        (&"delivered".into(), &1.into())
    );
    let narrowed = shell.done(&format!("events export --id-prefix {}", ids[3].as_str())).await;
    assert_eq!(narrowed.lines().count(), 1, "{narrowed}");
    assert_eq!(shell.done("events export --state dead").await, "");
    let unknown = shell.failed("events export --target order", 1).await;
    assert!(unknown.contains("no target \"order\"; there are: orders"), "{unknown}");
    assert!(bridge.stop().await.0.success());
}

#[tokio::test(flavor = "multi_thread")]
async fn a_backup_is_restored_beside_the_old_database_and_never_under_a_running_bridge() {
    let mut world = World::new(World::with_duplicates()).await;
    let target = world.target("orders").await;
    let bridge = world.bridge().await;
    let shell = Shell::beside(&bridge, &world.configuration);
    world.simulator.play(10);
    soon("all deliveries", target.until(|totals| totals.unique == 10)).await;
    let backup = world.folder.path().join("backup.db");
    let backup = backup.to_str().unwrap();
    let before = bridge.metric("pepay_bridge_last_backup_timestamp_seconds").await;
    assert!(before.abs() < f64::EPSILON);
    assert_eq!(run(&world.configuration, &["backup", backup]).await.code, Some(0));
    bridge.until_metric("pepay_bridge_last_backup_timestamp_seconds", 1.6e9).await;
    let refused = run(&world.configuration, &["restore", backup]).await;
    assert!(refused.code == Some(1) && refused.stderr.contains("in use by another"), "{}", refused.stderr);
    world.simulator.play(5);
    soon("all deliveries", target.until(|totals| totals.unique == 15)).await;
    drop(shell);
    assert!(bridge.stop().await.0.success());

    let damaged = world.folder.path().join("damaged.db");
    let mut bytes = std::fs::read(backup).unwrap();
    let middle = bytes.len() / 2;
    bytes[middle..middle + 4096].fill(0xAB);
    std::fs::write(&damaged, bytes).unwrap();
    let refused = run(&world.configuration, &["restore", damaged.to_str().unwrap()]).await;
    assert!(refused.code == Some(1) && refused.stderr.contains("is not sound"), "{}", refused.stderr);
    assert_eq!(world.look_up::<i64>("SELECT count(*) FROM event"), 15, "it is as it was");

    let restored = run(&world.configuration, &["restore", backup, "--json"]).await;
    assert_eq!(restored.code, Some(0), "{}", restored.stderr);
    let restored: Value = serde_json::from_str(&restored.stdout).unwrap();
    assert_eq!(restored["events"], 10, "{restored}");
    assert_eq!(world.look_up::<i64>("SELECT count(*) FROM event"), 10);
    let kept = restored["kept"].as_str().unwrap();
    assert!(kept.contains("bridge.db.before-restore-20"), "{kept}");
    let kept = rusqlite::Connection::open(kept).unwrap();
    assert_eq!(kept.query_row("SELECT count(*) FROM event", [], |row| row.get::<_, i64>(0)).unwrap(), 15);
    // As after an interruption when the old database was set aside and the copy was not in its place.
    let interrupted = world.folder.path().join("bridge.db.restoring-20261128T120000Z");
    std::fs::rename(world.database(), interrupted).unwrap();
    for command in [["backup", "other.db"], ["check", "--strict"], ["doctor", "--json"]] {
        let said = run(&world.configuration, &command).await;
        assert!(!world.database().exists(), "{command:?} {said:?}");
        let is_told = said.printed().contains("a restore of") && said.code == Some(1);
        assert!(is_told || command[0] == "check", "{command:?}: {said:?}");
    }
    let mut bridge = world.bridge().await;
    bridge.logged("an interrupted restore of the database has been completed").await;
    // The bridge reads the events since the backup again from Pepay.
    bridge.until("all events", |status| status["store"]["last_sequence"] == 15).await;
    assert!(bridge.stop().await.0.success());
}

#[tokio::test(flavor = "multi_thread")]
async fn metrics_show_the_version_the_process_and_the_last_reload() {
    let mut world = World::new(World::with_duplicates()).await;
    world.target("orders").await;
    let mut bridge = world.bridge_on_file().await;
    let text = bridge.admin("/metrics").await.text().await.unwrap();
    let version = env!("CARGO_PKG_VERSION");
    let info = format!("pepay_bridge_build_info{{version=\"{version}\",commit=\"");
    assert!(text.lines().any(|line| line.starts_with(&info) && line.ends_with("\"} 1")), "{text}");
    for name in ["process_resident_memory_bytes", "process_open_fds", "process_start_time_seconds"] {
        assert!(bridge.metric(&format!("{name} ")).await > 1.0, "{name} in\n{text}");
    }
    let loaded = bridge.metric("pepay_bridge_last_reload_timestamp_seconds ").await;
    assert!(loaded > 1.6e9);
    world.set_target("orders", "URL", "no url");
    world.save();
    bridge.reload().await;
    let failed = bridge.metric("pepay_bridge_last_reload_timestamp_seconds ").await;
    assert!((failed - loaded).abs() < f64::EPSILON, "a reload that fails is none");
    world.set_target("orders", "URL", "http://127.0.0.1:9");
    world.save();
    bridge.reload().await;
    assert!(bridge.metric("pepay_bridge_last_reload_timestamp_seconds ").await > loaded);
    assert!(bridge.stop().await.0.success());
}
