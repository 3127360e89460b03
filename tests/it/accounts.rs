//! Streams with accounts of their own: another key, another host, another proxy.

use serde_json::{Value, json};
use tempfile::TempDir;

use crate::support::bridge::{Bridge, Configuration, Ended, configuration, run};
use crate::support::pepay::{Act, Asked, RawPepay, Request, event, news};
use crate::support::raw::RawTarget;
use crate::support::tunnel::Tunnel;
use crate::support::world::{WEBHOOK_SECRET, webhook};

const MAINNET: &str = "mainnet-key-0123456789";
const DEVNET: &str = "devnet-key-0123456789";
const ROTATED: &str = "devnet-key-9876543210";

/// Two environments of Pepay, a target, and the configuration of a bridge between them.
struct Both {
    mainnet: RawPepay,
    devnet: RawPepay,
    target: RawTarget,
    configuration: Configuration,
    folder: TempDir,
}

impl Both {
    async fn new() -> Self {
        // For the test's own HTTP client. An error says that a provider is installed already.
        let _ = rustls::crypto::ring::default_provider().install_default();
        let folder = TempDir::new().unwrap();
        let (mainnet, devnet) = tokio::join!(RawPepay::new(|_| Act::Usual), RawPepay::new(|_| Act::Usual));
        let target = RawTarget::scripted([]).await;
        let mut both = Self { mainnet, devnet, target, configuration: configuration(folder.path()), folder };
        for (key, value) in [
            ("STREAMS__MAINNET__API_URL", both.mainnet.url.clone()),
            ("STREAMS__MAINNET__API_KEY", MAINNET.to_owned()),
            ("STREAMS__DEVNET__ENDPOINT", "merchant".to_owned()),
            ("STREAMS__DEVNET__AUTH", "header".to_owned()),
            ("STREAMS__DEVNET__TYPES", "*".to_owned()),
            ("STREAMS__DEVNET__API_URL", both.devnet.url.clone()),
            ("STREAMS__DEVNET__API_KEY", DEVNET.to_owned()),
            ("STREAMS__DEVNET__API_KEY_HEADER", "x-api-key".to_owned()),
            ("WEBHOOKS__DEFAULT__SECRETS", WEBHOOK_SECRET.to_owned()),
            ("TARGETS__ORDERS__URL", both.target.url.clone()),
        ] {
            both.set(key, &value);
        }
        both
    }

    fn set(&mut self, key: &str, value: &str) {
        self.configuration.insert(key.to_owned(), value.to_owned());
    }

    /// Starts a bridge on both and waits until both streams are live.
    async fn bridge(&self) -> Bridge {
        let bridge = Bridge::start(&self.configuration).await;
        let live = |status: &Value| {
            let streams = status["streams"].as_array().unwrap();
            streams.iter().all(|stream| stream["phase"] == "live")
        };
        bridge.until("two live streams", live).await;
        bridge
    }

    /// Runs a command. Returns its standard output and its standard error.
    async fn printed(&self, arguments: &[&str]) -> String {
        run(&self.configuration, arguments).await.printed()
    }

    /// Fails unless every request to each environment had the key of that environment and no other key.
    fn assert_each_has_seen_its_own_key_alone(&self) {
        for (pepay, header, key, other) in [
            (&self.mainnet, "x-commerce-api-key", MAINNET, DEVNET),
            (&self.devnet, "x-api-key", DEVNET, MAINNET),
        ] {
            for request in pepay.record().requests {
                // A request with a token has no key.
                let expected = request.parameter("token").is_none().then_some(key);
                assert_eq!(request.field(header), expected, "{}", request.target);
                assert!(!request.shows(other), "{}", request.target);
            }
        }
    }
}

/// Returns a plan that answers `GET /api/v1/events/{id}` for `event`, and the rest as usual.
fn with_event(event: &str) -> impl Fn(&Request) -> Act + Send + Sync + 'static {
    let event = event.to_owned();
    move |request| match request.target.strip_prefix("/api/v1/events/") {
        Some(id) if event.contains(&format!("\"{id}\"")) => {
            let body = format!("{{\"success\":true,\"data\":{event}}}");
            Act::Say("HTTP/1.1 200 OK", body.into_bytes())
        }
        _ => Act::Usual,
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn each_pepay_sees_its_own_key_for_token_list_and_stream_and_no_other() {
    let both = Both::new().await;
    let bridge = both.bridge().await;
    both.mainnet.publish(news(1));
    both.devnet.publish(news(2));
    both.target.until("both events", |record| record.requests.len() == 2).await;
    bridge.stop().await;
    for (pepay, endpoints) in [
        (&both.mainnet, &[Asked::Token, Asked::List, Asked::Stream][..]),
        (&both.devnet, &[Asked::List, Asked::Stream]),
    ] {
        for endpoint in endpoints {
            assert!(pepay.record().of(*endpoint).count() > 0, "{endpoint:?}");
        }
    }
    both.assert_each_has_seen_its_own_key_alone();
    let path = |pepay: &RawPepay| pepay.record().of(Asked::Stream).next().unwrap().target.clone();
    assert!(path(&both.mainnet).starts_with("/ws/commerce/events?"));
    assert!(path(&both.devnet).starts_with("/ws/merchant/events?"));
}

#[tokio::test(flavor = "multi_thread")]
async fn an_event_is_verified_with_the_account_of_its_stream_or_else_with_each_in_turn() {
    let mut both = Both::new().await;
    both.set("STREAMS__MAINNET__START_FROM", "earliest");
    let (streamed, posted) = (event(1_734_780_000, 1), event(1_734_780_000, 2));
    both.mainnet.publish(streamed.clone());
    both.mainnet.change(with_event(&streamed));
    both.devnet.change(with_event(&posted));
    let bridge = both.bridge().await;
    both.target.until("the event", |record| record.requests.len() == 1).await;
    webhook(&bridge, &posted).await;
    let verified = async |id: &str| {
        let (_, verified) = bridge.post(&format!("/api/v1/events/{id}/verify"), &json!({})).await;
        ["outcome", "asked_as"].map(|key| verified[key].as_str().unwrap_or_default().to_owned())
    };
    assert_eq!(verified("evt_1734780000000-1").await, ["equal", "streams.mainnet"]);
    assert_eq!(verified("evt_1734780000000-2").await, ["equal", "streams.devnet"]);
    both.devnet.change(|_| Act::Usual);
    assert_eq!(verified("evt_1734780000000-2").await, ["unknown", "streams.devnet, streams.mainnet"]);
    bridge.stop().await;
    both.assert_each_has_seen_its_own_key_alone();
}

#[tokio::test(flavor = "multi_thread")]
async fn a_key_that_changes_for_one_stream_reconnects_that_stream_alone() {
    let mut both = Both::new().await;
    let key = both.folder.path().join("devnet-key");
    std::fs::write(&key, DEVNET).unwrap();
    both.configuration.remove("STREAMS__DEVNET__API_KEY");
    both.set("STREAMS__DEVNET__API_KEY_FILE", key.to_str().unwrap());
    let mut bridge = both.bridge().await;
    std::fs::write(&key, ROTATED).unwrap();
    assert_eq!(bridge.reload().await["changes"], "streams.devnet changed");
    let with_new_key = |request: &Request| request.field("x-api-key") == Some(ROTATED);
    both.devnet.until("the new key", |record| record.of(Asked::Stream).any(with_new_key)).await;
    both.devnet.until("the end of the old connection", |record| record.ended == 1).await;
    both.devnet.publish(news(1));
    both.target.until("the event", |record| record.requests.len() == 1).await;
    assert_eq!((both.mainnet.record().open, both.mainnet.record().ended), (1, 0));
    assert_eq!(bridge.reload().await["changes"], Value::Null);
    bridge.stop().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn doctor_asks_what_each_stream_will_ask_and_says_which_way_even_if_nothing_opens() {
    let mut both = Both::new().await;
    let tunnel = Tunnel::new(Some("Basic nobody-shows-this")).await;
    both.set("STREAMS__MAINNET__TYPES", "commerce.order.updated,invoice.*");
    both.set("STREAMS__MAINNET__INVOICE_ID", "inv_7");
    both.set("STREAMS__DEVNET__PROXY", &format!("http://{}", tunnel.address));
    let found = both.printed(&["doctor"]).await;
    let through = format!("(asked through the proxy {})", tunnel.address);
    for (line, says) in [
        ("ok       api key", "none in `[pepay]`; each stream has its own"),
        ("ok       stream mainnet", "token minted, connection opened directly"),
        ("ok       list mainnet", "answered what the stream asks for, directly"),
        ("FAILED   stream devnet", &through),
        ("FAILED   list devnet", &through),
    ] {
        let has = |found: &str| found.starts_with(&format!("{line} ")) && found.contains(says);
        assert!(found.lines().any(has), "{line}: {says} is not in\n{found}");
    }
    assert!(both.devnet.record().requests.is_empty(), "nothing goes round the proxy");

    // The bridge's requests have the same parameters as those of `doctor`.
    let doctors = both.mainnet.record().requests;
    let bridge = Bridge::start(&both.configuration).await;
    let all = both.mainnet.until("the stream and its list", |record| {
        let later = &record.requests[doctors.len()..];
        [Asked::List, Asked::Stream].iter().all(|endpoint| later.iter().any(|one| one.asked == *endpoint))
    });
    let streams = all.await.requests.split_off(doctors.len());
    bridge.stop().await;
    let parameter = |requests: &[Request], endpoint: Asked, name: &str| {
        let request = requests.iter().find(|request| request.asked == endpoint).unwrap();
        request.parameter(name).map(str::to_owned)
    };
    for (endpoint, names) in
        [(Asked::List, &["type", "invoice_id"][..]), (Asked::Stream, &["types", "invoice_id", "format"])]
    {
        for name in names {
            let asked = parameter(&doctors, endpoint, name);
            assert!(asked.is_some(), "{endpoint:?} {name}");
            assert_eq!(asked, parameter(&streams, endpoint, name), "{endpoint:?} {name}");
        }
    }
    both.mainnet.change(|request| match request.asked {
        Asked::List => Act::Say("HTTP/1.1 400 Bad Request", br#"{"error":"no such filter"}"#.to_vec()),
        _ => Act::Usual,
    });
    let found = both.printed(&["doctor"]).await;
    let refused = |line: &str| line.starts_with("FAILED   list mainnet") && line.contains("no such filter");
    assert!(found.lines().any(refused), "{found}");
}

#[tokio::test(flavor = "multi_thread")]
async fn a_key_that_is_sent_in_the_clear_is_warned_of_by_check_doctor_and_the_log() {
    let mut both = Both::new().await;
    // The name is never resolved: the proxy refuses.
    let tunnel = Tunnel::new(Some("Basic nobody-shows-this")).await;
    both.set("STREAMS__DEVNET__API_URL", "http://pepay.invalid");
    both.set("STREAMS__DEVNET__PROXY", &format!("http://{}", tunnel.address));
    let warning = "streams.devnet.api_url: sends the API key to `pepay.invalid` without encryption; \
                   use `https://`, or an address on loopback";
    let Ended { code, stderr: said, .. } = run(&both.configuration, &["check"]).await;
    assert_eq!(code, Some(0));
    assert!(said.lines().any(|line| line == format!("warning: {warning}")), "{said}");
    assert!(!said.contains("mainnet"), "loopback is no network: {said}");
    let found = both.printed(&["doctor"]).await;
    let warned = |line: &str| line.starts_with("warning  configuration") && line.contains("`pepay.invalid`");
    assert!(found.lines().any(warned), "{found}");
    let mut bridge = Bridge::start(&both.configuration).await;
    bridge.logged_where("the warning", |line| line["warning"] == warning && line["level"] == "WARN").await;
    bridge.stop().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn an_order_is_moved_with_the_account_of_pepay_and_no_other() {
    let both = Both::new().await;
    let said = both.printed(&["devnet", "simulate", "order-1", "--to", "placed"]).await;
    assert!(said.contains("`pepay.api_key` is not set"), "{said}");
    assert!(both.devnet.record().requests.is_empty() && both.mainnet.record().requests.is_empty());
}
