//! Tests of the API through its routes: the parsing of requests, and the form of responses. Integration
//! tests with the real binary test the effects of calls.

mod answers;
mod changing;
mod document;
mod listening;
mod reading;

use axum::Router;
use axum::body::Body;
use axum::response::Response;
use http::{HeaderMap, Method, Request, StatusCode};
use http_body_util::BodyExt as _;
use serde_json::Value;
use tower::ServiceExt as _;

use crate::web::tests::Shown;

/// A response, with its body as JSON.
struct Answer {
    status: StatusCode,
    headers: HeaderMap,
    body: Value,
}

/// A client of the API. It sends the token by default.
struct Caller {
    shown: Shown,
    router: Router,
}

impl Caller {
    async fn new() -> Self {
        let shown = Shown::new().await;
        let router = shown.admin(Some("hunter2"));
        Self { shown, router }
    }

    async fn send(&self, request: http::request::Builder, body: impl Into<Body>) -> Response {
        let request = request.header("authorization", "Bearer hunter2").body(body.into()).unwrap();
        self.router.clone().oneshot(request).await.unwrap()
    }

    async fn get(&self, path: &str) -> Answer {
        answer(self.send(Request::get(path), Body::empty()).await).await
    }

    async fn post(&self, path: &str, body: &'static str) -> Answer {
        let request = Request::post(path).header("content-type", "application/json");
        answer(self.send(request, body).await).await
    }
}

async fn answer(response: Response) -> Answer {
    let (parts, body) = response.into_parts();
    let body = body.collect().await.unwrap().to_bytes();
    let body = serde_json::from_slice(&body).unwrap_or(Value::Null);
    Answer { status: parts.status, headers: parts.headers, body }
}

impl Answer {
    /// Asserts that the response is the problem `code`, with its members and its media type. Returns the
    /// body.
    #[track_caller]
    fn problem(self, status: StatusCode, code: &str) -> Value {
        assert_eq!(self.status, status, "{}", self.body);
        assert_eq!(self.headers["content-type"], "application/problem+json");
        assert_eq!(self.headers["cache-control"], "no-store");
        assert_eq!(self.body["type"], format!("urn:pepay-bridge:problem:{code}"));
        assert_eq!(self.body["status"], status.as_u16());
        assert_eq!(self.body["title"], status.canonical_reason().unwrap());
        assert!(!self.body["detail"].as_str().unwrap().is_empty());
        self.body
    }

    /// Asserts that the response refuses the values with these names. Returns the body.
    #[track_caller]
    fn refuses(self, names: &[&str]) -> Value {
        let body = self.problem(StatusCode::BAD_REQUEST, "invalid_request");
        let errors = body["errors"].as_array().unwrap();
        let told: Vec<_> = errors.iter().map(|error| error["name"].as_str().unwrap()).collect();
        assert_eq!(told, names, "{body}");
        body
    }

    #[track_caller]
    fn ok(self) -> Value {
        assert_eq!(self.status, StatusCode::OK, "{}", self.body);
        assert_eq!(self.headers["content-type"], "application/json");
        self.body
    }
}

/// A method that no path of the API accepts.
const NO_METHOD: Method = Method::DELETE;
