//! Targets behind TLS, with roots and client certificates of their own.

use std::path::PathBuf;

use tokio::task::JoinSet;

use crate::support::bridge::run;
use crate::support::soon;
use crate::support::tls::{Authority, secure};
use crate::support::world::{World, assert_each_once};

#[tokio::test(flavor = "multi_thread")]
async fn roots_and_client_certificates_are_those_that_are_configured() {
    let mut world = World::new(World::with_duplicates()).await;
    let mut served = JoinSet::new();
    let (ours, others) = (Authority::new(), Authority::new());
    let file = |name: &str, content: String| -> PathBuf {
        let path = world.folder.path().join(name);
        std::fs::write(&path, content).unwrap();
        path
    };
    let (certificate, key) = ours.certify("pepay-bridge");
    let ca_file = file("ca.pem", ours.pem());
    let cert_file = file("client.pem", certificate.pem());
    let key_file = file("client-key.pem", key.serialize_pem());

    let (open, mutual) = (ours.server(None), ours.server(Some(&ours)));
    let mut targets = Vec::new();
    for (name, acceptor, ca, identity, welcome) in [
        ("trusting", open.clone(), true, false, true),
        ("doubting", open, false, false, false),
        ("known", mutual.clone(), true, true, true),
        ("unknown", mutual, true, false, false),
        ("stranger", ours.server(Some(&others)), true, true, false),
    ] {
        let target = world.target(name).await;
        let key = format!("TARGETS__{}__URL", name.to_uppercase());
        let secured = secure(&world.configuration[&key], acceptor, &mut served).await;
        world.set(&key, &secured);
        if ca {
            world.set_target(name, "CA_FILE", ca_file.to_str().unwrap());
        }
        if identity {
            world.set_target(name, "CLIENT_CERT_FILE", cert_file.to_str().unwrap());
            world.set_target(name, "CLIENT_KEY_FILE", key_file.to_str().unwrap());
        }
        targets.push((name, target, welcome));
    }
    let found = run(&world.configuration, &["doctor"]).await.stdout;
    for (start, name, says) in [
        ("ok", "trusting", "connects, with TLS"),
        ("ok", "known", "connects, with TLS"),
        ("FAILED", "doubting", "cannot connect: invalid peer certificate"),
    ] {
        let line = found.lines().find(|line| line.contains(&format!("target {name} "))).unwrap();
        assert!(line.starts_with(start) && line.contains(says), "{line}");
    }

    let mut bridge = world.bridge().await;
    let ids = world.simulator.play(5);
    for (name, target, welcome) in &targets {
        if *welcome {
            soon(name, target.until(|totals| totals.unique == 5)).await;
            assert_each_once(target, &ids);
        } else {
            let failed = |line: &serde_json::Value| line["target"] == *name && line["attempt"] == 3;
            let line = bridge.logged_where(name, failed).await;
            assert_eq!(line["message"], "delivery failed, will retry");
            if *name == "doubting" {
                let error = line["error"].as_str().unwrap();
                assert!(error.contains("cannot connect: invalid peer certificate"), "{error}");
            }
            assert_eq!(target.totals().received, 0, "{name}");
        }
    }
    bridge.stop().await;
}
