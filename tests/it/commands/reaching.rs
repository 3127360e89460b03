//! How a command finds its bridge, and what it prints if there is none.

use tokio::io::{AsyncReadExt as _, AsyncWriteExt as _};
use tokio::task::JoinSet;

use super::{Shell, run};
use crate::support::bridge::without_roots;
use crate::support::world::{World, hold, listen};

#[tokio::test(flavor = "multi_thread")]
async fn a_command_needs_no_more_than_the_server_section_to_find_its_bridge() {
    let mut world = World::new(World::with_duplicates()).await;
    let _target = world.target("orders").await;
    let (_held, url) = hold();
    let address = url.trim_start_matches("http://");
    world.set("SERVER__ADMIN_LISTEN", address);
    world.set("SERVER__ADMIN_TOKEN", "a-token-of-the-operator");
    let none = run(&world.configuration, &["targets", "list"]).await;
    assert_eq!(none.code, Some(1));
    let said = format!("pepay-bridge: no bridge answers at http://{address}/: Connection refused");
    assert!(none.stderr.starts_with(&said) && none.stderr.contains("is it running?"), "{}", none.stderr);

    let _bridge = world.bridge().await;
    // The command reads no secrets of the bridge: the key's file does not exist.
    world.configuration.remove("PEPAY__API_KEY");
    world.set("PEPAY__API_KEY_FILE", "/no/such/file");
    let listed = run(&world.configuration, &["targets", "list"]).await;
    assert_eq!((listed.code, &*listed.stderr), (Some(0), ""));
    assert!(listed.stdout.contains("orders"));
    let without_roots = run(&without_roots(&world.configuration), &["targets", "list"]).await;
    assert_eq!((without_roots.code, &*without_roots.stderr), (Some(0), ""));

    world.set("SERVER__ADMIN_LISTEN", "nowhere");
    let faulty = run(&world.configuration, &["targets", "list"]).await;
    assert_eq!(faulty.code, Some(2));
    assert!(faulty.stderr.starts_with("server.admin_listen: "), "{}", faulty.stderr);
}

#[tokio::test(flavor = "multi_thread")]
async fn a_missing_and_a_wrong_token_are_told_apart_and_never_shown() {
    let mut world = World::new(World::with_duplicates()).await;
    let _target = world.target("orders").await;
    world.set("SERVER__ADMIN_TOKEN", "a-token-of-the-operator");
    let bridge = world.bridge().await;
    let mut shell = Shell::beside(&bridge, &world.configuration);
    shell.done("targets list").await;

    let file = world.folder.path().join("token");
    std::fs::write(&file, "a-token-of-the-operator\n").unwrap();
    shell.configuration.remove("SERVER__ADMIN_TOKEN");
    shell.configuration.insert("SERVER__ADMIN_TOKEN_FILE".to_owned(), file.to_str().unwrap().to_owned());
    shell.done("events list").await;

    std::fs::write(&file, "another-token-than-theirs\n").unwrap();
    let wrong = shell.failed("targets pause orders", 1).await;
    assert!(wrong.contains("has another `server.admin_token`"), "{wrong}");
    shell.configuration.remove("SERVER__ADMIN_TOKEN_FILE");
    let missing = shell.failed("reload", 1).await;
    assert!(missing.contains("PEPAY_BRIDGE__SERVER__ADMIN_TOKEN"), "{missing}");
    assert!(!wrong.contains("another-token") && !missing.contains("a-token"));

    // The public listener belongs to a bridge too, but has no API.
    shell.admin = bridge.public.clone();
    let elsewhere = shell.failed("targets list", 1).await;
    assert!(elsewhere.contains("404") || elsewhere.contains("nothing"), "{elsewhere}");
}

/// Serves `answer` to every request. Returns the URL.
async fn always(answer: String) -> (JoinSet<()>, String) {
    let (listener, url) = listen().await;
    let mut served = JoinSet::new();
    served.spawn(async move {
        let mut kept = Vec::new();
        loop {
            let (mut connection, _) = listener.accept().await.unwrap();
            let mut request = [0; 4096];
            let _read = connection.read(&mut request).await.unwrap();
            connection.write_all(answer.as_bytes()).await.unwrap();
            kept.push(connection);
        }
    });
    (served, url)
}

#[tokio::test(flavor = "multi_thread")]
async fn the_answer_of_another_server_is_not_taken_for_that_of_the_bridge() {
    let world = World::new(World::with_duplicates()).await;
    let (_other, other) = always("HTTP/1.1 200 OK\r\nContent-Length: 2\r\n\r\n{}".to_owned()).await;
    let redirect = format!("HTTP/1.1 302 Found\r\nLocation: {other}/\r\nContent-Length: 0\r\n\r\n");
    let (_redirecting, admin) = always(redirect).await;
    let health = run(&world.configuration, &["health", "--url", &admin]).await;
    assert!(health.code == Some(1) && health.stderr.contains("answered 302"), "{health:?}");
    let elsewhere = ["health", "--intake", "--url", &format!("{other}/healthz")];
    let elsewhere = run(&world.configuration, &elsewhere).await;
    assert!(elsewhere.code == Some(2) && elsewhere.stderr.contains("--intake"), "{elsewhere:?}");
    let shell = Shell { configuration: world.configuration.clone(), admin };
    for line in ["reload", "targets list"] {
        assert!(shell.failed(line, 1).await.contains("302"), "{line}");
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn an_action_that_is_done_and_cannot_be_shown_is_a_success() {
    let world = World::new(World::with_duplicates()).await;
    let (_served, admin) = always("HTTP/1.1 204 No Content\r\n\r\n".to_owned()).await;
    let shell = Shell { configuration: world.configuration.clone(), admin };
    let told = shell.done("events replay evt_1 --target orders").await;
    assert_eq!(told, "done; its state now cannot be read at the moment\n");
    assert_eq!(shell.done("deliveries retry orders evt_1 --json").await, "");
}
