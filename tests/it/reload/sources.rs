//! Streams and webhook endpoints that change.

use pepay_bridge::domain::clock::Clock;
use pepay_bridge::pepay::signature::SigningKey;
use tokio::io::{AsyncReadExt as _, AsyncWriteExt as _, BufReader};
use tokio::net::TcpStream;

use super::reload;
use crate::stream::without_webhooks;
use crate::support::world::{World, assert_each_once};
use crate::support::{http, soon};

#[tokio::test(flavor = "multi_thread")]
async fn a_changed_stream_goes_on_where_it_was_and_another_keeps_its_connection() {
    let mut world = World::new(without_webhooks()).await;
    let target = world.target("orders").await;
    world.set("STREAMS__COMMERCE__TYPES", "commerce.*");
    world.set("STREAMS__INVOICES__TYPES", "invoice.*,invoice_payment.*");
    let mut bridge = world.bridge_on_file().await;
    let live = |status: &serde_json::Value| {
        status["streams"].as_array().unwrap().iter().all(|stream| stream["phase"] == "live")
    };
    bridge.until("two streams", live).await;
    let mut ids = world.simulator.play(100);
    for (round, key) in [(1, "IDLE_TIMEOUT"), (2, "BACKOFF_MAX")] {
        world.set(&format!("STREAMS__INVOICES__{key}"), "50s");
        assert_eq!(reload(&world, &mut bridge).await, ["streams.invoices changed"]);
        assert_eq!(bridge.admin("/readyz").await.status(), 200, "a reload is a reconnect");
        ids.extend(world.simulator.play(100));
        let opened =
            soon("its connection", world.simulator.until(|now| now.streams_opened > 1 + round)).await;
        assert_eq!(opened.streams_opened, 2 + round);
    }
    soon("all deliveries", target.until(|totals| totals.unique == 300)).await;
    let status = bridge.until("two live streams", live).await;
    assert_eq!(status["streams"][0]["reconnects"], 0);
    assert_eq!(world.simulator.statistics().streams_opened, 4, "one stream has been left alone");

    world.set("PEPAY__API_KEY_HEADER", "x-api-key");
    let changes = ["pepay changed", "streams.commerce changed", "streams.invoices changed"];
    assert_eq!(reload(&world, &mut bridge).await, changes);
    ids.extend(world.simulator.play(50));
    soon("both connections", world.simulator.until(|now| now.streams_opened == 6)).await;
    soon("all deliveries", target.until(|totals| totals.unique == 350)).await;
    world.configuration.retain(|key, _| !key.starts_with("STREAMS__INVOICES__"));
    assert_eq!(reload(&world, &mut bridge).await, ["streams.invoices removed"]);
    soon("the end of its connection", world.simulator.until(|now| now.streams_open == 1)).await;
    assert_eq!(bridge.status().await["streams"].as_array().unwrap().len(), 1);
    let metrics = bridge.admin("/metrics").await.text().await.unwrap();
    assert!(!metrics.contains("pepay_bridge_stream_connected{stream=\"invoices\"}"), "{metrics}");
    assert!(bridge.stop().await.0.success());
    assert_each_once(&target, &ids);
}

/// One connection to the public listener, kept open.
struct Sender(BufReader<TcpStream>);

impl Sender {
    async fn to(public: &str) -> Self {
        let address = public.trim_start_matches("http://");
        Self(BufReader::new(TcpStream::connect(address).await.unwrap()))
    }

    /// Sends the event `id`, signed with `secret`. Returns the status of the response.
    async fn deliver(&mut self, path: &str, secret: &str, id: &str) -> u16 {
        let body = format!(
            r#"{{"id":"{id}","object":"event","type":"test.ping","created":1734780000,"data":{{"object":{{"id":"o_1"}}}}}}"#
        );
        let timestamp = Clock::system().now().0.to_string();
        let signature = SigningKey::new(&secret.into()).sign(&timestamp, body.as_bytes());
        let request = format!(
            "POST {path} HTTP/1.1\r\nhost: bridge\r\ncontent-type: application/json\r\ncontent-length: {}\r\n\
             x-pepay-timestamp: {timestamp}\r\nx-pepay-signature: {signature}\r\n\r\n{body}",
            body.len()
        );
        soon("the answer", async {
            self.0.get_mut().write_all(request.as_bytes()).await.unwrap();
            let head = http::read_head(&mut self.0).await.unwrap().expect("the connection was closed");
            let length = http::field(&head, "content-length").unwrap();
            self.0.read_exact(&mut vec![0; length.parse().unwrap()]).await.unwrap();
            head["HTTP/1.1 ".len()..][..3].parse().unwrap()
        })
        .await
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn webhook_secrets_are_rotated_under_an_open_connection() {
    const PATH: &str = "/webhooks/pepay";
    let mut world = World::new(without_webhooks()).await;
    let target = world.target("orders").await;
    let secrets = world.folder.path().join("secrets");
    std::fs::write(&secrets, "the-old-secret\n").unwrap();
    world.configuration.remove("WEBHOOKS__DEFAULT__SECRETS");
    world.set("WEBHOOKS__DEFAULT__SECRETS_FILE", secrets.to_str().unwrap());
    let mut bridge = world.bridge_on_file().await;
    let mut sender = Sender::to(&bridge.public).await;
    assert_eq!(sender.deliver(PATH, "the-old-secret", "evt_1").await, 200);
    assert_eq!(sender.deliver(PATH, "the-new-secret", "evt_2").await, 400);

    std::fs::write(&secrets, "the-new-secret\nthe-old-secret\n").unwrap();
    assert_eq!(reload(&world, &mut bridge).await, ["webhooks.default changed"]);
    assert_eq!(sender.deliver(PATH, "the-old-secret", "evt_3").await, 200);
    assert_eq!(sender.deliver(PATH, "the-new-secret", "evt_4").await, 200);

    std::fs::write(&secrets, "the-new-secret\n").unwrap();
    assert_eq!(reload(&world, &mut bridge).await, ["webhooks.default changed"]);
    assert_eq!(sender.deliver(PATH, "the-old-secret", "evt_5").await, 400);
    assert_eq!(sender.deliver(PATH, "the-new-secret", "evt_6").await, 200);
    assert!(reload(&world, &mut bridge).await.is_empty());

    assert_eq!(sender.deliver("/webhooks/more", "another-secret", "evt_7").await, 404);
    world.set("WEBHOOKS__MORE__PATH", "/webhooks/more");
    world.set("WEBHOOKS__MORE__SECRETS", "another-secret");
    assert_eq!(reload(&world, &mut bridge).await, ["webhooks.more added"]);
    assert_eq!(sender.deliver("/webhooks/more", "another-secret", "evt_8").await, 200);
    world.configuration.retain(|key, _| !key.starts_with("WEBHOOKS__DEFAULT__"));
    assert_eq!(reload(&world, &mut bridge).await, ["webhooks.default removed"]);
    assert_eq!(sender.deliver(PATH, "the-new-secret", "evt_9").await, 404);
    let status = bridge.status().await;
    assert_eq!(status["webhooks"].as_array().unwrap().len(), 1);
    assert_eq!(status["webhooks"][0]["last_event"]["id"], "evt_8");

    soon("the deliveries", target.until(|totals| totals.unique == 5)).await;
    assert!(bridge.stop().await.0.success());
    let ids = ["evt_1", "evt_3", "evt_4", "evt_6", "evt_8"].map(|id| id.parse().unwrap());
    assert_each_once(&target, &ids);
}
