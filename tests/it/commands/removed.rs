//! Deliveries of a target that is no longer configured, and events that a new target has missed.

use http::StatusCode;
use pepay_bridge::simulator::target::Reaction;

use super::*;
use crate::support::soon;
use crate::support::world::{World, hold};

/// Removes a target from the configuration.
fn without(world: &mut World, target: &str) {
    let prefix = format!("TARGETS__{}__", target.to_uppercase());
    world.configuration.retain(|key, _| !key.starts_with(&prefix));
}

#[tokio::test(flavor = "multi_thread")]
async fn deliveries_of_a_removed_target_stay_listed_until_they_are_moved() {
    let mut world = World::new(World::with_duplicates()).await;
    let (_nobody, url) = hold();
    world.target_at("old", &url);
    world.set_target("old", "RETRY_MIN", "1h");
    world.set_target("old", "RETRY_MAX", "1h");
    let bridge = world.bridge_on_file().await;
    world.simulator.play(12);
    bridge.until("all waits", |status| status["targets"][0]["backlog"] == 12).await;

    without(&mut world, "old");
    let new = world.target("new").await;
    world.save();
    for command in ["check", "doctor"] {
        let report = run(&world.configuration, &[command]).await.printed();
        assert!(
            report.contains("targets.old: is not configured, and 12 pending deliveries wait for it"),
            "{report}"
        );
    }
    let shell = Shell::beside(&bridge, &world.configuration);
    let failed = shell.run("deliveries move --from old --to new --yes").await;
    assert_ne!(failed.code, Some(0), "{}", failed.stdout);
    let (_, changes) = bridge.post("/api/v1/reload", &serde_json::json!({})).await;
    assert_eq!(changes["removed_targets"][0]["target"], "old", "{changes}");
    assert_eq!(changes["removed_targets"][0]["backlog"], 12, "{changes}");
    assert!(shell.done("reload").await.contains("deliveries move --from old --to NAME"));

    let status = bridge.status().await;
    let removed = &status["targets"][1];
    assert_eq!((&removed["name"], &removed["state"]), (&"old".into(), &"removed".into()), "{status}");
    assert_eq!((&removed["backlog"], &removed["configured"]), (&12.into(), &false.into()), "{status}");
    assert!(
        status["warnings"][0].as_str().unwrap().contains("the target old is not configured any more"),
        "{status}"
    );
    assert!(
        (bridge.metric("pepay_bridge_backlog{target=\"old\",configured=\"false\"}").await - 12.0).abs()
            < f64::EPSILON
    );
    let listed = shell.json("targets list").await;
    assert_eq!(
        (&listed["targets"][1]["state"], &listed["targets"][1]["configured"]),
        (&"removed".into(), &false.into())
    );
    assert!(shell.done("targets list").await.contains("removed"));

    // A new target receives no event that arrived before it was configured.
    assert_eq!(new.totals().received, 0);
    assert!(
        shell
            .done("deliveries move --from old --to new --dry-run")
            .await
            .starts_with("12 deliveries to move")
    );
    assert_eq!(
        shell.done("deliveries move --from old --to new --yes").await,
        "move: 12 deliveries changed\n"
    );
    // Deliveries that were tried wait for their retry. The operator retries them at once.
    shell.done("deliveries retry --target new --yes").await;
    soon("all deliveries", new.until(|totals| totals.unique == 12)).await;
    assert_eq!(new.totals().overlapping, 0);
    let status = bridge.status().await;
    assert_eq!(status["targets"].as_array().unwrap().len(), 1, "{status}");
    assert!(
        (bridge.metric("pepay_bridge_backlog{target=\"old\",configured=\"false\"}").await - 0.0).abs()
            < f64::EPSILON
    );
    assert!(bridge.stop().await.0.success());
}

#[tokio::test(flavor = "multi_thread")]
async fn a_move_is_narrowed_by_filters_and_counts_what_the_other_target_does_not_take() {
    let mut world = World::new(World::with_duplicates()).await;
    let (_nobody, url) = hold();
    world.target_at("old", &url);
    world.set_target("old", "RETRY_MIN", "1h");
    world.set_target("old", "RETRY_MAX", "1h");
    let bridge = world.bridge().await;
    for (id, status) in [("evt_1", "paid"), ("evt_2", "unpaid"), ("evt_3", "paid")] {
        let object = serde_json::json!({ "id": format!("inv_{id}"), "status": status });
        let body = serde_json::json!({ "id": id, "type": "invoice.updated", "data": { "object": object } });
        crate::support::world::webhook(&bridge, &body.to_string()).await;
    }
    bridge.until("all waits", |status| status["targets"][0]["backlog"] == 3).await;
    bridge.stop().await;

    without(&mut world, "old");
    let new = world.target("new").await;
    world.set("TARGETS__NEW__WHERE", "data.object.status=paid");
    let bridge = world.bridge().await;
    let shell = Shell::beside(&bridge, &world.configuration);
    let counted = shell.done("deliveries move --from old --to new --dry-run").await;
    assert!(counted.starts_with("2 deliveries to move; 1 more stays, since"), "{counted}");
    let answer = shell.json("deliveries move --from old --to new --dry-run").await;
    assert_eq!((&answer["matching"], &answer["not_taken"]), (&2.into(), &1.into()), "{answer}");
    let narrowed = "deliveries move --from old --to new --id-prefix evt_3";
    assert_eq!(shell.done(&format!("{narrowed} --dry-run")).await, "1 delivery to move\n");
    assert_eq!(shell.done(&format!("{narrowed} --yes")).await, "move: 1 delivery changed\n");
    let later = "deliveries move --from old --to new --received-from 2099-01-01 --dry-run";
    assert_eq!(shell.done(later).await, "0 deliveries to move\n");
    let body =
        serde_json::json!({ "from": "old", "to": "new", "filter": { "target": "new" }, "dry_run": true });
    let (code, refused) = bridge.post("/api/v1/deliveries/move", &body).await;
    assert_eq!((code, &refused["errors"][0]["name"]), (400, &"filter.target".into()), "{refused}");

    // A replay of missing events sends none that `where` leaves out either.
    let missing = "events replay --target new --missing --dry-run";
    assert_eq!(shell.done(missing).await, "1 delivery to replay\n");
    shell.done("deliveries move --from old --to new --yes").await;
    shell.done("deliveries retry --target new --yes").await;
    soon("what is paid", new.until(|totals| totals.unique == 2)).await;
    bridge.until("their record", |status| status["targets"][0]["backlog"] == 0).await;
    assert_eq!(world.delivered("new"), ["evt_1", "evt_3"].map(str::to_owned).into());
    let left = shell.json("deliveries list --target old").await;
    assert_eq!(left["deliveries"].as_array().unwrap().len(), 1, "{left}");
    assert_eq!(left["deliveries"][0]["event_id"], "evt_2");
    assert!(bridge.stop().await.0.success());
}

#[tokio::test(flavor = "multi_thread")]
async fn a_delivery_that_is_dead_for_too_long_is_cancelled_with_a_line_and_a_count() {
    let mut world = World::new(World::with_duplicates()).await;
    let orders = world.target("orders").await;
    world.set_target("orders", "DEAD_ON", "410");
    orders.next(2, Reaction::Answer(StatusCode::GONE, None));
    let bridge = world.bridge().await;
    world.simulator.play(6);
    bridge.until("two dead ones", |status| status["targets"][0]["dead"] == 2).await;
    soon("the others", orders.until(|totals| totals.unique >= 4)).await;
    bridge.stop().await;
    let ids =
        world.rows("SELECT e.id, '' FROM event e JOIN delivery d USING (sequence) WHERE d.state = 'dead'");
    let died = |days: i64, id: &str| {
        let query = "UPDATE delivery SET settled_at = settled_at - ?1 * 86400000 WHERE state = 'dead' \
                     AND sequence = (SELECT sequence FROM event WHERE id = ?2)";
        assert_eq!(world.execute(query, rusqlite::params![days, id]), 1);
    };
    died(366, &ids[0].0);
    died(364, &ids[1].0);
    let mut bridge = world.bridge().await;
    let line = bridge
        .logged_where("the line", |line| line["message"].as_str().unwrap().contains("store.dead_retention"))
        .await;
    assert_eq!(
        (&line["level"], &line["target"], &line["count"]),
        (&"WARN".into(), &"orders".into(), &1.into())
    );
    bridge.until_metric("pepay_bridge_deliveries_expired_total{target=\"orders\"}", 1.0).await;
    let state = |id: &str| {
        world.look_up::<String>(&format!(
            "SELECT d.state FROM delivery d JOIN event e USING (sequence) WHERE e.id = '{id}'"
        ))
    };
    assert_eq!((state(&ids[0].0), state(&ids[1].0)), ("cancelled".to_owned(), "dead".to_owned()));
    bridge.stop().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn a_target_that_is_added_gets_what_it_has_missed() {
    let mut world = World::new(World::with_duplicates()).await;
    let old = world.target("old").await;
    let mut bridge = world.bridge_on_file().await;
    let ids = world.simulator.play(30);
    soon("all deliveries", old.until(|totals| totals.unique == 30)).await;
    let new = world.target("new").await;
    world.save();
    bridge.reload().await;
    let shell = Shell::beside(&bridge, &world.configuration);
    let command = "events replay --target new --missing";
    assert_eq!(shell.done(&format!("{command} --dry-run")).await, "30 deliveries to replay\n");
    let asked = shell.failed(command, 2).await;
    assert!(asked.contains("30 deliveries to replay") && asked.contains("--yes"), "{asked}");
    assert_eq!(shell.done(&format!("{command} --yes")).await, "replay: 30 deliveries changed\n");
    soon("all deliveries", new.until(|totals| totals.unique == 30)).await;
    assert_eq!(shell.done(&format!("{command} --yes")).await, "0 deliveries to replay\n");

    // A replay by filters, without `--missing`, sends an event again.
    let one = ids[0].as_str();
    assert_eq!(
        shell.done(&format!("events replay --target new --id-prefix {one} --yes")).await,
        "replay: 1 delivery changed\n"
    );
    soon("the replay", new.until(|totals| totals.received == 31)).await;
    let refused = shell.failed("events replay --target nobody --missing --yes", 1).await;
    assert!(refused.contains("no target \"nobody\"; there are: new, old"), "{refused}");
    assert_eq!((old.totals().received, new.totals().overlapping), (30, 0));
    assert!(bridge.stop().await.0.success());
}
