use std::sync::{Arc, Mutex};

use axum::Router;
use axum::extract::{Request, State};
use axum::response::{IntoResponse, Response};
use tokio::net::{TcpListener, TcpSocket};
use tokio::task::JoinSet;

use super::*;
use crate::domain::clock::UnixMillis;
use crate::pepay::error::FailureKind;

type Answers = Arc<Mutex<Vec<(u16, String)>>>;
type Seen = Arc<Mutex<Vec<(String, http::HeaderMap)>>>;

/// A server that gives these answers in turn and keeps the requests it saw.
struct Server {
    rest: Rest,
    seen: Seen,
    _tasks: JoinSet<()>,
}

async fn server(answers: Vec<(u16, String)>) -> Server {
    async fn answer(State((answers, seen)): State<(Answers, Seen)>, request: Request) -> Response {
        seen.lock().unwrap().push((request.uri().to_string(), request.headers().clone()));
        let (status, body) = answers.lock().unwrap().remove(0);
        let location = [("location", "/elsewhere"), ("retry-after", "9")];
        (http::StatusCode::from_u16(status).unwrap(), location, body).into_response()
    }
    let _ = rustls::crypto::ring::default_provider().install_default();
    let seen = Seen::default();
    let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
    let port = listener.local_addr().unwrap().port();
    let state = (Arc::new(Mutex::new(answers)), seen.clone());
    let app = Router::new().fallback(answer).with_state(state);
    let mut tasks = JoinSet::new();
    tasks.spawn(async move { axum::serve(listener, app).await.unwrap() });
    let account = Account {
        api_url: format!("http://127.0.0.1:{port}/base/").parse().unwrap(),
        ws_url: "ws://unused".parse().unwrap(),
        api_key: Some("s3cret".into()),
        api_key_header: http::HeaderName::from_static("x-commerce-api-key"),
    };
    let rest = Rest::new(&account, Clock::from_fn(|| UnixMillis(5))).unwrap();
    Server { rest, seen, _tasks: tasks }
}

fn query() -> ListQuery {
    ListQuery { starting_after: Some("evt_&=1".parse().unwrap()), created_gte: Some(17), limit: 100 }
}

#[tokio::test]
async fn a_list_names_its_cursor_filters_and_key_the_way_pepay_reads_them() {
    let server = server(vec![(200, "[]".to_owned())]).await;
    let filters = [("type".to_owned(), "invoice.*,a".to_owned())];
    server.rest.list(&query(), &filters).await.unwrap();
    let (uri, headers) = server.seen.lock().unwrap().remove(0);
    let address = Url::parse(&format!("http://host{uri}")).unwrap();
    assert_eq!(address.path(), "/base/api/v1/events");
    let pairs: Vec<_> = address.query_pairs().map(|(k, v)| format!("{k}={v}")).collect();
    assert_eq!(pairs, ["limit=100", "starting_after=evt_&=1", "created[gte]=17", "type=invoice.*,a"]);
    assert_eq!(headers["x-commerce-api-key"], "s3cret");
    assert_eq!(headers["user-agent"], user_agent());
}

#[tokio::test]
async fn an_answer_too_large_to_read_is_asked_for_again_in_halves() {
    let server = server(vec![(200, "x".repeat(LARGEST_ANSWER + 1)), (200, "[]".to_owned())]).await;
    server.rest.list(&query(), &[]).await.unwrap();
    assert!(server.seen.lock().unwrap()[1].0.contains("limit=50&"));
}

#[tokio::test]
async fn a_redirect_is_not_followed() {
    let server = server(vec![(302, String::new())]).await;
    let failure = server.rest.list(&query(), &[]).await.unwrap_err();
    assert_eq!(failure.kind, FailureKind::Unavailable);
    assert_eq!(server.seen.lock().unwrap().len(), 1);
}

#[tokio::test]
async fn a_refusal_carries_its_retry_after_and_no_key() {
    let server = server(vec![(429, r#"{"message":"slow down, s3cret"}"#.to_owned())]).await;
    let failure = server.rest.mint(Scope::Commerce, Duration::from_secs(60)).await.unwrap_err();
    assert_eq!(failure.kind, FailureKind::RateLimited);
    assert_eq!(failure.retry_after, Some(Duration::from_secs(9)));
    assert!(!format!("{failure:?} {:?}", server.rest).contains("s3cret"));
}

#[tokio::test]
async fn an_address_nobody_listens_on_is_unreachable_and_goes_unnamed() {
    // Bound, so that nobody else is given the port, and not listening.
    let bound = TcpSocket::new_v4().unwrap();
    bound.bind("127.0.0.1:0".parse().unwrap()).unwrap();
    let port = bound.local_addr().unwrap().port();
    let mut server = server(Vec::new()).await;
    server.rest.account.api_url = format!("http://127.0.0.1:{port}/secret-path").parse().unwrap();
    let failure = server.rest.list(&query(), &[]).await.unwrap_err();
    assert_eq!(failure.kind, FailureKind::Unreachable);
    assert!(!failure.text.contains("secret-path"), "{failure}");
}
