//! How a command finds its bridge, and what it says if it does not.

use super::{Shell, run};
use crate::support::world::{World, listen};

#[tokio::test(flavor = "multi_thread")]
async fn a_command_needs_no_more_than_the_server_section_to_find_its_bridge() {
    let mut world = World::new(World::with_duplicates()).await;
    let _target = world.target("orders").await;
    let address = listen().await.0.local_addr().unwrap().to_string();
    world.set("SERVER__ADMIN_LISTEN", &address);
    world.set("SERVER__ADMIN_TOKEN", "a-token-of-the-operator");
    let none = run(&world.configuration, "targets list").await;
    assert_eq!(none.code, Some(1));
    let said = format!("pepay-bridge: no bridge answers at http://{address}/: Connection refused");
    assert!(none.stderr.starts_with(&said) && none.stderr.contains("is it running?"), "{}", none.stderr);

    let _bridge = world.bridge().await;
    // The bridge's own secrets are for its own eyes; the key here cannot be read.
    world.configuration.remove("PEPAY__API_KEY");
    world.set("PEPAY__API_KEY_FILE", "/no/such/file");
    let listed = run(&world.configuration, "targets list").await;
    assert_eq!((listed.code, &*listed.stderr), (Some(0), ""));
    assert!(listed.stdout.contains("orders"));

    world.set("SERVER__ADMIN_LISTEN", "nowhere");
    let faulty = run(&world.configuration, "targets list").await;
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

    std::fs::write(&file, "another-token\n").unwrap();
    let wrong = shell.failed("targets pause orders", 1).await;
    assert!(wrong.contains("has another `server.admin_token`"), "{wrong}");
    shell.configuration.remove("SERVER__ADMIN_TOKEN_FILE");
    let missing = shell.failed("reload", 1).await;
    assert!(missing.contains("PEPAY_BRIDGE__SERVER__ADMIN_TOKEN"), "{missing}");
    assert!(!wrong.contains("another-token") && !missing.contains("a-token"));

    // The public listener is a bridge's too, but not where it is worked with.
    shell.admin = bridge.public.clone();
    let elsewhere = shell.failed("targets list", 1).await;
    assert!(elsewhere.contains("404") || elsewhere.contains("nothing"), "{elsewhere}");
}
