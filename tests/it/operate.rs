//! The admin API of the real binary, as an operator uses it.

mod auditing;
mod describing;
mod ending;
mod listing;
mod mending;
mod parts;
mod replaying;
mod verifying;
mod waiting;
mod watching;

use reqwest::header::CONTENT_TYPE;
use reqwest::{Client, RequestBuilder, StatusCode};
use serde_json::{Value, json};

use crate::support::bridge::Bridge;
use crate::support::{eventually, soon};

/// A client of the API of one bridge.
struct Operator {
    client: Client,
    api: String,
}

impl Operator {
    fn of(bridge: &Bridge) -> Self {
        Self { client: Client::new(), api: format!("{}/api/v1", bridge.admin) }
    }

    async fn ask(&self, request: RequestBuilder) -> (StatusCode, Value) {
        let answer = soon("the answer", request.send()).await.unwrap();
        let (status, body) = (answer.status(), answer.bytes().await.unwrap());
        (status, serde_json::from_slice(&body).unwrap())
    }

    async fn get(&self, path: &str) -> (StatusCode, Value) {
        self.ask(self.client.get(format!("{}/{path}", self.api))).await
    }

    async fn post(&self, path: &str, body: Value) -> (StatusCode, Value) {
        let request = self.client.post(format!("{}/{path}", self.api));
        self.ask(request.header(CONTENT_TYPE, "application/json").body(body.to_string())).await
    }

    /// Sends `GET path`, which succeeds. Returns its JSON.
    async fn look(&self, path: &str) -> Value {
        let (status, body) = self.get(path).await;
        assert_eq!(status, StatusCode::OK, "{path}: {body}");
        body
    }

    /// Sends `POST path`, which succeeds. Returns its JSON.
    async fn act(&self, path: &str, body: Value) -> Value {
        let (status, answer) = self.post(path, body).await;
        assert!(status.is_success(), "{path}: {answer}");
        answer
    }

    /// Sends a `POST` that the state of the delivery does not allow. Returns the states that allow it.
    async fn refused(&self, path: &str) -> Value {
        let (status, problem) = self.post(path, json!({})).await;
        assert_eq!(status, StatusCode::CONFLICT, "{path}: {problem}");
        assert_eq!(problem["type"], "urn:pepay-bridge:problem:state_not_allowed");
        problem["errors"][0]["allowed"].clone()
    }

    /// Sends `GET path` again and again until `reached` holds for its JSON.
    async fn until(&self, path: &str, reached: impl Fn(&Value) -> bool) -> Value {
        eventually(path, async || Some(self.look(path).await).filter(&reached)).await
    }

    /// Waits until `count` deliveries are in `state`. Returns them.
    async fn until_all_are(&self, state: &str, count: usize) -> Vec<Value> {
        let path = format!("deliveries?state={state}&limit=500");
        let listed = |body: &Value| body["deliveries"].as_array().unwrap().len() == count;
        self.until(&path, listed).await["deliveries"].as_array().unwrap().clone()
    }

    /// Returns the state of one delivery.
    async fn state(&self, target: &str, id: &str) -> String {
        self.look(&format!("deliveries/{target}/{id}")).await["state"].as_str().unwrap().to_owned()
    }
}

/// Returns the id of the event of a listed delivery.
fn event_id(delivery: &Value) -> &str {
    delivery["event_id"].as_str().unwrap()
}
