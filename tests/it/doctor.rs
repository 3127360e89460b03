//! `doctor`, on a bridge that works and on faults of every kind.

use std::io::{Seek as _, SeekFrom, Write as _};

use serde_json::Value;
use tokio::io::{AsyncReadExt as _, AsyncWriteExt as _};
use tokio::net::TcpSocket;
use tokio::task::JoinSet;

use crate::support::bridge::{Bridge, Configuration, Ended, run};
use crate::support::raw::{Act, RawTarget};
use crate::support::soon;
use crate::support::world::{API_KEY, SIGNING_SECRET, WEBHOOK_SECRET, World, hold, listen};

/// Runs `doctor`. Fails if it shows a secret.
async fn doctor(configuration: &Configuration, arguments: &[&str]) -> Ended {
    let ended = run(configuration, &[&["doctor"][..], arguments].concat()).await;
    for secret in [API_KEY, WEBHOOK_SECRET, SIGNING_SECRET] {
        assert!(!ended.printed().contains(secret), "{secret} is in\n{}", ended.printed());
    }
    ended
}

/// Returns the line of the check `name`.
fn line(ended: &Ended, name: &str) -> String {
    let shown = ended.printed();
    let found =
        shown.lines().find(|line| line.get(9..).is_some_and(|line| line.starts_with(&format!("{name}  "))));
    found.unwrap_or_else(|| panic!("there is no check `{name}` in\n{shown}")).to_owned()
}

/// Configures fixed addresses, which `doctor` can ask. They are reserved while the sockets exist.
fn listen_at_known_addresses(world: &mut World) -> [TcpSocket; 2] {
    ["SERVER__LISTEN", "SERVER__ADMIN_LISTEN"].map(|key| {
        let (held, url) = hold();
        world.set(key, url.trim_start_matches("http://"));
        held
    })
}

#[tokio::test(flavor = "multi_thread")]
async fn doctor_reports_ok_for_every_part_of_a_working_bridge() {
    let mut world = World::new(World::with_duplicates()).await;
    let target = world.target("orders").await;
    let _held = listen_at_known_addresses(&mut world);

    let before = doctor(&world.configuration, &[]).await;
    assert!(before.code == Some(0), "{}", before.printed());
    assert!(line(&before, "database").contains("the first start creates it"));
    assert!(line(&before, "bridge").ends_with("not running"));
    assert!(!world.database().exists(), "looking creates nothing");

    let bridge = world.bridge().await;
    let opened = world.simulator.statistics().streams_opened;
    let during = doctor(&world.configuration, &["--json"]).await;
    let report: Value = serde_json::from_str(&during.stdout).unwrap();
    assert!(during.code == Some(0) && report["ok"] == true, "{}", during.printed());
    let checks = report["checks"].as_array().unwrap();
    let names: Vec<_> = checks.iter().map(|check| check["name"].as_str().unwrap()).collect();
    let expected = [
        "configuration",
        "clock",
        "api key",
        "stream commerce",
        "list commerce",
        "webhook default",
        "target orders",
        "signing orders",
        "database",
        "disk",
        "account",
        "bridge",
        "readiness",
        "admin listener",
        "deliveries orders",
    ];
    assert_eq!(names, expected);
    for check in checks.iter().filter(|check| check["name"] != "disk") {
        assert_eq!((&check["verdict"], &check["advice"]), (&"ok".into(), &Value::Null), "{check}");
    }
    let account = "the store holds events of account 123 at ";
    assert!(checks[10]["found"].as_str().unwrap().contains(account), "{}", checks[10]);
    assert_eq!(checks[11]["found"], "running");
    assert!(checks[8]["found"].as_str().unwrap().ends_with("sound"), "{}", checks[8]);
    assert_eq!(world.simulator.statistics().streams_opened, opened + 1, "the stream was tried");
    assert_eq!(target.totals().received, 0, "nothing was sent to the target");
    assert!(bridge.stop().await.0.success());
}

#[tokio::test(flavor = "multi_thread")]
async fn a_target_that_refuses_everything_or_is_paused_is_named_beside_a_running_bridge() {
    let mut world = World::new(World::with_duplicates()).await;
    let _held = listen_at_known_addresses(&mut world);
    let refusal = Act::Say(b"HTTP/1.1 401 No\r\ncontent-length: 0\r\n\r\n".to_vec());
    let refusing = RawTarget::new(move |_| refusal.clone()).await;
    world.target_at("refusing", &refusing.url);
    let paused = world.target("paused").await;
    let bridge = world.bridge().await;
    bridge.post("/api/v1/targets/paused/pause", &serde_json::json!({})).await;
    world.simulator.play(5);
    let rejects = |status: &Value| {
        status["targets"].as_array().unwrap().iter().any(|target| !target["rejecting"].is_null())
    };
    bridge.until("the refusals", rejects).await;
    let output = doctor(&world.configuration, &[]).await;
    assert_eq!(output.code, Some(1), "{}", output.printed());
    let line = |name: &str| line(&output, name);
    let refused = line("deliveries refusing");
    assert!(refused.starts_with("FAILED") && refused.contains("401"), "{refused}");
    let stopped = line("deliveries paused");
    assert!(stopped.starts_with("warning") && stopped.contains("by an operator"), "{stopped}");
    assert_eq!(paused.totals().received, 0);
    bridge.stop().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn doctor_names_every_fault_with_its_remedy_and_exits_with_1() {
    let mut world = World::new(World::with_duplicates()).await;
    let (_held, unused) = hold();
    world.target_at("gone", &unused);
    let (not_tls, url) = listen().await;
    world.target_at("plain", &url.replace("http:", "https:"));
    let mut served = JoinSet::new();
    served.spawn(async move {
        loop {
            let (mut connection, _) = not_tls.accept().await.unwrap();
            // A server without TLS answers a ClientHello like this.
            let _gone = connection.write_all(b"HTTP/1.1 400 Bad Request\r\n\r\n").await;
        }
    });
    world.set("PEPAY__API_KEY", "no-such-key");
    world.set("WEBHOOKS__DEFAULT__SECRETS", "same,same");
    let output = doctor(&world.configuration, &[]).await;
    assert_eq!(output.code, Some(1), "{}", output.printed());
    for (name, verdict, says) in [
        ("configuration", "ok", "valid: 1 stream, 1 webhook endpoint, 2 targets"),
        ("clock", "ok", "agrees"),
        ("api key", "FAILED", "Pepay answered 401"),
        ("api key", "FAILED", "compare `pepay.api_key`"),
        ("stream commerce", "FAILED", "no token: Pepay answered 401"),
        ("webhook default", "warning", "of 2 secrets two are the same"),
        ("target gone", "FAILED", "cannot connect: Connection refused"),
        ("target plain", "FAILED", "cannot connect: "),
    ] {
        let line = line(&output, name);
        assert!(line.starts_with(verdict) && line.contains(says), "{line}");
    }
    assert!(output.printed().contains("pepay-bridge: 5 of "), "{}", output.printed());
    assert!(!output.printed().contains("no-such-key"));
}

#[tokio::test(flavor = "multi_thread")]
async fn doctor_finds_addresses_that_a_start_could_not_listen_on() {
    let mut world = World::new(World::with_duplicates()).await;
    world.target("orders").await;
    let (_taken, url) = listen().await;
    world.set("SERVER__LISTEN", url.trim_start_matches("http://"));
    let output = doctor(&world.configuration, &[]).await;
    assert_eq!(output.code, Some(1), "{}", output.printed());
    let listener = line(&output, "listener");
    assert!(listener.starts_with("FAILED") && listener.contains("another program has it"), "{listener}");
    assert!(line(&output, "admin listener").ends_with("is free"));
}

#[tokio::test(flavor = "multi_thread")]
async fn a_clock_further_from_pepays_than_the_tolerance_of_webhooks_is_a_failure() {
    let mut world = World::new(World::with_duplicates()).await;
    let (pepay, url) = listen().await;
    let mut served = JoinSet::new();
    served.spawn(async move {
        loop {
            let (mut connection, _) = pepay.accept().await.unwrap();
            let mut request = [0; 4096];
            let _read = connection.read(&mut request).await.unwrap();
            let answer = b"HTTP/1.1 200 OK\r\ndate: Sun, 06 Nov 1994 08:49:37 GMT\r\n\
                           content-length: 11\r\nconnection: close\r\n\r\n{\"data\":[]}";
            connection.write_all(answer).await.unwrap();
        }
    });
    world.target("orders").await;
    world.set("PEPAY__API_URL", &url);
    for stream in ["TYPES", "BACKOFF_MIN", "BACKOFF_MAX"] {
        world.configuration.remove(&format!("STREAMS__COMMERCE__{stream}"));
    }
    let output = doctor(&world.configuration, &[]).await;
    assert_eq!(output.code, Some(1), "{}", output.printed());
    let clock = line(&output, "clock");
    assert!(clock.starts_with("FAILED") && clock.contains(" s ahead of Pepay's"), "{clock}");
    assert!(line(&output, "api key").ends_with("accepted, asked directly"));
}

#[tokio::test(flavor = "multi_thread")]
async fn doctor_finds_damage_of_a_database_and_backup_does_not_copy_it() {
    let mut world = World::new(World::with_duplicates()).await;
    let target = world.target("orders").await;
    let bridge = world.bridge().await;
    world.simulator.play(200);
    soon("all deliveries", target.until(|totals| totals.unique == 200)).await;
    assert!(bridge.stop().await.0.success());
    assert!(line(&doctor(&world.configuration, &[]).await, "database").contains("200 events in "));

    let mut file = std::fs::File::options().write(true).open(world.database()).unwrap();
    let (page, pages) = (4096, file.metadata().unwrap().len() / 4096);
    for number in pages / 2..pages / 2 + 4 {
        file.seek(SeekFrom::Start(number * page)).unwrap();
        file.write_all(&[0xAB; 1024]).unwrap();
    }
    drop(file);
    let output = doctor(&world.configuration, &[]).await;
    let database = line(&output, "database");
    assert!(database.starts_with("FAILED") && database.contains("damaged"), "{database}");
    assert!(database.contains("restore a backup"), "{database}");

    // `backup` does not copy it either.
    let copy = world.folder.path().join("copy.db");
    let backup = run(&world.configuration, &["backup", copy.to_str().unwrap()]).await;
    assert_eq!(backup.code, Some(1));
    assert!(!copy.exists());
}

#[tokio::test(flavor = "multi_thread")]
async fn doctor_quotes_a_bridge_that_is_not_ready_and_exits_with_2_for_a_faulty_configuration() {
    let mut world = World::new(World::with_duplicates()).await;
    world.target("orders").await;
    let _held = listen_at_known_addresses(&mut world);
    world.set("PEPAY__API_KEY", "no-such-key");
    let bridge = Bridge::start(&world.configuration).await;
    let output = doctor(&world.configuration, &[]).await;
    let readiness = line(&output, "readiness");
    assert!(readiness.starts_with("FAILED") && readiness.contains("stream commerce has not been connected"));
    assert!(line(&output, "admin listener").starts_with("ok"));
    assert!(bridge.stop().await.0.success());

    world.set("PEPAY__TYPO", "x");
    let output = doctor(&world.configuration, &["--json"]).await;
    assert_eq!((output.code, &*output.stdout), (Some(2), ""));
    assert!(output.printed().starts_with("pepay.typo: is no known key"), "{}", output.printed());
}
