//! How a command finds its bridge, and what it prints if there is none.

use tokio::io::{AsyncReadExt as _, AsyncWriteExt as _};
use tokio::task::JoinSet;

use super::{Shell, run};
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

#[tokio::test(flavor = "multi_thread")]
async fn an_action_that_is_done_and_cannot_be_shown_is_a_success() {
    let world = World::new(World::with_duplicates()).await;
    let (bridge, admin) = listen().await;
    let mut served = JoinSet::new();
    served.spawn(async move {
        let mut kept = Vec::new();
        loop {
            let (mut connection, _) = bridge.accept().await.unwrap();
            let mut request = [0; 4096];
            let _read = connection.read(&mut request).await.unwrap();
            connection.write_all(b"HTTP/1.1 204 No Content\r\n\r\n").await.unwrap();
            kept.push(connection);
        }
    });
    let shell = Shell { configuration: world.configuration.clone(), admin };
    let told = shell.done("events replay evt_1 --target orders").await;
    assert_eq!(told, "done; its state now cannot be read at the moment\n");
    assert_eq!(shell.done("deliveries retry orders evt_1 --json").await, "");
}
