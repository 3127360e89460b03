//! The way to Pepay: TLS with configured roots, and proxies.

use pepay_bridge::simulator::options::Options;
use serde_json::Value;
use tokio::task::JoinSet;

use super::{delivered, live, without_webhooks};
use crate::support::bridge::{Bridge, run};
use crate::support::tls::{Authority, secure};
use crate::support::tunnel::Tunnel;
use crate::support::world::{World, assert_each_once};

/// `user:p@ss`, as a URL has it.
const CREDENTIALS: &str = "user:p%40ss";
/// `user:p@ss`, as `Proxy-Authorization` has it.
const SHOWN: &str = "Basic dXNlcjpwQHNz";

/// Starts a Pepay behind TLS. Returns its world, and the path of the authority's certificate.
async fn secured(served: &mut JoinSet<()>) -> (World, String) {
    let options = Options { ping_interval: None, ..without_webhooks() };
    let mut world = World::new(options).await;
    let authority = Authority::new();
    let file = world.folder.path().join("ca.pem");
    std::fs::write(&file, authority.pem()).unwrap();
    let url = secure(&world.configuration["PEPAY__API_URL"], authority.server(None), served).await;
    world.set("PEPAY__API_URL", &url);
    (world, file.to_str().unwrap().to_owned())
}

/// Returns the standard output of `doctor`.
async fn doctor(world: &World) -> String {
    run(&world.configuration, &["doctor"]).await.stdout
}

/// Starts a bridge on `world`, waits until its stream has a problem, and stops it. Returns the problem.
async fn trouble(world: &World) -> String {
    let bridge = Bridge::start(&world.configuration).await;
    let told = |status: &Value| status["streams"][0]["problem"].is_string();
    let status = bridge.until("the problem", told).await;
    bridge.stop().await;
    status["streams"][0]["problem"].as_str().unwrap().to_owned()
}

#[tokio::test(flavor = "multi_thread")]
async fn token_list_and_stream_go_through_the_proxy_of_the_environment_and_nothing_else_does() {
    let mut served = JoinSet::new();
    let (mut world, ca_file) = secured(&mut served).await;
    world.set("PEPAY__CA_FILE", &ca_file);
    let target = world.target("orders").await;
    let tunnel = Tunnel::new(Some(SHOWN)).await;
    let proxy = format!("http://{CREDENTIALS}@{}", tunnel.address);
    for name in ["HTTPS_PROXY", "HTTP_PROXY", "ALL_PROXY"] {
        world.set(name, &proxy);
    }
    let bridge = world.bridge().await;
    live(&bridge).await;
    let ids = world.simulator.play(5);
    delivered(&target, 5).await;
    let (_, log) = bridge.stop().await;
    assert_each_once(&target, &ids);
    let pepay = world.configuration["PEPAY__API_URL"].trim_start_matches("https://").to_owned();
    let heads = tunnel.heads();
    // One connection is for token and list, another one for the stream.
    assert!(heads.len() >= 2, "{heads:?}");
    for head in &heads {
        assert!(head.starts_with(&format!("CONNECT {pepay} HTTP/1.1\r\nHost: {pepay}\r\n")), "{head}");
    }
    assert!(!log.iter().any(|line| line.to_string().contains("p@ss") || line.to_string().contains("p%40ss")));
    let found = doctor(&world).await;
    let way = format!("through the proxy {}", tunnel.address);
    assert!(found.contains(&way) && !found.contains("p@ss") && !found.contains("p%40ss"), "{found}");

    // Hosts in NO_PROXY are reached directly.
    let before = tunnel.heads().len();
    for named in ["example.org,127.0.0.1", "*", "example.org, *"] {
        world.set("NO_PROXY", named);
        let bridge = world.bridge().await;
        live(&bridge).await;
        bridge.stop().await;
        assert!(doctor(&world).await.contains("connection opened directly"), "{named}");
        assert_eq!(tunnel.heads().len(), before, "{named}");
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn a_proxy_of_the_configuration_is_used_for_plain_http_too_and_its_refusal_is_named() {
    let mut world = World::new(without_webhooks()).await;
    world.target("orders").await;
    let (open, guarded) = tokio::join!(Tunnel::new(None), Tunnel::new(Some(SHOWN)));
    world.set("HTTPS_PROXY", "http://127.0.0.1:9");
    world.set("PEPAY__PROXY", &format!("http://{}", open.address));
    let bridge = world.bridge().await;
    live(&bridge).await;
    bridge.stop().await;
    assert!(open.heads().len() >= 2);

    world.set("PEPAY__PROXY", &format!("http://{}", guarded.address));
    assert!(trouble(&world).await.contains("the proxy 127.0.0.1 answers 407 to CONNECT"));
    assert!(doctor(&world).await.contains("the proxy 127.0.0.1 answers 407 to CONNECT"));

    world.set("PEPAY__PROXY", "none");
    let bridge = world.bridge().await;
    live(&bridge).await;
    bridge.stop().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn without_the_right_root_certificate_no_request_reaches_pepay() {
    let mut served = JoinSet::new();
    let (mut world, _) = secured(&mut served).await;
    world.target("orders").await;
    world.set("STREAMS__COMMERCE__HOLD_LIMIT", "1s");
    let other = world.folder.path().join("other.pem");
    std::fs::write(&other, Authority::new().pem()).unwrap();
    // The first request is for the list, the second for the token or, without one, for the upgrade.
    for (auth, ca_file) in [("token", None), ("header", other.to_str())] {
        world.set("STREAMS__COMMERCE__AUTH", auth);
        let database = world.folder.path().join(auth);
        world.set("STORE__URL", &format!("sqlite://{}", database.display()));
        if let Some(ca_file) = ca_file {
            world.set("PEPAY__CA_FILE", ca_file);
        }
        let mut bridge = Bridge::start(&world.configuration).await;
        for failed in ["the list of events was not read", "no connection"] {
            let wanted = format!("{failed}: invalid peer certificate");
            bridge.logged(&wanted).await;
        }
        bridge.stop().await;
    }
    let statistics = world.simulator.statistics();
    assert_eq!((statistics.list_requests, statistics.tokens_minted, statistics.streams_opened), (0, 0, 0));
}
