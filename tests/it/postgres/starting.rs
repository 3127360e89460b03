//! A bridge that is started while its server is away.

use super::{ready, world};
use crate::support::bridge::{Bridge, UP, refused};
use crate::support::soon;
use crate::support::world::{World, assert_each_once, hold};

/// Sends a webhook without a signature. Returns the answer.
async fn knock(bridge: &Bridge) -> reqwest::Response {
    let path = format!("{}/webhooks/pepay", bridge.public);
    reqwest::Client::new().post(path).body("{}").send().await.unwrap()
}

#[tokio::test(flavor = "multi_thread")]
async fn a_bridge_whose_server_is_away_at_its_start_waits_alive_and_unready_until_it_is_stopped() {
    let mut world = World::new(World::with_duplicates()).await;
    let _target = world.target("orders").await;
    let (_held, url) = hold();
    let server = url.trim_start_matches("http://");
    world.set("STORE__URL", &format!("postgres://bridge:hidden-password@{server}/events"));
    let mut bridge = Bridge::waiting(&world.configuration).await;
    let told = bridge.logged_where("the reason", |line| line["level"] == "ERROR").await;
    let reason = told["error"].as_str().unwrap();
    assert!(
        reason.contains("cannot be used now: Connection refused") && !reason.contains("hidden"),
        "{told}"
    );
    for listener in [&bridge.public, &bridge.admin] {
        for (path, status) in [("healthz", 200), ("readyz", 503), ("readyz/intake", 503), ("status", 503)] {
            let answer = reqwest::get(format!("{listener}/{path}")).await.unwrap();
            assert_eq!(answer.status(), status, "{listener}/{path}");
        }
    }
    assert!(ready(&bridge, 503).await.contains("the database cannot be reached"));
    let refused = knock(&bridge).await;
    assert_eq!((refused.status().as_u16(), &refused.headers()["retry-after"]), (503, &"5".parse().unwrap()));
    assert!(refused.text().await.unwrap().contains("store_unavailable"));
    let (status, log) = bridge.stop().await;
    assert!(status.success(), "{log:?}");
}

#[tokio::test(flavor = "multi_thread")]
#[ignore = "needs a PostgreSQL server: run tests/postgres.sh"]
async fn a_bridge_that_waits_for_its_server_goes_on_once_it_is_back_and_for_no_wrong_name() {
    let (mut world, mut database) = world().await;
    let target = world.target("orders").await;
    for (away, back) in [
        ("ALLOW_CONNECTIONS false", "ALLOW_CONNECTIONS true"),
        ("SET default_transaction_read_only = on", "RESET default_transaction_read_only"),
    ] {
        database.cut(away).await;
        let mut bridge = Bridge::waiting(&world.configuration).await;
        assert_eq!(knock(&bridge).await.status(), 503);
        database.cut(back).await;
        bridge.logged(UP).await;
        ready(&bridge, 200).await;
        assert_eq!(knock(&bridge).await.status(), 400);
        assert!(bridge.stop().await.0.success());
    }
    let bridge = world.bridge().await;
    let ids = world.simulator.play(20);
    soon("the deliveries", target.until(|totals| totals.unique >= 20)).await;
    assert_each_once(&target, &ids);
    assert!(bridge.stop().await.0.success());
    world.set("STORE__URL", &format!("{}_not", database.url));
    let (code, said) = refused(&world.configuration).await;
    assert!(code == Some(1) && said.contains("does not exist"), "{said}");
}
