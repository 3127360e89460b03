//! Reloads of the configuration while the real binary works: the parts that change, and those
//! that go on undisturbed.

mod sources;
mod targets;

use reqwest::StatusCode;
use serde_json::{Value, json};
use tokio::fs::File;
use tokio::io::AsyncWriteExt as _;
use tokio::process::Command;

use crate::support::bridge::{Bridge, Configuration, command, message, signal};
use crate::support::soon;
use crate::support::world::{World, assert_each_once};

/// Saves the configuration of `world` and has `bridge` reload it. Returns the changes.
async fn reload(world: &World, bridge: &mut Bridge) -> Vec<String> {
    world.save();
    let outcome = bridge.reload().await;
    let changes = outcome["changes"].as_str().unwrap_or_default();
    changes.split(", ").filter(|change| !change.is_empty()).map(str::to_owned).collect()
}

#[tokio::test(flavor = "multi_thread")]
async fn an_invalid_file_changes_nothing_and_every_problem_is_said() {
    let mut world = World::new(World::with_duplicates()).await;
    let target = world.target("orders").await;
    world.set("SERVER__ADMIN_TOKEN", "a-token-that-nobody-sees");
    let mut bridge = world.bridge_on_file().await;
    let file = world.save();
    let sound = std::fs::read_to_string(&file).unwrap();
    let worse = "targets.orders.timeout = \"soon\"\ntargets.new.types = \"*\"\nstreams.other.types = \"*\"\n";
    std::fs::write(&file, format!("{sound}{worse}")).unwrap();
    let outcome = bridge.reload().await;
    assert_eq!(
        (&outcome["level"], message(&outcome)),
        (&json!("ERROR"), "configuration not reloaded, nothing has changed")
    );
    for problem in ["targets.orders.timeout: `soon`", "targets.new.url: is missing"] {
        let said = |line: &Value| line["problem"].as_str().is_some_and(|said| said.starts_with(problem));
        bridge.logged_where(problem, said).await;
    }
    std::fs::write(&file, format!("{sound}no toml")).unwrap();
    let syntax = |line: &Value| line["problem"].as_str().is_some_and(|said| said.contains("column"));
    bridge.reload().await;
    bridge.logged_where("the fault of the syntax", syntax).await;
    std::fs::remove_file(&file).unwrap();
    let missing = |line: &Value| line["problem"].as_str().is_some_and(|said| said.contains("cannot read"));
    bridge.reload().await;
    bridge.logged_where("the missing file", missing).await;

    let ids = world.simulator.play(30);
    soon("all deliveries", target.until(|totals| totals.unique == 30)).await;
    assert_eq!(world.simulator.statistics().streams_opened, 1);
    world.save();
    let outcome = bridge.reload().await;
    assert_eq!(message(&outcome), "configuration read again: nothing has changed that could be applied");
    let (status, log) = bridge.stop().await;
    assert!(status.success());
    assert_each_once(&target, &ids);
    let log = format!("{log:?}");
    assert!(!log.contains("a-token-that-nobody-sees") && !log.contains("test-api-key"), "{log}");
}

#[tokio::test(flavor = "multi_thread")]
async fn a_reload_that_fails_is_shown_by_a_metric_until_one_works() {
    let mut world = World::new(World::with_duplicates()).await;
    world.target_at("orders", "http://127.0.0.1:9/");
    let mut bridge = world.bridge_on_file().await;
    let shown = async |bridge: &Bridge| {
        let text = bridge.admin("/metrics").await.text().await.unwrap();
        text.lines().find_map(|line| line.strip_prefix("pepay_bridge_reload_failed ")).map(str::to_owned)
    };
    assert_eq!(shown(&bridge).await.as_deref(), Some("0"));
    world.set_target("orders", "CONCURRENCY", "none");
    world.save();
    bridge.reload().await;
    assert_eq!(shown(&bridge).await.as_deref(), Some("1"));
    world.set_target("orders", "CONCURRENCY", "3");
    assert_eq!(reload(&world, &mut bridge).await, ["targets.orders changed"]);
    assert_eq!(shown(&bridge).await.as_deref(), Some("0"));
}

#[tokio::test(flavor = "multi_thread")]
async fn settings_that_need_a_restart_are_named_and_all_others_applied() {
    let mut world = World::new(World::with_duplicates()).await;
    let target = world.target("orders").await;
    world.set("SERVER__ADMIN_TOKEN", "the-first-token-of-all");
    let mut bridge = world.bridge_on_file().await;
    for (key, value) in [
        ("SERVER__LISTEN", "127.0.0.1:1"),
        ("SERVER__ADMIN_LISTEN", "127.0.0.1:2"),
        ("SERVER__SHUTDOWN_GRACE", "24s"),
        ("SERVER__KEEP_ALIVE", "70s"),
        ("SERVER__TOKENS__PROMETHEUS__TOKEN", "the-token-of-prometheus"),
        ("SERVER__TOKENS__PROMETHEUS__SCOPE", "metrics"),
        ("STORE__DURABILITY", "full"),
        ("LOG__FORMAT", "text"),
        ("STORE__PAYLOAD_RETENTION", "20d"),
        ("LOG__FILTER", "info,pepay_bridge::delivery=debug"),
        ("TARGETS__ORDERS__CONCURRENCY", "3"),
    ] {
        world.set(key, value);
    }
    std::fs::write(world.folder.path().join("token"), "the-second-token-of-all\n").unwrap();
    world.configuration.remove("SERVER__ADMIN_TOKEN");
    world.set("SERVER__ADMIN_TOKEN_FILE", world.folder.path().join("token").to_str().unwrap());
    let answer = as_operator(&bridge, "the-first-token-of-all", || world.save()).await;
    let changes = [
        "targets.orders changed",
        "server.shutdown_grace changed",
        "server.admin_token changed",
        "server.tokens.prometheus added",
        "store.payload_retention changed",
        "log.filter changed",
    ];
    let waiting =
        ["server.listen", "server.admin_listen", "server.keep_alive", "log.format", "store.durability"];
    assert_eq!(answer.0, StatusCode::OK);
    assert_eq!((&answer.1["applied"], &answer.1["restart_needed"]), (&json!(changes), &json!(waiting)));
    let own = |key: &str| json!({ "key": key, "changed": true, "own_mount": false });
    assert_eq!(
        answer.1["files"],
        json!([own(world.save().to_str().unwrap()), own("server.admin_token_file")])
    );
    let line = bridge.logged_where("the keys", |line| line["keys"].is_string()).await;
    assert_eq!(
        (&line["keys"], message(&line)),
        (&json!(waiting.join(", ")), "changed keys wait for a restart")
    );

    assert_eq!(as_operator(&bridge, "the-first-token-of-all", || ()).await.0, StatusCode::UNAUTHORIZED);
    assert_eq!(as_operator(&bridge, "the-token-of-prometheus", || ()).await.0, StatusCode::FORBIDDEN);
    std::fs::write(world.folder.path().join("token"), "the-third-token-of-all\n").unwrap();
    let (status, answer) = as_operator(&bridge, "the-second-token-of-all", || ()).await;
    assert_eq!((status, &answer["applied"]), (StatusCode::OK, &json!(["server.admin_token changed"])));
    world.set("TARGETS__ORDERS__CONCURRENCY", "none");
    let (status, answer) = as_operator(&bridge, "the-third-token-of-all", || world.save()).await;
    assert_eq!(status, StatusCode::UNPROCESSABLE_ENTITY);
    assert!(answer["errors"].to_string().contains("targets.orders.concurrency"), "{answer}");

    world.simulator.play(1);
    soon("the delivery", target.until(|totals| totals.unique == 1)).await;
    // This line passes only the new filter.
    bridge.logged("sending").await;
    assert!(bridge.stop().await.0.success());
}

/// Replaces the file of `world` by a pipe without content, and has `bridge` reload it. The bridge waits
/// as for a file on a file server that is away. Returns the end for writing.
async fn reload_from_pipe(world: &World, bridge: &Bridge) -> std::fs::File {
    let file = world.save();
    std::fs::remove_file(&file).unwrap();
    assert!(std::process::Command::new("mkfifo").arg(&file).status().unwrap().success());
    let opened = tokio::task::spawn_blocking(move || std::fs::OpenOptions::new().write(true).open(file));
    bridge.hang_up();
    // This succeeds once the bridge has opened the pipe for reading.
    soon("the reading of the file", opened).await.unwrap().unwrap()
}

#[tokio::test(flavor = "multi_thread")]
async fn a_configuration_file_that_cannot_be_read_delays_neither_the_bridge_nor_its_stop() {
    let mut world = World::new(World::with_duplicates()).await;
    world.target_at("orders", "http://127.0.0.1:9/");
    let mut bridge = world.bridge_on_file().await;
    let pipe = reload_from_pipe(&world, &bridge).await;
    let given_up =
        |line: &Value| line["problem"].as_str().is_some_and(|said| said.contains("read within 10 s"));
    bridge.logged_where("the end of the patience", given_up).await;
    drop(pipe);
    std::fs::remove_file(world.folder.path().join("pepay-bridge.toml")).unwrap();
    world.set_target("orders", "CONCURRENCY", "3");
    assert_eq!(reload(&world, &mut bridge).await, ["targets.orders changed"]);

    let pipe = reload_from_pipe(&world, &bridge).await;
    let (status, log) = bridge.stop().await;
    assert!(status.success());
    assert!(log.iter().any(|line| message(line) == "stopped"), "{log:?}");
    drop(pipe);
}

/// Calls `before`, then asks for a reload by the admin API. Returns the status and the JSON of the response.
async fn as_operator<T>(bridge: &Bridge, token: &str, before: impl FnOnce() -> T) -> (StatusCode, Value) {
    before();
    let request = reqwest::Client::new().post(format!("{}/api/v1/reload", bridge.admin));
    let request = request.bearer_auth(token).header("content-type", "application/json").body("{}");
    let answer = soon("the answer", request.send()).await.unwrap();
    (answer.status(), serde_json::from_slice(&answer.bytes().await.unwrap()).unwrap())
}

#[tokio::test]
async fn a_hang_up_while_the_configuration_is_first_read_does_not_end_the_bridge() {
    let folder = tempfile::tempdir().unwrap();
    let file = folder.path().join("pepay-bridge.toml");
    assert!(Command::new("mkfifo").arg(&file).status().await.unwrap().success());
    let mut command = command(&Configuration::new());
    let mut bridge = command.args(["run", "--config"]).arg(&file).spawn().unwrap();
    // This succeeds once the bridge has opened the pipe for reading.
    let opening = async { File::options().write(true).open(&file).await };
    let mut written = soon("the reading of the file", opening).await.unwrap();
    signal(&bridge, "-HUP");
    // The store is in a folder that is a file, so the bridge fails with 1. A signal would end it otherwise.
    let store = format!("[store]\nurl = \"sqlite://{}/bridge.db\"\n", file.display());
    let rest =
        "[webhooks.default]\nsecrets = [\"secret\"]\n[targets.orders]\nurl = \"http://127.0.0.1:9/\"\n";
    written.write_all(format!("{store}{rest}").as_bytes()).await.unwrap();
    written.flush().await.unwrap();
    drop(written);
    assert_eq!(soon("the end", bridge.wait()).await.unwrap().code(), Some(1));
}
