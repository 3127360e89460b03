//! Alerts: the operator receives one message when a problem begins and one when it ends.

mod causes;

use std::collections::VecDeque;
use std::sync::{Arc, Mutex};

use axum::Router;
use bytes::Bytes;
use http::{HeaderMap, StatusCode};
use pepay_bridge::simulator::target::{Reaction, Verifier};
use serde_json::{Value, json};
use tokio::sync::watch;
use tokio::task::JoinSet;

use crate::support::bridge::{Bridge, Ended, refused, run};
use crate::support::soon;
use crate::support::world::{SIGNING_SECRET, World, hold, listen};

/// The receiver of alerts.
struct Desk {
    url: String,
    shared: Arc<Shared>,
    _served: JoinSet<()>,
}

struct Shared {
    /// The answers to the next messages. All others are answered with 200.
    answers: Mutex<VecDeque<StatusCode>>,
    received: watch::Sender<Vec<Received>>,
}

/// A message as it arrived.
#[derive(Clone)]
struct Received {
    id: String,
    /// Whether its signature is right.
    signed: bool,
    acknowledged: bool,
    message: Value,
}

impl Desk {
    async fn new(answers: impl IntoIterator<Item = StatusCode>) -> Self {
        let answers = Mutex::new(answers.into_iter().collect());
        let shared = Arc::new(Shared { answers, received: watch::Sender::default() });
        let state = Arc::clone(&shared);
        let app = Router::new().fallback(move |headers: HeaderMap, body: Bytes| {
            let state = Arc::clone(&state);
            async move { state.take(&headers, &body) }
        });
        let (listener, url) = listen().await;
        let mut served = JoinSet::new();
        served.spawn(async move { axum::serve(listener, app).await.unwrap() });
        Self { url: format!("{url}/hook?key=hidden-key"), shared, _served: served }
    }

    fn answer(&self, status: StatusCode) {
        self.shared.answers.lock().unwrap().push_back(status);
    }

    /// Returns every message, in the order of arrival.
    fn received(&self) -> Vec<Received> {
        self.shared.received.borrow().clone()
    }

    /// Returns the messages that were acknowledged.
    fn taken(&self) -> Vec<Received> {
        self.received().into_iter().filter(|one| one.acknowledged).collect()
    }

    /// Waits for an acknowledged message that is `wanted`.
    async fn until(&self, what: &str, wanted: impl Fn(&Value) -> bool) -> Value {
        let is_wanted = |one: &&Received| one.acknowledged && wanted(&one.message);
        let mut received = self.shared.received.subscribe();
        let all = soon(what, received.wait_for(|all| all.iter().any(|one| is_wanted(&one)))).await.unwrap();
        all.iter().find(is_wanted).unwrap().message.clone()
    }

    /// Waits for a message about `kind` with `status`. Returns its data.
    async fn told(&self, kind: &str, status: &str) -> Value {
        let is = |message: &Value| message["data"]["kind"] == kind && message["data"]["status"] == status;
        self.until(kind, is).await["data"].clone()
    }
}

impl Shared {
    fn take(&self, headers: &HeaderMap, body: &[u8]) -> StatusCode {
        let answer = self.answers.lock().unwrap().pop_front().unwrap_or(StatusCode::OK);
        assert_eq!(headers["content-type"], "application/json");
        let message = Received {
            id: headers["webhook-id"].to_str().unwrap().to_owned(),
            signed: Verifier::new(&SIGNING_SECRET.into()).unwrap().verify(headers, body),
            acknowledged: answer.is_success(),
            message: serde_json::from_slice(body).unwrap(),
        };
        self.received.send_modify(|received| received.push(message));
        answer
    }
}

fn alert(world: &mut World, desk: &Desk) {
    world.set("ALERTS__URL", &desk.url);
    world.set("ALERTS__SIGNING_SECRET", SIGNING_SECRET);
}

/// Runs `alerts test` beside `bridge`.
async fn test_message(world: &World, bridge: &Bridge, options: &[&str]) -> Ended {
    let arguments = [&["alerts", "test", "--admin-url", &bridge.admin][..], options].concat();
    run(&world.configuration, &arguments).await
}

#[tokio::test(flavor = "multi_thread")]
async fn dead_target_down_and_rejecting_each_send_one_signed_alert_at_begin_and_end() {
    let desk = Desk::new([]).await;
    let mut world = World::new(World::with_duplicates()).await;
    let orders = world.target("orders").await;
    world.set_target("orders", "DEAD_ON", "410");
    orders.fail_ratio(1.0, Reaction::Answer(StatusCode::GONE, None));
    let (_held, unused) = hold();
    world.target_at("away", &unused);
    alert(&mut world, &desk);
    let bridge = world.bridge().await;
    world.simulator.play(40);

    let dead = desk.told("dead", "firing").await;
    assert_eq!(dead["name"], "orders");
    let rejecting = desk.told("rejecting", "firing").await;
    assert!(rejecting["summary"].as_str().unwrap().contains("410"), "{rejecting}");
    let down = desk.told("target_down", "firing").await;
    assert_eq!(down["name"], "away");

    orders.heal();
    let filter = json!({ "state": "dead" });
    let (_, counted) =
        bridge.post("/api/v1/deliveries/retry", &json!({ "filter": filter, "dry_run": true })).await;
    let confirm = &counted["matching"];
    let (code, _) =
        bridge.post("/api/v1/deliveries/retry", &json!({ "filter": filter, "confirm": confirm })).await;
    assert_eq!(code, 200);
    desk.told("dead", "resolved").await;
    desk.told("rejecting", "resolved").await;

    let all = desk.taken();
    for kind in ["dead", "rejecting", "target_down"] {
        let about = all.iter().map(|one| &one.message["data"]).filter(|data| data["kind"] == kind);
        let statuses: Vec<_> = about.map(|data| data["status"].as_str().unwrap()).collect();
        let ended: &[&str] = if kind == "target_down" { &["firing"] } else { &["firing", "resolved"] };
        assert_eq!(statuses, ended, "{kind}");
    }
    for Received { signed, message, .. } in &all {
        let kind = format!("pepay_bridge.alert.{}", message["data"]["status"].as_str().unwrap());
        assert!(*signed && message["type"] == json!(kind), "{message}");
    }
    bridge.until_metric("pepay_bridge_alerts_total{kind=\"dead\",outcome=\"sent\"}", 2.0).await;
    bridge.stop().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn an_alert_that_is_refused_is_sent_again_under_its_id_and_blocks_nothing() {
    let desk = Desk::new([StatusCode::INTERNAL_SERVER_ERROR; 2]).await;
    let mut world = World::new(World::with_duplicates()).await;
    let orders = world.target("orders").await;
    world.set_target("orders", "DEAD_ON", "410");
    orders.next(1, Reaction::Answer(StatusCode::GONE, None));
    alert(&mut world, &desk);
    let mut bridge = world.bridge().await;
    world.simulator.play(20);
    bridge.logged("an alert could not be sent").await;
    soon("the deliveries", orders.until(|totals| totals.unique >= 19)).await;
    desk.told("dead", "firing").await;
    let ids: Vec<_> = desk.received().into_iter().map(|one| one.id).collect();
    assert!(ids.len() == 3 && ids.iter().all(|id| *id == ids[0]), "{ids:?}");
    let (_, log) = bridge.stop().await;
    assert!(!serde_json::to_string(&log).unwrap().contains("hidden-key"), "the address is a secret");
}

#[tokio::test(flavor = "multi_thread")]
async fn a_reload_turns_on_alerts_of_the_chosen_kinds_in_the_format_of_a_chat() {
    let desk = Desk::new([]).await;
    let mut world = World::new(World::with_duplicates()).await;
    let orders = world.target("orders").await;
    world.set_target("orders", "DEAD_ON", "410");
    orders.next(1, Reaction::Answer(StatusCode::GONE, None));
    let (_held, unused) = hold();
    world.target_at("away", &unused);
    let mut bridge = world.bridge_on_file().await;
    world.simulator.play(20);
    soon("the deliveries", orders.until(|totals| totals.unique >= 19)).await;
    for (key, value) in [("URL", &*desk.url), ("FORMAT", "slack"), ("ON", "target_down")] {
        world.set(&format!("ALERTS__{key}"), value);
    }
    world.save();
    assert_eq!(bridge.reload().await["changes"], "alerts changed");
    let message = desk.until("the alert", |_| true).await;
    let text = message["text"].as_str().unwrap();
    assert!(text.contains("*target_down*") && text.contains("target away is down"), "{text}");
    bridge.stop().await;
    assert_eq!(desk.taken().len(), 1, "nothing of what is dead");
}

#[tokio::test(flavor = "multi_thread")]
async fn alerts_test_exits_by_the_answer_to_its_message() {
    let desk = Desk::new([]).await;
    let mut world = World::new(World::with_duplicates()).await;
    world.target("orders").await;
    let bridge = world.bridge().await;
    let ended = test_message(&world, &bridge, &[]).await;
    assert!(ended.code == Some(1) && ended.stderr.contains("alerts.url"), "{ended:?}");
    bridge.stop().await;

    alert(&mut world, &desk);
    let bridge = world.bridge().await;
    let ended = test_message(&world, &bridge, &[]).await;
    assert!(ended.code == Some(0) && ended.stdout.contains("answered 200"), "{ended:?}");
    let Received { signed, message, .. } = desk.taken().remove(0);
    assert!(signed && message["type"] == "pepay_bridge.alert.test", "{message}");
    desk.answer(StatusCode::FORBIDDEN);
    let ended = test_message(&world, &bridge, &["--json"]).await;
    assert!(ended.code == Some(1) && ended.stderr.contains("403"), "{ended:?}");
    let outcome: Value = serde_json::from_str(&ended.stdout).unwrap();
    assert_eq!((&outcome["acknowledged"], &outcome["status"]), (&json!(false), &json!(403)));
    bridge.stop().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn faults_of_the_alerts_section_are_named_and_its_url_is_never_shown() {
    let mut world = World::new(World::with_duplicates()).await;
    world.target("orders").await;
    world.set("ALERTS__URL", "ftp://hidden-host/hidden-key");
    world.set("ALERTS__ON", "dead,deaf");
    let (code, said) = refused(&world.configuration).await;
    assert_eq!(code, Some(2), "{said}");
    assert!(said.contains("alerts.url") && said.contains("`deaf` is nothing to alert of"), "{said}");
    assert!(!said.contains("hidden"), "{said}");
    world.set("ALERTS__URL", "https://hidden-host/hidden-key");
    world.set("ALERTS__ON", "dead,disk");
    let Ended { code, stdout: shown, stderr } = run(&world.configuration, &["check"]).await;
    assert_eq!(code, Some(0), "{stderr}");
    assert!(shown.contains("[alerts]") && !shown.contains("hidden"), "{shown}");
    assert!(shown.contains("on = [\"dead\", \"disk\"]"), "{shown}");
}
