//! Error messages of Pepay, at every endpoint and in every form, and the way to the operator.

use std::time::Duration;

use serde_json::Value;

use super::{delivered, live, without_webhooks};
use crate::support::bridge::{Bridge, run};
use crate::support::pepay::{Act, Asked, RawPepay, news};
use crate::support::world::World;

const PLAN: &[u8] = br#"{"success":false,"error":{"code":"WS_PLAN","message":"not part of your plan"}}"#;

/// Returns refusals, each with the words that the bridge has to quote.
fn refusals() -> Vec<(Act, &'static [&'static str])> {
    let late = format!("HTTP/1.1 401 Unauthorized\r\ncontent-length: {}\r\n\r\n", PLAN.len());
    let late = late.into_bytes().chunks(1).chain(PLAN.chunks(20)).map(<[u8]>::to_vec).collect();
    let html =
        b"<!doctype html><html><head><title>Attention</title></head><body><p>Blocked by WAF</p>".to_vec();
    let moved = "HTTP/1.1 307 Temporary Redirect\r\nlocation: https://login.example/sso?session=s3cret";
    vec![
        (Act::Segments(late), &["401", "WS_PLAN: not part of your plan"]),
        (
            Act::Say("HTTP/1.1 200 OK\r\ncontent-type: application/json", PLAN.to_vec()),
            &["200", "WS_PLAN: not part of your plan"],
        ),
        (
            Act::Say("HTTP/1.1 403 Forbidden\r\ncontent-type: text/html; charset=utf-8", html.clone()),
            &["403", "text/html \"Attention Blocked by WAF\""],
        ),
        (
            Act::Say("HTTP/1.1 200 OK\r\ncontent-type: text/html", html),
            &["text/html \"Attention Blocked by WAF\""],
        ),
        (Act::Say(moved, Vec::new()), &["307", "a redirect to login.example/sso"]),
    ]
}

/// Refuses requests at one endpoint in every way. Fails unless status, log and `doctor` quote Pepay.
async fn quoted_at(endpoint: Asked) {
    let mut world = World::new(without_webhooks()).await;
    world.target("orders").await;
    let pepay = RawPepay::of(&mut world, |_| Act::Usual).await;
    let refuse = |act: Act| {
        pepay.change(move |request| if request.asked == endpoint { act.clone() } else { Act::Usual });
    };
    refuse(Act::Segments(Vec::new()));
    let mut bridge = Bridge::start(&world.configuration).await;
    for (act, words) in refusals() {
        refuse(act);
        let repeats = |text: &str| words.iter().all(|words| text.contains(words));
        let told = |status: &Value| repeats(status["streams"][0]["problem"].as_str().unwrap_or_default());
        bridge.until(words[words.len() - 1], told).await;
        let logged = |line: &Value| repeats(line["message"].as_str().unwrap_or_default());
        bridge.logged_where(words[words.len() - 1], logged).await;
        let found = run(&world.configuration, &["doctor"]).await.stdout;
        assert!(
            found.lines().any(|line| line.starts_with("FAILED") && repeats(line)),
            "{endpoint:?}: {found}"
        );
        assert!(!found.contains("s3cret"));
        // The public listener names only the kind of the problem.
        let public = reqwest::get(format!("{}/readyz", bridge.public)).await.unwrap();
        assert_eq!(public.status(), 503);
        assert!(!repeats(&public.text().await.unwrap()));
        assert!(repeats(&bridge.admin("/readyz").await.text().await.unwrap().replace("\\\"", "\"")));
    }
    let (_, log) = bridge.stop().await;
    assert!(!log.iter().any(|line| line.to_string().contains("s3cret")));
}

#[tokio::test(flavor = "multi_thread")]
async fn a_refused_upgrade_is_quoted() {
    quoted_at(Asked::Stream).await;
}

#[tokio::test(flavor = "multi_thread")]
async fn a_refused_token_is_quoted() {
    quoted_at(Asked::Token).await;
}

#[tokio::test(flavor = "multi_thread")]
async fn a_refused_list_is_quoted() {
    quoted_at(Asked::List).await;
}

#[tokio::test(flavor = "multi_thread")]
async fn a_wait_that_only_the_body_names_is_obeyed_by_every_kind_of_request() {
    let wait = |endpoint: Asked, hint: &'static str| async move {
        let mut world = World::new(without_webhooks()).await;
        let target = world.target("orders").await;
        let body = format!(
            r#"{{"success":false,"message":"slow down","error_code":"RATE_LIMIT_EXCEEDED","retry_after":{hint}}}"#
        );
        let head = "HTTP/1.1 429 Too Many Requests\r\ncontent-type: application/json";
        let pepay = RawPepay::of(&mut world, move |request| {
            let refused = request.asked == endpoint && request.number == 0;
            if refused { Act::Say(head, body.clone().into_bytes()) } else { Act::Usual }
        })
        .await;
        let bridge = Bridge::start(&world.configuration).await;
        live(&bridge).await;
        let requests = pepay.record().requests;
        let refused = requests.iter().position(|request| request.asked == endpoint).unwrap();
        let waited = requests[refused + 1].at - requests[refused].at;
        assert!(waited >= Duration::from_secs(2), "{endpoint:?}, {hint}: {waited:?}");
        pepay.publish(news(0));
        delivered(&target, 1).await;
        assert!(bridge.stop().await.0.success());
    };
    tokio::join!(wait(Asked::Token, "2"), wait(Asked::Stream, "\"2 seconds\""), wait(Asked::List, "\"2s\""));
}
