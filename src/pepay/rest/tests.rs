use std::sync::{Arc, Mutex};

use axum::Router;
use axum::extract::{Request, State};
use axum::response::{IntoResponse, Response};
use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::net::{TcpListener, TcpSocket};
use tokio::task::JoinSet;

use super::*;
use crate::domain::clock::UnixMillis;
use crate::pepay::account::Proxy;
use crate::pepay::error::FailureKind;

type Answers = Arc<Mutex<Vec<(u16, String)>>>;
type Seen = Arc<Mutex<Vec<(String, HeaderMap)>>>;

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
        (StatusCode::from_u16(status).unwrap(), location, body).into_response()
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
        ca: None,
        proxy: Proxy::Never,
    };
    let rest = Rest::new(&account, Clock::from_fn(|| UnixMillis(5))).unwrap();
    Server { rest, seen, _tasks: tasks }
}

fn query() -> ListQuery {
    ListQuery {
        starting_after: Some("evt_&=1".parse().unwrap()),
        ending_before: None,
        created_gte: Some(17),
        created_lte: None,
        limit: 100,
    }
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
async fn a_list_can_be_bounded_from_both_sides() {
    let server = server(vec![(200, "[]".to_owned())]).await;
    let query = ListQuery {
        starting_after: None,
        ending_before: Some("evt_1".parse().unwrap()),
        created_gte: None,
        created_lte: Some(18),
        limit: 500,
    };
    server.rest.list(&query, &[]).await.unwrap();
    let (uri, _) = server.seen.lock().unwrap().remove(0);
    let address = Url::parse(&format!("http://host{uri}")).unwrap();
    let pairs: Vec<_> = address.query_pairs().map(|(k, v)| format!("{k}={v}")).collect();
    assert_eq!(pairs, ["limit=100", "ending_before=evt_1", "created[lte]=18"]);
}

#[tokio::test]
async fn an_unreadable_page_costs_one_request_and_says_what_it_is() {
    let html = "<html><title>Just a moment</title>".to_owned();
    let denied = r#"{"success":false,"error":{"code":"E1","message":"not for s3cret"}}"#.to_owned();
    let large = "x".repeat(answer::LIST + 1);
    for (body, kind, text) in [
        (
            html,
            FailureKind::Malformed,
            "the event list is not in a known form: Pepay answered with text/plain \"Just a moment\"",
        ),
        (denied, FailureKind::Unavailable, "Pepay answered 200 E1: not for [redacted]"),
        (large, FailureKind::Malformed, TOO_LARGE),
        (
            r#"{"data":[],"has_more":true}"#.to_owned(),
            FailureKind::Malformed,
            "a page of the event list says that there is more",
        ),
    ] {
        let server = server(vec![(200, body)]).await;
        let failure = server.rest.list(&query(), &[]).await.unwrap_err();
        assert_eq!(failure.kind, kind, "{failure}");
        assert!(failure.text.starts_with(text), "{failure}");
        assert_eq!(server.seen.lock().unwrap().len(), 1);
    }
}

#[tokio::test]
async fn at_a_limit_of_one_an_unreadable_entry_is_stepped_over() {
    let large =
        format!(r#"{{"data":[{{"id":"evt_7","x":"{}"}}],"has_more":true}}"#, "x".repeat(answer::LIST));
    let unquoted = r#"{"data":[{"id":"evt_7","x":"a"b"}],"has_more":true}"#.to_owned();
    for body in [large, unquoted] {
        let server = server(vec![(200, body.clone()), (200, body)]).await;
        let one = ListQuery { limit: 1, ..query() };
        let page = server.rest.list(&one, &[]).await.unwrap();
        assert_eq!(page.last.unwrap().as_str(), "evt_7");
        assert!(page.events.is_empty() && page.has_more && page.server_time.is_some());
        assert!(page.skipped.unwrap().first.starts_with("evt_7: "));
        let two = ListQuery { limit: 2, ..query() };
        assert_eq!(server.rest.list(&two, &[]).await.unwrap_err().kind, FailureKind::Malformed);
    }
}

#[tokio::test]
async fn one_event_is_asked_for_by_its_id() {
    let event = r#"{ "id":"evt_/1","data":{"object":{}} }"#;
    let wrapped = format!(r#"{{"success":true,"data":{event}}}"#);
    let answers = vec![
        (200, wrapped),
        (404, String::new()),
        (403, r#"{"code":"E1"}"#.to_owned()),
        (200, "{}".to_owned()),
    ];
    let server = server(answers).await;
    let id = "evt_/1".parse().unwrap();
    assert_eq!(server.rest.event(&id).await.unwrap().unwrap(), event);
    assert_eq!(server.seen.lock().unwrap()[0].0, "/base/api/v1/events/evt_%2F1");
    assert_eq!(server.rest.event(&id).await.unwrap(), None);
    assert_eq!(server.rest.event(&id).await.unwrap_err().kind, FailureKind::Refused);
    assert_eq!(server.rest.event(&id).await.unwrap_err().kind, FailureKind::Malformed);
    assert_eq!(server.rest.event(&"..".parse().unwrap()).await.unwrap(), None);
    assert_eq!(server.seen.lock().unwrap().len(), 4);
}

#[tokio::test]
async fn of_a_large_refusal_the_beginning_is_read() {
    let body = format!(r#"{{"code":"E1","message":"no","x":[{}0]}}"#, "0,".repeat(1024 * 1024));
    let server = server(vec![(500, body.clone()), (200, body)]).await;
    let failure = server.rest.list(&query(), &[]).await.unwrap_err();
    assert_eq!(failure.text, "Pepay answered 500 E1: no");
    let failure = server.rest.mint(Scope::Commerce, Duration::from_secs(60)).await.unwrap_err();
    assert_eq!(failure.text, "the token answer holds no token");
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
async fn a_refusal_whose_body_stops_coming_is_a_refusal() {
    let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
    let port = listener.local_addr().unwrap().port();
    let mut tasks = JoinSet::new();
    tasks.spawn(async move {
        let (mut connection, _) = listener.accept().await.unwrap();
        let mut head = Vec::new();
        while !head.ends_with(b"\r\n\r\n") {
            head.push(connection.read_u8().await.unwrap());
        }
        let answer = b"HTTP/1.1 429 Too Many Requests\r\nretry-after: 9\r\ncontent-length: 99\r\n\r\n\
                       {\"code\":\"E1\",\"message\":\"no\",";
        connection.write_all(answer).await.unwrap();
        // The connection stays open until the test ends.
        std::future::pending::<()>().await;
    });
    let mut server = server(Vec::new()).await;
    server.rest.account.api_url = format!("http://127.0.0.1:{port}").parse().unwrap();
    let failure = server.rest.list(&query(), &[]).await.unwrap_err();
    assert_eq!((failure.kind, failure.retry_after), (FailureKind::RateLimited, Some(Duration::from_secs(9))));
    assert_eq!(failure.text, "Pepay answered 429 E1: no");
}

#[tokio::test]
async fn an_address_without_a_listener_is_unreachable_and_goes_unnamed() {
    // Bound, so that no other process is given the port, and not listening.
    let bound = TcpSocket::new_v4().unwrap();
    bound.bind("127.0.0.1:0".parse().unwrap()).unwrap();
    let port = bound.local_addr().unwrap().port();
    let mut server = server(Vec::new()).await;
    server.rest.account.api_url = format!("http://127.0.0.1:{port}/secret-path").parse().unwrap();
    let failure = server.rest.list(&query(), &[]).await.unwrap_err();
    assert_eq!(failure.kind, FailureKind::Unreachable);
    assert!(!failure.text.contains("secret-path"), "{failure}");
}
